// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * look SOURCE MOUNTPOINT LOOKS SEED [both [KIND]]: is a change of SOURCE that was complete before a look through MOUNTPOINT began
 * seen by it?
 *
 * Writers change objects in SOURCE (with `both`, half of the times through MOUNTPOINT), each its own. An object has a kind,
 * which says how it is changed into its next version and what a look must find then; the number of the version stands in
 * shared memory before the change begins and after it is complete. Readers look at objects all the time: what they find must
 * be a version between the one that was complete before the look and the one that was begun after it. Before each change
 * comes a look as well, so that there is something to be stale. With KIND all objects are of that kind.
 *
 * Ends after LOOKS. Prints each stale look, how many there were of each kind, and at the end `operations N wrong N
 * longest_ms N`; exits with 1 if any was wrong.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "check.h"

#define PER_KIND 6
#define WRITERS 2
#define READERS 2
#define GONE (-1L)

/* Of an object: a directory of its own on each side, and the names in it. */
struct object {
	const struct kind *kind;
	uint64_t begun, complete;
};

struct kind {
	const char *name;
	/* Makes version `to` of the version before; false: this file system cannot, and the kind is left out. */
	bool (*change)(int directory, uint64_t to);
	/* What is there now. */
	long (*look)(int directory);
	/* What there is in version `of`. */
	long (*wanted)(uint64_t of);
};

static struct object *objects;
static unsigned long *looks;
static unsigned objects_n, seed, self;
static unsigned long looks_wanted;
static bool both;

static unsigned next_random(void)
{
	return (unsigned)check_random((uint64_t)seed * 64 + self);
}

/* --- kinds --------------------------------------------------------------------------------------------------- */

static bool file_is(int directory, const char *name)
{
	int fd = openat(directory, name, O_CREAT | O_WRONLY | O_EXCL, 0600);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static long look_exists(int directory)
{
	struct stat st;

	return fstatat(directory, "name", &st, AT_SYMLINK_NOFOLLOW) ? GONE : 1;
}

static long wanted_exists(uint64_t of)
{
	return of % 2 ? 1 : GONE;
}

static bool change_create(int directory, uint64_t to)
{
	return to % 2 ? file_is(directory, "name") : !unlinkat(directory, "name", 0);
}

static bool change_mkdir(int directory, uint64_t to)
{
	return !(to % 2 ? mkdirat(directory, "name", 0700) : unlinkat(directory, "name", AT_REMOVEDIR));
}

static bool change_mknod(int directory, uint64_t to)
{
	return !(to % 2 ? mknodat(directory, "name", S_IFIFO | 0600, 0) : unlinkat(directory, "name", 0));
}

static bool change_symlink(int directory, uint64_t to)
{
	return !(to % 2 ? symlinkat("target", directory, "name") : unlinkat(directory, "name", 0));
}

static bool change_rename(int directory, uint64_t to)
{
	if (to == 1 && !file_is(directory, "other"))
		return false;
	return !(to % 2 ? renameat(directory, "other", directory, "name")
			: renameat(directory, "name", directory, "other"));
}

/* A directory above it moves. */
static bool change_above(int directory, uint64_t to)
{
	if (to == 1 && (mkdirat(directory, "away", 0700) || mkdirat(directory, "away/deep", 0700) ||
			!file_is(directory, "away/deep/name")))
		return false;
	return !(to % 2 ? renameat(directory, "away", directory, "here")
			: renameat(directory, "here", directory, "away"));
}

static long look_above(int directory)
{
	struct stat st;

	return fstatat(directory, "here/deep/name", &st, 0) ? GONE : 1;
}

/* Each version another inode, of another size. */
static bool change_over(int directory, uint64_t to)
{
	int fd = openat(directory, "other", O_CREAT | O_WRONLY | O_EXCL, 0600);
	bool done = fd >= 0 && !ftruncate(fd, (off_t)to);

	if (fd >= 0)
		close(fd);
	return done && !renameat(directory, "other", directory, "name");
}

static bool change_exchange(int directory, uint64_t to)
{
	if (to == 1 && (!file_is(directory, "name") || mkdirat(directory, "other", 0700)))
		return false;
	return !syscall(SYS_renameat2, directory, "name", directory, "other", RENAME_EXCHANGE);
}

static long look_type(int directory)
{
	struct stat st;

	return fstatat(directory, "name", &st, 0) ? GONE : S_ISDIR(st.st_mode);
}

static long wanted_odd(uint64_t of)
{
	return of ? (long)(of % 2) : GONE;
}

static bool change_link(int directory, uint64_t to)
{
	if (to == 1 && !file_is(directory, "name"))
		return false;
	return !(to % 2 ? linkat(directory, "name", directory, "other", 0) : unlinkat(directory, "other", 0));
}

static long look_links(int directory)
{
	struct stat st;

	return fstatat(directory, "name", &st, 0) ? GONE : (long)st.st_nlink;
}

static long wanted_links(uint64_t of)
{
	return of ? (long)(1 + of % 2) : GONE;
}

static long look_size(int directory)
{
	struct stat st;

	return fstatat(directory, "name", &st, 0) ? GONE : (long)st.st_size;
}

static long wanted_version(uint64_t of)
{
	return of ? (long)of : GONE;
}

/* The descriptor of "name"; made where it is not there. */
static int name_open(int directory, int flags)
{
	return openat(directory, "name", O_CREAT | O_WRONLY | flags, 0600);
}

static bool change_write(int directory, uint64_t to)
{
	int fd = name_open(directory, O_APPEND);
	bool done = fd >= 0 && write(fd, "x", 1) == 1;

	(void)to;
	if (fd >= 0)
		close(fd);
	return done;
}

/* The file stays open for writing. */
static bool change_write_open(int directory, uint64_t to)
{
	static struct {
		int directory, fd;
	} open_files[PER_KIND * 2];
	unsigned i = 0;

	while (i < PER_KIND * 2 - 1 && open_files[i].fd && open_files[i].directory != directory)
		i++;
	if (!open_files[i].fd) {
		open_files[i].directory = directory;
		open_files[i].fd = name_open(directory, O_APPEND);
	}
	return pwrite(open_files[i].fd, "x", 1, (off_t)to - 1) == 1;
}

static bool change_truncate(int directory, uint64_t to)
{
	int fd = name_open(directory, 0);
	bool done = fd >= 0 && !ftruncate(fd, (off_t)to);

	if (fd >= 0)
		close(fd);
	return done;
}

static bool change_fallocate(int directory, uint64_t to)
{
	int fd = name_open(directory, 0);
	bool done = fd >= 0 && !fallocate(fd, 0, (off_t)to - 1, 1);

	if (fd >= 0)
		close(fd);
	return done;
}

static bool change_chmod(int directory, uint64_t to)
{
	if (to == 1 && !file_is(directory, "name"))
		return false;
	return !fchmodat(directory, "name", (mode_t)(to % 512), 0);
}

static long look_mode(int directory)
{
	struct stat st;

	return fstatat(directory, "name", &st, 0) ? GONE : (long)(st.st_mode & 0777);
}

static long wanted_mode(uint64_t of)
{
	return of ? (long)(of % 512) : GONE;
}

static bool change_chown(int directory, uint64_t to)
{
	if (to == 1 && !file_is(directory, "name"))
		return false;
	return !fchownat(directory, "name", (uid_t)to, (gid_t)to, 0);
}

static long look_owner(int directory)
{
	struct stat st;

	return fstatat(directory, "name", &st, 0) ? GONE : (long)st.st_uid;
}

static bool change_times(int directory, uint64_t to)
{
	const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = (time_t)to}};

	if (to == 1 && !file_is(directory, "name"))
		return false;
	return !utimensat(directory, "name", times, 0);
}

static long look_times(int directory)
{
	struct stat st;

	return fstatat(directory, "name", &st, 0) ? GONE : (long)st.st_mtim.tv_sec;
}

/* A name in a directory: the directory's times and link count. */
static bool change_inside(int directory, uint64_t to)
{
	if (to == 1 && mkdirat(directory, "name", 0700))
		return false;
	return !(to % 2 ? mkdirat(directory, "name/inside", 0700) : unlinkat(directory, "name/inside", AT_REMOVEDIR));
}

static long look_inside(int directory)
{
	struct stat st;

	return fstatat(directory, "name", &st, 0) ? GONE
	       : st.st_nlink > 1		  ? (long)st.st_nlink - 2
						  : st.st_size != 0; /* btrfs counts no directories */
}

static char *name_path(int directory, char path[64])
{
	snprintf(path, 64, "/proc/self/fd/%d/name", directory);
	return path;
}

/* {u::rw, u:1:rw, g::-, m::rw, o::-}, as in the header linux/posix_acl_xattr.h */
static const struct {
	uint32_t version;
	struct {
		uint16_t tag, perm;
		uint32_t id;
	} entry[5];
} acl = {2, {{1, 6, UINT32_MAX}, {2, 6, 1}, {4, 0, UINT32_MAX}, {16, 6, UINT32_MAX}, {32, 0, UINT32_MAX}}};

static bool change_acl(int directory, uint64_t to)
{
	char path[64];

	if (to == 1 && !file_is(directory, "name"))
		return false;
	name_path(directory, path);
	return !(to % 2 ? setxattr(path, "system.posix_acl_access", &acl, sizeof(acl), 0)
			: removexattr(path, "system.posix_acl_access"));
}

static long look_xattr(int directory, const char *name)
{
	char path[64];
	uint8_t value[256];
	struct stat st;
	ssize_t got = getxattr(name_path(directory, path), name, value, sizeof(value));

	return got > 0 ? 1 : errno == ENODATA ? 0 : fstatat(directory, "name", &st, 0) ? GONE : -2;
}

static long look_acl(int directory)
{
	return look_xattr(directory, "system.posix_acl_access");
}

static bool change_capability(int directory, uint64_t to)
{
	static const uint32_t capability[5] = {0x02000000, 1};
	char path[64];

	if (to == 1 && !file_is(directory, "name"))
		return false;
	name_path(directory, path);
	return !(to % 2 ? setxattr(path, "security.capability", capability, sizeof(capability), 0)
			: removexattr(path, "security.capability"));
}

static long look_capability(int directory)
{
	return look_xattr(directory, "security.capability");
}

/* Of the names in a directory: how many there are. */
static bool change_listing(int directory, uint64_t to)
{
	char name[32];

	snprintf(name, sizeof(name), "name/%llu", (unsigned long long)(to + to % 2) / 2);
	if (to == 1 && mkdirat(directory, "name", 0700))
		return false;
	return to % 2 ? file_is(directory, name) : !unlinkat(directory, name, 0);
}

static long look_listing(int directory)
{
	int fd = openat(directory, "name", O_RDONLY | O_DIRECTORY);
	DIR *names = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	long n = 0;

	if (!names)
		return GONE;
	while ((entry = readdir(names)))
		n += entry->d_name[0] != '.';
	closedir(names);
	return n;
}

/* Each version another content, by a new file. */
static bool change_content(int directory, uint64_t to)
{
	int fd = openat(directory, "other", O_CREAT | O_WRONLY | O_EXCL, 0600);
	bool done = fd >= 0 && write(fd, &to, sizeof(to)) == sizeof(to);

	if (fd >= 0)
		close(fd);
	return done && !renameat(directory, "other", directory, "name");
}

static long look_content(int directory)
{
	int fd = openat(directory, "name", O_RDONLY);
	uint64_t value;
	long found = GONE;

	if (fd < 0)
		return GONE;
	if (read(fd, &value, sizeof(value)) == sizeof(value))
		found = (long)value;
	close(fd);
	return found;
}

static const struct kind kinds[] = {
	{"create", change_create, look_exists, wanted_exists},
	{"mkdir", change_mkdir, look_exists, wanted_exists},
	{"mknod", change_mknod, look_exists, wanted_exists},
	{"symlink", change_symlink, look_exists, wanted_exists},
	{"rename", change_rename, look_exists, wanted_exists},
	{"rename-above", change_above, look_above, wanted_exists},
	{"rename-over", change_over, look_size, wanted_version},
	{"exchange", change_exchange, look_type, wanted_odd},
	{"link", change_link, look_links, wanted_links},
	{"write", change_write, look_size, wanted_version},
	{"write-open", change_write_open, look_size, wanted_version},
	{"truncate", change_truncate, look_size, wanted_version},
	{"fallocate", change_fallocate, look_size, wanted_version},
	{"chmod", change_chmod, look_mode, wanted_mode},
	{"chown", change_chown, look_owner, wanted_version},
	{"times", change_times, look_times, wanted_version},
	{"inside", change_inside, look_inside, wanted_odd},
	{"acl", change_acl, look_acl, wanted_odd},
	{"capability", change_capability, look_capability, wanted_odd},
	{"listing", change_listing, look_listing, wanted_odd},
	{"content", change_content, look_content, wanted_version},
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* --- looks --------------------------------------------------------------------------------------------------- */

static bool look(unsigned number, int directory)
{
	struct object *object = &objects[number];
	uint64_t from = __atomic_load_n(&object->complete, __ATOMIC_SEQ_CST), to, version;
	int64_t since = now_ns();
	long found = object->kind->look(directory);

	if (!from) /* the first version is made in several steps */
		return true;
	to = __atomic_load_n(&object->begun, __ATOMIC_SEQ_CST);
	for (version = from; version <= to && object->kind->wanted(version) != found; version++)
		;
	check(__LINE__, object->kind->name, since, version <= to ? 0 : found, 0,
	      version <= to ? 0 : object->kind->wanted(from));
	__atomic_add_fetch(&looks[object->kind - kinds], 1, __ATOMIC_RELAXED);
	return version <= to;
}

static bool enough(void)
{
	return __atomic_load_n(&tally->stop, __ATOMIC_RELAXED) ||
	       __atomic_load_n(&tally->wrong, __ATOMIC_RELAXED) >= WRONG_MAX ||
	       __atomic_load_n(&tally->operations, __ATOMIC_RELAXED) >= looks_wanted;
}

static void reader(const int *through)
{
	while (!enough()) {
		unsigned number = next_random() % objects_n;

		for (unsigned times = 1 + next_random() % 4; times; times--)
			look(number, through[number]);
	}
}

static void writer(unsigned which, const int *directly, const int *through)
{
	while (!enough()) {
		unsigned number = next_random() % objects_n / WRITERS * WRITERS + which;
		struct object *object = &objects[number % objects_n];
		uint64_t version = object->complete + 1;
		int directory;

		if (number >= objects_n)
			continue;
		directory = both && next_random() % 2 ? through[number] : directly[number];
		look(number, through[number]);
		__atomic_store_n(&object->begun, version, __ATOMIC_SEQ_CST);
		if (!object->kind->change(directory, version)) {
			check_complain(__LINE__, object->kind->name, -1, errno, (long)version);
			return;
		}
		__atomic_store_n(&object->complete, version, __ATOMIC_SEQ_CST);
		look(number, through[number]);
		if (next_random() % 8 == 0)
			usleep(next_random() % 2000);
	}
}

/* --- the beginning and the end ------------------------------------------------------------------------------- */

static void *shared(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		err(2, "mmap");
	return memory;
}

static int directory_open(int of, const char *name)
{
	int fd = openat(of, name, O_RDONLY | O_DIRECTORY);

	if (fd < 0)
		err(2, "%s", name);
	return fd;
}

static const struct kind *kind_find(const char *name)
{
	unsigned i = 0;

	while (i < KINDS && strcmp(kinds[i].name, name) != 0)
		i++;
	if (i == KINDS)
		errx(2, "no such kind: %s", name);
	return &kinds[i];
}

int main(int argc, char **argv)
{
	int source, mount, directly[KINDS * PER_KIND], through[KINDS * PER_KIND];
	char name[32];

	if (argc < 5 || argc > 7)
		errx(2, "usage: look SOURCE MOUNTPOINT LOOKS SEED [both [KIND]]");
	source = directory_open(AT_FDCWD, argv[1]);
	mount = directory_open(AT_FDCWD, argv[2]);
	looks_wanted = strtoul(argv[3], NULL, 0);
	seed = (unsigned)atoi(argv[4]);
	both = argc > 5;
	check_start();
	objects = shared(KINDS * PER_KIND * sizeof(*objects));
	looks = shared(KINDS * sizeof(*looks));
	objects_n = KINDS * PER_KIND;
	for (unsigned i = 0; i < objects_n; i++) {
		objects[i].kind = argc > 6 ? kind_find(argv[6]) : &kinds[i / PER_KIND];
		snprintf(name, sizeof(name), "%s-%u", objects[i].kind->name, i);
		if (mkdirat(source, name, 0700))
			err(2, "%s", name);
		directly[i] = directory_open(source, name);
		through[i] = directory_open(mount, name);
	}
	for (self = 1; self <= WRITERS + READERS; self++)
		if (!fork()) {
			if (self <= WRITERS)
				writer(self - 1, directly, through);
			else
				reader(through);
			_exit(0);
		}
	while (wait(NULL) > 0)
		;
	for (unsigned i = 0; i < KINDS; i++)
		printf("%s %lu%s", kinds[i].name, looks[i], i < KINDS - 1 ? ", " : "\n");
	return check_end();
}
