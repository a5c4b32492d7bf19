/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Compares what both sides show of one name: attributes, symlink target, extended attributes, content.
 * Run by the driver, as root, with the directory of each side as a descriptor.
 *
 * Not compared: blocks and holes (delayed allocation), access times (relatime), device and inode numbers
 * (tree.c compares what they say: which names are the same file).
 */
#include "difftest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#define TIME_TOLERANCE HANG_SECONDS /* both sides do a step within this, or it is a hang */
#define CHUNK (64 << 10)
#define SEGMENT_MAX (1 << 20)
#define XATTR_MAX 64
#define XATTR_LIST (64 << 10)

/* Keeps the first difference: what follows it is often but a consequence. */
void report_difference(struct report *rep, const char *fmt, ...)
{
	va_list ap;

	if (rep->differs)
		return;
	rep->differs = true;
	va_start(ap, fmt);
	vsnprintf(rep->text, sizeof(rep->text), fmt, ap);
	va_end(ap);
}

static const char *errno_name(int err)
{
	return err ? strerrorname_np(err) : "ok";
}

int path_stat(int dir, const char *path, struct stat *st)
{
	return fstatat(dir, path, st, AT_SYMLINK_NOFOLLOW) ? -errno : 0;
}

/* The directory that a path is in; false where that is not plain from the path alone. */
bool path_parent(const char *path, char *parent)
{
	size_t len = strlen(path);
	const char *slash;

	if (!len || path[len - 1] == '/' || path[len - 1] == '.')
		return false;
	slash = strrchr(path, '/');
	if (!slash) {
		strcpy(parent, ".");
		return true;
	}
	len = slash - path + 1;
	memcpy(parent, path, len);
	parent[len] = '\0';
	return true;
}

/*
 * Explicit times are far from now (see ops_attr.c) and must be the same; implicit ones are as far apart as
 * the two halves of a step.
 */
static void compare_time(struct report *rep, const char *path, const char *what, const struct timespec *a,
			 const struct timespec *b)
{
	char name[400];

	if (a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec)
		return;
	if (labs(a->tv_sec - b->tv_sec) <= TIME_TOLERANCE && labs(a->tv_sec - time(NULL)) < 1000000)
		return;
	report_difference(rep, "%s of %s\n  A: %ld.%09ld\n  B: %ld.%09ld\n", what, name_quote(path, name, sizeof(name)),
			  a->tv_sec, a->tv_nsec, b->tv_sec, b->tv_nsec);
}

void compare_stat(struct report *rep, const char *path, const struct stat *a, const struct stat *b)
{
	struct outcome text[SIDE_N];
	char name[400];

	if (a->st_mode != b->st_mode || a->st_nlink != b->st_nlink || a->st_uid != b->st_uid ||
	    a->st_gid != b->st_gid || a->st_size != b->st_size || a->st_rdev != b->st_rdev ||
	    a->st_blksize != b->st_blksize) {
		outcome_reset(&text[SIDE_A]);
		outcome_reset(&text[SIDE_B]);
		outcome_add_stat(&text[SIDE_A], a);
		outcome_add_stat(&text[SIDE_B], b);
		report_difference(rep, "attributes of %s\n  A:%s\n  B:%s\n", name_quote(path, name, sizeof(name)),
				  text[SIDE_A].text, text[SIDE_B].text);
	}
	if (S_ISFIFO(a->st_mode) && except_has(EXCEPT_FIFO_TIMES))
		return;
	compare_time(rep, path, "mtime", &a->st_mtim, &b->st_mtim);
	compare_time(rep, path, "ctime", &a->st_ctim, &b->st_ctim);
}

static void compare_target(struct report *rep, const int dir[SIDE_N], const char *path)
{
	static char target[SIDE_N][PATH_SPACE];
	ssize_t len[SIDE_N];

	for (int i = 0; i < SIDE_N; i++)
		len[i] = readlinkat(dir[i], path, target[i], PATH_SPACE);
	if (len[SIDE_A] != len[SIDE_B] || (len[SIDE_A] > 0 && memcmp(target[SIDE_A], target[SIDE_B], len[SIDE_A])))
		report_difference(rep, "target of symlink \"%s\"\n  A: [%zd] %.*s\n  B: [%zd] %.*s\n", path,
				  len[SIDE_A], (int)len[SIDE_A], target[SIDE_A], len[SIDE_B], (int)len[SIDE_B],
				  target[SIDE_B]);
}

/* ---- extended attributes ---- */

struct xattrs {
	int err;
	int n;
	char list[XATTR_LIST];
	struct {
		const char *name;
		ssize_t size;
		uint64_t hash;
	} at[XATTR_MAX];
};

static int xattr_order(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

/* The functions for attributes know no directory descriptor: the caller has gone into the directory. */
static void xattrs_load(struct xattrs *x, const char *path)
{
	static char value[XATTR_SIZE_MAX];
	ssize_t len = llistxattr(path, x->list, sizeof(x->list));

	x->n = 0;
	x->err = len < 0 ? errno : 0;
	for (char *name = x->list; name < x->list + len && x->n < XATTR_MAX; name += strlen(name) + 1)
		x->at[x->n++].name = name;
	qsort(x->at, x->n, sizeof(x->at[0]), xattr_order);
	for (int i = 0; i < x->n; i++) {
		x->at[i].size = lgetxattr(path, x->at[i].name, value, sizeof(value));
		x->at[i].hash = x->at[i].size > 0 ? data_hash(value, x->at[i].size) : 0;
		if (x->at[i].size < 0)
			x->at[i].size = -errno;
	}
}

static bool xattrs_equal(const struct xattrs *a, const struct xattrs *b)
{
	if (a->err != b->err || a->n != b->n)
		return false;
	for (int i = 0; i < a->n; i++)
		if (strcmp(a->at[i].name, b->at[i].name) || a->at[i].size != b->at[i].size ||
		    a->at[i].hash != b->at[i].hash)
			return false;
	return true;
}

static void xattrs_describe(const struct xattrs *x, char *text, size_t size)
{
	size_t n = snprintf(text, size, "%s", x->err ? errno_name(x->err) : "");

	for (int i = 0; i < x->n && n < size; i++)
		n += snprintf(text + n, size - n, " %.60s[%zd]:%016llx", x->at[i].name, x->at[i].size,
			      (unsigned long long)x->at[i].hash);
}

static void compare_xattrs(struct report *rep, const int dir[SIDE_N], const char *path)
{
	static struct xattrs x[SIDE_N];
	char text[SIDE_N][3000], name[400];

	for (int i = 0; i < SIDE_N; i++) {
		if (fchdir(dir[i]))
			return;
		xattrs_load(&x[i], path);
	}
	if (xattrs_equal(&x[SIDE_A], &x[SIDE_B]))
		return;
	for (int i = 0; i < SIDE_N; i++)
		xattrs_describe(&x[i], text[i], sizeof(text[i]));
	report_difference(rep, "extended attributes of %s\n  A: %s\n  B: %s\n", name_quote(path, name, sizeof(name)),
			  text[SIDE_A], text[SIDE_B]);
}

/* All but the content. `deep` also asks for what costs further calls. */
void compare_entry(struct report *rep, const int dir[SIDE_N], const char *path, bool deep)
{
	struct stat st[SIDE_N];
	int err[SIDE_N];
	char name[400];

	for (int i = 0; i < SIDE_N; i++)
		err[i] = path_stat(dir[i], path, &st[i]);
	if (err[SIDE_A] != err[SIDE_B])
		report_difference(rep, "lstat of %s\n  A: %s\n  B: %s\n", name_quote(path, name, sizeof(name)),
				  errno_name(-err[SIDE_A]), errno_name(-err[SIDE_B]));
	if (err[SIDE_A] || err[SIDE_B])
		return;
	compare_stat(rep, path, &st[SIDE_A], &st[SIDE_B]);
	if (S_ISLNK(st[SIDE_A].st_mode))
		compare_target(rep, dir, path);
	if (deep)
		compare_xattrs(rep, dir, path);
}

/* ---- content ---- */

static void compare_range(struct report *rep, const int fd[SIDE_N], const char *path, off_t offset, size_t len)
{
	static char buf[SIDE_N][CHUNK];
	ssize_t n[SIDE_N];
	char name[400];

	for (; len; offset += n[SIDE_A], len -= n[SIDE_A]) {
		for (int i = 0; i < SIDE_N; i++) {
			n[i] = pread(fd[i], buf[i], len < CHUNK ? len : CHUNK, offset);
			if (n[i] < 0)
				n[i] = -errno;
		}
		if (n[SIDE_A] != n[SIDE_B] || (n[SIDE_A] > 0 && memcmp(buf[SIDE_A], buf[SIDE_B], n[SIDE_A])))
			report_difference(rep, "content of %s at %ld\n  A: %zd %016llx\n  B: %zd %016llx\n",
					  name_quote(path, name, sizeof(name)), (long)offset, n[SIDE_A],
					  (unsigned long long)(n[SIDE_A] > 0 ? data_hash(buf[SIDE_A], n[SIDE_A]) : 0),
					  n[SIDE_B],
					  (unsigned long long)(n[SIDE_B] > 0 ? data_hash(buf[SIDE_B], n[SIDE_B]) : 0));
		if (n[SIDE_A] <= 0 || rep->differs)
			return;
	}
}

/* Reads on both sides what one of them says is data: files of many terabytes are nearly all hole. */
static void compare_segments(struct report *rep, const int fd[SIDE_N], int guide, const char *path)
{
	off_t data = 0, hole = 0;
	size_t len;

	while (!rep->differs) {
		data = lseek(fd[guide], hole, SEEK_DATA);
		if (data < 0)
			return;
		hole = lseek(fd[guide], data, SEEK_HOLE);
		if (hole <= data)
			return;
		len = hole - data < SEGMENT_MAX ? hole - data : SEGMENT_MAX;
		compare_range(rep, fd, path, data, len);
	}
}

void compare_content(struct report *rep, const int dir[SIDE_N], const char *path)
{
	int fd[SIDE_N], err[SIDE_N];
	char name[400];

	for (int i = 0; i < SIDE_N; i++) {
		fd[i] = openat(dir[i], path, O_RDONLY | O_NOFOLLOW | O_NOATIME | O_NONBLOCK | O_CLOEXEC);
		err[i] = fd[i] < 0 ? errno : 0;
	}
	if (err[SIDE_A] != err[SIDE_B])
		report_difference(rep, "open of %s\n  A: %s\n  B: %s\n", name_quote(path, name, sizeof(name)),
				  errno_name(err[SIDE_A]), errno_name(err[SIDE_B]));
	if (!err[SIDE_A] && !err[SIDE_B]) {
		compare_segments(rep, fd, SIDE_A, path);
		compare_segments(rep, fd, SIDE_B, path);
	}
	for (int i = 0; i < SIDE_N; i++)
		if (fd[i] >= 0)
			close(fd[i]);
}
