/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The monitor: mounts, starts the server in the same table of open files, and starts the next one when it dies.
 * Single-threaded; what it does on which event in which state stands in one table. It never looks at a request
 * after INIT.
 */
#include "recover/monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "recover/atomic.h"
#include "recover/internal.h"
#include "recover/log.h"
#include "recover/witness.h"

#define SERVER_STACK_BYTES (1u << 20)
#define EXIT_OK 0
#define EXIT_SYSTEM 2
#define EXIT_BUG 4
#define EXIT_MOUNT 32

/* A server that dies before it is ready, this many times in a row, is started after a growing pause / no more. */
#define DEATHS_BEFORE_PAUSE 5
#define DEATHS_BEFORE_GIVING_UP 30
#define PAUSE_FIRST_MS 10
#define PAUSE_LONGEST_MS 2000

struct monitor {
	struct recover *recover;
	enum monitor_state state;
	pid_t server;
	int signals;
	unsigned deaths;  /* in a row, before the server was ready */
	int64_t timer_ms; /* when EVENT_TIMER is due, CLOCK_MONOTONIC; 0: never */
	int exit_code;
	void *stack;
};

static int64_t clock_ms(void)
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
 * A process of its own with our table of open files. With musl >= 1.2.5 its clone() leaves the child a consistent
 * thread id; with glibc (sanitizer builds) the kernel is told where that is kept.
 */
static pid_t server_clone(struct monitor *monitor)
{
#ifdef __GLIBC__
	void *thread_id = NULL;
	long pid;

	prctl(PR_GET_TID_ADDRESS, &thread_id, 0, 0, 0);
	pid = syscall(SYS_clone, CLONE_FILES | SIGCHLD | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID, 0, 0, thread_id, 0);
	if (pid == 0)
		server_entry(monitor->recover);
	return (pid_t)pid;
#else
	return clone(server_entry, (char *)monitor->stack + SERVER_STACK_BYTES, CLONE_FILES | SIGCHLD,
		     monitor->recover);
#endif
}

/* Before the server has a second thread. */
static void monitor_witness(struct monitor *monitor)
{
	struct state_header *header = monitor->recover->state.header;
	int err;

	if (header->witness == WITNESS_EVIDENCE)
		return;
	err = witness_seize(monitor->server);
	store_release(&header->witness, err ? WITNESS_EVIDENCE : WITNESS_REGISTERS);
	if (err)
		log_warning("cannot trace the server (%s): interrupted system calls are judged by evidence",
			    strerror(-err));
}

static enum monitor_state monitor_start(struct monitor *monitor, enum monitor_state next)
{
	struct state_header *header = monitor->recover->state.header;

	monitor->timer_ms = 0;
	monitor->server = server_clone(monitor);
	if (monitor->server < 0) {
		log_error("cannot start a server: %s", strerror(errno));
		monitor->server = 0;
		monitor->timer_ms = clock_ms() + PAUSE_LONGEST_MS;
		return MONITOR_WAITING;
	}
	store_release(&header->server_pid, (int32_t)monitor->server);
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
	log_info("state: %s", header->path[0] ? header->path : "in memory, --status cannot find it");
}

/* The mount answers for the first time: whoever started us may go on. */
static void monitor_announce(struct monitor *monitor)
{
	struct recover *recover = monitor->recover;

	monitor_describe(recover);
	log_info("%s on %s: ready", recover->options->source, recover->options->mountpoint);
	if (!recover->options->foreground)
		monitor_detach(recover);
	notify_parent(recover->options, EXIT_OK);
}

static enum monitor_state on_first_ready(struct monitor *monitor)
{
	monitor->deaths = 0;
	monitor_announce(monitor);
	return MONITOR_SERVING;
}

static enum monitor_state on_ready(struct monitor *monitor)
{
	monitor->deaths = 0;
	return MONITOR_SERVING;
}

static enum monitor_state on_death(struct monitor *monitor)
{
	struct state_header *header = monitor->recover->state.header;
	int64_t pause = PAUSE_FIRST_MS;

	store_release(&header->phase, STATE_RECOVERING);
	header->restarts++;
	if (++monitor->deaths <= DEATHS_BEFORE_PAUSE)
		return monitor_start(monitor, MONITOR_RESTARTING);
	if (monitor->deaths > DEATHS_BEFORE_GIVING_UP) {
		log_error(
			"the server died %u times in a row before it was ready: giving up, %s answers errors from now on",
			monitor->deaths, monitor->recover->options->mountpoint);
		mount_detach(monitor->recover, true);
		monitor->exit_code = EXIT_BUG;
		return MONITOR_ENDED;
	}
	for (unsigned i = DEATHS_BEFORE_PAUSE; i < monitor->deaths && pause < PAUSE_LONGEST_MS; i++)
		pause *= 2;
	log_warning("the server died %u times in a row before it was ready: next try in %lld ms", monitor->deaths,
		    (long long)pause);
	monitor->timer_ms = clock_ms() + pause;
	return MONITOR_WAITING;
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
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/abort", monitor->recover->state.header->device_minor);
	fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, "1", 1) < 0)
		log_error("cannot abort the connection: %s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return MONITOR_STOPPING;
}

static enum monitor_state on_death_stopping(struct monitor *monitor)
{
	monitor->recover->state.header->restarts++;
	return monitor_start(monitor, MONITOR_STOPPING);
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
			      [EVENT_TIMER] = stay},
	[MONITOR_SERVING] = {[EVENT_READY] = on_ready,
			     [EVENT_DIED] = on_death,
			     [EVENT_UNMOUNTED] = on_unmounted,
			     [EVENT_STOP] = on_stop,
			     [EVENT_TIMER] = stay},
	[MONITOR_RESTARTING] = {[EVENT_READY] = on_ready,
				[EVENT_DIED] = on_death,
				[EVENT_UNMOUNTED] = on_unmounted,
				[EVENT_STOP] = on_stop,
				[EVENT_TIMER] = stay},
	[MONITOR_WAITING] = {[EVENT_READY] = stay,
			     [EVENT_DIED] = stay,
			     [EVENT_UNMOUNTED] = on_unmounted,
			     [EVENT_STOP] = on_stop_again,
			     [EVENT_TIMER] = on_pause_over},
	[MONITOR_STOPPING] = {[EVENT_READY] = stay,
			      [EVENT_DIED] = on_death_stopping,
			      [EVENT_UNMOUNTED] = on_unmounted,
			      [EVENT_STOP] = on_stop_again,
			      [EVENT_TIMER] = stay},
	[MONITOR_ENDED] = {[EVENT_READY] = stay,
			   [EVENT_DIED] = stay,
			   [EVENT_UNMOUNTED] = stay,
			   [EVENT_STOP] = stay,
			   [EVENT_TIMER] = stay},
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

static void monitor_bury(struct monitor *monitor, int status)
{
	monitor->server = 0;
	store_release(&monitor->recover->state.header->server_pid, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == SERVER_EXIT_UNMOUNTED) {
		monitor_event(monitor, EVENT_UNMOUNTED);
		return;
	}
	if (WIFSIGNALED(status))
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
	}
}

static void monitor_read_signals(struct monitor *monitor)
{
	struct signalfd_siginfo info;

	while (read(monitor->signals, &info, sizeof(info)) == sizeof(info))
		if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
			monitor_event(monitor, EVENT_STOP);
	monitor_reap(monitor); /* one SIGCHLD may stand for several */
}

static void monitor_loop(struct monitor *monitor)
{
	while (monitor->state != MONITOR_ENDED) {
		struct pollfd fds[] = {{.fd = monitor->signals, .events = POLLIN},
				       {.fd = monitor->recover->ready_fd, .events = POLLIN}};
		int64_t wait = monitor->timer_ms ? monitor->timer_ms - clock_ms() : -1;
		uint64_t count;

		poll(fds, 2, monitor->timer_ms ? (int)(wait > 0 ? wait : 0) : -1);
		if (monitor->timer_ms && clock_ms() >= monitor->timer_ms)
			monitor_event(monitor, EVENT_TIMER);
		if (read(monitor->recover->ready_fd, &count, sizeof(count)) == sizeof(count))
			monitor_event(monitor, EVENT_READY);
		if (monitor->state != MONITOR_ENDED)
			monitor_read_signals(monitor);
	}
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
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	fd = signalfd(-1, &set, SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

static unsigned workers_choose(unsigned asked)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	if (asked)
		return asked;
	/* about one reader per core is quickest; a few more, because a slow disk holds one for long */
	return cores < 3 ? 4 : cores > 14 ? 16 : (unsigned)cores + 1;
}

/* Where the state is made: under its final name where that is known, else under one that only we use. */
static const char *state_first_path(const struct recover_options *options, char *path, size_t size)
{
	if (options->state_path)
		return options->state_path;
	if (mkdir("/run/fxfs", 0700) && errno != EEXIST)
		return NULL;
	snprintf(path, size, "/run/fxfs/new.%d", getpid());
	unlink(path);
	return path;
}

/* A state that an earlier mount left at the user's path goes if that mount is dead; anything else stays. */
static int state_replace(const char *path)
{
	struct state old;
	const char *why;
	int err = state_open(&old, path, &why);
	pid_t pid;

	if (err) {
		log_error("%s exists and is not used: %s", path, why);
		return -EEXIST;
	}
	pid = old.header->monitor_pid;
	state_close(&old);
	if (pid > 0 && kill(pid, 0) == 0) {
		log_error("%s is in use by the mount of monitor %d", path, pid);
		return -EBUSY;
	}
	if (unlink(path)) {
		err = -errno;
		log_error("cannot replace the state %s: %s", path, strerror(-err));
	}
	return err;
}

/* 0 or -errno; what is wrong was said. */
static int state_make(struct recover *recover)
{
	char path[64];
	const char *first = state_first_path(recover->options, path, sizeof(path));
	const char *asked = recover->options->state_path;
	int err = state_create(&recover->state, first, recover->fs->area_bytes);

	if (err == -EEXIST && asked) {
		err = state_replace(first);
		if (err)
			return err;
		err = state_create(&recover->state, first, recover->fs->area_bytes);
	}
	if (!asked && (err == -EROFS || err == -EACCES || err == -ENOENT || err == -EPERM)) {
		log_warning("/run/fxfs is not writable (%s): the state is in memory, and --status cannot find it",
			    strerror(-err));
		err = state_create(&recover->state, NULL, recover->fs->area_bytes);
	}
	if (err)
		log_error("cannot create the state %.4095s: %s", asked ? asked : "in /run/fxfs", strerror(-err));
	return err;
}

/* --status looks under the default name: there a link leads to a state that is kept elsewhere. */
static void state_link(const char *path, const char *name)
{
	mkdir("/run/fxfs", 0700);
	unlink(name);
	if (symlink(path, name))
		log_warning("cannot link %s to %s: %s: --status needs -o state=", name, path, strerror(errno));
}

/* The connection of a descriptor that somebody else mounted: its fdinfo says so since Linux 6.16), else 0. */
static unsigned device_connection(int device)
{
	char path[48], line[128];
	unsigned minor_number = 0;
	FILE *info;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", device);
	info = fopen(path, "r");
	while (info && fgets(line, sizeof(line), info))
		if (sscanf(line, "fuse_connection: %u", &minor_number) == 1)
			break;
	if (info)
		fclose(info);
	return minor_number;
}

/* Where --status looks: by device number, or, without one, where nobody but a person finds it. */
static void state_public_path(const struct state_header *header, char *path, size_t size)
{
	if (header->device_minor)
		state_default_path(header->device_minor, path, size);
	else
		snprintf(path, size, "/run/fxfs/fd-%d.state", header->monitor_pid);
}

/* The mount has a device number now: the state gets the name by which --status finds it. */
static void state_name(struct recover *recover)
{
	struct state_header *header = recover->state.header;
	char path[64];
	struct statx stx;

	if (mount_is_passed(recover))
		header->device_minor = device_connection(header->device[0]);
	else if (statx(AT_FDCWD, recover->options->mountpoint, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE,
		       &stx) == 0)
		header->device_minor = stx.stx_dev_minor;
	if (!header->path[0])
		return;
	state_public_path(header, path, sizeof(path));
	if (recover->options->state_path)
		state_link(recover->options->state_path, path);
	else if (rename(header->path, path) == 0)
		snprintf(header->path, sizeof(header->path), "%s", path);
}

static void state_describe(struct recover *recover)
{
	struct state_header *header = recover->state.header;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	header->started_realtime_ns = (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
	header->monitor_pid = getpid();
	header->workers = recover->workers_n;
	snprintf(header->source, sizeof(header->source), "%s", recover->options->source);
	snprintf(header->mountpoint, sizeof(header->mountpoint), "%s", recover->options->mountpoint);
	snprintf(header->cache, sizeof(header->cache), "%s", recover->options->cache);
	snprintf(header->version_text, sizeof(header->version_text), "%s", recover->options->version);
}

/*
 * The number in the default name is free again as soon as the mount is gone: what stands there may be the next one's.
 * Followed, a link of ours leads to our file.
 */
static void state_unlink(const struct state *state, const char *path)
{
	struct stat ours, there;

	if (fstat(state->fd, &ours) == 0 && stat(path, &there) == 0 && ours.st_dev == there.st_dev &&
	    ours.st_ino == there.st_ino)
		unlink(path);
}

static void state_remove(struct recover *recover)
{
	char path[64];

	state_public_path(recover->state.header, path, sizeof(path));
	if (recover->options->state_path)
		state_unlink(&recover->state, path);
	if (recover->state.header->path[0])
		state_unlink(&recover->state, recover->state.header->path);
}

static int witness_choose(struct recover *recover)
{
	enum witness wanted = recover->options->witness;
	int err = wanted == WITNESS_EVIDENCE ? -EPERM : witness_probe();

	if (err && wanted == WITNESS_REGISTERS) {
		log_error("-o witness=registers: cannot trace a process: %s", strerror(-err));
		return err;
	}
	if (err && wanted == WITNESS_AUTO)
		log_warning("cannot trace a process (%s): interrupted system calls are judged by evidence",
			    strerror(-err));
	recover->state.header->witness = err ? WITNESS_EVIDENCE : WITNESS_REGISTERS;
	return 0;
}

static int monitor_prepare(struct monitor *monitor)
{
	struct recover *recover = monitor->recover;
	struct state_header *header = recover->state.header;
	int err;

	state_keep(&recover->state, log_connect(&header->detached)); /* first: what follows may say something */
	state_describe(recover);
	err = witness_choose(recover);
	if (err)
		return err;
	journal_init(&recover->journal, &recover->state);
	nodes_init(&recover->nodes, &recover->state, &recover->journal);
	err = recover->fs->prepare(recover);
	if (err)
		return err;
	err = buffers_create(recover);
	if (err) {
		log_error("cannot make request buffers: %s", strerror(-err));
		return err;
	}
	recover->ready_fd = eventfd(0, EFD_NONBLOCK);
	recover->go_fd = eventfd(0, EFD_NONBLOCK);
	monitor->signals = monitor_signals();
	monitor->stack =
		mmap(NULL, SERVER_STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (recover->ready_fd < 0 || recover->go_fd < 0 || monitor->signals < 0 || monitor->stack == MAP_FAILED)
		return -errno;
	state_keep(&recover->state, recover->ready_fd);
	state_keep(&recover->state, recover->go_fd);
	state_keep(&recover->state, monitor->signals);
	state_keep(&recover->state, recover->buffers_fd);
	state_keep(&recover->state, recover->options->notify_fd);
	return 0;
}

static int monitor_mount(struct recover *recover)
{
	int device, err;

	err = mount_attach(recover, &device);
	if (err)
		return EXIT_MOUNT;
	recover->state.header->device[0] = device;
	err = session_open_all(recover);
	if (err) {
		log_error("cannot open the session with the kernel: %s", strerror(-err));
		mount_detach(recover, true);
		return EXIT_MOUNT;
	}
	state_name(recover);
	return 0;
}

int recover_run(const struct recover_fs *fs, const struct recover_options *options, void *private)
{
	struct recover *recover = calloc(1, sizeof(*recover));
	struct monitor monitor = {.recover = recover, .state = MONITOR_STARTING};

	if (!recover)
		return EXIT_SYSTEM;
	recover->fs = fs;
	recover->options = options;
	recover->private = private;
	recover->workers_n = workers_choose(options->workers);
	if (state_make(recover))
		return EXIT_MOUNT;
	if (monitor_prepare(&monitor))
		monitor.exit_code = EXIT_SYSTEM;
	else
		monitor.exit_code = monitor_mount(recover);
	if (!monitor.exit_code) {
		monitor.state = monitor_start(&monitor, MONITOR_STARTING);
		monitor_loop(&monitor);
	}
	state_remove(recover);
	return monitor.exit_code;
}
