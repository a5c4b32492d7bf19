/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Between libfuse and the operations: each callback hands its arguments to one operation and sends what it returns.
 * fuse_req_t stops here. What libfuse does not parse is taken from the request as the kernel sent it.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>

#include "fs/inode.h"
#include "fs/ops.h"

/* An open file that a hand-over lost has no descriptor: nothing else gives EBADF to whom the kernel lets through. */
static void reply_status(fuse_req_t req, int err)
{
	if (err == -EBADF && recover_state(request_current()->recover)->header->counters.lost_handles)
		err = -ESTALE;
	fuse_reply_err(req, -err);
}

static void reply_entry(fuse_req_t req, int err, const struct fuse_entry_param *entry)
{
	if (err)
		reply_status(req, err);
	else
		fuse_reply_entry(req, entry);
}

static void reply_data(fuse_req_t req, ssize_t length)
{
	if (length < 0)
		reply_status(req, (int)length);
	else
		fuse_reply_buf(req, (const char *)request_current()->out, (size_t)length);
}

/* Extended attributes: with size 0 the caller asks for the length only. */
static void reply_sized(fuse_req_t req, ssize_t length, size_t asked)
{
	if (length >= 0 && !asked)
		fuse_reply_xattr(req, (size_t)length);
	else
		reply_data(req, length);
}

static void open_info(struct fuse_file_info *fi, const struct open_reply *reply)
{
	fi->fh = reply->fh;
	fi->backing_id = reply->backing_id > 0 ? reply->backing_id : 0;
	fi->direct_io = reply->direct_io;
	fi->noflush = reply->no_flush;
	fi->keep_cache = reply->keep;
	fi->cache_readdir = reply->keep || reply->cache;
}

/* Played again to the session of each worker: the same input, the same answer. */
static void on_init(void *userdata, struct fuse_conn_info *conn)
{
	static const uint64_t wanted[] = {
		FUSE_CAP_DONT_MASK,	    FUSE_CAP_POSIX_ACL,	     FUSE_CAP_HANDLE_KILLPRIV_V2,
		FUSE_CAP_PARALLEL_DIROPS,   FUSE_CAP_SETXATTR_EXT,   FUSE_CAP_DIRECT_IO_ALLOW_MMAP,
		FUSE_CAP_NO_EXPORT_SUPPORT, FUSE_CAP_CACHE_SYMLINKS,
	};
	struct recover *recover = worker_recover(userdata);
	const struct fs *fs = recover_private(recover);

	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		fuse_set_feature_flag(conn, wanted[i]);
	/* also for files without a name: passthrough_hold() */
	if ((fs->passthrough_wanted || recover_is_kept(recover)) && fuse_set_feature_flag(conn, FUSE_CAP_PASSTHROUGH))
		conn->max_backing_stack_depth = 1;
	if (fs->locks_local) {
		fuse_unset_feature_flag(conn, FUSE_CAP_POSIX_LOCKS);
		fuse_unset_feature_flag(conn, FUSE_CAP_FLOCK_LOCKS);
	}
	conn->no_interrupt = 1; /* our workers take INTERRUPT themselves; libfuse then keeps no list of requests */
	conn->max_background = 64;
	conn->time_gran = 1;
}

static void entry_out(const struct fuse_entry_param *entry, struct fuse_entry_out *out)
{
	const struct stat *st = &entry->attr;

	memset(out, 0, sizeof(*out));
	out->nodeid = entry->ino;
	out->entry_valid = (uint64_t)entry->entry_timeout;
	out->entry_valid_nsec = (uint32_t)((entry->entry_timeout - (double)out->entry_valid) * 1e9);
	out->attr_valid = out->entry_valid;
	out->attr_valid_nsec = out->entry_valid_nsec;
	out->attr = inode_attr(st);
}

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct request *rq = request_current();
	struct fuse_entry_param entry;
	struct fuse_entry_out out;
	bool submount;
	int err = fs_lookup(rq, parent, name, &entry, &submount);

	if (err || !submount) {
		reply_entry(req, err, &entry);
		return;
	}
	/* libfuse has no name for a file system that begins here */
	entry_out(&entry, &out);
	out.attr.flags |= FUSE_ATTR_SUBMOUNT;
	request_reply(rq, 0, &out, sizeof(out));
	fuse_reply_none(req);
}

static void on_readlink(fuse_req_t req, fuse_ino_t node)
{
	char target[PATH_MAX + 1];
	int err = fs_readlink(request_current(), node, target, sizeof(target));

	if (err)
		reply_status(req, err);
	else
		fuse_reply_readlink(req, target);
}

static void on_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct fuse_entry_param entry;

	reply_entry(req, fs_mknod(request_current(), parent, name, mode, rdev, &entry), &entry);
}

static void on_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct fuse_entry_param entry;

	reply_entry(req, fs_mkdir(request_current(), parent, name, mode, &entry), &entry);
}

static void on_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param entry;

	reply_entry(req, fs_symlink(request_current(), target, parent, name, &entry), &entry);
}

static void on_link(fuse_req_t req, fuse_ino_t node, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param entry;

	reply_entry(req, fs_link(request_current(), node, parent, name, &entry), &entry);
}

static void on_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	reply_status(req, fs_unlink(request_current(), parent, name));
}

static void on_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	reply_status(req, fs_rmdir(request_current(), parent, name));
}

static void on_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name,
		      unsigned flags)
{
	reply_status(req, fs_rename(request_current(), parent, name, new_parent, new_name, flags));
}

static void reply_attr(fuse_req_t req, int err, fuse_ino_t node, const struct stat *st)
{
	if (err)
		reply_status(req, err);
	else
		fuse_reply_attr(req, st, inode_ttl(request_current(), node, st->st_mode));
}

static void on_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct stat st;

	reply_attr(req, fs_getattr(request_current(), node, fi ? &fi->fh : NULL, &st), node, &st);
}

static void on_setattr(fuse_req_t req, fuse_ino_t node, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	struct request *rq = request_current();
	struct stat st;

	(void)attr, (void)to_set;
	reply_attr(req, fs_setattr(rq, node, request_arguments(rq), fi ? &fi->fh : NULL, &st), node, &st);
}

static void on_statfs(fuse_req_t req, fuse_ino_t node)
{
	struct statvfs st;
	int err = fs_statfs(request_current(), node, &st);

	if (err)
		reply_status(req, err);
	else
		fuse_reply_statfs(req, &st);
}

static void reply_open(fuse_req_t req, int err, struct fuse_file_info *fi, const struct open_reply *reply)
{
	if (err) {
		reply_status(req, err);
		return;
	}
	open_info(fi, reply);
	fuse_reply_open(req, fi);
}

static void reply_create(fuse_req_t req, int err, const struct fuse_entry_param *entry, struct fuse_file_info *fi,
			 const struct open_reply *reply)
{
	if (err) {
		reply_status(req, err);
		return;
	}
	open_info(fi, reply);
	fuse_reply_create(req, entry, fi);
}

static void on_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct request *rq = request_current();
	struct open_reply reply;

	reply_open(req, fs_open(rq, node, request_arguments(rq), &reply), fi, &reply);
}

static void on_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct request *rq = request_current();
	struct fuse_entry_param entry;
	struct open_reply reply;

	(void)mode;
	reply_create(req, fs_create(rq, parent, name, request_arguments(rq), &entry, &reply), &entry, fi, &reply);
}

static void on_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi)
{
	struct request *rq = request_current();
	struct fuse_entry_param entry;
	struct open_reply reply;

	(void)mode;
	reply_create(req, fs_tmpfile(rq, parent, request_arguments(rq), &entry, &reply), &entry, fi, &reply);
}

static void on_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct request *rq = request_current();

	(void)node, (void)size, (void)offset, (void)fi;
	reply_data(req, fs_read(rq, request_arguments(rq)));
}

static void on_write(fuse_req_t req, fuse_ino_t node, const char *data, size_t size, off_t offset,
		     struct fuse_file_info *fi)
{
	struct request *rq = request_current();
	ssize_t written = fs_write(rq, request_arguments(rq), data);

	(void)node, (void)size, (void)offset, (void)fi;
	if (written < 0)
		reply_status(req, (int)written);
	else
		fuse_reply_write(req, (size_t)written);
}

static void on_flush(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	reply_status(req, fs_flush(request_current(), node, fi->fh, fi->lock_owner));
}

static void on_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	reply_status(req, fs_release(request_current(), node, fi->fh, fi->flock_release));
}

static void on_fsync(fuse_req_t req, fuse_ino_t node, int data_only, struct fuse_file_info *fi)
{
	reply_status(req, fs_fsync(request_current(), node, fi->fh, data_only));
}

static void on_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct open_reply reply;

	reply_open(req, fs_opendir(request_current(), node, &reply), fi, &reply);
}

static void on_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, struct fuse_file_info *fi)
{
	reply_data(req, fs_readdir(request_current(), node, fi->fh, size, offset, false));
}

static void on_readdirplus(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, struct fuse_file_info *fi)
{
	reply_data(req, fs_readdir(request_current(), node, fi->fh, size, offset, true));
}

static void on_setxattr(fuse_req_t req, fuse_ino_t node, const char *name, const char *value, size_t size, int flags)
{
	struct request *rq = request_current();
	const struct fuse_setxattr_in *in = request_arguments(rq);
	bool kill_sgid = in->setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID;

	reply_status(req, fs_setxattr(rq, node, name, value, size, flags, kill_sgid));
}

static void on_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
	reply_sized(req, fs_getxattr(request_current(), node, name, size), size);
}

static void on_listxattr(fuse_req_t req, fuse_ino_t node, size_t size)
{
	reply_sized(req, fs_listxattr(request_current(), node, size), size);
}

static void on_removexattr(fuse_req_t req, fuse_ino_t node, const char *name)
{
	reply_status(req, fs_removexattr(request_current(), node, name));
}

/* With default_permissions the kernel decides; it asks only where it does not. */
static void on_access(fuse_req_t req, fuse_ino_t node, int mask)
{
	(void)node, (void)mask;
	reply_status(req, 0);
}

static void on_getlk(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, struct flock *lock)
{
	int err = fs_getlk(request_current(), node, fi->fh, fi->lock_owner, lock);

	if (err)
		reply_status(req, err);
	else
		fuse_reply_lock(req, lock);
}

/* A lock that waits is answered later, and not through libfuse. */
static void reply_lock(fuse_req_t req, int err)
{
	if (err == -EINPROGRESS)
		fuse_reply_none(req);
	else
		reply_status(req, err);
}

static void on_setlk(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, struct flock *lock, int wait)
{
	reply_lock(req, fs_setlk(request_current(), node, fi->fh, fi->lock_owner, lock, wait));
}

static void on_flock(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, int operation)
{
	(void)node;
	reply_lock(req, fs_flock(request_current(), fi->fh, operation));
}

static void on_ioctl(fuse_req_t req, fuse_ino_t node, unsigned command, void *argument, struct fuse_file_info *fi,
		     unsigned flags, const void *in, size_t in_size, size_t out_size)
{
	struct request *rq = request_current();
	int err = fs_ioctl(rq, node, fi->fh, command, in, in_size, &out_size);

	(void)argument, (void)flags;
	if (err)
		reply_status(req, err);
	else
		fuse_reply_ioctl(req, 0, rq->out, out_size);
}

static void on_fallocate(fuse_req_t req, fuse_ino_t node, int mode, off_t offset, off_t length,
			 struct fuse_file_info *fi)
{
	(void)node;
	reply_status(req, fs_fallocate(request_current(), fi->fh, mode, offset, length));
}

static void on_copy_file_range(fuse_req_t req, fuse_ino_t node_in, off_t in, struct fuse_file_info *fi_in,
			       fuse_ino_t node_out, off_t out, struct fuse_file_info *fi_out, size_t length, int flags)
{
	ssize_t copied = fs_copy_file_range(request_current(), fi_in->fh, in, fi_out->fh, out, length, (unsigned)flags);

	(void)node_in, (void)node_out;
	if (copied < 0)
		reply_status(req, (int)copied);
	else
		fuse_reply_write(req, (size_t)copied);
}

static void on_lseek(fuse_req_t req, fuse_ino_t node, off_t offset, int whence, struct fuse_file_info *fi)
{
	off_t at = fs_lseek(request_current(), node, fi->fh, offset, whence);

	if (at < 0)
		reply_status(req, (int)at);
	else
		fuse_reply_lseek(req, at);
}

const struct fuse_lowlevel_ops adapter_ops = {
	.init = on_init,
	.lookup = on_lookup,
	.readlink = on_readlink,
	.mknod = on_mknod,
	.mkdir = on_mkdir,
	.symlink = on_symlink,
	.link = on_link,
	.unlink = on_unlink,
	.rmdir = on_rmdir,
	.rename = on_rename,
	.getattr = on_getattr,
	.setattr = on_setattr,
	.statfs = on_statfs,
	.open = on_open,
	.create = on_create,
	.tmpfile = on_tmpfile,
	.read = on_read,
	.write = on_write,
	.flush = on_flush,
	.release = on_release,
	.fsync = on_fsync,
	.opendir = on_opendir,
	.readdir = on_readdir,
	.readdirplus = on_readdirplus,
	.releasedir = on_release,
	.fsyncdir = on_fsync,
	.setxattr = on_setxattr,
	.getxattr = on_getxattr,
	.listxattr = on_listxattr,
	.removexattr = on_removexattr,
	.access = on_access,
	.getlk = on_getlk,
	.setlk = on_setlk,
	.flock = on_flock,
	.ioctl = on_ioctl,
	.fallocate = on_fallocate,
	.copy_file_range = on_copy_file_range,
	.lseek = on_lseek,
};

static void raw_statx(struct request *rq)
{
	struct fuse_statx_out out;
	int err = fs_statx(rq, request_arguments(rq), &out);

	request_reply(rq, err, &out, err ? 0 : sizeof(out));
}

/* Requests that libfuse 3.17 answers with ENOSYS, and those that we do. */
bool adapter_raw(struct request *rq)
{
	int err;

	fds_end_request(rq); /* the one before */
	if (noopen_answers(rq, &err)) {
		request_reply(rq, err, NULL, 0);
		return true;
	}
	switch (rq->in->opcode) {
	case FUSE_STATX:
		raw_statx(rq);
		return true;
	case FUSE_SYNCFS:
		request_reply(rq, fs_syncfs(rq, rq->in->nodeid), NULL, 0);
		return true;
	default:
		return false;
	}
}
