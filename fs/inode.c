/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From names and nodeids to inodes of the source. An inode is told apart by device, number and birth time (or a
 * digest of its file handle where there is no birth time), so that a number that the source gives to
 * another file is another inode.
 */
#include "fs/inode.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fs/ops.h"
#include "recover/atomic.h"
#include "recover/fnv.h"

#define FS_CASEFOLD_FLAG 0x40000000

#ifndef STATX_MNT_ID
#define STATX_MNT_ID 0x1000u /* Linux 5.8 */
#endif
#define STAT_MASK (STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID)
#define STAT_MNT_ID_AT 0x90 /* linux/stat.h: stx_mnt_id, for which musl has no name */

struct fs_thread *fs_thread(const struct request *request)
{
	return &fs_of(request)->threads[request->slot - recover_state(request->recover)->slots];
}

char *proc_name(char name[PROC_NAME_BYTES], int fd)
{
	unsigned n = (unsigned)fd;
	char *at = name + PROC_NAME_BYTES - 1;

	*at = 0;
	do
		*--at = (char)('0' + n % 10);
	while (n /= 10);
	return at;
}

static struct timespec stat_time(const struct statx_timestamp *time)
{
	return (struct timespec){.tv_sec = time->tv_sec, .tv_nsec = time->tv_nsec};
}

void inode_stat(const struct fs *fs, const struct statx *stx, struct stat *st)
{
	memset(st, 0, sizeof(*st));
	st->st_dev = makedev(stx->stx_dev_major, stx->stx_dev_minor);
	st->st_mode = stx->stx_mode;
	st->st_nlink = stx->stx_nlink;
	st->st_uid = idmap_mount(&fs->ids.uids, stx->stx_uid);
	st->st_gid = idmap_mount(&fs->ids.gids, stx->stx_gid);
	st->st_rdev = makedev(stx->stx_rdev_major, stx->stx_rdev_minor);
	st->st_size = (off_t)stx->stx_size;
	st->st_blksize = (blksize_t)stx->stx_blksize;
	st->st_blocks = (blkcnt_t)stx->stx_blocks;
	st->st_atim = stat_time(&stx->stx_atime);
	st->st_mtim = stat_time(&stx->stx_mtime);
	st->st_ctim = stat_time(&stx->stx_ctime);
}

/* As libfuse fills it in: what is answered without libfuse must not be told from what it answers. */
struct fuse_attr inode_attr(const struct stat *st)
{
	return (struct fuse_attr){
		.ino = st->st_ino,
		.size = (uint64_t)st->st_size,
		.blocks = (uint64_t)st->st_blocks,
		.atime = (uint64_t)st->st_atim.tv_sec,
		.mtime = (uint64_t)st->st_mtim.tv_sec,
		.ctime = (uint64_t)st->st_ctim.tv_sec,
		.atimensec = (uint32_t)st->st_atim.tv_nsec,
		.mtimensec = (uint32_t)st->st_mtim.tv_nsec,
		.ctimensec = (uint32_t)st->st_ctim.tv_nsec,
		.mode = st->st_mode,
		.nlink = (uint32_t)st->st_nlink,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.rdev = (uint32_t)st->st_rdev,
		.blksize = (uint32_t)st->st_blksize,
	};
}

static double attr_ttl(const struct request *rq, const struct inode *inode, mode_t mode)
{
	if (S_ISREG(mode) && (mode & (S_ISUID | S_ISGID) || quiet_is(rq, inode)))
		return 0;
	return watch_sees(rq, inode) ? TTL_UNLIMITED : fs_of(rq)->ttl;
}

bool inode_listing_kept(const struct request *rq, const struct inode *inode)
{
	return fs_caches_always(fs_of(rq)) || watch_sees(rq, inode);
}

double inode_ttl(const struct request *rq, uint64_t nodeid, mode_t mode)
{
	uint32_t index;
	struct node *node = node_find(fs_of(rq)->nodes, nodeid, &index);

	return node ? attr_ttl(rq, inode_of(node), mode) : 0;
}

double inode_name_ttl(const struct request *rq)
{
	uint32_t index;
	struct node *node = node_find(fs_of(rq)->nodes, rq->in->nodeid, &index);

	return node && watch_sees_names(rq, inode_of(node)) ? TTL_UNLIMITED : fs_of(rq)->ttl;
}

static uint64_t handle_digest(const struct inode *inode)
{
	return fnv(FNV_BEGIN ^ (uint32_t)inode->handle_type, inode->handle, inode->handle_bytes);
}

/* 0 where the kernel does not tell. */
static uint64_t stat_mount_id(const struct statx *stx)
{
	uint64_t id = 0;

	if (stx->stx_mask & STATX_MNT_ID)
		memcpy(&id, (const uint8_t *)stx + STAT_MNT_ID_AT, sizeof(id));
	return id;
}

/* Without a birth time (birth 0) the key needs the file handle: see inode_learn(). */
static void inode_key(const struct statx *stx, struct node_key *key)
{
	key->device = makedev(stx->stx_dev_major, stx->stx_dev_minor);
	key->number = stx->stx_ino;
	key->birth = 0;
	if (stx->stx_mask & STATX_BTIME)
		key->birth = (uint64_t)stx->stx_btime.tv_sec * UINT64_C(1000000000) + stx->stx_btime.tv_nsec;
}

static void entry_fill(struct request *rq, const struct statx *stx, uint32_t index, struct fuse_entry_param *entry)
{
	struct node *node = &fs_of(rq)->nodes->state->nodes[index];

	memset(entry, 0, sizeof(*entry));
	entry->ino = node_id(index, node);
	entry->attr_timeout = attr_ttl(rq, inode_of(node), stx->stx_mode);
	entry->entry_timeout = inode_name_ttl(rq);
	inode_stat(fs_of(rq), stx, &entry->attr);
	entry->attr.st_ino = inode_number(inode_of(node)->mount, stx->stx_ino);
}

/* What a descriptor tells of its inode. */
struct learned {
	struct statx stx;
	struct node_key key;
	uint8_t data[NODE_DATA_BYTES] __attribute__((aligned(8))); /* struct inode */
};

static struct inode *inode_learned(struct learned *learned)
{
	_Static_assert(sizeof(struct inode) <= NODE_DATA_BYTES, "an inode does not fit its node");
	return (struct inode *)learned->data;
}

static int inode_learn(struct fs *fs, int fd, struct learned *learned)
{
	const struct statx *stx = &learned->stx;
	struct inode *inode = inode_learned(learned);
	int mount;

	memset(learned->data, 0, sizeof(learned->data));
	if (statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STAT_MASK, &learned->stx))
		return -errno;
	inode_key(stx, &learned->key);
	inode->fd = -1;
	inode->type = stx->stx_mode & S_IFMT;
	mount = mount_of(fs, learned->key.device, stat_mount_id(stx), fd, stx->stx_mode);
	if (mount < 0)
		return mount;
	inode->mount = (uint16_t)mount;
	mount_handle(fs, fd, inode); /* without a handle the descriptor is held */
	if (fs->area->mounts[mount].mount_id != stat_mount_id(stx))
		inode->flags = INODE_HELD;
	if (!learned->key.birth && inode->handle_bytes)
		learned->key.birth = handle_digest(inode);
	return 0;
}

/* After a hand-over: there is no way to it but by a name. */
static bool inode_is_lost(const struct inode *inode)
{
	return fds_get(inode) < 0 && (!inode->handle_bytes || load_relaxed(&inode->flags) & INODE_HELD);
}

/* A reference to an inode. `fd`: an O_PATH descriptor of it, which is taken over; -1: it is opened when it is needed. */
static int inode_grant(struct request *rq, const struct learned *learned, int fd, struct fuse_entry_param *entry)
{
	struct fs *fs = fs_of(rq);
	uint32_t index;
	bool made = false;
	int err = node_grant_new(fs->nodes, rq->record, &learned->key, learned->data, &index, &made);

	if (!err)
		made |= inode_is_lost(inode_of(&fs->nodes->state->nodes[index]));
	if (fd >= 0 && !made)
		close(fd);
	if (err)
		return err;
	entry_fill(rq, &learned->stx, index, entry);
	if (fd < 0 || !made)
		return 0;
	err = fds_put(rq, index, inode_of(&fs->nodes->state->nodes[index]), fd);
	if (err < 0) /* it cannot be reached: nobody gets it */
		node_revoke_last(fs->nodes, rq->slot, rq->record);
	return err < 0 ? err : 0;
}

/* openat(2) O_PATH; out of descriptors, some that can be had again are given up for it. */
static int open_path(struct fs *fs, int directory, const char *name)
{
	int fd = openat(directory, name, O_PATH | O_NOFOLLOW);

	if (fd < 0 && (errno == EMFILE || errno == ENFILE) && fds_shrink(fs))
		fd = openat(directory, name, O_PATH | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

static bool name_allowed(const char *name)
{
	return *name && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && !strchr(name, '/');
}

int inode_lookup_new(struct request *rq, int directory, const char *name, struct fuse_entry_param *entry)
{
	struct learned learned;
	int fd, err;

	if (!name_allowed(name))
		return -EINVAL;
	fd = open_path(fs_of(rq), directory, name);
	if (fd < 0)
		return fd;
	err = inode_learn(fs_of(rq), fd, &learned);
	if (err) {
		close(fd);
		return err;
	}
	return inode_grant(rq, &learned, fd, entry);
}

int inode_lookup(struct request *rq, int directory, const char *name, uint64_t device, struct fuse_entry_param *entry)
{
	struct fs *fs = fs_of(rq);
	struct node_key key;
	struct statx stx;
	uint32_t index;
	int err;

	if (!name_allowed(name))
		return -EINVAL;
	if (statx(directory, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STAT_MASK, &stx))
		return -errno;
	inode_key(&stx, &key);
	if (device && key.device != device)
		return -EXDEV;
	if (key.birth) {
		err = node_grant(fs->nodes, rq->record, &key, &index);
		if (!err && inode_is_lost(inode_of(&fs->nodes->state->nodes[index]))) {
			node_revoke_last(fs->nodes, rq->slot, rq->record);
			err = -ENOENT;
		}
		if (!err)
			entry_fill(rq, &stx, index, entry);
		if (err != -ENOENT)
			return err;
	}
	return inode_lookup_new(rq, directory, name, entry);
}

/* One that can be opened by its handle needs no descriptor yet. */
int inode_lookup_fd(struct request *rq, int fd, struct fuse_entry_param *entry)
{
	struct fs *fs = fs_of(rq);
	char name[PROC_NAME_BYTES];
	struct learned learned;
	const struct inode *inode = inode_learned(&learned);
	int path = -1, err = inode_learn(fs, fd, &learned);

	if (err)
		return err;
	if (!inode->handle_bytes || inode->flags & INODE_HELD || !learned.stx.stx_nlink) {
		path = openat(fs->proc_fd, proc_name(name, fd), O_PATH);
		if (path < 0)
			return -errno;
	}
	return inode_grant(rq, &learned, path, entry);
}

int inode_fd(struct request *rq, uint64_t nodeid)
{
	struct fs *fs = fs_of(rq);
	uint32_t index;
	struct node *node = node_find(fs->nodes, nodeid, &index);
	struct inode *inode;
	int fd;

	if (!node)
		return -ESTALE;
	inode = inode_of(node);
	fds_pin(rq, index);
	fd = fds_get(inode);
	if (fd >= 0) {
		if (!(load_relaxed(&inode->flags) & INODE_RECENT))
			inode_flags_add(inode, INODE_RECENT);
		return fd;
	}
	fd = mount_open(fs, inode, O_PATH | O_NOFOLLOW);
	if ((fd == -EMFILE || fd == -ENFILE) && fds_shrink(fs))
		fd = mount_open(fs, inode, O_PATH | O_NOFOLLOW);
	return fd < 0 ? fd : fds_put(rq, index, inode, fd);
}

/* By handle, which leaves no names in /proc behind for the end of the process to clear away; or by descriptor. */
static int inode_open(struct request *rq, uint64_t nodeid, int flags)
{
	struct fs *fs = fs_of(rq);
	char name[PROC_NAME_BYTES];
	uint32_t index;
	struct node *node = node_find(fs->nodes, nodeid, &index);
	int path, fd = -ESTALE;

	if (!node)
		return -ESTALE;
	if (!(load_relaxed(&inode_of(node)->flags) & INODE_HELD))
		fd = mount_open(fs, inode_of(node), flags);
	if (fd != -ESTALE && fd != -EPERM)
		return fd;
	path = inode_fd(rq, nodeid);
	if (path < 0)
		return path;
	fd = openat(fs->proc_fd, proc_name(name, path), flags & ~(O_NOFOLLOW | O_CLOEXEC));
	return fd < 0 ? -errno : fd;
}

int inode_reopen(struct request *rq, uint64_t nodeid, int flags)
{
	struct fs *fs = fs_of(rq);
	int fd = inode_open(rq, nodeid, flags);

	if ((fd == -EMFILE || fd == -ENFILE) && fds_shrink(fs))
		fd = inode_open(rq, nodeid, flags);
	return fd;
}

/* Asked of the file system once, and of each directory in which something was missing. */
bool inode_names_exact(struct request *rq, uint64_t nodeid)
{
	struct fs *fs = fs_of(rq);
	uint32_t index;
	struct node *node = node_find(fs->nodes, nodeid, &index);
	struct inode *inode = node ? inode_of(node) : NULL;
	int fd, flags = 0;
	bool exact;

	if (!inode || load_relaxed(&inode->flags) & (INODE_EXACT | INODE_FOLDS))
		return inode && load_relaxed(&inode->flags) & INODE_EXACT;
	if (!(fs->area->mounts[inode->mount].traits & MOUNT_EXACT))
		return false;
	fd = inode_reopen(rq, nodeid, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return false;
	exact = ioctl(fd, (int)FS_GETFLAGS, &flags) != 0 || !(flags & FS_CASEFOLD_FLAG);
	close(fd);
	inode_flags_add(inode, exact ? INODE_EXACT : INODE_FOLDS);
	return exact;
}

struct hold {
	struct request *rq;
	struct fs *fs;
};

/* Under the stripe lock: the node cannot be freed meanwhile. */
static void hold_visit(void *context, uint32_t index, struct node *node)
{
	struct hold *hold = context;
	struct inode *inode = inode_of(node);
	int fd;

	fds_pin(hold->rq, index);
	if (fds_get(inode) < 0) {
		fd = mount_open(hold->fs, inode, O_PATH | O_NOFOLLOW);
		if (fd < 0 || fds_put(hold->rq, index, inode, fd) < 0)
			return;
	}
	inode_flags_add(inode, INODE_HELD);
	passthrough_hold(hold->fs, inode);
}

void inode_hold(struct request *rq, int directory, const char *name)
{
	struct hold hold = {.rq = rq, .fs = fs_of(rq)};
	struct node_key key;
	struct statx stx;

	if (statx(directory, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STAT_MASK, &stx))
		return;
	inode_key(&stx, &key);
	if (key.birth && (stx.stx_nlink == 1 || S_ISDIR(stx.stx_mode)))
		node_visit(hold.fs->nodes, &key, hold_visit, &hold);
}

int inode_make_root(struct fs *fs, int source_fd)
{
	struct learned learned;
	struct inode *inode = inode_learned(&learned);
	int err = inode_learn(fs, source_fd, &learned);

	if (err)
		return err;
	inode->fd = source_fd;
	inode->fd_slot = 0;
	inode->flags = INODE_HELD;
	fs->area->fd_slots[0] = NODE_ROOT;
	fs->area->fd_slots_high = 1;
	return nodes_make_root(fs->nodes, &learned.key, learned.data);
}

bool inode_is_root(struct fs *fs, int fd)
{
	const struct node_key *root = &fs->nodes->state->nodes[NODE_ROOT].key;
	struct node_key key;
	struct statx stx;

	if (statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STAT_MASK, &stx))
		return false;
	inode_key(&stx, &key);
	return key.device == root->device && key.number == root->number && (!key.birth || key.birth == root->birth);
}

int inode_meet(struct fs *fs, int fd)
{
	struct learned learned;

	return inode_learn(fs, fd, &learned);
}
