// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * outside SOURCE MOUNTPOINT SECONDS SEED PROCESSES [both]: is what is changed directly in SOURCE seen through MOUNTPOINT, and
 * how soon?
 *
 * Each process has a directory with a few names, looks at all of them through the mount, changes one of them in SOURCE, and
 * looks until the mount shows what the source does: attributes, contents, targets, listings, xattrs. A change that is not
 * seen after PATIENCE is missed, and ends the process. Beside each a reader asks for the same names all the time.
 *
 * With `both` the changes come from both sides at once, in rounds: SOURCE and MOUNTPOINT are compared after each.
 *
 * Prints for each kind of change how many there were and the longest time, then `changes N missed N p50_us p99_us max_us`.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "check.h"

#define PATIENCE_NS INT64_C(2000000000)
#define NAMES 5
#define DIRECTORIES 3
#define PATHS (NAMES * DIRECTORIES)
#define BYTES 4096
#define SLOTS 4096	 /* of the histogram, a hundredth more each */
#define ROUND_CHANGES 40 /* at most */

static const char *const directories[DIRECTORIES] = {".", "one", "two"};

struct seen {
	unsigned long kinds[64], longest[64], slots[SLOTS], changes, missed;
};

static struct seen *seen;
static int source, mount; /* the process's own directory, on both sides */
static char paths[PATHS][32];
static const char *changed[2]; /* looked at first */

/* What a program can tell of a name. */
struct view {
	struct stat st;
	char text[BYTES];
	ssize_t text_bytes, xattr_bytes, acl_bytes;
	char xattr[16], acl[64];
};

static void look_inside(int fd, struct view *view)
{
	view->text_bytes = read(fd, view->text, sizeof(view->text));
	view->xattr_bytes = fgetxattr(fd, "user.outside", view->xattr, sizeof(view->xattr));
	view->acl_bytes = fgetxattr(fd, "system.posix_acl_access", view->acl, sizeof(view->acl));
}

static void look(int root, const char *path, struct view *view)
{
	int fd;

	memset(view, 0, sizeof(*view));
	if (fstatat(root, path, &view->st, AT_SYMLINK_NOFOLLOW))
		return;
	view->st.st_dev = 0;
	view->st.st_blocks = 0;
	view->st.st_blksize = 0;
	if (S_ISLNK(view->st.st_mode))
		view->text_bytes = readlinkat(root, path, view->text, sizeof(view->text));
	if (S_ISREG(view->st.st_mode) && (fd = openat(root, path, O_RDONLY | O_NOATIME | O_NONBLOCK)) >= 0) {
		look_inside(fd, view);
		close(fd);
	}
	memset(&view->st.st_atim, 0, sizeof(view->st.st_atim));
}

/* Which of the names are there, by listing. */
static unsigned listing(int root, const char *directory)
{
	char entries[4096] __attribute__((aligned(8)));
	int fd = openat(root, directory, O_RDONLY | O_DIRECTORY);
	unsigned names = 0;
	long got;

	while (fd >= 0 && (got = syscall(SYS_getdents64, fd, entries, sizeof(entries))) > 0)
		for (long at = 0; at < got; at += *(unsigned short *)(entries + at + 16))
			if (entries[at + 19] == 'n' && entries[at + 20] >= '0' && entries[at + 20] < '0' + NAMES)
				names |= 1u << (entries[at + 20] - '0');
	if (fd >= 0)
		close(fd);
	return names;
}

static int same(const char *path)
{
	struct view a, b;

	look(mount, path, &b); /* first: this is when it is seen */
	look(source, path, &a);
	return memcmp(&a, &b, sizeof(a)) == 0;
}

/* NULL, or what differs. */
static const char *difference(void)
{
	for (int i = 0; i < 2; i++)
		if (changed[i] && !same(changed[i]))
			return changed[i];
	for (int i = 0; i < DIRECTORIES; i++)
		if (!same(directories[i]) || listing(source, directories[i]) != listing(mount, directories[i]))
			return directories[i];
	for (int i = 0; i < PATHS; i++)
		if (!same(paths[i]))
			return paths[i];
	return NULL;
}

static void complain(const char *path, const char *what)
{
	struct view a, b;

	look(source, path, &a);
	look(mount, path, &b);
	printf("MISSED %s: %s: source ino %lu mode %o nlink %lu size %ld mtime %ld.%09ld ctime %ld.%09ld, "
	       "mount ino %lu mode %o nlink %lu size %ld mtime %ld.%09ld ctime %ld.%09ld, bytes %zd %zd xattr %zd %zd\n",
	       what, path, a.st.st_ino, a.st.st_mode, a.st.st_nlink, a.st.st_size, a.st.st_mtim.tv_sec,
	       a.st.st_mtim.tv_nsec, a.st.st_ctim.tv_sec, a.st.st_ctim.tv_nsec, b.st.st_ino, b.st.st_mode,
	       b.st.st_nlink, b.st.st_size, b.st.st_mtim.tv_sec, b.st.st_mtim.tv_nsec, b.st.st_ctim.tv_sec,
	       b.st.st_ctim.tv_nsec, a.text_bytes, b.text_bytes, a.xattr_bytes, b.xattr_bytes);
	fflush(stdout);
}

/* --- changes: each takes a directory and two names, and returns 0 if something changed ---------------------------- */

static int change_create(int root, const char *a, const char *b)
{
	int fd = openat(root, a, O_CREAT | O_EXCL | O_WRONLY, 0644);

	(void)b;
	return fd < 0 ? -1 : close(fd);
}

static int change_mkdir(int root, const char *a, const char *b)
{
	(void)b;
	return mkdirat(root, a, 0755);
}

static int change_mknod(int root, const char *a, const char *b)
{
	(void)b;
	return mknodat(root, a, S_IFIFO | 0600, 0);
}

static int change_symlink(int root, const char *a, const char *b)
{
	return symlinkat(b, root, a);
}

static int change_link(int root, const char *a, const char *b)
{
	return linkat(root, a, root, b, 0);
}

static int change_remove(int root, const char *a, const char *b)
{
	(void)b;
	return unlinkat(root, a, 0) == 0 ? 0 : unlinkat(root, a, AT_REMOVEDIR);
}

static int change_rename(int root, const char *a, const char *b)
{
	return strcmp(a, b) == 0 ? -1 : renameat(root, a, root, b);
}

static int change_exchange(int root, const char *a, const char *b)
{
	return strcmp(a, b) == 0 ? -1 : renameat2(root, a, root, b, RENAME_EXCHANGE);
}

static int change_noreplace(int root, const char *a, const char *b)
{
	return renameat2(root, a, root, b, RENAME_NOREPLACE);
}

/* The way editors write: another file takes the name. */
static int change_replace(int root, const char *a, const char *b)
{
	int fd = openat(root, "new", O_CREAT | O_TRUNC | O_WRONLY, 0640);
	ssize_t wrote = fd < 0 ? -1 : write(fd, b, strlen(b));

	if (fd >= 0)
		close(fd);
	if (wrote > 0 && renameat(root, "new", root, a) == 0)
		return 0;
	unlinkat(root, "new", 0);
	return -1;
}

static int change_tmpfile(int root, const char *a, const char *b)
{
	int fd = openat(root, ".", O_TMPFILE | O_WRONLY, 0600);
	char name[32];
	int result = -1;

	(void)b;
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	if (fd >= 0) {
		result = linkat(AT_FDCWD, name, root, a, AT_SYMLINK_FOLLOW);
		close(fd);
	}
	return result;
}

static int change_chmod(int root, const char *a, const char *b)
{
	struct stat st;

	(void)b;
	if (fstatat(root, a, &st, AT_SYMLINK_NOFOLLOW) || S_ISLNK(st.st_mode))
		return -1;
	return fchmodat(root, a, (st.st_mode ^ 055) & 0777, 0);
}

static int change_chown(int root, const char *a, const char *b)
{
	(void)b;
	return fchownat(root, a, (uid_t)(check_random(1) % 3), (gid_t)(check_random(1) % 3), AT_SYMLINK_NOFOLLOW);
}

static int change_times(int root, const char *a, const char *b)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = (time_t)check_random(1)}};

	(void)b;
	return utimensat(root, a, times, AT_SYMLINK_NOFOLLOW);
}

static int open_file(int root, const char *a, int flags)
{
	struct stat st;

	if (fstatat(root, a, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode))
		return -1;
	return openat(root, a, flags | O_NOFOLLOW | O_NONBLOCK);
}

static int closed(int fd, long result)
{
	if (fd >= 0)
		close(fd);
	return fd < 0 || result < 0 ? -1 : 0;
}

static int change_setxattr(int root, const char *a, const char *b)
{
	int fd = open_file(root, a, O_RDONLY);

	return closed(fd, fsetxattr(fd, "user.outside", b, strlen(b), 0));
}

static int change_removexattr(int root, const char *a, const char *b)
{
	int fd = open_file(root, a, O_RDONLY);

	(void)b;
	return closed(fd, fremovexattr(fd, "user.outside"));
}

/* u::rw- u:N:rw- g::r-- m::rw- o::r--, the kernel's own form of it */
static int change_acl(int root, const char *a, const char *b)
{
	struct {
		uint32_t version;
		struct {
			uint16_t tag, perm;
			uint32_t id;
		} entries[5];
	} acl = {2, {{1, 6, ~0u}, {2, 6, 1000}, {4, 4, ~0u}, {16, 6, ~0u}, {32, 4, ~0u}}};
	int fd = open_file(root, a, O_RDONLY);

	acl.entries[1].id += b[1];
	return closed(fd, fsetxattr(fd, "system.posix_acl_access", &acl, sizeof(acl), 0));
}

static int change_write(int root, const char *a, const char *b)
{
	int fd = open_file(root, a, O_WRONLY);

	return closed(fd, pwrite(fd, b, strlen(b), (off_t)(check_random(1) % 1000)));
}

static int change_append(int root, const char *a, const char *b)
{
	int fd = open_file(root, a, O_WRONLY | O_APPEND);

	return closed(fd, write(fd, b, strlen(b)));
}

static int change_truncate(int root, const char *a, const char *b)
{
	int fd = open_file(root, a, O_WRONLY);

	(void)b;
	return closed(fd, ftruncate(fd, (off_t)(check_random(1) % 2000)));
}

static int change_open_truncate(int root, const char *a, const char *b)
{
	(void)b;
	return closed(open_file(root, a, O_WRONLY | O_TRUNC), 0);
}

static int change_fallocate(int root, const char *a, const char *b)
{
	int fd = open_file(root, a, O_WRONLY);

	(void)b;
	return closed(fd, fallocate(fd, 0, 0, (off_t)(check_random(1) % 3000 + 1)));
}

static int change_punch(int root, const char *a, const char *b)
{
	int fd = open_file(root, a, O_WRONLY);

	(void)b;
	return closed(fd, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 100));
}

/* Seen when the file is closed. The kernel stores: where the other side cut the file meanwhile, that is EFAULT and no signal. */
static int change_map(int root, const char *a, const char *b)
{
	int fd = open_file(root, a, O_RDWR);
	struct stat st;
	ssize_t stored;
	char *at;

	(void)b;
	if (fd < 0 || fstat(fd, &st) || st.st_size == 0)
		return closed(fd, -1);
	at = mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		return closed(fd, -1);
	stored = getrandom(at, 1, 0);
	msync(at, 1, MS_SYNC);
	munmap(at, 1);
	return closed(fd, stored == 1 ? 0 : -1);
}

static int change_copy_range(int root, const char *a, const char *b)
{
	int from = open_file(root, a, O_RDONLY), to = open_file(root, b, O_WRONLY);
	ssize_t copied = strcmp(a, b) == 0 ? -1 : copy_file_range(from, NULL, to, NULL, 1000, 0);

	closed(from, 0);
	return closed(to, copied > 0 ? 0 : -1);
}

static const struct {
	const char *name;
	int (*make)(int root, const char *a, const char *b);
} kinds[] = {
	{"create", change_create},
	{"mkdir", change_mkdir},
	{"mknod", change_mknod},
	{"symlink", change_symlink},
	{"link", change_link},
	{"remove", change_remove},
	{"rename", change_rename},
	{"exchange", change_exchange},
	{"noreplace", change_noreplace},
	{"replace", change_replace},
	{"tmpfile", change_tmpfile},
	{"chmod", change_chmod},
	{"chown", change_chown},
	{"times", change_times},
	{"setxattr", change_setxattr},
	{"removexattr", change_removexattr},
	{"acl", change_acl},
	{"write", change_write},
	{"append", change_append},
	{"truncate", change_truncate},
	{"open_truncate", change_open_truncate},
	{"fallocate", change_fallocate},
	{"punch", change_punch},
	{"map", change_map},
	{"copy_range", change_copy_range},
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* --- the processes ------------------------------------------------------------------------------------------------ */

static void count(unsigned kind, int64_t took_ns)
{
	unsigned long us = (unsigned long)(took_ns / 1000), slot = 0;
	double limit = 10;

	while (limit < (double)us && slot < SLOTS - 1) {
		limit *= 1.01;
		slot++;
	}
	__atomic_add_fetch(&seen->slots[slot], 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&seen->kinds[kind], 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&seen->changes, 1, __ATOMIC_RELAXED);
	if (us > seen->longest[kind])
		seen->longest[kind] = us;
}

static int same_everything(const char *path)
{
	return same(path) && listing(source, path) == listing(mount, path);
}

/* False: it was not seen. The time is that of the last name that differed, not of the looks at all the others. */
static int await(const char *what, unsigned kind, int64_t since)
{
	int64_t last = since;
	const char *path;

	while ((path = difference())) {
		while (!same_everything(path))
			if (now_ns() - since > PATIENCE_NS) {
				__atomic_add_fetch(&seen->missed, 1, __ATOMIC_RELAXED);
				complain(path, what);
				return 0;
			}
		last = now_ns();
	}
	count(kind, last - since);
	return 1;
}

static void change_and_look(int64_t end)
{
	while (check_goes_on(end)) {
		unsigned kind = (unsigned)(check_random(1) % KINDS);
		const char *a = paths[check_random(1) % PATHS], *b = paths[check_random(1) % PATHS];
		int64_t since;

		if (kinds[kind].make(source, a, b))
			continue;
		since = now_ns();
		changed[0] = a;
		changed[1] = b;
		if (!await(kinds[kind].name, kind, since))
			return;
	}
}

static void change_a_lot(int root, uint64_t seed)
{
	for (uint64_t i = check_random(seed) % ROUND_CHANGES; i < ROUND_CHANGES; i++)
		kinds[check_random(seed) % KINDS].make(root, paths[check_random(seed) % PATHS],
						       paths[check_random(seed) % PATHS]);
}

static void change_both(int64_t end, uint64_t seed)
{
	while (check_goes_on(end)) {
		pid_t other = fork();
		int status;

		seed += 1000;
		if (other == 0) {
			check_random(seed);
			change_a_lot(mount, seed);
			_exit(0);
		}
		change_a_lot(source, seed);
		waitpid(other, &status, 0);
		if (status)
			errx(1, "the other side ended with status %#x", (unsigned)status);
		if (!await("both", 0, now_ns()))
			return;
	}
}

static void read_always(void)
{
	struct view view;

	for (;;)
		look(mount, paths[check_random(7) % PATHS], &view);
}

static void worker(int number, int64_t end, uint64_t seed, int both)
{
	pid_t reader;

	check_random(seed + (uint64_t)number);
	for (int i = 0; i < PATHS; i++)
		snprintf(paths[i], sizeof(paths[i]), "%s/n%d", directories[i / NAMES], i % NAMES);
	mkdirat(source, "one", 0755);
	mkdirat(source, "two", 0755);
	reader = fork();
	if (reader == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		read_always();
	}
	if (both)
		change_both(end, seed);
	else
		change_and_look(end);
	kill(reader, SIGKILL);
	waitpid(reader, NULL, 0);
}

/* Microseconds that so many thousandths of the changes took at most. */
static unsigned long quantile(unsigned thousandths)
{
	unsigned long below = 0;
	double limit = 10;

	for (int i = 0; i < SLOTS; i++, limit *= 1.01) {
		below += seen->slots[i];
		if (below * 1000 >= seen->changes * thousandths)
			return (unsigned long)limit;
	}
	return 0;
}

static void report(int both)
{
	unsigned long longest = 0;

	for (unsigned i = 0; i < KINDS; i++) {
		if (!both && seen->changes)
			printf("%-14s %6lu, longest %lu us\n", kinds[i].name, seen->kinds[i], seen->longest[i]);
		longest = seen->longest[i] > longest ? seen->longest[i] : longest;
	}
	printf("changes %lu missed %lu p50_us %lu p99_us %lu max_us %lu\n", seen->changes, seen->missed, quantile(500),
	       quantile(990), longest);
}

static int directory_open(const char *where, int number, int make)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/outside.%d", where, number);
	if (make && mkdir(path, 0755) && errno != EEXIST)
		err(2, "%s", path);
	fd = open(path, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		err(2, "%s", path);
	return fd;
}

int main(int argc, char **argv)
{
	int64_t end;
	int processes, status;
	unsigned dead = 0;

	if (argc < 6)
		errx(2, "usage: outside SOURCE MOUNTPOINT SECONDS SEED PROCESSES [both]");
	check_start();
	seen = mmap(NULL, sizeof(*seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (seen == MAP_FAILED)
		err(2, "mmap");
	umask(0);
	end = now_ns() + atoll(argv[3]) * 1000000000;
	processes = atoi(argv[5]);
	for (int i = 0; i < processes; i++) {
		source = directory_open(argv[1], i, 1);
		mount = directory_open(argv[2], i, 0);
		if (fork() == 0) {
			worker(i, end, strtoull(argv[4], NULL, 10), argc > 6);
			_exit(0);
		}
	}
	while (wait(&status) > 0)
		if (status) {
			fprintf(stderr, "a worker ended with status %#x\n", (unsigned)status);
			dead++;
		}
	report(argc > 6);
	return dead || seen->missed != 0 || seen->changes == 0;
}
