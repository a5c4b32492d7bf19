/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * many DIR COUNT OPERATION...: carries out each operation COUNT times in DIR, on the files f0, f1, ... or on one that is
 * open as long as it takes, and prints how long one took. For counting requests, and for a look at times.
 */
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096

static int open_fd; /* of f0, read and write */
static char block[BLOCK];

static void must(long result, const char *what)
{
	if (result < 0)
		err(1, "%s", what);
}

static void must_fail(long result, int wanted, const char *what)
{
	if (result >= 0 || errno != wanted)
		err(1, "%s was to fail with %s", what, strerror(wanted));
}

static const char *name(char kind, int i)
{
	static char names[4][24];
	static unsigned next;
	char *at = names[next++ % 4];

	snprintf(at, sizeof(names[0]), "%c%d", kind, i);
	return at;
}

static void open_and_close(const char *file, int flags)
{
	int fd = open(file, flags, 0644);

	must(fd, file);
	must(close(fd), file);
}

static void do_create(int i)
{
	open_and_close(name('f', i), O_CREAT | O_EXCL | O_WRONLY);
}

static void do_stat(int i)
{
	struct stat st;

	must(stat(name('f', i), &st), "stat");
}

static void do_fstat(int i)
{
	struct stat st;

	(void)i;
	must(fstat(open_fd, &st), "fstat");
}

static void do_birth(int i)
{
	struct statx stx;

	must(statx(AT_FDCWD, name('f', i), 0, STATX_BASIC_STATS | STATX_BTIME, &stx), "statx");
}

static void do_missing(int i)
{
	struct stat st;

	must_fail(stat(name('m', i), &st), ENOENT, "stat");
}

static void do_access(int i)
{
	must(access(name('f', i), R_OK | W_OK), "access");
}

static void do_open(int i)
{
	open_and_close(name('f', i), O_RDONLY);
}

static void do_open_write(int i)
{
	open_and_close(name('f', i), O_WRONLY);
}

static void do_open_read(int i)
{
	int fd = open(name('f', i), O_RDONLY);

	must(fd, "open");
	must(read(fd, block, sizeof(block)), "read");
	must(close(fd), "close");
}

static void do_pread(int i)
{
	(void)i;
	must(pread(open_fd, block, sizeof(block), 0), "pread");
}

static void do_pwrite(int i)
{
	(void)i;
	must(pwrite(open_fd, block, sizeof(block), 0), "pwrite");
}

static void do_pread_fstat(int i)
{
	do_pread(i);
	do_fstat(i);
}

static void do_pwrite_fstat(int i)
{
	do_pwrite(i);
	do_fstat(i);
}

static void do_chmod(int i)
{
	must(chmod(name('f', i), 0600), "chmod");
}

static void do_utimes(int i)
{
	must(utimes(name('f', i), NULL), "utimes");
}

static void do_truncate(int i)
{
	must(truncate(name('f', i), BLOCK), "truncate");
}

static void do_setxattr(int i)
{
	must(setxattr(name('f', i), "user.many", "value", 5, 0), "setxattr");
}

static void do_getxattr(int i)
{
	must(getxattr(name('f', i), "user.many", block, sizeof(block)), "getxattr");
}

static void do_noxattr(int i)
{
	must_fail(getxattr(name('f', i), "user.none", block, sizeof(block)), ENODATA, "getxattr");
}

static void do_acl(int i)
{
	must_fail(getxattr(name('f', i), "system.posix_acl_access", block, sizeof(block)), ENODATA, "getxattr");
}

static void do_mkdir(int i)
{
	must(mkdir(name('d', i), 0755), "mkdir");
}

static void do_rmdir(int i)
{
	must(rmdir(name('d', i)), "rmdir");
}

static void do_link(int i)
{
	must(link(name('f', i), name('l', i)), "link");
}

static void do_unlink(int i)
{
	must(unlink(name('l', i)), "unlink");
}

static void do_remove(int i)
{
	must(unlink(name('f', i)), "unlink");
}

static void do_rename(int i)
{
	must(rename(name('l', i), name('r', i)), "rename");
	must(rename(name('r', i), name('l', i)), "rename");
}

static void do_symlink(int i)
{
	must(symlink("nowhere", name('s', i)), "symlink");
}

static void do_readlink(int i)
{
	must(readlink(name('s', i), block, sizeof(block)), "readlink");
}

/* As ls does, with `see` as ls -l. */
static void list(bool see)
{
	struct dirent *entry;
	struct stat st;
	DIR *dir = opendir(".");

	if (!dir)
		err(1, "opendir");
	while ((entry = readdir(dir)))
		if (see)
			must(fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW), entry->d_name);
	closedir(dir);
}

static void do_list(int i)
{
	(void)i;
	list(false);
}

static void do_list_stat(int i)
{
	(void)i;
	list(true);
}

static const struct {
	const char *name;
	void (*run)(int i);
} operations[] = {
	{"create", do_create},
	{"stat", do_stat},
	{"fstat", do_fstat},
	{"birth", do_birth},
	{"missing", do_missing},
	{"access", do_access},
	{"open", do_open},
	{"open-write", do_open_write},
	{"open-read", do_open_read},
	{"pread", do_pread},
	{"pwrite", do_pwrite},
	{"pread-fstat", do_pread_fstat},
	{"pwrite-fstat", do_pwrite_fstat},
	{"chmod", do_chmod},
	{"utimes", do_utimes},
	{"truncate", do_truncate},
	{"setxattr", do_setxattr},
	{"getxattr", do_getxattr},
	{"noxattr", do_noxattr},
	{"acl", do_acl},
	{"mkdir", do_mkdir},
	{"rmdir", do_rmdir},
	{"link", do_link},
	{"unlink", do_unlink},
	{"remove", do_remove},
	{"rename", do_rename},
	{"symlink", do_symlink},
	{"readlink", do_readlink},
	{"list", do_list},
	{"list-stat", do_list_stat},
};

static void measure(const char *operation, int count)
{
	struct timespec from, to;
	size_t n = 0;

	while (n < sizeof(operations) / sizeof(operations[0]) && strcmp(operations[n].name, operation) != 0)
		n++;
	if (n == sizeof(operations) / sizeof(operations[0]))
		errx(2, "no operation %s", operation);
	clock_gettime(CLOCK_MONOTONIC, &from);
	for (int i = 0; i < count; i++)
		operations[n].run(i);
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("%s %.2f us\n", operation,
	       ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) / 1e3 / count);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	if (argc < 4)
		errx(2, "usage: many DIR COUNT OPERATION...");
	must(chdir(argv[1]), argv[1]);
	open_fd = open("f0", O_RDWR);
	if (open_fd < 0)
		open_fd = open("f0", O_RDONLY);
	for (int i = 3; i < argc; i++)
		measure(argv[i], atoi(argv[2]));
	return 0;
}
