/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * matrix FXFS DIRECTORY OPTIONS...: mounts with each of OPTIONS in turn, and lets the server die at each crash point of each
 * operation. Prints the table (operations down, points across) and TAP.
 *
 *	.  died there, and nobody noticed	   the operation does not pass there
 *	X  the application saw something else	H  it hung	L  something leaked (seen at the end of the row)
 *
 * Points of a server's start strike the server that follows one that died with the request begun.
 */
#include "matrix.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <fuse_kernel.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "recover/handle.h"
#include "recover/journal.h"
#include "recover/node.h"
#include "recover/state.h"

#define POINTS_MAX 200
#define HANG_SECONDS 20
#define SETTLE_MS 3000

static char *fxfs, *source, *mountpoint;
static struct state_header *header;
static struct {
	char name[40];
	bool start; /* passed by a server that starts, not by a request */
} points[POINTS_MAX];
static unsigned points_n;
static unsigned tests, failures;
static struct seen *shared;

void see(struct seen *seen, const char *format, ...)
{
	va_list arguments;
	int n;

	va_start(arguments, format);
	n = vsnprintf(seen->text + seen->used, sizeof(seen->text) - seen->used, format, arguments);
	va_end(arguments);
	if (n > 0)
		seen->used += (size_t)n < sizeof(seen->text) - seen->used ? (size_t)n : 0;
}

static uint32_t point_number(const char *name)
{
	for (unsigned i = 0; i < points_n; i++)
		if (strcmp(points[i].name, name) == 0)
			return i + 1;
	errx(2, "no crash point %s", name);
}

static void points_read(void)
{
	static const char *const starts[] = {
		"server_started",  "steps_settled",	  "grants_settled", "records_settled", "handles_settled",
		"forgets_settled", "descriptors_settled", "resent",	    "claimed",	       "drained",
		"collected"};
	char command[4200], line[512];
	FILE *list;

	snprintf(command, sizeof(command), "'%s' --crash-points", fxfs);
	list = popen(command, "r");
	while (list && fgets(line, sizeof(line), list) && points_n < POINTS_MAX) {
		sscanf(line, "%39s", points[points_n].name);
		for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++)
			points[points_n].start |= strcmp(points[points_n].name, starts[i]) == 0;
		points_n++;
	}
	if (!list || pclose(list) || !points_n)
		errx(2, "%s lists no crash points", fxfs);
}

static void run(char *const arguments[])
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		execv(arguments[0], arguments);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) != pid || status)
		errx(2, "%s failed", arguments[0]);
}

static void mount_make(char *options)
{
	char *arguments[] = {fxfs, "-o", options, source, mountpoint, NULL};
	char path[64];
	struct stat st;
	int fd;

	run(arguments);
	if (stat(mountpoint, &st))
		err(2, "%s", mountpoint);
	snprintf(path, sizeof(path), "/run/fxfs/%u.state", minor(st.st_dev));
	fd = open(path, O_RDWR);
	if (fd < 0)
		err(2, "%s", path);
	header = mmap(NULL, STATE_HEADER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (header == MAP_FAILED)
		err(2, "mmap");
	close(fd);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type;
	return ftw->level ? remove(path) : 0;
}

/* How many half milliseconds it may take until the point is passed: some requests nobody waits for. */
static int patience(const struct operation *operation)
{
	switch (operation->opcode) {
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		return 20;
	}
	return 4;
}

/* In the application's process. */
static void apply(const struct operation *operation, uint32_t point, uint32_t next)
{
	if (chdir(mountpoint) || chdir("work"))
		_exit(3);
	operation->prepare();
	header->crash.struck = 0;
	header->crash.next = next;
	header->crash.passes = 1;
	/* a point of recovery is reached with any request, or none */
	header->crash.opcode = operation->opcode;
	__atomic_store_n(&header->crash.point, point, __ATOMIC_SEQ_CST);
	operation->act(shared);
	for (int i = 0; i < patience(operation) && header->crash.point; i++)
		usleep(500);
	__atomic_store_n(&header->crash.point, 0, __ATOMIC_SEQ_CST);
	see_tree(shared);
	if (operation->look)
		operation->look(shared);
	_exit(0);
}

/* Runs the operation in a process of its own; false: it hangs. */
static bool application(const struct operation *operation, uint32_t point, uint32_t next)
{
	struct timespec nap = {.tv_nsec = 1000000};
	int status, waited = 0;
	pid_t pid;

	if (nftw(mountpoint, remove_one, 16, FTW_DEPTH | FTW_PHYS))
		warn("cannot clear %s", mountpoint);
	memset(shared, 0, sizeof(*shared));
	pid = fork();
	if (pid == 0) {
		char work[4200];

		snprintf(work, sizeof(work), "%s/work", mountpoint);
		mkdir(work, 0755);
		apply(operation, point, next);
	}
	while (waitpid(pid, &status, WNOHANG) != pid) {
		if (waited++ > HANG_SECONDS * 1000) {
			kill(pid, SIGKILL);
			__atomic_store_n(&header->crash.point, 0, __ATOMIC_SEQ_CST);
			return false;
		}
		nanosleep(&nap, NULL);
	}
	if (status)
		see(shared, "the application ended with %#x\n", status);
	return true;
}

/* Numbers that must be what they are on a fresh mount. */
struct counts {
	unsigned long inodes, nlookup, handles, in_flight, descriptors;
};

static unsigned long json_number(const char *json, const char *key)
{
	const char *at = strstr(json, key);

	return at ? strtoul(at + strlen(key), NULL, 10) : 0;
}

static unsigned long descriptors(void)
{
	char path[64];
	unsigned long n = 0;

	for (int fd = 0; fd < 4096; fd++) {
		char target[8];

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", header->monitor_pid, fd);
		n += readlink(path, target, sizeof(target)) > 0;
	}
	return n;
}

static struct counts counts_read(void)
{
	char command[8500], json[8192] = "";
	struct counts counts;
	FILE *status;
	int result;

	snprintf(command, sizeof(command), "'%s' --status --json '%s' 2>&1", fxfs, mountpoint);
	status = popen(command, "r");
	if (!status)
		err(2, "popen");
	if (!fread(json, 1, sizeof(json) - 1, status))
		warn("nothing to read");
	result = pclose(status);
	if (result)
		errx(2, "status: %#x: %s", result, json);
	counts.inodes = json_number(json, "\"inodes\":");
	counts.nlookup = json_number(json, "\"nlookup\":");
	counts.handles = json_number(json, "\"handles\":");
	counts.in_flight = json_number(json, "\"in_flight\":");
	counts.descriptors = descriptors();
	return counts;
}

/* After everything was closed and forgotten; the kernel takes a moment for that. */
static struct counts counts_settled(const struct counts *wanted)
{
	struct counts counts;
	int waited = 0;

	nftw(mountpoint, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	do {
		int caches = open("/proc/sys/vm/drop_caches", O_WRONLY);

		if (write(caches, "2", 1) < 0)
			err(2, "drop_caches");
		close(caches);
		usleep(10000);
		counts = counts_read();
		waited += 10;
	} while (wanted && memcmp(&counts, wanted, sizeof(counts)) && waited < SETTLE_MS);
	return counts;
}

static void result(bool good, const char *format, ...)
{
	va_list arguments;

	tests++;
	failures += !good;
	printf("%sok %u - ", good ? "" : "not ", tests);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
	fflush(stdout);
}

static void explain(const char *operation, const char *point, const struct seen *wanted, const struct seen *got)
{
	printf("# %s, dying at %s\n# without a death:\n", operation, point);
	for (const char *at = wanted->text; *at;) {
		int n = (int)strcspn(at, "\n");

		printf("#   %.*s\n", n, at);
		at += n + (at[n] == '\n');
	}
	printf("# with it:\n");
	for (const char *at = got->text; *at;) {
		int n = (int)strcspn(at, "\n");

		printf("#   %.*s\n", n, at);
		at += n + (at[n] == '\n');
	}
}

/* One cell: which sign it gets. */
static char cell(const struct operation *operation, unsigned point, const struct seen *wanted)
{
	bool start = points[point].start;
	uint32_t first = start ? point_number("request_read") : point + 1;

	if (!application(operation, first, start ? point + 1 : 0))
		return 'H';
	if (strcmp(shared->text, wanted->text) != 0) {
		explain(operation->name, points[point].name, wanted, shared);
		return 'X';
	}
	return header->crash.struck > (start ? 1u : 0u) ? '.' : ' ';
}

/* A row: 1 if all is well. */
static bool row(const struct operation *operation, const struct counts *fresh, char *signs)
{
	static struct seen wanted;
	struct counts counts;
	bool good = true;

	if (!application(operation, 0, 0)) {
		printf("# %s hangs without a death\n", operation->name);
		return false;
	}
	wanted = *shared;
	for (unsigned i = 0; i < points_n; i++) {
		signs[i] = cell(operation, i, &wanted);
		good &= signs[i] == '.' || signs[i] == ' ';
	}
	counts = counts_settled(fresh);
	signs[points_n] = ' ';
	if (memcmp(&counts, fresh, sizeof(counts))) {
		printf("# %s: inodes %lu nlookup %lu handles %lu in flight %lu descriptors %lu (fresh: %lu)\n",
		       operation->name, counts.inodes, counts.nlookup, counts.handles, counts.in_flight,
		       counts.descriptors, fresh->descriptors);
		signs[points_n] = 'L';
		good = false;
	}
	signs[points_n + 1] = 0;
	return good;
}

static void heading(void)
{
	for (unsigned letter = 0; letter < sizeof(points[0].name); letter++) {
		bool more = false;

		printf("# %-22s", "");
		for (unsigned i = 0; i < points_n; i++) {
			bool here = strlen(points[i].name) > letter;

			putchar(here ? points[i].name[letter] : ' ');
			more |= strlen(points[i].name) > letter + 1;
		}
		printf("\n");
		if (!more)
			return;
	}
}

static void mark(bool *struck, size_t n, const char *signs)
{
	for (size_t i = 0; i < n; i++)
		struck[i] |= signs[i] == '.';
}

static bool point_struck[POINTS_MAX], operation_struck[500];

static void table(char *options, const char *only)
{
	struct counts fresh = counts_settled(NULL);
	static char signs[500][POINTS_MAX + 2];

	for (size_t i = 0; i < operations_n; i++) {
		signs[i][0] = 0;
		if (only && strcmp(only, operations[i].name) != 0)
			continue;
		result(row(&operations[i], &fresh, signs[i]), "%s: %s", options, operations[i].name);
		mark(point_struck, points_n, signs[i]);
		operation_struck[i] |= strchr(signs[i], '.') != NULL;
	}
	printf("# %s\n", options);
	heading();
	for (size_t i = 0; i < operations_n; i++)
		if (signs[i][0])
			printf("# %-22s%s\n", operations[i].name, signs[i]);
}

static void all_struck(void)
{
	for (unsigned i = 0; i < points_n; i++)
		if (!point_struck[i])
			result(false, "crash point %s was never passed", points[i].name);
	for (size_t i = 0; i < operations_n; i++)
		if (!operation_struck[i])
			result(false, "%s was never struck", operations[i].name);
	result(true, "all points and operations were looked at");
}

/* With ONLY_OPERATION in the environment one row. */
int main(int argc, char **argv)
{
	const char *only = getenv("ONLY_OPERATION");

	if (argc == 2 && strcmp(argv[1], "--members") == 0) {
		for (size_t i = 0; i < operations_n; i++)
			puts(operations[i].member);
		return 0;
	}
	if (argc < 4)
		errx(2, "usage: matrix FXFS DIRECTORY OPTIONS...");
	fxfs = argv[1];
	if (asprintf(&source, "%s/source", argv[2]) < 0 || asprintf(&mountpoint, "%s/mount", argv[2]) < 0)
		err(2, "asprintf");
	mkdir(source, 0755);
	mkdir(mountpoint, 0755);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	points_read();
	for (int i = 3; i < argc; i++) {
		mount_make(argv[i]);
		table(argv[i], only);
		if (umount2(mountpoint, 0))
			err(2, "umount %s", mountpoint);
		munmap(header, STATE_HEADER_BYTES);
	}
	if (!only)
		all_struck();
	printf("1..%u\n", tests);
	return failures != 0;
}
