/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The rows of the matrix. Each prepares what it needs, acts once, and tells what it saw; a process of its own runs it,
 * so that descriptors may be left open.
 */
#include "matrix.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <fuse_kernel.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define BYTES 10000
#define MANY 40

static int fd = -1, other = -1;
static DIR *dir;
static unsigned char data[BYTES], got[BYTES];

static void told(struct seen *seen, long result)
{
	see(seen, "%ld %s\n", result, result < 0 ? strerror(errno) : "");
}

static void stamp(const char *path)
{
	struct timespec times[2] = {{1000000000, 1}, {1000000000, 2}};

	utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW);
}

static void make_file(void)
{
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (unsigned char)(i * 7 + (i >> 7));
	fd = open("f", O_RDWR | O_CREAT | O_EXCL, 0644);
	if (write(fd, data, sizeof(data)) < 0)
		perror("write");
}

static void make_closed(void)
{
	make_file();
	close(fd);
	fd = -1;
}

static void make_two(void)
{
	make_closed();
	close(open("g", O_RDWR | O_CREAT | O_EXCL, 0600));
}

static void make_dir(void)
{
	mkdir("d", 0755);
}

static void make_link(void)
{
	if (symlink("to/where", "s"))
		perror("symlink");
}

static void make_many(void)
{
	char name[32];

	make_dir();
	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "d/name-%d", i);
		close(open(name, O_CREAT | O_WRONLY, 0600));
	}
}

static void make_listed(void)
{
	make_many();
	dir = opendir("d");
}

static void make_xattr(void)
{
	make_closed();
	if (setxattr("f", "user.a", "old", 3, 0))
		perror("setxattr");
}

static void make_append(void)
{
	make_closed();
	fd = open("f", O_WRONLY | O_APPEND);
}

static void make_locked(void)
{
	struct flock lock = {.l_type = F_WRLCK, .l_start = 10, .l_len = 10};

	make_file();
	other = open("f", O_RDWR);
	fcntl(fd, F_OFD_SETLK, &lock);
	flock(fd, LOCK_EX);
}

static void nothing(void)
{
}

static void do_lookup(struct seen *seen)
{
	struct stat st;

	told(seen, stat("f", &st));
	see(seen, "%ld\n", (long)st.st_size);
}

static void do_lookup_missing(struct seen *seen)
{
	struct stat st;

	told(seen, stat("nothing", &st));
}

static void do_getattr(struct seen *seen)
{
	struct stat st;

	told(seen, fstat(fd, &st));
	see(seen, "%ld %o\n", (long)st.st_size, st.st_mode);
}

static void do_statx(struct seen *seen)
{
	struct statx stx;

	told(seen, statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &stx));
	see(seen, "%lld\n", (long long)stx.stx_size);
}

static void do_chmod(struct seen *seen)
{
	told(seen, chmod("f", 0751));
}

static void do_chown(struct seen *seen)
{
	told(seen, chown("f", 12, 34));
}

static void do_truncate(struct seen *seen)
{
	told(seen, truncate("f", 123));
}

static void do_ftruncate(struct seen *seen)
{
	told(seen, ftruncate(fd, 20000));
}

static void do_utimens(struct seen *seen)
{
	struct timespec times[2] = {{5, 6}, {7, 8}};
	struct stat st;

	told(seen, utimensat(AT_FDCWD, "f", times, 0));
	stat("f", &st);
	see(seen, "%ld.%ld\n", (long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

static void do_readlink(struct seen *seen)
{
	char target[64] = "";

	told(seen, readlink("s", target, sizeof(target) - 1));
	see(seen, "%s\n", target);
}

static void do_mknod(struct seen *seen)
{
	told(seen, mknod("n", S_IFIFO | 0640, 0));
}

static void do_mkdir(struct seen *seen)
{
	told(seen, mkdir("d", 0751));
}

static void do_symlink(struct seen *seen)
{
	told(seen, symlink("to/where", "s"));
}

static void do_link(struct seen *seen)
{
	told(seen, link("f", "l"));
}

static void do_unlink(struct seen *seen)
{
	told(seen, unlink("f"));
}

static void do_unlink_open(struct seen *seen)
{
	told(seen, unlink("f"));
	told(seen, pread(fd, got, sizeof(got), 0));
	told(seen, memcmp(got, data, sizeof(data)));
}

static void do_rmdir(struct seen *seen)
{
	told(seen, rmdir("d"));
}

static void do_rename(struct seen *seen)
{
	told(seen, rename("f", "new"));
}

static void do_rename_over(struct seen *seen)
{
	told(seen, rename("f", "g"));
}

static long rename2(unsigned flags)
{
	return syscall(SYS_renameat2, AT_FDCWD, "f", AT_FDCWD, "g", flags);
}

static void do_rename_noreplace(struct seen *seen)
{
	told(seen, rename2(RENAME_NOREPLACE));
}

static void do_rename_exchange(struct seen *seen)
{
	told(seen, rename2(RENAME_EXCHANGE));
}

static void do_statfs(struct seen *seen)
{
	struct statvfs st;

	told(seen, statvfs(".", &st));
	see(seen, "%lu\n", st.f_bsize);
}

static void do_open(struct seen *seen)
{
	fd = open("f", O_RDWR);
	told(seen, fd < 0 ? -1 : 0);
	told(seen, pread(fd, got, sizeof(got), 0));
	told(seen, memcmp(got, data, sizeof(data)));
}

static void do_open_truncate(struct seen *seen)
{
	fd = open("f", O_RDWR | O_TRUNC);
	told(seen, fd < 0 ? -1 : 0);
	told(seen, pwrite(fd, "x", 1, 0));
}

static void do_create(struct seen *seen)
{
	fd = open("f", O_RDWR | O_CREAT, 0640);
	told(seen, fd < 0 ? -1 : 0);
	told(seen, pwrite(fd, "x", 1, 0));
}

static void do_create_excl(struct seen *seen)
{
	fd = open("f", O_RDWR | O_CREAT | O_EXCL, 0640);
	told(seen, fd < 0 ? -1 : 0);
	told(seen, pwrite(fd, "x", 1, 0));
}

static void do_tmpfile(struct seen *seen)
{
	struct stat st;

	fd = open(".", O_RDWR | O_TMPFILE, 0640);
	told(seen, fd < 0 ? -1 : 0);
	told(seen, pwrite(fd, "x", 1, 0));
	told(seen, fstat(fd, &st));
	see(seen, "%ld\n", (long)st.st_nlink);
}

static void do_read(struct seen *seen)
{
	told(seen, pread(fd, got, sizeof(got), 0));
	told(seen, memcmp(got, data, sizeof(data)));
}

static void do_write(struct seen *seen)
{
	told(seen, pwrite(fd, "hello", 5, 3000));
}

static void do_append(struct seen *seen)
{
	told(seen, write(fd, "hello", 5));
}

static void do_close(struct seen *seen)
{
	told(seen, close(fd));
	fd = -1;
}

static void do_fsync(struct seen *seen)
{
	told(seen, fsync(fd));
	told(seen, fdatasync(fd));
}

static void list(struct seen *seen)
{
	char once[MANY] = {0};
	struct dirent *entry;
	int n = 0;

	while ((errno = 0, entry = readdir(dir)) != NULL)
		if (strncmp(entry->d_name, "name-", 5) == 0)
			n += ++once[atoi(entry->d_name + 5)] == 1;
	told(seen, errno ? -1 : n);
	for (int i = 0; i < MANY; i++)
		n -= once[i];
	see(seen, "doubled %d\n", -n);
}

static void do_opendir(struct seen *seen)
{
	dir = opendir("d");
	told(seen, dir ? 0 : -1);
	list(seen);
}

static void do_readdir(struct seen *seen)
{
	list(seen);
	rewinddir(dir);
	list(seen);
}

static void do_closedir(struct seen *seen)
{
	told(seen, closedir(dir));
}

static void do_fsyncdir(struct seen *seen)
{
	told(seen, fsync(dirfd(dir)));
}

static void do_setxattr(struct seen *seen)
{
	told(seen, setxattr("f", "user.new", "value", 5, 0));
}

static void do_setxattr_create(struct seen *seen)
{
	told(seen, setxattr("f", "user.new", "value", 5, XATTR_CREATE));
}

static void do_setxattr_replace(struct seen *seen)
{
	told(seen, setxattr("f", "user.a", "value", 5, XATTR_REPLACE));
}

static void do_getxattr(struct seen *seen)
{
	char value[16] = "";

	told(seen, getxattr("f", "user.a", value, sizeof(value)));
	see(seen, "%s\n", value);
}

static void do_listxattr(struct seen *seen)
{
	char names[256] = "";

	told(seen, listxattr("f", names, sizeof(names)));
	see(seen, "%s\n", names);
}

static void do_removexattr(struct seen *seen)
{
	told(seen, removexattr("f", "user.a"));
}

static long lock(int on, int command, short type)
{
	struct flock lock = {.l_type = type, .l_start = 10, .l_len = 10};
	long result = fcntl(on, command, &lock);

	return result ? result : command == F_OFD_GETLK || command == F_GETLK ? lock.l_type : 0;
}

static void do_getlk(struct seen *seen)
{
	told(seen, lock(other, F_OFD_GETLK, F_RDLCK));
}

static void do_setlk(struct seen *seen)
{
	told(seen, lock(fd, F_SETLK, F_WRLCK));
	other = open("f", O_RDWR);
	told(seen, lock(other, F_OFD_SETLK, F_WRLCK));
}

static void do_setlk_ofd(struct seen *seen)
{
	other = open("f", O_RDWR);
	told(seen, lock(fd, F_OFD_SETLK, F_WRLCK));
	told(seen, lock(other, F_OFD_SETLK, F_WRLCK));
}

static void do_setlk_refused(struct seen *seen)
{
	told(seen, lock(other, F_OFD_SETLK, F_WRLCK));
}

static void do_unlock(struct seen *seen)
{
	told(seen, lock(fd, F_OFD_SETLK, F_UNLCK));
	told(seen, lock(other, F_OFD_SETLK, F_WRLCK));
}

/* Waits for a lock that another process gives back a little later. */
static void do_setlkw(struct seen *seen)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		usleep(30000);
		_exit(lock(fd, F_OFD_SETLK, F_UNLCK) ? 1 : 0);
	}
	told(seen, lock(other, F_OFD_SETLKW, F_WRLCK));
	waitpid(child, &status, 0);
	see(seen, "%d\n", status);
	told(seen, lock(fd, F_OFD_SETLK, F_WRLCK));
}

static void on_alarm(int signo)
{
	(void)signo;
}

/* A signal ends the wait. */
static void do_interrupt(struct seen *seen)
{
	struct sigaction action = {.sa_handler = on_alarm};
	int status;
	pid_t child;

	sigaction(SIGUSR1, &action, NULL); /* before there is anybody who could be sent it too early */
	child = fork();
	if (child == 0)
		_exit(lock(other, F_OFD_SETLKW, F_WRLCK) == -1 && errno == EINTR ? 0 : 1);
	do { /* one that comes before it waits ends nothing */
		usleep(30000);
		kill(child, SIGUSR1);
	} while (waitpid(child, &status, WNOHANG) == 0);
	see(seen, "%d\n", status);
}

/* Another process gets the lock when its holder closes the file. */
static void do_close_locked(struct seen *seen)
{
	int status;
	pid_t child;

	told(seen, close(fd));
	child = fork();
	if (child == 0)
		_exit(lock(open("f", O_RDWR), F_OFD_SETLK, F_WRLCK) ? errno : 0);
	waitpid(child, &status, 0);
	see(seen, "%d\n", WEXITSTATUS(status));
}

static void make_locked_posix(void)
{
	make_file();
	lock(fd, F_SETLK, F_WRLCK);
}

static void make_locked_ofd(void)
{
	make_file();
	lock(fd, F_OFD_SETLK, F_WRLCK);
}

static void do_flock(struct seen *seen)
{
	other = open("f", O_RDWR);
	told(seen, flock(fd, LOCK_EX | LOCK_NB));
	told(seen, flock(other, LOCK_SH | LOCK_NB));
}

static void do_ioctl(struct seen *seen)
{
	int flags = 0;

	told(seen, ioctl(fd, FS_IOC_GETFLAGS, &flags));
	flags |= FS_NOATIME_FL;
	told(seen, ioctl(fd, FS_IOC_SETFLAGS, &flags));
	told(seen, ioctl(fd, FS_IOC_GETFLAGS, &flags));
	see(seen, "%x\n", flags & FS_NOATIME_FL);
}

static void do_fallocate(struct seen *seen)
{
	told(seen, fallocate(fd, 0, 0, 50000));
	told(seen, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096));
}

static void do_copy(struct seen *seen)
{
	loff_t from = 0, to = 0;

	other = open("g", O_RDWR);
	told(seen, copy_file_range(fd, &from, other, &to, 5000, 0));
}

static void make_copy(void)
{
	make_two();
	fd = open("f", O_RDONLY);
}

static void do_lseek(struct seen *seen)
{
	told(seen, lseek(fd, 0, SEEK_HOLE));
	told(seen, lseek(fd, 100, SEEK_DATA));
}

/* The kernel forgets what nobody uses; what it forgot is looked up again. */
static void do_forget(struct seen *seen)
{
	int caches = open("/proc/sys/vm/drop_caches", O_WRONLY);
	struct stat st;

	if (write(caches, "2", 1) < 0)
		see(seen, "cannot drop caches\n");
	close(caches);
	usleep(20000);
	told(seen, stat("d/name-3", &st));
}

const struct operation operations[] = {
	{"lookup", "lookup", FUSE_LOOKUP, make_closed, do_lookup, NULL},
	{"lookup, missing", "lookup", FUSE_LOOKUP, nothing, do_lookup_missing, NULL},
	{"forget", "forget", FUSE_BATCH_FORGET, make_many, do_forget, NULL},
	{"forget, one", "forget", FUSE_FORGET, make_closed, do_unlink, NULL},
	{"getattr", "getattr", FUSE_GETATTR, make_file, do_getattr, NULL},
	{"statx", "statx", FUSE_STATX, make_file, do_statx, NULL},
	{"chmod", "setattr", FUSE_SETATTR, make_closed, do_chmod, NULL},
	{"chown", "setattr", FUSE_SETATTR, make_closed, do_chown, NULL},
	{"truncate", "setattr", FUSE_SETATTR, make_closed, do_truncate, NULL},
	{"ftruncate", "setattr", FUSE_SETATTR, make_file, do_ftruncate, NULL},
	{"utimens", "setattr", FUSE_SETATTR, make_closed, do_utimens, NULL},
	{"readlink", "readlink", FUSE_READLINK, make_link, do_readlink, NULL},
	{"mknod", "mknod", FUSE_MKNOD, nothing, do_mknod, NULL},
	{"mkdir", "mkdir", FUSE_MKDIR, nothing, do_mkdir, NULL},
	{"symlink", "symlink", FUSE_SYMLINK, nothing, do_symlink, NULL},
	{"link", "link", FUSE_LINK, make_closed, do_link, NULL},
	{"unlink", "unlink", FUSE_UNLINK, make_closed, do_unlink, NULL},
	{"unlink, open", "unlink", FUSE_UNLINK, make_file, do_unlink_open, NULL},
	{"rmdir", "rmdir", FUSE_RMDIR, make_dir, do_rmdir, NULL},
	{"rename", "rename", FUSE_RENAME, make_closed, do_rename, NULL},
	{"rename, over", "rename", FUSE_RENAME, make_two, do_rename_over, NULL},
	{"rename, NOREPLACE", "rename", FUSE_RENAME2, make_closed, do_rename_noreplace, NULL},
	{"rename, EXCHANGE", "rename", FUSE_RENAME2, make_two, do_rename_exchange, NULL},
	{"statfs", "statfs", FUSE_STATFS, nothing, do_statfs, NULL},
	{"open", "open", FUSE_OPEN, make_closed, do_open, NULL},
	{"open, O_TRUNC", "open", FUSE_OPEN, make_closed, do_open_truncate, NULL},
	{"create", "create", FUSE_CREATE, nothing, do_create, NULL},
	{"create, O_EXCL", "create", FUSE_CREATE, nothing, do_create_excl, NULL},
	{"O_TMPFILE", "tmpfile", FUSE_TMPFILE, nothing, do_tmpfile, NULL},
	{"read", "read", FUSE_READ, make_file, do_read, NULL},
	{"write", "write", FUSE_WRITE, make_file, do_write, NULL},
	{"write, O_APPEND", "write", FUSE_WRITE, make_append, do_append, NULL},
	{"flush", "flush", FUSE_FLUSH, make_file, do_close, NULL},
	{"release", "release", FUSE_RELEASE, make_file, do_close, NULL},
	{"fsync", "fsync", FUSE_FSYNC, make_file, do_fsync, NULL},
	{"opendir", "opendir", FUSE_OPENDIR, make_many, do_opendir, NULL},
	{"readdir", "readdir", FUSE_READDIR, make_listed, do_readdir, NULL},
	{"readdirplus", "readdirplus", FUSE_READDIRPLUS, make_listed, do_readdir, NULL},
	{"releasedir", "releasedir", FUSE_RELEASEDIR, make_listed, do_closedir, NULL},
	{"fsyncdir", "fsyncdir", FUSE_FSYNCDIR, make_listed, do_fsyncdir, NULL},
	{"setxattr", "setxattr", FUSE_SETXATTR, make_closed, do_setxattr, NULL},
	{"setxattr, CREATE", "setxattr", FUSE_SETXATTR, make_closed, do_setxattr_create, NULL},
	{"setxattr, REPLACE", "setxattr", FUSE_SETXATTR, make_xattr, do_setxattr_replace, NULL},
	{"getxattr", "getxattr", FUSE_GETXATTR, make_xattr, do_getxattr, NULL},
	{"listxattr", "listxattr", FUSE_LISTXATTR, make_xattr, do_listxattr, NULL},
	{"removexattr", "removexattr", FUSE_REMOVEXATTR, make_xattr, do_removexattr, NULL},
	{"F_OFD_GETLK", "getlk", FUSE_GETLK, make_locked, do_getlk, NULL},
	{"F_SETLK", "setlk", FUSE_SETLK, make_file, do_setlk, NULL},
	{"F_OFD_SETLK", "setlk", FUSE_SETLK, make_file, do_setlk_ofd, NULL},
	{"F_OFD_SETLK, refused", "setlk", FUSE_SETLK, make_locked, do_setlk_refused, NULL},
	{"F_OFD_SETLK, unlock", "setlk", FUSE_SETLK, make_locked, do_unlock, NULL},
	{"F_OFD_SETLKW", "setlk", FUSE_SETLKW, make_locked, do_setlkw, NULL},
	{"interrupt", "interrupt", FUSE_INTERRUPT, make_locked, do_interrupt, NULL},
	{"close, F_SETLK held", "flush", FUSE_FLUSH, make_locked_posix, do_close_locked, NULL},
	{"close, OFD held", "release", FUSE_RELEASE, make_locked_ofd, do_close_locked, NULL},
	{"flock", "flock", FUSE_SETLK, make_file, do_flock, NULL},
	{"ioctl", "ioctl", FUSE_IOCTL, make_file, do_ioctl, NULL},
	{"fallocate", "fallocate", FUSE_FALLOCATE, make_file, do_fallocate, NULL},
	{"copy_file_range", "copy_file_range", FUSE_COPY_FILE_RANGE, make_copy, do_copy, NULL},
	{"lseek", "lseek", FUSE_LSEEK, make_file, do_lseek, NULL},
};

const size_t operations_n = sizeof(operations) / sizeof(operations[0]);

static void see_entry(struct seen *seen, const char *name)
{
	char names[256], value[64];
	unsigned long sum = 0;
	struct stat st;
	ssize_t n;
	int in;

	if (lstat(name, &st)) {
		see(seen, "%s: %s\n", name, strerror(errno));
		return;
	}
	if (S_ISREG(st.st_mode) && (in = open(name, O_RDONLY)) >= 0) {
		while ((n = read(in, got, sizeof(got))) > 0)
			for (ssize_t i = 0; i < n; i++)
				sum = sum * 31 + got[i];
		close(in);
	}
	see(seen, "%s %o links %ld size %ld owner %d:%d sum %lx", name, st.st_mode, (long)st.st_nlink,
	    S_ISDIR(st.st_mode) ? 0 : (long)st.st_size, st.st_uid, st.st_gid, sum);
	n = llistxattr(name, names, sizeof(names));
	for (char *at = names; n > 0 && at < names + n; at += strlen(at) + 1) {
		ssize_t bytes = lgetxattr(name, at, value, sizeof(value));

		see(seen, " %s=%.*s", at, bytes > 0 ? (int)bytes : 0, value);
	}
	see(seen, "\n");
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

void see_tree(struct seen *seen)
{
	struct dirent **names;
	int n = scandir(".", &names, NULL, by_name);

	stamp("."); /* its times are not compared, and no access is pending */
	for (int i = 0; i < n; i++) {
		if (strcmp(names[i]->d_name, ".") != 0 && strcmp(names[i]->d_name, "..") != 0)
			see_entry(seen, names[i]->d_name);
		free(names[i]);
	}
	free(names);
}
