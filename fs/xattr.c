/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Extended attributes and ACLs. System calls on attributes take no O_PATH descriptor, so they go by its name in
 * /proc/self/fd, which is the working directory of each worker thread: the inode itself, also of a symbolic link.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include "fs/answer.h"
#include "fs/creds.h"
#include "fs/inode.h"
#include "fs/ops.h"

#define LIST_BYTES 65536 /* XATTR_LIST_MAX; request.out is larger */

/* Is it an attribute with ids that are others in the source? */
static bool is_mapped(const struct request *rq, const char *name)
{
	const struct idmaps *ids = &fs_of(rq)->ids;

	return idmap_is_on(ids) && idmap_has_ids(name);
}

/* 0, or -EOVERFLOW: entries of it that the mount does not show would be lost. */
static int may_replace(const struct request *rq, const char *path, const char *name)
{
	ssize_t got = getxattr(path, name, rq->out, IDMAP_VALUE_BYTES);

	return got > 0 && idmap_hides(&fs_of(rq)->ids, name, rq->out, (size_t)got) ? -EOVERFLOW : 0;
}

static int set_mapped(struct request *rq, const char *path, const char *name, const char *value, size_t size, int flags)
{
	uint8_t mapped[IDMAP_VALUE_BYTES];
	ssize_t bytes;
	int err;

	if (size > sizeof(mapped))
		return -E2BIG;
	memcpy(mapped, value, size); /* which may stand in rq->out */
	bytes = idmap_value_source(&fs_of(rq)->ids, name, mapped, size);
	err = bytes < 0 ? (int)bytes : may_replace(rq, path, name);
	if (err)
		return err;
	return (int)request_call(rq, SYS_setxattr, (long)path, (long)name, (long)mapped, bytes, flags, 0);
}

int fs_setxattr(struct request *rq, uint64_t node, const char *name, const char *value, size_t size, int flags,
		bool kill_sgid)
{
	char room[PROC_NAME_BYTES], *path;
	int fd = inode_fd(rq, node);

	if (fd < 0)
		return fd;
	path = proc_name(room, fd);
	creds_write(rq, -1, kill_sgid);
	if (is_mapped(rq, name))
		return set_mapped(rq, path, name, value, size, flags);
	return (int)request_call(rq, SYS_setxattr, (long)path, (long)name, (long)value, (long)size, flags, 0);
}

/* The value in rq->out as the mount has it, for a caller with room for `size` bytes; 0: for the length. */
static ssize_t show_mapped(const struct request *rq, const char *name, size_t size, size_t got)
{
	ssize_t bytes = idmap_value_mount(&fs_of(rq)->ids, name, rq->out, got);

	return size && bytes > (ssize_t)size ? -ERANGE : bytes;
}

ssize_t fs_getxattr(struct request *rq, uint64_t node, const char *name, size_t size)
{
	char path[PROC_NAME_BYTES];
	int fd = inode_fd(rq, node);
	struct answer_look look;
	uint32_t known;
	ssize_t got;

	if (fd < 0)
		return fd;
	known = answer_begin_xattr(rq, fd, name, &look);
	if (is_mapped(rq, name)) /* the size is known once it was read */
		got = getxattr(proc_name(path, fd), name, rq->out, IDMAP_VALUE_BYTES);
	else
		got = getxattr(proc_name(path, fd), name, size ? rq->out : NULL,
			       size < rq->out_bytes ? size : rq->out_bytes);
	if (got >= 0)
		return is_mapped(rq, name) ? show_mapped(rq, name, size, (size_t)got) : got;
	got = -errno;
	if (known && got == -ENODATA)
		answer_store_absent(rq, &look, node, known);
	return got;
}

/* The source shows trusted.* only to who may use it; the server always may, so it looks at the caller. */
static ssize_t hide_trusted(char *list, ssize_t size)
{
	ssize_t kept = 0;

	for (ssize_t at = 0; at < size;) {
		ssize_t length = (ssize_t)strlen(list + at) + 1;

		if (strncmp(list + at, "trusted.", 8) != 0) {
			memmove(list + kept, list + at, (size_t)length);
			kept += length;
		}
		at += length;
	}
	return kept;
}

ssize_t fs_listxattr(struct request *rq, uint64_t node, size_t size)
{
	char path[PROC_NAME_BYTES];
	int fd = inode_fd(rq, node);
	ssize_t got;

	if (fd < 0)
		return fd;
	got = listxattr(proc_name(path, fd), (char *)rq->out, LIST_BYTES);
	if (got < 0)
		return -errno;
	if (rq->in->uid != 0)
		got = hide_trusted((char *)rq->out, got);
	return size && (size_t)got > size ? -ERANGE : got;
}

int fs_removexattr(struct request *rq, uint64_t node, const char *name)
{
	char path[PROC_NAME_BYTES];
	int fd = inode_fd(rq, node);
	int err = 0;

	if (fd < 0)
		return fd;
	if (rq->in->uid && strcmp(name, "security.capability") == 0)
		err = attr_may_drop_capabilities(rq, node, fd);
	if (!err && is_mapped(rq, name))
		err = may_replace(rq, proc_name(path, fd), name);
	if (err)
		return err;
	creds_caller(rq);
	return (int)request_call(rq, SYS_removexattr, (long)proc_name(path, fd), (long)name, 0, 0, 0, 0);
}
