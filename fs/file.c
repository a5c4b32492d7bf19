/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Open files: opening, data, space, closing.
 */
#include <errno.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fs/answer.h"
#include "fs/creds.h"
#include "fs/inode.h"
#include "fs/ops.h"
#include "recover/log.h"

#ifndef RWF_APPEND /* linux/fs.h cannot be included beside musl's headers */
#define RWF_APPEND 0x10
#endif

/*
 * What the source's file is opened with. The kernel has resolved names and created; it computes offsets, and for
 * O_APPEND each write says so itself (fs_write), so that F_SETFL works.
 */
static int open_flags(uint32_t flags)
{
	return (int)(flags & (O_ACCMODE | O_TRUNC | O_DIRECT | O_SYNC | O_DSYNC | O_NOATIME | O_LARGEFILE)) | O_NOCTTY |
	       O_NONBLOCK;
}

#define WRITE_STEPS 4

static struct handle *file_handle(struct request *rq, uint64_t fh)
{
	return handle_find(fs_of(rq)->handles, fh);
}

/* A handle for a descriptor that a step of the request opened. */
static int open_handle(struct request *rq, uint64_t node, int fd, uint32_t flags, struct open_reply *reply)
{
	uint32_t index = (uint32_t)node;

	memset(reply, 0, sizeof(*reply));
	return handle_open(fs_of(rq)->handles, rq->record, fd, index, flags, &reply->fh);
}

/* Where close(2) never reports an error there is nothing to do when it is called. */
static bool close_says_nothing(struct fs *fs, uint32_t index)
{
	return fs->area->mounts[inode_of(&fs->nodes->state->nodes[index])->mount].traits & MOUNT_NO_FLUSH;
}

/*
 * POSIX locks fall when a process closes any descriptor of the file, which FLUSH alone tells: it can be spared only where
 * locks are not ours. Nor may there be pages that the kernel would write back before it.
 */
static bool open_needs_no_flush(struct fs *fs, const struct handle *handle, const struct open_reply *reply)
{
	return fs->locks_local && close_says_nothing(fs, handle->node) &&
	       (reply->backing_id > 0 || (handle->flags & O_ACCMODE) == O_RDONLY);
}

/* Kernel passthrough for a regular file; where it cannot be had no page cache of ours either: they exclude each other. */
static void open_passthrough(struct request *rq, struct open_reply *reply)
{
	struct handle *handle = file_handle(rq, reply->fh);

	if (fs_of(rq)->passthrough || fs_is_kept(fs_of(rq)))
		reply->backing_id = passthrough_attach(rq, handle->node, handle);
	if (reply->backing_id == -EBUSY) /* not this file, but others of its file system may */
		reply->direct_io = true;
	/* the kernel refuses it beside a backing id: nothing is cached then */
	reply->keep = reply->backing_id <= 0 && fs_caches_always(fs_of(rq));
	reply->no_flush = open_needs_no_flush(fs_of(rq), handle, reply);
	if (reply->backing_id > 0)
		answer_store_open(rq, node_id(handle->node, &fs_of(rq)->nodes->state->nodes[handle->node]),
				  reply->backing_id);
}

/* How the source's file is reached: by its handle, which is the quickest, or by its descriptor where that is no way. */
struct way {
	const struct inode *inode;
	bool by_handle;
};

static long open_by(struct request *rq, struct way *way, uint64_t node, int how)
{
	char name[PROC_NAME_BYTES];
	long fd = -ESTALE;
	int path;

	if (way->by_handle)
		fd = mount_open_step(rq, way->inode, how);
	if (way->by_handle && fd != -ESTALE && fd != -EPERM)
		return fd;
	way->by_handle = false;
	path = inode_fd(rq, node);
	if (path < 0)
		return path;
	return request_call(rq, SYS_openat, fs_of(rq)->proc_fd, (long)proc_name(name, path), how, 0, 0, 0);
}

static int open_source(struct request *rq, uint64_t node, uint32_t flags)
{
	struct fs *fs = fs_of(rq);
	uint32_t index;
	struct node *known = node_find(fs->nodes, node, &index);
	struct way way = {.by_handle = true};
	int how = open_flags(flags);
	long fd;

	if (!known)
		return -ESTALE;
	way.inode = inode_of(known);
	fd = open_by(rq, &way, node, how);
	if ((fd == -EMFILE || fd == -ENFILE) && fds_shrink(fs))
		fd = open_by(rq, &way, node, how);
	if (fd == -EPERM && flags & O_APPEND) /* chattr +a takes nothing else */
		fd = open_by(rq, &way, node, how | O_APPEND);
	return (int)fd;
}

int fs_open(struct request *rq, uint64_t node, const struct fuse_open_in *in, struct open_reply *reply)
{
	bool kill = in->open_flags & FUSE_OPEN_KILL_SUIDGID;
	int fd, err;

	creds_write(rq, kill ? inode_fd(rq, node) : -1, kill);
	fd = open_source(rq, node, in->flags);
	if (fd < 0)
		return fd;
	err = open_handle(rq, node, fd, in->flags & HANDLE_OPEN_FLAGS, reply);
	if (!err)
		open_passthrough(rq, reply);
	return err;
}

/* The new file's inode and handle; `fd` belongs to a step of the request. */
static int create_reply(struct request *rq, int fd, const struct fuse_create_in *in, struct fuse_entry_param *entry,
			struct open_reply *reply)
{
	int err = inode_lookup_fd(rq, fd, entry);

	if (err)
		return err;
	err = open_handle(rq, entry->ino, fd, in->flags & HANDLE_OPEN_FLAGS, reply);
	if (!err)
		open_passthrough(rq, reply);
	return err;
}

int fs_create(struct request *rq, uint64_t parent, const char *name, const struct fuse_create_in *in,
	      struct fuse_entry_param *entry, struct open_reply *reply)
{
	int directory = inode_fd(rq, parent);
	int flags = open_flags(in->flags) | O_CREAT | O_NOFOLLOW | (int)(in->flags & O_EXCL);
	long fd;

	if (directory < 0)
		return directory;
	fd = creds_create(rq, in->umask);
	if (!fd)
		fd = request_call(rq, SYS_openat, directory, (long)name, flags, in->mode, 0, 0);
	if ((fd == -EMFILE || fd == -ENFILE) && fds_shrink(fs_of(rq)))
		fd = request_call(rq, SYS_openat, directory, (long)name, flags, in->mode, 0, 0);
	if (fd == -ELOOP) /* somebody put a link there: the kernel looks again and follows it */
		return -ESTALE;
	return fd < 0 ? (int)fd : create_reply(rq, (int)fd, in, entry, reply);
}

int fs_tmpfile(struct request *rq, uint64_t parent, const struct fuse_create_in *in, struct fuse_entry_param *entry,
	       struct open_reply *reply)
{
	int directory = inode_fd(rq, parent), err;
	char name[PROC_NAME_BYTES];
	long fd;

	if (directory < 0)
		return directory;
	err = creds_create(rq, in->umask);
	if (err)
		return err;
	fd = request_call(rq, SYS_openat, fs_of(rq)->proc_fd, (long)proc_name(name, directory),
			  open_flags(in->flags) | O_TMPFILE | (int)(in->flags & O_EXCL), in->mode, 0, 0);
	err = fd < 0 ? (int)fd : create_reply(rq, (int)fd, in, entry, reply);
	if (!err)
		passthrough_hold_unnamed(fs_of(rq), (uint32_t)entry->ino);
	return err;
}

/* fcntl(2) may have set or cleared O_DIRECT since the last time. */
static void follow_direct(struct handle *handle, uint32_t flags)
{
	int now;

	if (!((handle->flags ^ flags) & O_DIRECT))
		return;
	now = fcntl(handle->fd, F_GETFL);
	fcntl(handle->fd, F_SETFL, (now & ~O_DIRECT) | (int)(flags & O_DIRECT));
	handle->flags ^= O_DIRECT;
}

ssize_t fs_read(struct request *rq, const struct fuse_read_in *in)
{
	struct handle spare, *handle = noopen_handle(rq, rq->in->nodeid, in->fh, in->flags & O_DIRECT, &spare);
	ssize_t got;

	if (!handle)
		return spare.fd;
	follow_direct(handle, in->flags);
	got = pread(handle->fd, rq->out, in->size < rq->out_bytes ? in->size : rq->out_bytes, (off_t)in->offset);
	return got < 0 ? -errno : got;
}

static long write_step(struct request *rq, const struct handle *handle, const char *data, size_t size, off_t offset,
		       bool append)
{
	struct iovec iov = {.iov_base = (void *)data, .iov_len = size};

	if (append)
		return request_call(rq, SYS_pwritev2, handle->fd, (long)&iov, 1, (long)offset, 0, RWF_APPEND);
	return request_call(rq, SYS_pwrite64, handle->fd, (long)data, (long)size, (long)offset, 0, 0);
}

ssize_t fs_write(struct request *rq, const struct fuse_write_in *in, const char *data)
{
	struct handle *handle = file_handle(rq, in->fh);
	bool append = in->flags & O_APPEND && !(in->write_flags & FUSE_WRITE_CACHE);
	size_t done = 0;
	long got = 0;

	if (!handle)
		return -EBADF;
	creds_write(rq, handle->fd, in->write_flags & FUSE_WRITE_KILL_SUIDGID);
	follow_direct(handle, in->flags);
	/* a call that a death interrupted may have written a part: the next one writes the rest */
	for (unsigned i = 0; i < WRITE_STEPS && done < in->size; i++) {
		got = write_step(rq, handle, data + done, in->size - done, (off_t)(in->offset + done), append);
		if (got <= 0)
			break;
		done += (size_t)got;
	}
	return done ? (ssize_t)done : got;
}

/* close(2) of one of the application's descriptors: its POSIX locks go, and errors of earlier writes are told. */
int fs_flush(struct request *rq, uint64_t node, uint64_t fh, uint64_t owner)
{
	struct handle *handle = file_handle(rq, fh);
	int fd;

	lock_drop_owner(rq, node, owner);
	if (!handle)
		return fh ? -EBADF : 0; /* opened by BPF */
	if (close_says_nothing(fs_of(rq), handle->node))
		return 0;
	fd = dup(handle->fd);
	return fd >= 0 && close(fd) ? -errno : 0;
}

int fs_release(struct request *rq, uint64_t node, uint64_t fh, bool unlock)
{
	struct handle *handle = file_handle(rq, fh);

	if (handle && unlock) /* a backing id may keep the open file for longer than the descriptor */
		flock(handle->fd, LOCK_UN);
	lock_drop_handle(rq, node, fh);
	if (handle) /* none: this RELEASE was sent again and its file is closed */
		handle_close(fs_of(rq)->handles, handle);
	return 0;
}

int fs_fsync(struct request *rq, uint64_t node, uint64_t fh, bool data_only)
{
	struct handle spare, *handle = noopen_handle(rq, node, fh, 0, &spare);

	if (!handle)
		return spare.fd;
	return (int)request_call(rq, data_only ? SYS_fdatasync : SYS_fsync, handle->fd, 0, 0, 0, 0, 0);
}

int fs_fallocate(struct request *rq, uint64_t fh, int mode, off_t offset, off_t length)
{
	struct handle *handle = file_handle(rq, fh);

	if (!handle)
		return -EBADF;
	creds_write(rq, handle->fd, rq->in->uid != 0);
	return (int)request_call(rq, SYS_fallocate, handle->fd, mode, offset, length, 0, 0);
}

ssize_t fs_copy_file_range(struct request *rq, uint64_t fh_in, off_t in, uint64_t fh_out, off_t out, size_t length,
			   unsigned flags)
{
	struct handle spare, *from = noopen_handle(rq, rq->in->nodeid, fh_in, 0, &spare);
	struct handle *to = file_handle(rq, fh_out);

	if (!from)
		return spare.fd;
	if (!to)
		return -EBADF;
	creds_write(rq, to->fd, rq->in->uid != 0);
	return request_call(rq, SYS_copy_file_range, from->fd, (long)&in, to->fd, (long)&out, (long)length, flags);
}

off_t fs_lseek(struct request *rq, uint64_t node, uint64_t fh, off_t offset, int whence)
{
	struct handle spare, *handle = noopen_handle(rq, node, fh, 0, &spare);
	off_t at;

	if (!handle)
		return spare.fd;
	at = lseek(handle->fd, offset, whence);
	return at < 0 ? -errno : at;
}

int fs_syncfs(struct request *rq, uint64_t node)
{
	struct fs *fs = fs_of(rq);
	uint32_t index;
	struct node *found = node_find(fs->nodes, node, &index);
	unsigned mount = found ? inode_of(found)->mount : MOUNTS_MAX;
	int fd = mount < fs->area->mounts_n ? fs->area->mounts[mount].fd : -1;

	if (fd < 0)
		return 0;
	return syncfs(fd) ? -errno : 0;
}
