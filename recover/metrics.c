/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recover/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_kernel.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "recover/atomic.h"
#include "recover/internal.h"
#include "recover/log.h"
#include "recover/witness.h"

#define TEXT_BYTES (256u << 10)
#define METRICS_FIRST_MS 500
#define WAITING 8 /* who connect at once */

static const char *const opcodes[STATS_OPCODES] = {
	[0] = "other",
	[FUSE_LOOKUP] = "lookup",
	[FUSE_FORGET] = "forget",
	[FUSE_GETATTR] = "getattr",
	[FUSE_SETATTR] = "setattr",
	[FUSE_READLINK] = "readlink",
	[FUSE_SYMLINK] = "symlink",
	[FUSE_MKNOD] = "mknod",
	[FUSE_MKDIR] = "mkdir",
	[FUSE_UNLINK] = "unlink",
	[FUSE_RMDIR] = "rmdir",
	[FUSE_RENAME] = "rename",
	[FUSE_LINK] = "link",
	[FUSE_OPEN] = "open",
	[FUSE_READ] = "read",
	[FUSE_WRITE] = "write",
	[FUSE_STATFS] = "statfs",
	[FUSE_RELEASE] = "release",
	[FUSE_FSYNC] = "fsync",
	[FUSE_SETXATTR] = "setxattr",
	[FUSE_GETXATTR] = "getxattr",
	[FUSE_LISTXATTR] = "listxattr",
	[FUSE_REMOVEXATTR] = "removexattr",
	[FUSE_FLUSH] = "flush",
	[FUSE_OPENDIR] = "opendir",
	[FUSE_READDIR] = "readdir",
	[FUSE_RELEASEDIR] = "releasedir",
	[FUSE_FSYNCDIR] = "fsyncdir",
	[FUSE_GETLK] = "getlk",
	[FUSE_SETLK] = "setlk",
	[FUSE_SETLKW] = "setlkw",
	[FUSE_ACCESS] = "access",
	[FUSE_CREATE] = "create",
	[FUSE_INTERRUPT] = "interrupt",
	[FUSE_IOCTL] = "ioctl",
	[FUSE_POLL] = "poll",
	[FUSE_BATCH_FORGET] = "batch_forget",
	[FUSE_FALLOCATE] = "fallocate",
	[FUSE_READDIRPLUS] = "readdirplus",
	[FUSE_RENAME2] = "rename2",
	[FUSE_LSEEK] = "lseek",
	[FUSE_COPY_FILE_RANGE] = "copy_file_range",
	[FUSE_SYNCFS] = "syncfs",
	[FUSE_TMPFILE] = "tmpfile",
	[FUSE_STATX] = "statx",
};

struct text {
	char *at;
	size_t used, room;
	char mount[2 * PATH_MAX]; /* the label that all have */
};

/* A line that does not fit is left out. */
__attribute__((format(printf, 2, 3))) static void add(struct text *text, const char *format, ...)
{
	va_list arguments;
	int n;

	va_start(arguments, format);
	n = vsnprintf(text->at + text->used, text->room - text->used, format, arguments);
	va_end(arguments);
	if (n > 0 && (size_t)n < text->room - text->used)
		text->used += (size_t)n;
}

/* OpenMetrics, ABNF: escaped-string. */
static void label_mount(struct text *text, const char *mountpoint)
{
	size_t used = 0;

	for (; *mountpoint && used < sizeof(text->mount) - 2; mountpoint++) {
		if (*mountpoint == '\\' || *mountpoint == '"' || *mountpoint == '\n')
			text->mount[used++] = '\\';
		text->mount[used++] = *mountpoint == '\n' ? 'n' : *mountpoint;
	}
	text->mount[used] = 0;
}

static void family(struct text *text, const char *name, const char *type, const char *help)
{
	add(text, "# TYPE fxfs_%s %s\n# HELP fxfs_%s %s\n", name, type, name, help);
}

static void gauge(struct text *text, const char *name, const char *help, uint64_t value)
{
	family(text, name, "gauge", help);
	add(text, "fxfs_%s{mountpoint=\"%s\"} %llu\n", name, text->mount, (unsigned long long)value);
}

static void counter(struct text *text, const char *name, const char *help, uint64_t value)
{
	family(text, name, "counter", help);
	add(text, "fxfs_%s_total{mountpoint=\"%s\"} %llu\n", name, text->mount, (unsigned long long)value);
}

static void seconds(struct text *text, const char *sample, uint64_t ns)
{
	add(text, "fxfs_%s{mountpoint=\"%s\"} %llu.%09llu\n", sample, text->mount,
	    (unsigned long long)(ns / 1000000000), (unsigned long long)(ns % 1000000000));
}

static void add_info(struct text *text, const struct state_header *header)
{
	bool passthrough = strcmp(header->passthrough, "on") == 0;

	family(text, "mount", "info", "what is on and off");
	add(text,
	    "fxfs_mount_info{mountpoint=\"%s\",version=\"%s\",cache=\"%s\",passthrough=\"%s\",witness=\"%s\"} 1\n",
	    text->mount, header->version_text, header->cache, passthrough ? "on" : "off",
	    witness_name(header->witness));
}

static void add_requests(struct text *text, const struct state *state)
{
	family(text, "request_duration_seconds", "histogram", "requests of the kernel by kind, and how long each took");
	for (unsigned opcode = 0; opcode < STATS_OPCODES; opcode++) {
		uint64_t times = 0, ns = 0, in[STATS_BUCKETS] = {0};

		for (unsigned i = 0; i < STATE_SLOTS; i++) {
			ns += load_relaxed(&state->stats[i].ns[opcode]);
			for (unsigned bucket = 0; bucket < STATS_BUCKETS; bucket++)
				in[bucket] += load_relaxed(&state->stats[i].times[opcode][bucket]);
		}
		for (unsigned bucket = 0; bucket < STATS_BUCKETS; bucket++)
			times += in[bucket];
		if (!times || !opcodes[opcode])
			continue;
		times = 0;
		for (unsigned bucket = 0; bucket < STATS_BUCKETS; bucket++) {
			times += in[bucket];
			add(text, "fxfs_request_duration_seconds_bucket{mountpoint=\"%s\",op=\"%s\",le=\"", text->mount,
			    opcodes[opcode]);
			if (bucket < STATS_BUCKETS - 1)
				add(text, "%.6f", (double)stats_bucket_end(bucket) / 1e9);
			else
				add(text, "+Inf");
			add(text, "\"} %llu\n", (unsigned long long)times);
		}
		add(text, "fxfs_request_duration_seconds_count{mountpoint=\"%s\",op=\"%s\"} %llu\n", text->mount,
		    opcodes[opcode], (unsigned long long)times);
		add(text, "fxfs_request_duration_seconds_sum{mountpoint=\"%s\",op=\"%s\"} %.9f\n", text->mount,
		    opcodes[opcode], (double)ns / 1e9);
	}
}

static void add_deaths(struct text *text, const struct state_header *header)
{
	const struct recovery_stats *stats = &header->recovery;

	family(text, "server_deaths", "counter", "servers that ended, by signal; 0: by themselves");
	for (unsigned signal_number = 0; signal_number < STATS_SIGNALS; signal_number++)
		if (stats->deaths[signal_number] || signal_number == SIGKILL)
			add(text, "fxfs_server_deaths_total{mountpoint=\"%s\",signal=\"%u\"} %llu\n", text->mount,
			    signal_number, (unsigned long long)stats->deaths[signal_number]);
	counter(text, "monitor_deaths", "monitors whose place the server took", stats->monitor_deaths);
	counter(text, "hangs", "servers that the watchdog ended", header->counters.hangs);
	family(text, "recovery_seconds", "summary", "from the death of a server to the next one's being ready");
	add(text, "fxfs_recovery_seconds_count{mountpoint=\"%s\"} %llu\n", text->mount,
	    (unsigned long long)stats->times);
	seconds(text, "recovery_seconds_sum", stats->ns);
	family(text, "longest_pause_seconds", "gauge", "the longest time without a server");
	seconds(text, "longest_pause_seconds", stats->longest_ns);
}

/* Resident memory of a process (proc_pid_statm(5)), 0 where there is none. */
static uint64_t resident(int32_t pid)
{
	char path[32], line[128];
	unsigned long long pages = 0;
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/statm", pid);
	fd = pid > 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0)
		return 0;
	got = read(fd, line, sizeof(line) - 1);
	close(fd);
	line[got > 0 ? got : 0] = 0;
	return sscanf(line, "%*u %llu", &pages) == 1 ? pages * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

static void add_memory(struct text *text, const struct state *state)
{
	const struct state_header *header = state->header;
	const struct {
		const char *name;
		int32_t pid;
	} processes[] = {
		{"monitor", header->monitor_pid}, {"server", header->server_pid}, {"watcher", header->watcher_pid}};
	struct stat st = {0};

	family(text, "resident_bytes", "gauge", "resident memory");
	for (size_t i = 0; i < sizeof(processes) / sizeof(processes[0]); i++)
		add(text, "fxfs_resident_bytes{mountpoint=\"%s\",process=\"%s\"} %llu\n", text->mount,
		    processes[i].name, (unsigned long long)resident(processes[i].pid));
	fstat(state->fd, &st);
	gauge(text, "state_bytes", "memory of the state", (uint64_t)st.st_blocks * 512);
}

static void add_numbers(struct text *text, const struct recover_fs *fs, const struct state *state)
{
	struct recover_number numbers[RECOVER_NUMBERS];
	unsigned n = fs->numbers ? fs->numbers(state, numbers) : 0;

	for (unsigned i = 0; i < n; i++)
		(numbers[i].counts ? counter : gauge)(text, numbers[i].name, numbers[i].help, numbers[i].value);
}

size_t metrics_print(const struct recover_fs *fs, const struct state *state, char *to, size_t size)
{
	const struct state_header *header = state->header;
	struct text text = {.at = to, .room = size};

	label_mount(&text, header->mountpoint);
	add_info(&text, header);
	gauge(&text, "serving", "1: the mount answers", load_acquire(&header->phase) == STATE_SERVING);
	add_deaths(&text, header);
	add_requests(&text, state);
	counter(&text, "requests_resent", "requests that the kernel sent again", header->counters.resent);
	counter(&text, "requests_replayed", "of these, answered from the journal", header->counters.replayed);
	counter(&text, "requests_poisoned", "requests refused because servers died of them", header->counters.poisoned);
	counter(&text, "watch_events", "changes of the source that the watcher was told of",
		header->counters.watch_events);
	counter(&text, "watch_overflows", "times that all caches were dropped", header->counters.watch_overflows);
	counter(&text, "upgrades", "programs that took over", header->upgrades);
	gauge(&text, "inodes", "inodes that the kernel knows", load_relaxed(&header->nodes_used));
	gauge(&text, "handles", "open files and directories", load_relaxed(&header->handles_used));
	gauge(&text, "in_flight", "requests that are being carried out", journal_in_flight(state));
	add_numbers(&text, fs, state);
	add_memory(&text, state);
	add(&text, "# EOF\n");
	return text.used;
}

/* --- a file ------------------------------------------------------------------------------------------------ */

static char text[TEXT_BYTES]; /* the monitor allocates nothing */

static bool is_file(const char *path)
{
	size_t length = strlen(path);

	return length > 5 && strcmp(path + length - 5, ".prom") == 0;
}

/* Whole or not at all to whoever reads it: it is written beside, and renamed. */
static int file_write(const char *path, const char *from, size_t bytes)
{
	char beside[PATH_MAX];
	int fd, err = 0;

	if ((size_t)snprintf(beside, sizeof(beside), "%s.new", path) >= sizeof(beside))
		return -ENAMETOOLONG;
	fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	errno = ENOSPC; /* of a write that is cut short */
	if (write(fd, from, bytes) != (ssize_t)bytes)
		err = -errno;
	if (close(fd) && !err)
		err = -errno;
	if (!err && rename(beside, path))
		err = -errno;
	if (err)
		unlink(beside);
	return err;
}

static void file_publish(struct metrics *metrics, const struct recover *recover)
{
	int err = file_write(metrics->path, text, metrics_print(recover->fs, &recover->state, text, sizeof(text)));

	if (err && !metrics->failed)
		log_warning("cannot write metrics to %s: %s", metrics->path, strerror(-err));
	metrics->failed = err != 0;
}

/* --- a socket ---------------------------------------------------------------------------------------------- */

/* What a mount that was killed left there goes; what answers stays. */
static int socket_bind(int fd, const struct sockaddr_un *name)
{
	struct stat st;

	if (bind(fd, (const struct sockaddr *)name, sizeof(*name)) == 0)
		return 0;
	if (errno != EADDRINUSE || lstat(name->sun_path, &st) || !S_ISSOCK(st.st_mode))
		return -EADDRINUSE;
	if (connect(fd, (const struct sockaddr *)name, sizeof(*name)) == 0 || errno != ECONNREFUSED)
		return -EADDRINUSE;
	if (unlink(name->sun_path) || bind(fd, (const struct sockaddr *)name, sizeof(*name)))
		return -errno;
	return 0;
}

static int socket_open(const char *path)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int fd, err;

	if ((size_t)snprintf(name.sun_path, sizeof(name.sun_path), "%s", path) >= sizeof(name.sun_path))
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	err = socket_bind(fd, &name);
	if (!err && (chmod(path, 0666) || listen(fd, WAITING)))
		err = -errno;
	if (err)
		close(fd);
	return err ? err : fd;
}

/* In one piece into the socket's buffer: nobody is waited for. */
static void socket_answer(const struct recover *recover, int socket)
{
	size_t bytes;
	int size = 2 * (int)TEXT_BYTES, fd = accept4(socket, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	bytes = metrics_print(recover->fs, &recover->state, text, sizeof(text));
	if (send(fd, text, bytes, MSG_NOSIGNAL) != (ssize_t)bytes)
		log_debug("metrics: somebody went before they were sent");
	close(fd);
}

/* --- the monitor's part ------------------------------------------------------------------------------------ */

int metrics_create(struct recover *recover)
{
	const char *path = recover->options->metrics;
	int err;

	store_release(&recover->state.header->keep[KEEP_METRICS], -1);
	if (!path)
		return 0;
	err = is_file(path) ? file_write(path, "# EOF\n", 6) : socket_open(path);
	if (err < 0)
		log_error("-o metrics=%s: %s", path, strerror(-err));
	else if (!is_file(path))
		store_release(&recover->state.header->keep[KEEP_METRICS], err);
	return err < 0 ? err : 0;
}

void metrics_start(struct metrics *metrics, const struct recover *recover)
{
	*metrics = (struct metrics){.path = recover->options->metrics};
	if (metrics->path && is_file(metrics->path))
		metrics->next_ms = clock_ms() + METRICS_FIRST_MS;
}

int metrics_socket(const struct recover *recover)
{
	return recover->state.header->keep[KEEP_METRICS];
}

void metrics_look(struct metrics *metrics, const struct recover *recover, int64_t now_ms, bool called)
{
	if (called)
		socket_answer(recover, metrics_socket(recover));
	if (!metrics->next_ms || now_ms < metrics->next_ms)
		return;
	metrics->next_ms = now_ms + METRICS_MS;
	file_publish(metrics, recover);
}

void metrics_remove(const struct recover *recover)
{
	if (recover->options->metrics)
		unlink(recover->options->metrics);
}
