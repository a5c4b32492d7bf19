/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Checks a request before anybody takes it apart: libfuse does not (its README says so). Lengths, counts and
 * the ends of strings only; whether nodes and handles exist is checked where they are looked up.
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "recover/internal.h"

/* What stands behind the header: `fixed` bytes, then `strings` texts that end, then `data`. */
struct request_shape {
	uint16_t fixed;
	uint8_t strings;
	enum { DATA_NONE, DATA_WRITE, DATA_SETXATTR, DATA_IOCTL, DATA_BATCH } data;
	bool known;
};

#define SHAPE(bytes, ...)                                    \
	{                                                    \
		.fixed = (bytes), .known = true, __VA_ARGS__ \
	}

static const struct request_shape shapes[] = {
	[FUSE_LOOKUP] = SHAPE(0, .strings = 1),
	[FUSE_FORGET] = SHAPE(sizeof(struct fuse_forget_in)),
	[FUSE_GETATTR] = SHAPE(sizeof(struct fuse_getattr_in)),
	[FUSE_SETATTR] = SHAPE(sizeof(struct fuse_setattr_in)),
	[FUSE_READLINK] = SHAPE(0),
	[FUSE_SYMLINK] = SHAPE(0, .strings = 2),
	[FUSE_MKNOD] = SHAPE(sizeof(struct fuse_mknod_in), .strings = 1),
	[FUSE_MKDIR] = SHAPE(sizeof(struct fuse_mkdir_in), .strings = 1),
	[FUSE_UNLINK] = SHAPE(0, .strings = 1),
	[FUSE_RMDIR] = SHAPE(0, .strings = 1),
	[FUSE_RENAME] = SHAPE(sizeof(struct fuse_rename_in), .strings = 2),
	[FUSE_LINK] = SHAPE(sizeof(struct fuse_link_in), .strings = 1),
	[FUSE_OPEN] = SHAPE(sizeof(struct fuse_open_in)),
	[FUSE_READ] = SHAPE(sizeof(struct fuse_read_in)),
	[FUSE_WRITE] = SHAPE(sizeof(struct fuse_write_in), .data = DATA_WRITE),
	[FUSE_STATFS] = SHAPE(0),
	[FUSE_RELEASE] = SHAPE(sizeof(struct fuse_release_in)),
	[FUSE_FSYNC] = SHAPE(sizeof(struct fuse_fsync_in)),
	[FUSE_SETXATTR] = SHAPE(sizeof(struct fuse_setxattr_in), .strings = 1, .data = DATA_SETXATTR),
	[FUSE_GETXATTR] = SHAPE(sizeof(struct fuse_getxattr_in), .strings = 1),
	[FUSE_LISTXATTR] = SHAPE(sizeof(struct fuse_getxattr_in)),
	[FUSE_REMOVEXATTR] = SHAPE(0, .strings = 1),
	[FUSE_FLUSH] = SHAPE(sizeof(struct fuse_flush_in)),
	[FUSE_OPENDIR] = SHAPE(sizeof(struct fuse_open_in)),
	[FUSE_READDIR] = SHAPE(sizeof(struct fuse_read_in)),
	[FUSE_RELEASEDIR] = SHAPE(sizeof(struct fuse_release_in)),
	[FUSE_FSYNCDIR] = SHAPE(sizeof(struct fuse_fsync_in)),
	[FUSE_GETLK] = SHAPE(sizeof(struct fuse_lk_in)),
	[FUSE_SETLK] = SHAPE(sizeof(struct fuse_lk_in)),
	[FUSE_SETLKW] = SHAPE(sizeof(struct fuse_lk_in)),
	[FUSE_ACCESS] = SHAPE(sizeof(struct fuse_access_in)),
	[FUSE_CREATE] = SHAPE(sizeof(struct fuse_create_in), .strings = 1),
	[FUSE_INTERRUPT] = SHAPE(sizeof(struct fuse_interrupt_in)),
	[FUSE_BMAP] = SHAPE(sizeof(struct fuse_bmap_in)),
	[FUSE_DESTROY] = SHAPE(0),
	[FUSE_IOCTL] = SHAPE(sizeof(struct fuse_ioctl_in), .data = DATA_IOCTL),
	[FUSE_POLL] = SHAPE(sizeof(struct fuse_poll_in)),
	[FUSE_BATCH_FORGET] = SHAPE(sizeof(struct fuse_batch_forget_in), .data = DATA_BATCH),
	[FUSE_FALLOCATE] = SHAPE(sizeof(struct fuse_fallocate_in)),
	[FUSE_READDIRPLUS] = SHAPE(sizeof(struct fuse_read_in)),
	[FUSE_RENAME2] = SHAPE(sizeof(struct fuse_rename2_in), .strings = 2),
	[FUSE_LSEEK] = SHAPE(sizeof(struct fuse_lseek_in)),
	[FUSE_COPY_FILE_RANGE] = SHAPE(sizeof(struct fuse_copy_file_range_in)),
	[FUSE_SYNCFS] = SHAPE(sizeof(struct fuse_syncfs_in)),
	[FUSE_TMPFILE] = SHAPE(sizeof(struct fuse_create_in)),
	[FUSE_STATX] = SHAPE(sizeof(struct fuse_statx_in)),
};

/* Bytes of data that the arguments announce behind the strings. */
static uint64_t request_announced(const struct request_shape *shape, const void *arguments)
{
	switch (shape->data) {
	case DATA_WRITE:
		return ((const struct fuse_write_in *)arguments)->size;
	case DATA_SETXATTR:
		return ((const struct fuse_setxattr_in *)arguments)->size;
	case DATA_IOCTL:
		return ((const struct fuse_ioctl_in *)arguments)->in_size;
	case DATA_BATCH:
		return (uint64_t)((const struct fuse_batch_forget_in *)arguments)->count *
		       sizeof(struct fuse_forget_one);
	case DATA_NONE:
		break;
	}
	return 0;
}

bool request_valid(const struct fuse_in_header *in, size_t bytes, uint64_t init_flags)
{
	const struct request_shape *shape;
	const char *at, *end;
	size_t fixed;

	if (bytes < sizeof(*in) || in->len != bytes)
		return false;
	/* the one is the monitor's, the other answers what nobody asks: libfuse would read beyond it, or keep it */
	if (in->opcode == FUSE_INIT || in->opcode == FUSE_NOTIFY_REPLY)
		return false;
	if (in->opcode >= sizeof(shapes) / sizeof(shapes[0]) || !shapes[in->opcode].known)
		return true; /* nobody takes it apart: ENOSYS */
	shape = &shapes[in->opcode];
	fixed = shape->fixed;
	if (in->opcode == FUSE_SETXATTR && !(init_flags & FUSE_SETXATTR_EXT))
		fixed = FUSE_COMPAT_SETXATTR_IN_SIZE;
	at = (const char *)(in + 1);
	end = (const char *)in + bytes;
	if ((size_t)(end - at) < fixed)
		return false;
	at += fixed;
	for (int i = 0; i < shape->strings; i++) {
		const char *zero = memchr(at, 0, (size_t)(end - at));

		if (!zero)
			return false;
		at = zero + 1;
	}
	return request_announced(shape, in + 1) <= (uint64_t)(end - at);
}
