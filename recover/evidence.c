/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Evidence by system call. What is not listed here has the same effect and result when it is made twice (chmod, write at
 * an offset, truncate, locks), or is never asked about (O_TMPFILE: the first file goes with its descriptor).
 */
#include "recover/evidence.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "recover/atomic.h"

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE 2
#endif
#ifndef RWF_APPEND /* linux/fs.h cannot be included beside musl's headers */
#define RWF_APPEND 0x10
#endif

struct object {
	uint64_t number, birth; /* number 0: nothing there */
};

static struct object object_at(long directory, long name, int flags)
{
	struct object object = {0};
	struct statx stx;

	if (statx((int)directory, (const char *)name, AT_NO_AUTOMOUNT | flags, STATX_INO | STATX_BTIME, &stx))
		return object;
	object.number = stx.stx_ino;
	if (stx.stx_mask & STATX_BTIME)
		object.birth = (uint64_t)stx.stx_btime.tv_sec * UINT64_C(1000000000) + stx.stx_btime.tv_nsec;
	return object;
}

static struct object name_at(long directory, long name)
{
	return object_at(directory, name, AT_SYMLINK_NOFOLLOW);
}

/* Where the new name of a call that makes one stands among its arguments; -1: it makes none, or may be repeated. */
static int made_name(long number, const long a[6])
{
	switch (number) {
	case SYS_mkdirat:
	case SYS_mknodat:
		return 0;
	case SYS_openat:
		return (a[2] & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL) && (a[2] & O_TMPFILE) != O_TMPFILE ? 0 : -1;
	case SYS_symlinkat:
		return 1;
	case SYS_linkat:
		return 2;
	}
	return -1;
}

static bool has_xattr(const long a[6])
{
	return getxattr((const char *)a[0], (const char *)a[1], NULL, 0) >= 0;
}

static uint64_t size_of(long fd)
{
	struct stat st;

	return fstat((int)fd, &st) ? 0 : (uint64_t)st.st_size;
}

static bool appends(const long a[6])
{
	return a[5] & RWF_APPEND;
}

void evidence_take(struct evidence *evidence, long number, const long a[6])
{
	int made = made_name(number, a);
	struct object object = {0}, other = {0};

	evidence->taken = 0;
	if (made >= 0) {
		object = name_at(a[made], a[made + 1]);
		if (number == SYS_linkat)
			other = object_at(a[0], a[1], (int)a[4] & AT_EMPTY_PATH);
	} else if (number == SYS_unlinkat) {
		object = name_at(a[0], a[1]);
	} else if (number == SYS_renameat2) {
		object = name_at(a[0], a[1]);
		other = name_at(a[2], a[3]);
	} else if ((number == SYS_setxattr && a[4] & XATTR_CREATE) || number == SYS_removexattr) {
		object.number = has_xattr(a);
	} else if (number == SYS_pwritev2 && appends(a)) {
		object.number = size_of(a[0]);
	} else {
		return;
	}
	evidence->number = object.number;
	evidence->birth = object.birth;
	evidence->other = other.number;
	store_release(&evidence->taken, 1);
}

static bool same(const struct evidence *evidence, struct object now)
{
	return now.number == evidence->number && now.birth == evidence->birth;
}

static bool settle_made(const struct evidence *evidence, long number, const long a[6], int made, long *result)
{
	struct object now = name_at(a[made], a[made + 1]);

	if (evidence->number || !now.number || (number == SYS_linkat && now.number != evidence->other))
		return false;
	*result = 0;
	if (number == SYS_openat) {
		*result = openat((int)a[0], (const char *)a[1], (int)a[2] & ~(O_CREAT | O_EXCL | O_TRUNC));
		if (*result < 0)
			*result = -errno;
	}
	return true;
}

static bool settle_rename(const struct evidence *evidence, const long a[6])
{
	struct object from = name_at(a[0], a[1]), to = name_at(a[2], a[3]);

	if (!evidence->number || !same(evidence, to))
		return false;
	if (a[4] & RENAME_EXCHANGE)
		return from.number == evidence->other && evidence->other != evidence->number;
	return !same(evidence, from);
}

/* An open file that may be read, for one that may only be written; -1 where the caller may not read it. */
static int open_to_read(int fd)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOATIME);
	return fd < 0 && errno == EPERM ? open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY) : fd; /* not the owner */
}

static size_t same_bytes(int fd, off_t at, const struct iovec *iov)
{
	const char *data = iov->iov_base;
	char there[4096];
	size_t done = 0;

	while (done < iov->iov_len) {
		size_t want = iov->iov_len - done < sizeof(there) ? iov->iov_len - done : sizeof(there);
		ssize_t got = pread(fd, there, want, at + (off_t)done);

		if (got <= 0 || memcmp(there, data + done, (size_t)got) != 0)
			break;
		done += (size_t)got;
	}
	return done;
}

/* How much of what was to be appended stands where the file ended; if it cannot be read, by how much it grew. */
static bool settle_append(const struct evidence *evidence, const long a[6], long *result)
{
	const struct iovec *iov = (const struct iovec *)a[1];
	uint64_t size = size_of(a[0]);
	size_t done = size > evidence->number ? (size_t)(size - evidence->number) : 0;
	int fd;

	if (!done)
		return false;
	if (done > iov->iov_len)
		done = iov->iov_len;
	fd = open_to_read((int)a[0]);
	if (fd >= 0) {
		done = same_bytes(fd, (off_t)evidence->number, iov);
		close(fd);
	}
	*result = (long)done;
	return done > 0;
}

bool evidence_settle(const struct evidence *evidence, long number, const long a[6], long *result)
{
	int made = made_name(number, a);

	if (!load_acquire(&evidence->taken))
		return false;
	*result = 0;
	if (made >= 0)
		return settle_made(evidence, number, a, made, result);
	switch (number) {
	case SYS_unlinkat:
		return evidence->number && !same(evidence, name_at(a[0], a[1]));
	case SYS_renameat2:
		return settle_rename(evidence, a);
	case SYS_setxattr:
		return !evidence->number && has_xattr(a);
	case SYS_removexattr:
		return evidence->number && !has_xattr(a);
	case SYS_pwritev2:
		return settle_append(evidence, a, result);
	}
	return false;
}
