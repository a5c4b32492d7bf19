/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * When process 1 of a pid namespace ends, the kernel kills all the others there. So in a container it is not the monitor,
 * whose death the mount survives: it starts the monitor, has nothing of the mount itself, hands on the signals that mean
 * something to a monitor, and reaps whoever is left to it: processes of others, dead servers of dead monitors.
 *
 * The kernel drops signals that process 1 neither handles nor blocks. All are blocked here, and waited for.
 *
 * Who the monitor is, the state says. When it died the server takes its place (guardian.c), and is a child of process 1
 * then, so that each death ends in a SIGCHLD here, and the last of them comes after the lock on the state has fallen.
 */
#include "recover/init.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "recover/atomic.h"
#include "recover/internal.h"
#include "recover/log.h"

#define NAP_NS 5000000
#define CODE_OF_SIGNAL 128 /* what a container ended with whose process died of a signal is this plus its number */

struct init {
	struct state state; /* open anew: the lock is that of the mount's processes */
	pid_t monitor;	    /* 0: it is gone, and nobody is known to have its place */
	pid_t gone;	    /* the one before */
	int status;	    /* how that ended, see wait(2) */
	sigset_t told;	    /* what the next one is told */
};

/*
 * Told to end, the next monitor is told too: the one before may have died before it did it. Another program is put in
 * place by one only.
 */
static void init_tell(struct init *init, int signo)
{
	if (!init->monitor || signo != SIGHUP)
		sigaddset(&init->told, signo);
	if (init->monitor)
		kill(init->monitor, signo);
}

static void init_tell_next(struct init *init)
{
	static const int signals[] = {SIGHUP, SIGINT, SIGTERM};

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		if (sigismember(&init->told, signals[i]) == 1)
			kill(init->monitor, signals[i]);
	sigdelset(&init->told, SIGHUP);
}

/* A server that takes the place of its monitor says so in the state once it is one. */
static void init_look_for_monitor(struct init *init)
{
	pid_t next = load_acquire(&init->state.header->monitor_pid);

	if (init->monitor || next <= 1 || next == init->gone)
		return;
	init->monitor = next;
	init_tell_next(init);
}

static void init_reap(struct init *init)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		init_look_for_monitor(init);
		if (pid != init->monitor)
			continue;
		init->gone = pid;
		init->status = status;
		init->monitor = 0;
	}
}

/* Until something comes; a death of the monitor is followed by no signal that says who has its place. */
static int init_wait(const struct init *init)
{
	const struct timespec nap = {.tv_nsec = NAP_NS};
	sigset_t all;

	sigfillset(&all);
	return sigtimedwait(&all, NULL, init->monitor ? NULL : &nap);
}

static int init_loop(struct init *init)
{
	while (init->monitor || state_held(&init->state)) {
		int signo = init_wait(init);

		if (signo == SIGTERM || signo == SIGINT || signo == SIGHUP)
			init_tell(init, signo);
		init_reap(init);
		init_look_for_monitor(init);
	}
	if (WIFEXITED(init->status))
		return WEXITSTATUS(init->status);
	log_error("all processes of the mount died: it is dead");
	return CODE_OF_SIGNAL + WTERMSIG(init->status);
}

/*
 * All that the mount consists of is closed. The state is opened and mapped anew, for looking only: the lock on it lasts for
 * as long as anybody has the file of the mount's processes open, or mapped. 0 or -errno.
 */
static int init_let_go(struct state *state)
{
	int fd = mount_reopen(state->fd), kept = STDERR_FILENO + 1;

	if (fd < 0)
		return fd;
	if (dup2(fd, kept) < 0 || syscall(SYS_close_range, (unsigned)kept + 1, ~0u, 0))
		return -errno;
	munmap(state->header, state->bytes);
	state->fd = kept;
	state->bytes = STATE_HEADER_BYTES;
	state->header = mmap(NULL, state->bytes, PROT_READ, MAP_SHARED, kept, 0);
	return state->header == MAP_FAILED ? -errno : 0;
}

/* Without a look at the state the monitor cannot be followed: it ends, and the mount, before anybody uses it. */
static int init_main(struct init *init)
{
	int err = init_let_go(&init->state);

	if (!err)
		return init_loop(init);
	log_error("process 1 cannot look at the state: %s", strerror(-err));
	return EXIT_SYSTEM;
}

int init_start(struct recover *recover)
{
	struct init init = {.state = recover->state};
	sigset_t all;

	if (getpid() != 1)
		return 0;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	init.monitor = fork();
	if (init.monitor < 0)
		return -errno;
	if (init.monitor == 0) {
		setpgid(0, 0); /* a terminal's ^C reaches the monitor through us alone: two mean something else */
		return 0;
	}
	sigemptyset(&init.told);
	_exit(init_main(&init));
}
