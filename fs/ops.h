/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The operations: each takes a request and its arguments, and fills a reply or returns -errno. None replies;
 * adapter.c, their only caller but for tests, does. `node` and `parent` are nodeids, `fh` is a handle's id.
 */
#ifndef FS_OPS_H
#define FS_OPS_H

#include <sys/stat.h>
#include <sys/statvfs.h>

#include "fs/fs.h"

/* Of open(2), kept with the handle: what it is opened again with after a hand-over. */
#define HANDLE_OPEN_FLAGS (O_ACCMODE | O_APPEND | O_DIRECT | O_SYNC | O_DSYNC | O_NOATIME)

struct open_reply {
	uint64_t fh;
	int32_t backing_id; /* > 0: kernel passthrough */
	bool direct_io;
	bool no_flush;
	bool keep;  /* what is cached of it stays; a listing is cached at all */
	bool cache; /* a listing is cached; who opens the directory next without asking knows whether it is true */
};

/* names.c */
int fs_lookup(struct request *rq, uint64_t parent, const char *name, struct fuse_entry_param *entry, bool *submount);
int fs_readlink(struct request *rq, uint64_t node, char *target, size_t size);
int fs_mknod(struct request *rq, uint64_t parent, const char *name, mode_t mode, dev_t rdev,
	     struct fuse_entry_param *entry);
int fs_mkdir(struct request *rq, uint64_t parent, const char *name, mode_t mode, struct fuse_entry_param *entry);
int fs_symlink(struct request *rq, const char *target, uint64_t parent, const char *name,
	       struct fuse_entry_param *entry);
int fs_unlink(struct request *rq, uint64_t parent, const char *name);
int fs_rmdir(struct request *rq, uint64_t parent, const char *name);
int fs_rename(struct request *rq, uint64_t parent, const char *name, uint64_t new_parent, const char *new_name,
	      unsigned flags);
int fs_link(struct request *rq, uint64_t node, uint64_t parent, const char *name, struct fuse_entry_param *entry);

/* attr.c */
int fs_getattr(struct request *rq, uint64_t node, const uint64_t *fh, struct stat *st);
int fs_setattr(struct request *rq, uint64_t node, const struct fuse_setattr_in *in, const uint64_t *fh,
	       struct stat *st);
/* 0, or -EPERM: the request to remove security.capability comes from a chown(2) that the source refuses. */
int attr_may_drop_capabilities(struct request *rq, uint64_t node, int fd);
int fs_statx(struct request *rq, const struct fuse_statx_in *in, struct fuse_statx_out *out);
int fs_statfs(struct request *rq, uint64_t node, struct statvfs *st);

/* file.c */
int fs_open(struct request *rq, uint64_t node, const struct fuse_open_in *in, struct open_reply *reply);
int fs_create(struct request *rq, uint64_t parent, const char *name, const struct fuse_create_in *in,
	      struct fuse_entry_param *entry, struct open_reply *reply);
int fs_tmpfile(struct request *rq, uint64_t parent, const struct fuse_create_in *in, struct fuse_entry_param *entry,
	       struct open_reply *reply);
/* Data read stands in rq->out; returns its length. */
ssize_t fs_read(struct request *rq, const struct fuse_read_in *in);
ssize_t fs_write(struct request *rq, const struct fuse_write_in *in, const char *data);
int fs_flush(struct request *rq, uint64_t node, uint64_t fh, uint64_t owner);
/* `unlock`: flock(2) was used on it. */
int fs_release(struct request *rq, uint64_t node, uint64_t fh, bool unlock);
int fs_fsync(struct request *rq, uint64_t node, uint64_t fh, bool data_only);
int fs_fallocate(struct request *rq, uint64_t fh, int mode, off_t offset, off_t length);
ssize_t fs_copy_file_range(struct request *rq, uint64_t fh_in, off_t in, uint64_t fh_out, off_t out, size_t length,
			   unsigned flags);
off_t fs_lseek(struct request *rq, uint64_t node, uint64_t fh, off_t offset, int whence);
int fs_syncfs(struct request *rq, uint64_t node);

/* dir.c: entries stand in rq->out; returns their length. */
int fs_opendir(struct request *rq, uint64_t node, struct open_reply *reply);
ssize_t fs_readdir(struct request *rq, uint64_t node, uint64_t fh, size_t size, off_t offset, bool plus);

/* xattr.c: values stand in rq->out; with size 0 only the length is returned. */
int fs_setxattr(struct request *rq, uint64_t node, const char *name, const char *value, size_t size, int flags,
		bool kill_sgid);
ssize_t fs_getxattr(struct request *rq, uint64_t node, const char *name, size_t size);
ssize_t fs_listxattr(struct request *rq, uint64_t node, size_t size);
int fs_removexattr(struct request *rq, uint64_t node, const char *name);

/* ioctl.c: `out_size` bytes at rq->out are the answer. */
int fs_ioctl(struct request *rq, uint64_t node, uint64_t fh, unsigned command, const void *in, size_t in_size,
	     size_t *out_size);

/* lock.c */
/*
 * How an owner's open file is opened, the first that is permitted: a write lock wants one that may write, a read lock one
 * that may read. O_APPEND: of a file that takes nothing else (chattr +a).
 */
#define LOCK_MODES 5
extern const int lock_modes[LOCK_MODES];
int fs_getlk(struct request *rq, uint64_t node, uint64_t fh, uint64_t owner, struct flock *lock);
/* -EINPROGRESS: the request waits and is answered later. */
int fs_setlk(struct request *rq, uint64_t node, uint64_t fh, uint64_t owner, const struct flock *lock, bool wait);
int fs_flock(struct request *rq, uint64_t fh, int operation);
void lock_interrupt(struct recover *recover, struct worker_slot *slot, uint64_t unique);
void lock_drop_owner(struct request *rq, uint64_t node, uint64_t owner);
void lock_drop_handle(struct request *rq, uint64_t node, uint64_t fh);
void lock_mark(struct fs *fs, void (*mark)(void *context, int fd), void *context);
void lock_start(struct fs *fs);
void lock_drop_node(struct fs *fs, uint32_t index);

/* passthrough.c */
/* May the server have backing ids at all? */
bool passthrough_is_permitted(struct fs *fs);
int32_t passthrough_attach(struct request *rq, uint32_t index, struct handle *handle);
void passthrough_drop(struct fs *fs, struct handle *handle);
void passthrough_hold(struct fs *fs, struct inode *inode);
/* The same of a file that was made without a name, and is open. */
void passthrough_hold_unnamed(struct fs *fs, uint32_t index);
void passthrough_drop_node(struct fs *fs, uint64_t nodeid, struct inode *inode);
void passthrough_recount(struct fs *fs);

/* noopen.c */
bool noopen_answers(const struct request *rq, int *err);
/*
 * The open file or directory `fh`; where none is opened it is `spare`, open as long as the request. NULL: spare->fd says
 * why, as -errno.
 */
struct handle *noopen_handle(struct request *rq, uint64_t node, uint64_t fh, uint32_t flags, struct handle *spare);

/* contain.c */
extern const struct contain_set fs_server_may, fs_watcher_may;

extern const struct fuse_lowlevel_ops adapter_ops;
bool adapter_raw(struct request *rq);

#endif
