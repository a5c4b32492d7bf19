/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Attributes of inodes and of file systems.
 */
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fs/answer.h"
#include "fs/caller.h"
#include "fs/creds.h"
#include "fs/inode.h"
#include "fs/ops.h"
#include "recover/atomic.h"

/* The descriptor of a handle, or of the inode where there is none. */
static int attr_fd(struct request *rq, uint64_t node, const uint64_t *fh)
{
	struct handle *handle = fh ? handle_find(fs_of(rq)->handles, *fh) : NULL;

	return handle && handle->fd >= 0 ? handle->fd : inode_fd(rq, node);
}

/* Owners as the mount has them. */
static int fd_stat(const struct request *rq, int fd, struct stat *st)
{
	const struct idmaps *ids = &fs_of(rq)->ids;

	if (fstatat(fd, "", st, AT_EMPTY_PATH | AT_NO_AUTOMOUNT))
		return -errno;
	st->st_uid = idmap_mount(&ids->uids, st->st_uid);
	st->st_gid = idmap_mount(&ids->gids, st->st_gid);
	return 0;
}

/* Of which file system an inode is that was found before; the first one if it is gone. */
static unsigned node_mount(struct request *rq, uint64_t nodeid)
{
	uint32_t index;
	struct node *node = node_find(fs_of(rq)->nodes, nodeid, &index);

	return node ? inode_of(node)->mount : 0;
}

static int node_stat(struct request *rq, uint64_t node, int fd, struct stat *st)
{
	int err = fd_stat(rq, fd, st);

	if (!err)
		st->st_ino = inode_number(node_mount(rq, node), st->st_ino);
	return err;
}

int fs_getattr(struct request *rq, uint64_t node, const uint64_t *fh, struct stat *st)
{
	int fd = attr_fd(rq, node, fh);

	int err = fd < 0 ? fd : node_stat(rq, node, fd, st);

	if (!err)
		answer_store_attr(rq, node, st);
	return err;
}

/* Owner before mode: a change of owner clears set-id bits. */
static int set_owner(struct request *rq, const struct fuse_setattr_in *in, int fd)
{
	const struct idmaps *ids = &fs_of(rq)->ids;
	uint32_t uid = in->valid & FATTR_UID ? idmap_source(&ids->uids, in->uid) : IDMAP_NONE;
	uint32_t gid = in->valid & FATTR_GID ? idmap_source(&ids->gids, in->gid) : IDMAP_NONE;

	if (!(in->valid & (FATTR_UID | FATTR_GID)))
		return 0;
	if ((in->valid & FATTR_UID && uid == IDMAP_NONE) || (in->valid & FATTR_GID && gid == IDMAP_NONE))
		return -EOVERFLOW;
	creds_chown(rq, fd, gid);
	return (int)request_call(rq, SYS_fchownat, fd, (long)"", uid, gid, AT_EMPTY_PATH, 0);
}

static int set_mode(struct request *rq, const struct fuse_setattr_in *in, int fd)
{
	char name[PROC_NAME_BYTES];

	if (!(in->valid & FATTR_MODE))
		return 0;
	return (int)request_call(rq, SYS_fchmodat, fs_of(rq)->proc_fd, (long)proc_name(name, fd), in->mode & 07777, 0,
				 0, 0);
}

static int set_size(struct request *rq, const struct fuse_setattr_in *in, int fd, const uint64_t *fh)
{
	struct handle *handle = fh ? handle_find(fs_of(rq)->handles, *fh) : NULL;
	char name[PROC_NAME_BYTES];
	int err;

	if (!(in->valid & FATTR_SIZE))
		return 0;
	creds_write(rq, fd, in->valid & FATTR_KILL_SUIDGID);
	if (handle)
		return (int)request_call(rq, SYS_ftruncate, handle->fd, (long)in->size, 0, 0, 0, 0);
	/* the thread's working directory is /proc/self/fd */
	err = (int)request_call(rq, SYS_truncate, (long)proc_name(name, fd), (long)in->size, 0, 0, 0, 0);
	return err;
}

static struct timespec attr_time(uint32_t valid, uint32_t set, uint32_t now, uint64_t seconds, uint32_t nanoseconds)
{
	if (valid & now)
		return (struct timespec){.tv_nsec = UTIME_NOW};
	if (valid & set)
		return (struct timespec){.tv_sec = (time_t)seconds, .tv_nsec = nanoseconds};
	return (struct timespec){.tv_nsec = UTIME_OMIT};
}

static int set_times(struct request *rq, const struct fuse_setattr_in *in, int fd)
{
	struct timespec times[2] = {
		attr_time(in->valid, FATTR_ATIME, FATTR_ATIME_NOW, in->atime, in->atimensec),
		attr_time(in->valid, FATTR_MTIME, FATTR_MTIME_NOW, in->mtime, in->mtimensec),
	};

	/* a truncation changes the time itself */
	if (!(in->valid & (FATTR_ATIME | FATTR_MTIME)) || (in->valid & FATTR_SIZE && in->valid & FATTR_MTIME_NOW))
		return 0;
	return (int)request_call(rq, SYS_utimensat, fd, (long)"", (long)times, AT_EMPTY_PATH, 0, 0);
}

/* May the kernel be about to write to the file? */
static bool is_open_for_writing(struct fs *fs, uint32_t index)
{
	const struct state *state = fs->nodes->state;

	for (uint64_t i = 1; i <= load_acquire(&state->header->handles_high); i++) {
		const struct handle *handle = &state->handles[i];

		if (load_acquire(&handle->state) == HANDLE_OPEN && handle->node == index &&
		    (handle->flags & O_ACCMODE) != O_RDONLY)
			return true;
	}
	return false;
}

/* Has the file set-id bits that a change by the caller clears? */
static bool loses_set_id(struct request *rq, const struct stat *st)
{
	if (S_ISDIR(st->st_mode) || !(st->st_mode & (S_ISUID | S_ISGID)))
		return false;
	return st->st_mode & S_ISUID || st->st_mode & S_IXGRP || !creds_caller_in_group(rq, st->st_gid);
}

static bool caller_changes_owner(struct request *rq, uint64_t node)
{
	struct caller_call call;

	if (!caller_call(rq, &call))
		return !is_open_for_writing(fs_of(rq), (uint32_t)node);
#ifdef SYS_chown
	if (call.number == SYS_chown || call.number == SYS_lchown)
		return true;
#endif
	return call.number == SYS_fchown || call.number == SYS_fchownat;
}

/* Would the source refuse the chown(2) that the caller is in? Who is not the owner must not clear set-id bits. */
static bool chown_is_refused(struct request *rq, const struct stat *st, bool chown)
{
	return chown && rq->in->uid && rq->in->uid != st->st_uid && loses_set_id(rq, st);
}

/* The kernel removes file capabilities before it sends what follows from chown(2). */
int attr_may_drop_capabilities(struct request *rq, uint64_t node, int fd)
{
	struct stat st;
	int err = fd_stat(rq, fd, &st);

	if (err || !(st.st_mode & (S_ISUID | S_ISGID)))
		return err;
	return chown_is_refused(rq, &st, caller_changes_owner(rq, node)) ? -EPERM : 0;
}

/*
 * A SETATTR that sets nothing: chown(2) to -1, -1, or privileges must fall before a write that the kernel carries
 * out. Both clear the same bits, but who writes need not be the owner, and root's write takes file capabilities only,
 * which the kernel has removed already.
 */
static int clear_set_id(struct request *rq, uint64_t node, int fd)
{
	struct stat st;
	int err = fd_stat(rq, fd, &st);

	if (err)
		return err;
	if (st.st_mode & (S_ISUID | S_ISGID)) {
		bool chown = caller_changes_owner(rq, node);

		if (chown_is_refused(rq, &st, chown))
			return -EPERM;
		if (!chown && !rq->in->uid)
			return 0;
	}
	creds_chown(rq, fd, -1);
	return (int)request_call(rq, SYS_fchownat, fd, (long)"", -1, -1, AT_EMPTY_PATH, 0);
}

int fs_setattr(struct request *rq, uint64_t node, const struct fuse_setattr_in *in, const uint64_t *fh, struct stat *st)
{
	int fd = inode_fd(rq, node);
	int err;

	if (fd < 0)
		return fd;
	creds_caller(rq);
	err = in->valid & ~(FATTR_FH | FATTR_LOCKOWNER) ? set_owner(rq, in, fd) : clear_set_id(rq, node, fd);
	if (!err)
		err = set_mode(rq, in, fd);
	if (!err)
		err = set_size(rq, in, fd, fh);
	if (!err)
		err = set_times(rq, in, fd);
	return err ? err : node_stat(rq, node, fd, st);
}

static struct fuse_sx_time statx_time(const struct statx_timestamp *time)
{
	return (struct fuse_sx_time){.tv_sec = time->tv_sec, .tv_nsec = time->tv_nsec};
}

/* The one way in which the kernel asks for the birth time (protocol 7.39). */
int fs_statx(struct request *rq, const struct fuse_statx_in *in, struct fuse_statx_out *out)
{
	uint64_t fh = in->fh;
	int fd = attr_fd(rq, rq->in->nodeid, in->getattr_flags & FUSE_GETATTR_FH ? &fh : NULL);
	struct statx stx;
	double ttl;

	if (fd < 0)
		return fd;
	if (statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT | (int)(in->sx_flags & AT_STATX_SYNC_TYPE), in->sx_mask,
		  &stx))
		return -errno;
	ttl = inode_ttl(rq, rq->in->nodeid, stx.stx_mode);
	memset(out, 0, sizeof(*out));
	out->attr_valid = (uint64_t)ttl;
	out->attr_valid_nsec = (uint32_t)((ttl - (double)out->attr_valid) * 1e9);
	out->stat.mask = stx.stx_mask;
	out->stat.blksize = stx.stx_blksize;
	out->stat.attributes = stx.stx_attributes;
	out->stat.attributes_mask = stx.stx_attributes_mask;
	out->stat.nlink = stx.stx_nlink;
	out->stat.uid = idmap_mount(&fs_of(rq)->ids.uids, stx.stx_uid);
	out->stat.gid = idmap_mount(&fs_of(rq)->ids.gids, stx.stx_gid);
	out->stat.mode = stx.stx_mode;
	out->stat.ino = inode_number(node_mount(rq, rq->in->nodeid), stx.stx_ino);
	out->stat.size = stx.stx_size;
	out->stat.blocks = stx.stx_blocks;
	out->stat.atime = statx_time(&stx.stx_atime);
	out->stat.btime = statx_time(&stx.stx_btime);
	out->stat.ctime = statx_time(&stx.stx_ctime);
	out->stat.mtime = statx_time(&stx.stx_mtime);
	out->stat.rdev_major = stx.stx_rdev_major;
	out->stat.rdev_minor = stx.stx_rdev_minor;
	out->stat.dev_major = stx.stx_dev_major;
	out->stat.dev_minor = stx.stx_dev_minor;
	return 0;
}

int fs_statfs(struct request *rq, uint64_t node, struct statvfs *st)
{
	int fd = inode_fd(rq, node);

	if (fd < 0)
		return fd;
	return fstatvfs(fd, st) ? -errno : 0;
}
