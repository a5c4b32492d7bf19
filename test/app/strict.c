// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * strict DIRECTORY SECONDS [SEED]: changes a directory in every way there is, and checks each answer and each byte
 * against what must be: an operation that failed, was lost or was made twice shows. One process, alone in DIRECTORY.
 *
 * Ends at TERM too. Prints each wrong answer and at the end `operations N wrong N longest_ms N`; exits with 1 if any was wrong.
 */
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

static unsigned seed;

static uint64_t next_random(void)
{
	return check_random(seed);
}

static void fill(unsigned char *data, size_t size, unsigned of)
{
	for (size_t i = 0; i < size; i++)
		data[i] = (unsigned char)(of * 31 + i * 7 + (i >> 8));
}

static void directories(void)
{
	struct stat st;

	IS(0, mkdir("d", 0750));
	IS(-EEXIST, mkdir("d", 0750));
	IS(0, stat("d", &st));
	IS(1, st.st_nlink == 2 || st.st_nlink == 1); /* btrfs counts no subdirectories */
	IS(0, mkdir("d/e", 0700));
	IS(-ENOTEMPTY, rmdir("d"));
	IS(0, rmdir("d/e"));
	IS(-ENOENT, rmdir("d/e"));
	IS(0, rmdir("d"));
	IS(-ENOENT, rmdir("d"));
}

static void files(void)
{
	int fd = OPENED(open("f", O_CREAT | O_EXCL | O_RDWR, 0640));

	IS(-EEXIST, open("f", O_CREAT | O_EXCL | O_RDWR, 0640));
	IS(3, write(fd, "abc", 3));
	IS(0, close(fd));
	fd = OPENED(open("f", O_CREAT | O_RDWR, 0640));
	IS(0, unlink("f"));
	IS(-ENOENT, unlink("f"));
	IS(0, close(fd));
	IS(0, mknod("n", S_IFIFO | 0600, 0));
	IS(-EEXIST, mknod("n", S_IFIFO | 0600, 0));
	IS(0, unlink("n"));
	IS(-ENOENT, unlink("n"));
}

static void links(void)
{
	char target[64] = "";
	struct stat st;
	int fd = OPENED(open("f", O_CREAT | O_EXCL | O_WRONLY, 0600));

	IS(0, close(fd));
	IS(0, symlink("some/where", "s"));
	IS(-EEXIST, symlink("some/where", "s"));
	IS(10, readlink("s", target, sizeof(target)));
	IS(0, strcmp(target, "some/where"));
	IS(0, link("f", "l"));
	IS(-EEXIST, link("f", "l"));
	IS(0, stat("f", &st));
	IS(2, st.st_nlink);
	IS(0, unlink("f"));
	IS(0, stat("l", &st));
	IS(1, st.st_nlink);
	IS(0, unlink("l"));
	IS(0, unlink("s"));
	IS(-ENOENT, unlink("s"));
}

static int renameat2_(const char *from, const char *to, unsigned flags)
{
	return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags);
}

static void renames(void)
{
	struct stat a, b;

	IS(0, mkdir("a", 0700));
	IS(0, rename("a", "b"));
	IS(-ENOENT, rename("a", "b"));
	IS(0, close(OPENED(open("x", O_CREAT | O_EXCL | O_WRONLY, 0600))));
	IS(-EEXIST, renameat2_("x", "b", RENAME_NOREPLACE));
	IS(0, renameat2_("x", "y", RENAME_NOREPLACE));
	IS(-ENOENT, renameat2_("x", "y", RENAME_NOREPLACE));
	IS(0, renameat2_("y", "b", RENAME_EXCHANGE));
	IS(0, stat("y", &a));
	IS(1, S_ISDIR(a.st_mode));
	IS(0, stat("b", &b));
	IS(1, S_ISREG(b.st_mode));
	IS(0, rename("b", "c"));
	IS(0, close(OPENED(open("z", O_CREAT | O_EXCL | O_WRONLY, 0600))));
	IS(0, rename("z", "c"));
	IS(0, unlink("c"));
	IS(0, rmdir("y"));
}

static void xattrs(void)
{
	char value[64];

	IS(0, close(OPENED(open("f", O_CREAT | O_EXCL | O_WRONLY, 0600))));
	if (setxattr("f", "user.a", "1", 1, XATTR_CREATE) && errno == EOPNOTSUPP) {
		IS(0, unlink("f"));
		return;
	}
	IS(-EEXIST, setxattr("f", "user.a", "1", 1, XATTR_CREATE));
	IS(0, setxattr("f", "user.a", "22", 2, XATTR_REPLACE));
	IS(2, getxattr("f", "user.a", value, sizeof(value)));
	IS(0, setxattr("f", "user.b", "333", 3, 0));
	IS(0, removexattr("f", "user.a"));
	IS(-ENODATA, removexattr("f", "user.a"));
	IS(-ENODATA, setxattr("f", "user.a", "1", 1, XATTR_REPLACE));
	IS(3, getxattr("f", "user.b", value, sizeof(value)));
	IS(0, setxattr("f", "user.c", "4", 1, XATTR_CREATE));
	IS(0, unlink("f"));
}

static void attributes(void)
{
	struct timespec times[2] = {{1000000, 5}, {2000000, 7}};
	struct stat st;
	int fd = OPENED(open("f", O_CREAT | O_EXCL | O_RDWR, 0600));

	IS(0, chmod("f", 0741));
	IS(0, utimensat(AT_FDCWD, "f", times, 0));
	IS(0, fstat(fd, &st));
	IS(0741, st.st_mode & 07777);
	IS(2000000, st.st_mtim.tv_sec);
	IS(7, st.st_mtim.tv_nsec);
	IS(0, ftruncate(fd, 10000));
	IS(0, truncate("f", 5000));
	IS(0, fstat(fd, &st));
	IS(5000, st.st_size);
	if (geteuid() == 0) {
		IS(0, chown("f", 12, 34));
		IS(0, fstat(fd, &st));
		IS(12, st.st_uid);
		IS(34, st.st_gid);
	}
	IS(0, close(fd));
	IS(0, unlink("f"));
}

#define DATA 70000

static void data_through(int flags)
{
	static unsigned char out[DATA] __attribute__((aligned(4096))), in[DATA] __attribute__((aligned(4096)));
	size_t at = 0, size = flags & O_DIRECT ? 65536 : DATA;
	struct stat st;
	int fd = open("f", O_CREAT | O_EXCL | O_RDWR | flags, 0600);

	if (fd < 0 && errno == EINVAL)
		return; /* no O_DIRECT here */
	IS(1, fd >= 0);
	fill(out, size, (unsigned)check_round);
	while (at < size) {
		size_t n = flags & O_DIRECT ? 4096 : 1 + next_random() % 9000;

		if (n > size - at)
			n = size - at;
		IS((long)n, flags & O_APPEND ? write(fd, out + at, n) : pwrite(fd, out + at, n, (off_t)at));
		at += n;
	}
	IS(0, fstat(fd, &st));
	IS((long)size, st.st_size);
	IS((long)size, pread(fd, in, size, 0));
	IS(0, memcmp(in, out, size));
	if (!(flags & O_DIRECT)) {
		unsigned char *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

		IS(1, map != MAP_FAILED);
		IS(0, memcmp(map, out, size));
		map[size / 2] ^= 0xff;
		IS(0, msync(map, size, MS_SYNC));
		IS(1, pread(fd, in, 1, (off_t)size / 2));
		IS(out[size / 2] ^ 0xff, in[0]);
		IS(0, munmap(map, size));
	}
	IS(0, fsync(fd));
	IS(0, unlink("f"));
	IS((long)size, pread(fd, in, size, 0)); /* open, and without a name */
	IS(0, close(fd));
}

static void space(void)
{
	unsigned char data[100], got[100];
	loff_t from = 0, to = 8192;
	struct stat st;
	int fd = OPENED(open("f", O_CREAT | O_EXCL | O_RDWR, 0600));

	fill(data, sizeof(data), 3);
	IS(100, pwrite(fd, data, 100, 0));
	if (fallocate(fd, 0, 0, 20000) == 0) {
		IS(0, fstat(fd, &st));
		IS(20000, st.st_size);
	}
	IS(100, copy_file_range(fd, &from, fd, &to, 100, 0));
	IS(100, pread(fd, got, 100, 8192));
	IS(0, memcmp(data, got, 100));
	IS(0, close(fd));
	IS(0, unlink("f"));
}

static void unnamed(void)
{
	char path[64];
	struct stat st;
	int fd = open(".", O_TMPFILE | O_RDWR, 0600);

	if (fd < 0 && errno == EOPNOTSUPP)
		return;
	IS(1, fd >= 0);
	IS(4, write(fd, "abcd", 4));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	IS(0, linkat(AT_FDCWD, path, AT_FDCWD, "t", AT_SYMLINK_FOLLOW));
	IS(0, stat("t", &st));
	IS(4, st.st_size);
	IS(1, st.st_nlink);
	IS(0, unlink("t"));
	IS(0, close(fd));
}

static int lock(int fd, int command, short type, off_t start, off_t size)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = size};

	return fcntl(fd, command, &lock);
}

/* Held and refused over the whole round; a child waits for one. */
static void locks(void)
{
	int a = OPENED(open("f", O_CREAT | O_EXCL | O_RDWR, 0600)), b = OPENED(open("f", O_RDWR));
	int status = 0;
	pid_t child;

	IS(0, flock(a, LOCK_EX));
	IS(-EAGAIN, flock(b, LOCK_SH | LOCK_NB));
	IS(0, lock(a, F_OFD_SETLK, F_WRLCK, 10, 10));
	IS(-EAGAIN, lock(b, F_OFD_SETLK, F_RDLCK, 15, 1));
	IS(0, lock(b, F_OFD_SETLK, F_RDLCK, 20, 1));
	child = fork();
	if (child == 0) {
		int c = open("f", O_RDWR);

		if (lock(c, F_OFD_SETLKW, F_WRLCK, 10, 5)) /* waits for ours */
			_exit(2);
		_exit(flock(c, LOCK_SH) ? 3 : 0);
	}
	usleep(next_random() % 3000);
	IS(0, lock(a, F_OFD_SETLK, F_UNLCK, 10, 10));
	IS(0, flock(a, LOCK_UN));
	IS(1, waitpid(child, &status, 0) == child);
	IS(0, status);
	IS(0, close(a));
	IS(0, close(b));
	IS(0, unlink("f"));
}

#define NAMES 300

/* Each name once, while some are made and removed during the listing. */
static void listing(void)
{
	static unsigned char seen[NAMES];
	struct dirent *entry;
	char name[32];
	int error;
	DIR *dir;

	IS(0, mkdir("dir", 0700));
	for (int i = 0; i < NAMES; i++) {
		snprintf(name, sizeof(name), "dir/name-%d", i);
		IS(0, close(OPENED(open(name, O_CREAT | O_EXCL | O_WRONLY, 0600))));
	}
	memset(seen, 0, sizeof(seen));
	dir = opendir("dir");
	IS(1, dir != NULL);
	for (int n = 0; (errno = 0, entry = readdir(dir), error = errno, entry) != NULL; n++) {
		if (n % 50 == 10) {
			IS(0, close(OPENED(open("dir/other", O_CREAT | O_EXCL | O_WRONLY, 0600))));
			IS(0, unlink("dir/other"));
		}
		if (strncmp(entry->d_name, "name-", 5) == 0)
			seen[atoi(entry->d_name + 5)]++;
	}
	IS(0, error);
	for (int i = 0; i < NAMES; i++)
		IS(1, seen[i]);
	IS(0, closedir(dir));
	for (int i = 0; i < NAMES; i++) {
		snprintf(name, sizeof(name), "dir/name-%d", i);
		IS(0, unlink(name));
	}
	IS(0, rmdir("dir"));
}

static void empty(void)
{
	DIR *dir = opendir(".");
	struct dirent *entry;
	int n = 0;

	while ((entry = readdir(dir)) != NULL)
		n += entry->d_name[0] != '.';
	IS(0, closedir(dir));
	IS(0, n);
}

int main(int argc, char **argv)
{
	int64_t end;

	if (argc < 3)
		errx(2, "usage: strict DIRECTORY SECONDS [SEED]");
	seed = argc > 3 ? (unsigned)atoi(argv[3]) : (unsigned)getpid();
	if (chdir(argv[1]))
		err(2, "%s", argv[1]);
	umask(022);
	check_start();
	end = now_ns() + (int64_t)(atof(argv[2]) * 1e9);
	for (; check_goes_on(end); check_round++) {
		directories();
		files();
		links();
		renames();
		xattrs();
		attributes();
		data_through(0);
		data_through(O_APPEND);
		if (check_round % 4 == 0)
			data_through(O_DIRECT);
		space();
		unnamed();
		locks();
		if (check_round % 8 == 0)
			listing();
		empty();
	}
	return check_end();
}
