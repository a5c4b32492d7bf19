/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Mounts on which opening and closing a file sends nothing: made read-only, with locks that are not ours. OPEN is
 * answered with ENOSYS once, which tells the kernel not to send it again, and to keep what it has read; a listing is
 * kept too where names are taken to be true for ever. Whatever else needs an open file names the inode (fh 0), which is
 * opened for that request alone: nothing of it is in the state.
 *
 * Files that BPF opened (answer.c) have no handle either, and are used in the same way.
 *
 * Not on others: a file that is appended to needs its own O_APPEND, and no request tells when a lock falls.
 *
 * The kernel holds to it until the end of the mount, also where somebody makes it writable (mount -o remount,rw): what
 * would change something is then refused here.
 */
#include <errno.h>
#include <fcntl.h>

#include "fs/inode.h"
#include "fs/ops.h"

static bool changes_something(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_SETATTR:
	case FUSE_SYMLINK:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_UNLINK:
	case FUSE_RMDIR:
	case FUSE_RENAME:
	case FUSE_RENAME2:
	case FUSE_LINK:
	case FUSE_WRITE:
	case FUSE_SETXATTR:
	case FUSE_REMOVEXATTR:
	case FUSE_CREATE:
	case FUSE_TMPFILE:
	case FUSE_FALLOCATE:
	case FUSE_COPY_FILE_RANGE:
		return true;
	default:
		return false;
	}
}

bool noopen_answers(const struct request *rq, int *err)
{
	struct fs *fs = fs_of(rq);

	if (!fs->area->no_open)
		return false;
	*err = changes_something(rq->in->opcode) ? -EROFS : -ENOSYS;
	return *err == -EROFS || rq->in->opcode == FUSE_OPEN || rq->in->opcode == FUSE_FLUSH ||
	       (rq->in->opcode == FUSE_OPENDIR &&
		inode_listing_kept(rq, inode_of(&fs->nodes->state->nodes[NODE_ROOT])));
}

struct handle *noopen_handle(struct request *rq, uint64_t node, uint64_t fh, uint32_t flags, struct handle *spare)
{
	struct fs *fs = fs_of(rq);
	struct handle *handle = handle_find(fs->handles, fh);

	spare->fd = -EBADF;
	if (handle || fh || !(fs->area->no_open || fs->area->answered))
		return handle;
	/* reading leaves the time of the last access alone, as on any file system that is mounted read-only */
	spare->fd = inode_reopen(rq, node, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOATIME | (int)flags);
	if (spare->fd < 0)
		return NULL;
	fds_close_later(rq, spare->fd);
	*spare = (struct handle){.fd = spare->fd, .node = (uint32_t)node, .flags = flags, .position = UINT64_MAX};
	return spare;
}
