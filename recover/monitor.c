/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The monitor: starts the server in the same table of open files, and starts the next one when it dies. Single-threaded;
 * what it does on which event in which state stands in one table. Of requests it sees none but INIT, unless no server
 * comes up at all: then it answers each with EIO.
 */
#include "recover/monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_kernel.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "recover/atomic.h"
#include "recover/exec.h"
#include "recover/guardian.h"
#include "recover/handover.h"
#include "recover/internal.h"
#include "recover/log.h"
#include "recover/metrics.h"
#include "recover/oom.h"
#include "recover/watchdog.h"
#include "recover/watcher.h"
#include "recover/witness.h"

#define SERVER_STACK_BYTES (1u << 20)
#define SERVER_GUARD_BYTES 65536 /* an overflow of the stack is a fault */

/*
 * A server that dies before it is ready, this many times in a row, is started after a growing pause; then the mount
 * answers errors, and another server is tried from time to time.
 */
#define DEATHS_BEFORE_PAUSE 5
#define DEATHS_BEFORE_BROKEN 20
#define DEATHS_BEFORE_ROLL_BACK 3
#define PAUSE_FIRST_MS 10
#define PAUSE_LONGEST_MS 2000
#define PAUSE_BROKEN_MS 5000
#define CHECK_MS 5000 /* for a program to say whether it can take over */

struct monitor {
	struct recover *recover;
	enum monitor_state state;
	pid_t server;
	int signals;
	unsigned deaths;      /* in a row, before the server was ready */
	int64_t timer_ms;     /* when EVENT_TIMER is due, CLOCK_MONOTONIC; 0: never */
	pid_t check;	      /* asks the program of an upgrade; 0: there is none */
	int64_t check_due_ms; /* when it has taken too long */
	int exit_code;
	bool new_here; /* this program took over from another one, and no server was ready yet */
	void *stack;
	struct watchdog watchdog;
	struct wake_look wake;
	struct watcher watcher;
	struct metrics metrics;
};

int64_t clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int server_entry(void *recover)
{
	server_run(recover);
}

/*
 * With musl >= 1.2.5 its clone() leaves the child a consistent thread id; with glibc (sanitizer builds) the kernel is told
 * where that is kept.
 */
pid_t monitor_clone(int (*entry)(void *recover), struct recover *recover, void *stack)
{
#ifdef __GLIBC__
	void *thread_id = NULL;
	long pid;

	prctl(PR_GET_TID_ADDRESS, &thread_id, 0, 0, 0);
	pid = syscall(SYS_clone, CLONE_FILES | SIGCHLD | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID, 0, 0, thread_id, 0);
	if (pid == 0)
		_exit(entry(recover));
	(void)stack;
	return (pid_t)pid;
#else
	return clone(entry, (char *)stack + SERVER_STACK_BYTES, CLONE_FILES | SIGCHLD, recover);
#endif
}

/* Not reaped, but no more to be traced: then EPERM says nothing of what is permitted. */
static bool server_is_dead(const struct monitor *monitor)
{
	siginfo_t info = {0};

	return waitid(P_PID, (id_t)monitor->server, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid;
}

/* Before the server has a second thread. */
static void monitor_witness(struct monitor *monitor)
{
	struct state_header *header = monitor->recover->state.header;
	int err;

	if (header->witness == WITNESS_EVIDENCE)
		return;
	err = witness_seize(monitor->server);
	if (err && server_is_dead(monitor))
		return;
	store_release(&header->witness, err ? WITNESS_EVIDENCE : WITNESS_REGISTERS);
	if (err)
		log_warning("cannot trace the server (%s): interrupted system calls are judged by evidence",
			    strerror(-err));
}

/* The monitor of a broken mount reads its device only where there is something; a server waits for it. */
static void monitor_block(const struct monitor *monitor, bool wait)
{
	int device = monitor->recover->state.header->device[0];
	int flags = fcntl(device, F_GETFL);

	if (flags >= 0 && !(flags & O_NONBLOCK) != wait)
		fcntl(device, F_SETFL, flags ^ O_NONBLOCK);
}

static enum monitor_state monitor_start(struct monitor *monitor, enum monitor_state next)
{
	struct state_header *header = monitor->recover->state.header;
	uint64_t count;

	monitor->timer_ms = 0;
	if (header->phase == STATE_SERVING) /* as a monitor that died left it */
		store_release(&header->phase, STATE_RECOVERING);
	monitor_block(monitor, true);
	if (read(monitor->recover->go_fd, &count, sizeof(count)) > 0)
		log_debug("a server died before it was let go");
	monitor->server = monitor_clone(server_entry, monitor->recover, monitor->stack);
	if (monitor->server < 0) {
		log_error("cannot start a server: %s", strerror(errno));
		monitor->server = 0;
		monitor->timer_ms = clock_ms() + PAUSE_LONGEST_MS;
		return MONITOR_WAITING;
	}
	store_release(&header->server_pid, (int32_t)monitor->server);
	watchdog_started(&monitor->watchdog);
	monitor_witness(monitor);
	if (write(monitor->recover->go_fd, &(uint64_t){1}, sizeof(uint64_t)) < 0)
		log_error("cannot let the server start: %s", strerror(errno));
	return next;
}

static int notify_parent(const struct recover_options *options, int code)
{
	unsigned char byte = (unsigned char)code;

	return options->notify_fd < 0 || write(options->notify_fd, &byte, 1) == 1 ? 0 : -errno;
}

/* Lets go of the terminal, or of whatever pipe the caller reads. */
static void monitor_detach(struct recover *recover)
{
	int null;

	store_release(&recover->state.header->detached, 1);
	null = open("/dev/null", O_RDWR);
	if (null < 0)
		return;
	for (int fd = 0; fd <= 2; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
}

static void flags_text(unsigned long flags, char *text, size_t size)
{
	static const struct {
		unsigned long flag;
		const char *name;
	} names[] = {{MS_NOSUID, ",nosuid"},	{MS_NODEV, ",nodev"},		{MS_NOEXEC, ",noexec"},
		     {MS_NOATIME, ",noatime"},	{MS_NODIRATIME, ",nodiratime"}, {MS_STRICTATIME, ",strictatime"},
		     {MS_SYNCHRONOUS, ",sync"}, {MS_DIRSYNC, ",dirsync"}};
	size_t used = (size_t)snprintf(text, size, "%s", flags & MS_RDONLY ? "ro" : "rw");

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && used < size; i++)
		if (flags & names[i].flag)
			used += (size_t)snprintf(text + used, size - used, "%s", names[i].name);
}

/* For the log: what is on, what is off, and why. The file system has said its part already. */
static void monitor_describe(const struct recover *recover)
{
	const struct state_header *header = recover->state.header;
	const struct fuse_init_in *in = (const void *)(header->init_in + sizeof(struct fuse_in_header));
	char flags[128];

	log_info("protocol %u.%u of the kernel; requests of a dead server are sent again by it", in->major, in->minor);
	log_info("%u workers, requests of up to %u KiB, buffers of %zu KiB %s", header->workers,
		 header->max_write >> 10, recover->buffers_bytes >> 10,
		 recover->buffers_locked ? "locked in memory" : "in memory, but not locked there");
	flags_text(recover->options->mount_flags, flags, sizeof(flags));
	if (mount_is_passed(recover))
		log_info("mounted by somebody else, with their flags: allow_other and default_permissions are theirs");
	else
		log_info("mounted %s,allow_other,default_permissions: everybody may use it, the kernel checks modes",
			 flags);
	log_info("wake=%s", header->wake_text);
	if (strncmp(header->contain_text, "in part", 7) == 0)
		log_warning("contain=auto: %s", header->contain_text);
	else
		log_info("contain: %s", header->contain_text);
	log_info("state: %s", header->path[0] ? header->path : "in memory, --status cannot find it");
}

/* For a service manager. Its service is the monitor, of whichever program, and after whichever death. */
static void monitor_tell(const char *first)
{
	char text[64];

	snprintf(text, sizeof(text), "%sMAINPID=%d\nSTATUS=serving", first, getpid());
	handover_tell(text);
}

/* The mount answers for the first time: whoever started us may go on. */
static void monitor_announce(struct monitor *monitor)
{
	struct recover *recover = monitor->recover;

	recover->unannounced = false;
	monitor_describe(recover);
	log_info("%s on %s: ready", recover->options->source, recover->options->mountpoint);
	if (!recover->options->foreground)
		monitor_detach(recover);
	notify_parent(recover->options, EXIT_OK);
	monitor_tell("READY=1\n");
}

static enum monitor_state on_first_ready(struct monitor *monitor)
{
	monitor->deaths = 0;
	monitor_announce(monitor);
	return MONITOR_SERVING;
}

static void keep_close(struct state_header *header, enum state_keep what)
{
	if (header->keep[what] >= 0)
		close(header->keep[what]);
	store_release(&header->keep[what], -1);
}

static enum monitor_state on_ready(struct monitor *monitor)
{
	struct state_header *header = monitor->recover->state.header;

	monitor->deaths = 0;
	stats_ready(&header->recovery, clock_ns());
	if (monitor->recover->unannounced)
		monitor_announce(monitor);
	else if (monitor->new_here)
		monitor_tell("");
	monitor->new_here = false;
	if (header->upgrade == UPGRADE_RUNNING) {
		keep_close(header, KEEP_PROGRAM);
		header->upgrades++;
		store_release(&header->upgrade, UPGRADE_DONE);
		log_info("%s is served by %s now", header->mountpoint, header->program);
	}
	return MONITOR_SERVING;
}

void monitor_roll_back(struct recover *recover)
{
	struct state_header *header = recover->state.header;

	if (header->upgrade != UPGRADE_RUNNING || header->keep[KEEP_PROGRAM] < 0)
		return;
	store_release(&header->upgrade, UPGRADE_BACK);
	exec_become(recover, header->keep[KEEP_PROGRAM]);
	store_release(&header->upgrade, UPGRADE_FAILED);
}

/* How long to wait after so many deaths in a row. */
static int64_t pause_ms(unsigned deaths)
{
	int64_t pause = PAUSE_FIRST_MS;

	for (unsigned i = DEATHS_BEFORE_PAUSE + 1; i < deaths && pause < PAUSE_LONGEST_MS; i++)
		pause *= 2;
	return pause < PAUSE_LONGEST_MS ? pause : PAUSE_LONGEST_MS;
}

static enum monitor_state monitor_pause(struct monitor *monitor, int64_t pause)
{
	monitor->timer_ms = clock_ms() + pause;
	log_warning("the server died %u times in a row before it was ready: next try in %lld ms", monitor->deaths,
		    (long long)pause);
	return MONITOR_WAITING;
}

/* The requests that dead servers had read come back, so that they get their errors too. */
static enum monitor_state monitor_break(struct monitor *monitor)
{
	monitor->timer_ms = clock_ms() + PAUSE_BROKEN_MS;
	if (monitor->state == MONITOR_BROKEN)
		return MONITOR_BROKEN;
	log_error("the server died %u times in a row before it was ready: %s answers errors from now on",
		  monitor->deaths, monitor->recover->options->mountpoint);
	if (monitor->recover->unannounced)
		notify_parent(monitor->recover->options, EXIT_BUG);
	store_release(&monitor->recover->state.header->phase, STATE_BROKEN);
	recovery_resend(monitor->recover);
	monitor_block(monitor, false);
	return MONITOR_BROKEN;
}

static enum monitor_state monitor_after_death(struct monitor *monitor, enum monitor_state next)
{
	monitor->deaths++;
	if (monitor->deaths >= DEATHS_BEFORE_ROLL_BACK)
		monitor_roll_back(monitor->recover);
	if (monitor->deaths <= DEATHS_BEFORE_PAUSE)
		return monitor_start(monitor, next);
	if (monitor->deaths > DEATHS_BEFORE_BROKEN)
		return monitor_break(monitor);
	return monitor_pause(monitor, pause_ms(monitor->deaths));
}

static enum monitor_state on_death(struct monitor *monitor)
{
	struct state_header *header = monitor->recover->state.header;

	store_release(&header->phase, STATE_RECOVERING);
	header->restarts++;
	return monitor_after_death(monitor, MONITOR_RESTARTING);
}

/* Nobody was told yet that the mount exists: a server that cannot start is the answer. */
static enum monitor_state on_first_death(struct monitor *monitor)
{
	if (monitor->deaths >= DEATHS_BEFORE_PAUSE) {
		log_error("the server does not start");
		mount_detach(monitor->recover, true);
		monitor->exit_code = EXIT_BUG;
		return MONITOR_ENDED;
	}
	monitor->deaths++;
	return monitor_start(monitor, MONITOR_STARTING);
}

static enum monitor_state on_pause_over(struct monitor *monitor)
{
	return monitor_start(monitor, MONITOR_RESTARTING);
}

static enum monitor_state on_unmounted(struct monitor *monitor)
{
	monitor->exit_code = monitor->state == MONITOR_STARTING ? EXIT_MOUNT : EXIT_OK;
	return MONITOR_ENDED;
}

static enum monitor_state upgrade_refused(struct monitor *monitor, const char *why)
{
	struct state_header *header = monitor->recover->state.header;

	log_error("%s is not put in place: %s", header->program, why);
	keep_close(header, KEEP_PROGRAM);
	store_release(&header->upgrade, UPGRADE_FAILED);
	return monitor->state;
}

/* Serves on until the program has said that it can take over. By SIGHUP alone: what is installed in our place now. */
static enum monitor_state on_upgrade(struct monitor *monitor)
{
	struct state_header *header = monitor->recover->state.header;
	int program, err = 0;

	if (monitor->check)
		return monitor->state;
	if (header->upgrade != UPGRADE_ASKED)
		err = exec_self_path(header->program, sizeof(header->program));
	store_release(&header->upgrade, UPGRADE_ASKED);
	program = err ? err : exec_open_self();
	if (program < 0)
		return upgrade_refused(monitor, strerror(-program));
	store_release(&header->keep[KEEP_PROGRAM], program);
	monitor->check = exec_check_start(monitor->recover, header->program);
	if (monitor->check < 0) {
		err = monitor->check;
		monitor->check = 0;
		return upgrade_refused(monitor, strerror(-err));
	}
	monitor->check_due_ms = clock_ms() + CHECK_MS;
	return monitor->state;
}

/* The server ends first: then nobody else uses the table of open files. */
static enum monitor_state on_checked(struct monitor *monitor)
{
	kill(monitor->server, SIGKILL);
	return MONITOR_UPGRADING;
}

/* Does not return if the new program starts. */
static enum monitor_state on_death_upgrading(struct monitor *monitor)
{
	struct state_header *header = monitor->recover->state.header;
	int program = open(header->program, O_PATH | O_CLOEXEC), err = -errno;

	store_release(&header->phase, STATE_RECOVERING);
	store_release(&header->upgrade, UPGRADE_RUNNING);
	if (program >= 0)
		err = exec_become(monitor->recover, program);
	upgrade_refused(monitor, strerror(-err));
	return monitor_start(monitor, MONITOR_RESTARTING);
}

static enum monitor_state on_upgrade_refused(struct monitor *monitor)
{
	return upgrade_refused(monitor, "the mount is not being served");
}

static enum monitor_state on_stop(struct monitor *monitor)
{
	int err = mount_detach(monitor->recover, false);

	store_release(&monitor->recover->state.header->phase, STATE_STOPPING);
	if (err && err != -EINVAL) { /* EINVAL: somebody unmounted it already */
		log_error("cannot unmount %s: %s", monitor->recover->options->mountpoint, strerror(-err));
		if (err != -EOPNOTSUPP)
			return monitor->state;
		kill(monitor->server, SIGKILL);
		return MONITOR_ENDED;
	}
	return MONITOR_STOPPING;
}

/* Told twice: no longer waits for open files to be closed. */
static enum monitor_state on_stop_again(struct monitor *monitor)
{
	char path[80];
	int fd;

	mount_connection_path(monitor->recover, "abort", path, sizeof(path));
	fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, "1", 1) < 0)
		log_error("cannot abort the connection: %s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return MONITOR_STOPPING;
}

/* There is no server, and soon no mount: whoever waits gets an error. */
static enum monitor_state on_stop_idle(struct monitor *monitor)
{
	int err = mount_detach(monitor->recover, false);

	if (err && err != -EINVAL && err != -EOPNOTSUPP)
		log_error("cannot unmount %s: %s", monitor->recover->options->mountpoint, strerror(-err));
	on_stop_again(monitor);
	return MONITOR_ENDED;
}

/* Still needed, for files that are open; but nobody waits for long on a mount that was taken off. */
static enum monitor_state on_death_stopping(struct monitor *monitor)
{
	monitor->recover->state.header->restarts++;
	if (++monitor->deaths > DEATHS_BEFORE_PAUSE)
		return on_stop_again(monitor), MONITOR_ENDED;
	return monitor_start(monitor, MONITOR_STOPPING);
}

static enum monitor_state on_ready_stopping(struct monitor *monitor)
{
	monitor->deaths = 0;
	return MONITOR_STOPPING;
}

static enum monitor_state stay(struct monitor *monitor)
{
	return monitor->state;
}

typedef enum monitor_state monitor_action(struct monitor *monitor);

static monitor_action *const actions[MONITOR_STATE_N][MONITOR_EVENT_N] = {
	[MONITOR_STARTING] = {[EVENT_READY] = on_first_ready,
			      [EVENT_DIED] = on_first_death,
			      [EVENT_UNMOUNTED] = on_unmounted,
			      [EVENT_STOP] = on_stop,
			      [EVENT_TIMER] = stay,
			      [EVENT_UPGRADE] = on_upgrade_refused,
			      [EVENT_CHECKED] = stay},
	[MONITOR_SERVING] = {[EVENT_READY] = on_ready,
			     [EVENT_DIED] = on_death,
			     [EVENT_UNMOUNTED] = on_unmounted,
			     [EVENT_STOP] = on_stop,
			     [EVENT_TIMER] = stay,
			     [EVENT_UPGRADE] = on_upgrade,
			     [EVENT_CHECKED] = on_checked},
	[MONITOR_RESTARTING] = {[EVENT_READY] = on_ready,
				[EVENT_DIED] = on_death,
				[EVENT_UNMOUNTED] = on_unmounted,
				[EVENT_STOP] = on_stop,
				[EVENT_TIMER] = stay,
				[EVENT_UPGRADE] = on_upgrade,
				[EVENT_CHECKED] = on_checked},
	[MONITOR_WAITING] = {[EVENT_READY] = stay,
			     [EVENT_DIED] = stay,
			     [EVENT_UNMOUNTED] = on_unmounted,
			     [EVENT_STOP] = on_stop_idle,
			     [EVENT_TIMER] = on_pause_over,
			     [EVENT_UPGRADE] = on_upgrade,
			     [EVENT_CHECKED] = on_death_upgrading},
	[MONITOR_BROKEN] = {[EVENT_READY] = stay,
			    [EVENT_DIED] = stay,
			    [EVENT_UNMOUNTED] = on_unmounted,
			    [EVENT_STOP] = on_stop_idle,
			    [EVENT_TIMER] = on_pause_over,
			    [EVENT_UPGRADE] = on_upgrade,
			    [EVENT_CHECKED] = on_death_upgrading},
	[MONITOR_UPGRADING] = {[EVENT_READY] = stay,
			       [EVENT_DIED] = on_death_upgrading,
			       [EVENT_UNMOUNTED] = on_unmounted,
			       [EVENT_STOP] = on_stop,
			       [EVENT_TIMER] = stay,
			       [EVENT_UPGRADE] = stay,
			       [EVENT_CHECKED] = stay},
	[MONITOR_STOPPING] = {[EVENT_READY] = on_ready_stopping,
			      [EVENT_DIED] = on_death_stopping,
			      [EVENT_UNMOUNTED] = on_unmounted,
			      [EVENT_STOP] = on_stop_again,
			      [EVENT_TIMER] = stay,
			      [EVENT_UPGRADE] = on_upgrade_refused,
			      [EVENT_CHECKED] = on_upgrade_refused},
	[MONITOR_ENDED] = {[EVENT_READY] = stay,
			   [EVENT_DIED] = stay,
			   [EVENT_UNMOUNTED] = stay,
			   [EVENT_STOP] = stay,
			   [EVENT_TIMER] = stay,
			   [EVENT_UPGRADE] = stay,
			   [EVENT_CHECKED] = stay},
};

bool monitor_handles(enum monitor_state state, enum monitor_event event)
{
	return actions[state][event] != NULL;
}

static void monitor_event(struct monitor *monitor, enum monitor_event event)
{
	log_debug("monitor: state %d, event %d", (int)monitor->state, (int)event);
	monitor->state = actions[monitor->state][event](monitor);
}

/* What the child of exec_check_start() said. */
static void monitor_checked(struct monitor *monitor, int status)
{
	const struct state_header *header = monitor->recover->state.header;
	pid_t child = monitor->check;

	monitor->check = 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0 && header->checked == child)
		monitor_event(monitor, EVENT_CHECKED);
	else if (!monitor->check_due_ms)
		upgrade_refused(monitor, "it says nothing");
	else
		upgrade_refused(monitor, "it does not start, or takes no state of this layout");
}

static void monitor_check_late(struct monitor *monitor)
{
	if (!monitor->check || !monitor->check_due_ms || clock_ms() < monitor->check_due_ms)
		return;
	monitor->check_due_ms = 0;
	kill(monitor->check, SIGKILL);
}

static void monitor_bury(struct monitor *monitor, int status)
{
	monitor->server = 0;
	store_release(&monitor->recover->state.header->server_pid, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == SERVER_EXIT_UNMOUNTED) {
		monitor_event(monitor, EVENT_UNMOUNTED);
		return;
	}
	stats_died(&monitor->recover->state.header->recovery, clock_ns(), WIFSIGNALED(status) ? WTERMSIG(status) : 0);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		log_error("system call %d, which the server has no use for, was denied to it: starting the next",
			  monitor->recover->state.header->forbidden);
	else if (WIFSIGNALED(status))
		log_warning("the server was killed by signal %d (%s): starting the next", WTERMSIG(status),
			    strsignal(WTERMSIG(status)));
	else
		log_warning("the server ended with code %d: starting the next", WEXITSTATUS(status));
	monitor_event(monitor, EVENT_DIED);
}

/* Threads of the server are waited for too, where they are traced; the process ends after the last of them. */
static void monitor_reap(struct monitor *monitor)
{
	int status;
	pid_t pid;

	while (monitor->state != MONITOR_ENDED && (pid = waitpid(-1, &status, __WALL | WNOHANG)) > 0) {
		if (WIFSTOPPED(status))
			witness_stopped(&monitor->recover->state, pid, status);
		else if (pid == monitor->server)
			monitor_bury(monitor, status);
		else if (pid == monitor->watcher.pid)
			watcher_bury(&monitor->watcher, monitor->recover, status);
		else if (pid == monitor->check)
			monitor_checked(monitor, status);
	}
}

static void monitor_read_signals(struct monitor *monitor)
{
	struct signalfd_siginfo info;

	while (read(monitor->signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
			monitor_event(monitor, EVENT_STOP);
		else if (info.ssi_signo == SIGHUP)
			monitor_event(monitor, EVENT_UPGRADE);
	}
	monitor_reap(monitor); /* one SIGCHLD may stand for several */
}

/* Of a broken mount: one request, answered with EIO; a FORGET has no answer. */
static void monitor_refuse(struct monitor *monitor)
{
	struct recover *recover = monitor->recover;
	const struct worker *worker = &recover->workers[0];
	const struct fuse_in_header *in = (const void *)worker->in;
	struct fuse_out_header out = {.len = sizeof(out), .error = -EIO};
	ssize_t got = read(worker->device, worker->in, recover->state.header->max_write + REQUEST_HEADROOM);

	if (got < 0 && errno == ENODEV) {
		monitor_event(monitor, EVENT_UNMOUNTED);
		return;
	}
	if (got < (ssize_t)sizeof(*in) || in->opcode == FUSE_FORGET || in->opcode == FUSE_BATCH_FORGET ||
	    in->opcode == FUSE_INTERRUPT)
		return;
	out.unique = in->unique;
	if (write(worker->device, &out, sizeof(out)) < 0)
		log_debug("an error was not wanted: %s", strerror(errno));
}

static int64_t earlier(int64_t wait, int64_t due_ms)
{
	int64_t left = due_ms - clock_ms();

	if (!due_ms)
		return wait;
	left = left < 0 ? 0 : left;
	return wait < 0 || left < wait ? left : wait;
}

/* A server that recovers closes each descriptor that it does not know: one of ours, and then its number is another's. */
static bool monitor_may_open(const struct monitor *monitor)
{
	return !monitor->server || load_acquire(&monitor->recover->state.header->phase) == STATE_SERVING;
}

/* Milliseconds until the next thing to do without being told; -1: none. */
static int monitor_wait(const struct monitor *monitor)
{
	int64_t wait = earlier(watchdog_interval(&monitor->watchdog), monitor->timer_ms);

	wait = earlier(wait, monitor->check ? monitor->check_due_ms : 0);
	wait = earlier(wait, monitor->wake.next_ms);
	if (monitor->state == MONITOR_SERVING)
		wait = earlier(wait, handover_next_ms(monitor->recover));
	wait = earlier(wait, monitor_may_open(monitor) ? monitor->metrics.next_ms : 0);
	return (int)earlier(wait, monitor->watcher.timer_ms);
}

/* Without a server nobody else learns that the mount is gone: poll(2) says so unasked (POLLERR). */
static void monitor_look_at_device(struct monitor *monitor, const struct pollfd *device)
{
	if (monitor->state == MONITOR_BROKEN && device->revents)
		monitor_refuse(monitor);
	else if (monitor->state == MONITOR_WAITING && device->revents & POLLERR)
		monitor_event(monitor, EVENT_UNMOUNTED);
}

/* Whoever started us is told first: the watcher would keep what that has as standard output. */
static bool monitor_may_watch(const struct monitor *monitor)
{
	return monitor->state != MONITOR_STARTING && !monitor->recover->unannounced &&
	       monitor->state != MONITOR_UPGRADING && monitor->state != MONITOR_ENDED;
}

static void monitor_loop(struct monitor *monitor)
{
	struct recover *recover = monitor->recover;

	while (monitor->state != MONITOR_ENDED) {
		bool idle = monitor->state == MONITOR_BROKEN || monitor->state == MONITOR_WAITING;
		struct pollfd fds[] = {
			{.fd = monitor->signals, .events = POLLIN},
			{.fd = recover->ready_fd, .events = POLLIN},
			{.fd = recover->wake_event_fd, .events = POLLIN},
			{.fd = monitor_may_open(monitor) ? metrics_socket(recover) : -1, .events = POLLIN},
			{.fd = idle ? recover->workers[0].device : -1,
			 .events = monitor->state == MONITOR_BROKEN ? POLLIN : 0},
			{.fd = monitor->state == MONITOR_SERVING ? recover->state.header->keep[KEEP_HOLD] : -1,
			 .events = POLLIN}};
		uint64_t count;

		poll(fds, 6, monitor_wait(monitor));
		wake_look(recover, &monitor->wake, clock_ms());
		if (monitor->timer_ms && clock_ms() >= monitor->timer_ms) {
			monitor->timer_ms = 0;
			monitor_event(monitor, EVENT_TIMER);
		}
		monitor_check_late(monitor);
		if (read(recover->ready_fd, &count, sizeof(count)) == sizeof(count)) {
			watchdog_ready(&monitor->watchdog);
			monitor_event(monitor, EVENT_READY);
		}
		monitor_look_at_device(monitor, &fds[4]);
		if (monitor->server)
			watchdog_look(&monitor->watchdog, recover, monitor->server);
		if (monitor->state != MONITOR_ENDED)
			monitor_read_signals(monitor);
		if (monitor_may_watch(monitor))
			watcher_look(&monitor->watcher, recover, monitor->stack);
		if (monitor_may_open(monitor))
			metrics_look(&monitor->metrics, recover, clock_ms(), fds[3].revents);
		if (monitor->state == MONITOR_SERVING)
			handover_look(recover, clock_ms(), fds[5].revents);
	}
	watcher_end(&monitor->watcher, recover);
}

static int monitor_signals(void)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, GUARDIAN_SIGNAL); /* of the server that we were: read and ignored */
	sigprocmask(SIG_SETMASK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_DFL); /* who started us may ignore it: then nobody dead could be waited for */
	fd = signalfd(-1, &set, SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

/* What the program before this one used, if any, goes; what it was told and did not act on is asked of the state. */
static int monitor_open(struct monitor *monitor)
{
	struct recover *recover = monitor->recover;
	uint64_t count;

	keep_close(recover->state.header, KEEP_SIGNALS);
	monitor->signals = monitor_signals();
	if (monitor->signals < 0)
		return monitor->signals;
	recover->state.header->keep[KEEP_SIGNALS] = monitor->signals;
	while (read(recover->ready_fd, &count, sizeof(count)) > 0 || read(recover->go_fd, &count, sizeof(count)) > 0)
		;
	monitor->stack =
		mmap(NULL, SERVER_STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (monitor->stack == MAP_FAILED || mprotect(monitor->stack, SERVER_GUARD_BYTES, PROT_NONE))
		return -errno;
	/* a monitor before us was asked, and died */
	return recover->state.header->upgrade == UPGRADE_ASKED && kill(getpid(), SIGHUP) ? -errno : 0;
}

static void monitor_stay_in_memory(const struct monitor *monitor)
{
	int err = oom_lock_program();

	if (!err)
		err = state_keep_in_memory(&monitor->recover->state);
	if (err)
		log_warning(
			"the monitor cannot be locked in memory (%s): where memory runs out, a death may cost seconds",
			strerror(-err));
}

int monitor_run(struct recover *recover, enum monitor_state state)
{
	struct monitor monitor = {.recover = recover, .state = state, .new_here = state != MONITOR_STARTING};
	int err = monitor_open(&monitor);

	if (err) {
		log_error("cannot watch over the mount: %s", strerror(-err));
		return EXIT_SYSTEM;
	}
	watchdog_init(&monitor.watchdog, recover->options->watchdog);
	metrics_start(&monitor.metrics, recover);
	monitor.state = monitor_start(&monitor, state);
	monitor_stay_in_memory(&monitor); /* after the start: nobody waits for it */
	monitor_loop(&monitor);
	return monitor.exit_code;
}
