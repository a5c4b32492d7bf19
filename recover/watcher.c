/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The watcher's process, beside the server and with the same table of open files. It is there for what neither of the
 * others may do: a notification waits in the kernel, uninterruptibly, for a page or a directory that an application has
 * locked while it waits for the server. A server that did this could not be reaped, and the monitor would not start the
 * next one.
 *
 * For the same reason nobody waits for a watcher that was killed, until the mount is over.
 */
#include "recover/watcher.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "recover/atomic.h"
#include "recover/descriptors.h"
#include "recover/internal.h"
#include "recover/log.h"

/* One that lives shorter than this is started again after a pause, which grows; while it lasts changes are not seen. */
#define SHORT_LIFE_MS 1000
#define PAUSE_FIRST_MS 10
#define PAUSE_LONGEST_MS 100
#define END_MS 5000
#define END_NAP_NS 1000000

void recover_watch(struct recover *recover)
{
	recover->state.header->watched = 1;
}

/* The lock on the state lasts for as long as anybody has the file of the mount's processes open, or mapped (flock(2)). */
static int watcher_map_state(struct state *state)
{
	int fd = mount_reopen(state->fd), err = 0;

	if (fd < 0)
		return fd;
	if (mmap(state->header, state->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, 0) ==
	    MAP_FAILED)
		err = -errno;
	close(fd);
	close(state->fd);
	return err;
}

/*
 * A table of open files and a mapping of its own: a watcher that is killed in a notification stays in it until the next server
 * answers, and must not look as if the mount's processes lived, or there would be no hand-over and so no next server.
 */
static void watcher_let_go(struct recover *recover)
{
	const struct state_header *header = recover->state.header;
	int fds[WATCH_FDS + 3], err;
	unsigned n = recover->fs->watch_fds(recover, fds);

	fds[n++] = header->device[0];
	fds[n++] = header->keep[KEEP_LOG];
	fds[n++] = recover->state.fd;
	err = descriptors_own(fds, n);
	if (!err)
		err = watcher_map_state(&recover->state);
	if (err)
		log_warning("the watcher may hold up a hand-over: %s", strerror(-err));
}

/* Signals that end the mount stay blocked, as the monitor has them. */
static int watcher_entry(void *argument)
{
	struct recover *recover = argument;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != recover->state.header->monitor_pid)
		return 0;
	if (recover->fs->watch_fds)
		watcher_let_go(recover);
	contain_watcher(recover);
	recover->fs->watch(recover);
	return 0;
}

void watcher_look(struct watcher *watcher, struct recover *recover, void *stack)
{
	struct state_header *header = recover->state.header;

	if (!header->watched || !recover->fs->watch || watcher->pid)
		return;
	if (watcher->timer_ms && clock_ms() < watcher->timer_ms)
		return;
	watcher->started_ms = clock_ms();
	watcher->timer_ms = 0;
	watcher->pid = monitor_clone(watcher_entry, recover, stack);
	if (watcher->pid < 0) {
		log_error("cannot start a watcher: %s", strerror(errno));
		watcher->pid = 0;
		watcher->timer_ms = watcher->started_ms + PAUSE_LONGEST_MS;
	}
	store_release(&header->watcher_pid, (int32_t)watcher->pid);
}

void watcher_bury(struct watcher *watcher, struct recover *recover, int status)
{
	int64_t pause = PAUSE_FIRST_MS;

	watcher->pid = 0;
	store_release(&recover->state.header->watcher_pid, 0);
	if (WIFSIGNALED(status))
		log_warning("the watcher was killed by signal %d (%s): starting the next", WTERMSIG(status),
			    strsignal(WTERMSIG(status)));
	else
		log_warning("the watcher ended with code %d: starting the next", WEXITSTATUS(status));
	if (clock_ms() - watcher->started_ms >= SHORT_LIFE_MS) {
		watcher->deaths = 0;
		return;
	}
	for (unsigned i = 0; i < watcher->deaths && pause < PAUSE_LONGEST_MS; i++)
		pause *= 2;
	watcher->deaths++;
	watcher->timer_ms = clock_ms() + (pause < PAUSE_LONGEST_MS ? pause : PAUSE_LONGEST_MS);
}

/* The connection is gone, and with it all that it could wait for; but for one that somebody else holds. */
void watcher_end(struct watcher *watcher, struct recover *recover)
{
	if (!watcher->pid)
		return;
	kill(watcher->pid, SIGKILL);
	for (int64_t until = clock_ms() + END_MS; clock_ms() < until;) {
		if (waitpid(watcher->pid, NULL, WNOHANG) != 0)
			break;
		nanosleep(&(struct timespec){.tv_nsec = END_NAP_NS}, NULL);
	}
	store_release(&recover->state.header->watcher_pid, 0);
}

void watcher_stop(struct recover *recover)
{
	struct state_header *header = recover->state.header;
	siginfo_t info;

	if (header->watcher_pid <= 0)
		return;
	/* a monitor that died left its own, which ended with it: its number may be anybody's now */
	if (waitid(P_PID, (id_t)header->watcher_pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0)
		kill(header->watcher_pid, SIGKILL);
	store_release(&header->watcher_pid, 0);
}
