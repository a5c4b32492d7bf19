/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Inodes of the source: from a name or a nodeid to a descriptor. No path is ever put together: a name is
 * resolved in its directory's descriptor, an inode is opened again by its file handle.
 */
#ifndef FS_INODE_H
#define FS_INODE_H

#include <fcntl.h>
#include <sys/stat.h>

#include "fs/fs.h"

/* linux/fs.h, which cannot be included beside musl's headers; with <sys/ioctl.h>. struct fsxattr has 28 bytes */
#define FS_GETFLAGS _IOR('f', 1, long)
#define FS_SETFLAGS _IOW('f', 2, long)
#define FS_GETVERSION _IOR('v', 1, long)
#define FS_SETVERSION _IOW('v', 2, long)
#define FSXATTR_BYTES 28
#define FS_FSGETXATTR _IOC(_IOC_READ, 'X', 31, FSXATTR_BYTES)
#define FS_FSSETXATTR _IOC(_IOC_WRITE, 'X', 32, FSXATTR_BYTES)

static inline struct inode *inode_of(struct node *node)
{
	return (struct inode *)node->data;
}

/* INODE_*: any thread may set one at any time. */
static inline void inode_flags_add(struct inode *inode, uint8_t flags)
{
	__atomic_fetch_or(&inode->flags, flags, __ATOMIC_RELAXED);
}

/*
 * An O_PATH descriptor of the inode, which stays open until the request ends. -ESTALE: no such inode (any more),
 * -ENFILE and others from opening it.
 */
int inode_fd(struct request *rq, uint64_t nodeid);

/* The descriptor opened anew with `flags` of open(2), O_PATH not among them. The caller closes it. */
int inode_reopen(struct request *rq, uint64_t nodeid, int flags);

/*
 * What stands under `name` in the directory, with one more reference of the kernel in the request's record.
 * -EXDEV if it is on another device than `device`; 0 takes any.
 */
int inode_lookup(struct request *rq, int directory, const char *name, uint64_t device, struct fuse_entry_param *entry);

/* The same for what is hardly known yet, having been made just now: one system call less then. */
int inode_lookup_new(struct request *rq, int directory, const char *name, struct fuse_entry_param *entry);

/* The same for an open file. `fd` stays the caller's. */
int inode_lookup_fd(struct request *rq, int fd, struct fuse_entry_param *entry);

/* `name` may be about to lose its last link: keeps the inode reachable for those who have it open. */
void inode_hold(struct request *rq, int directory, const char *name);

/*
 * A name that is missing in the directory stays missing until this name is made, and not another that is found by it:
 * then the kernel may remember that.
 */
bool inode_names_exact(struct request *rq, uint64_t nodeid);

int inode_make_root(struct fs *fs, int source_fd);

/* Is this the directory that the root is? */
bool inode_is_root(struct fs *fs, int fd);

/* Makes the file system of the descriptor known (mounts.c). 0 or -errno. */
int inode_meet(struct fs *fs, int fd);

/*
 * The number by which programs know an inode. The kernel gives the whole mount one st_dev, and file systems below SOURCE
 * have numbers of their own, which programs would take for the same directory or hard link: there the index of the file
 * system is in the upper bits, which hardly any file system uses.
 */
static inline uint64_t inode_number(unsigned mount, uint64_t number)
{
	return number ^ (uint64_t)mount << 55;
}

/* struct linux_dirent64, getdents64(2) */
struct entry64 {
	uint64_t ino;
	int64_t off;
	uint16_t reclen;
	uint8_t type;
	char name[];
};

/* stat(2) from statx(2), but for st_ino; owners as the mount has them. */
void inode_stat(const struct fs *fs, const struct statx *stx, struct stat *st);
/* The same as the protocol has it. */
struct fuse_attr inode_attr(const struct stat *st);

/*
 * How long the kernel may keep attributes of the node, in seconds. A file with set-id bits loses them when it is written or
 * truncated by whom OPEN or WRITE name, and their replies carry no mode: what the kernel keeps would be old.
 */
double inode_ttl(const struct request *rq, uint64_t nodeid, mode_t mode);

/* What the kernel has cached of the listing of a directory is good at the next opendir(3): it is told of each change. */
bool inode_listing_kept(const struct request *rq, const struct inode *inode);

/* How long it may keep names in the directory that the request is about, also for one that does not exist. */
double inode_name_ttl(const struct request *rq);

/* "N" for openat(2) and others with the thread's working directory /proc/self/fd: the inode, not the link. */
#define PROC_NAME_BYTES 12
char *proc_name(char name[PROC_NAME_BYTES], int fd);

/* fds.c: the cache of descriptors. */
void fds_init(struct fs *fs);
/* Gives the inode its descriptor; returns the one to use (another thread's may have come first), pinned. */
int fds_put(struct request *rq, uint32_t index, struct inode *inode, int fd);
/* Closes some descriptors that can be opened again; false if there is none. */
bool fds_shrink(struct fs *fs);
void fds_pin(struct request *rq, uint32_t index);
/* The descriptor of an inode that was pinned before, -1: none now. */
static inline int fds_get(const struct inode *inode)
{
	return __atomic_load_n(&inode->fd, __ATOMIC_SEQ_CST);
}
void fds_end_request(struct request *rq);
void fds_close_later(struct request *rq, int fd);
void fds_drop(struct fs *fs, struct inode *inode);
void fds_mark(struct fs *fs, void (*mark)(void *context, int fd), void *context);

/* passthrough.c: nobody has a file of the inode open, and nobody is to open one by its backing id. Under the stripe lock. */
void passthrough_close_unused(struct fs *fs, struct inode *inode);

/* mounts.c: file systems at and below SOURCE, by st_dev. Returns an index; -ENFILE. */
int mount_of(struct fs *fs, uint64_t device, uint64_t mount_id, int fd, mode_t mode);
/* The file handle of an O_PATH descriptor into inode->handle; -EOPNOTSUPP where there is none. */
int mount_handle(struct fs *fs, int fd, struct inode *inode);
/* O_PATH or open by handle. */
int mount_open(struct fs *fs, const struct inode *inode, int flags);
/* The same as a step of the request: request_call(). -ESTALE where the inode's descriptor is the only way. */
long mount_open_step(struct request *rq, const struct inode *inode, int flags);
/* watch.c: fanotify(7) on the source. */
/* In the monitor, if it is wanted; what fails is said. */
void watch_open(struct fs *fs);
void watch_close(struct fs *fs);
/* For a hand-over: the group and the pipe, and with them what was not read yet. How many descriptors. */
unsigned watch_keep(struct fs *fs, int *fds);
/* After it: takes these out of `kept`; where they are not there a new group, and all that the kernel knows is dropped. */
void watch_adopt(struct fs *fs, int *kept, unsigned n);
/* The changes of a file system that was met: told from here on, where that can be done. Under mounts_lock. */
void watch_mount(struct fs *fs, struct fs_mount *mount);
struct statfs;
/* Do others change the file system without this machine's knowledge? */
bool watch_is_shared(const struct statfs *st);
/* Will the kernel be told of each change of the inode, of each of its names, since before the request was read? */
bool watch_sees(const struct request *rq, const struct inode *inode);
bool watch_sees_names(const struct request *rq, const struct inode *inode);
/* The node's attributes change from now on without anybody being told. */
void watch_ask(struct fs *fs, uint64_t nodeid);
uint32_t watch_alias(const struct node *node);
void watch_run(struct recover *recover);
void watch_mark(struct fs *fs, void (*mark)(void *context, int fd), void *context);

/* quiet.c: files that are written all the time, of which there is no event for each write. In the server. */
void quiet_start(struct fs *fs);
/* Are writes to it ignored, or were they since the request was read? Then its attributes are not to be kept. */
bool quiet_is(const struct request *rq, const struct inode *inode);

void mounts_mark(struct fs *fs, void (*mark)(void *context, int fd), void *context);

#endif
