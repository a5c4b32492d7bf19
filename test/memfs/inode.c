/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Inodes, their attributes and extended attributes.
 */
#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <time.h>

#include "test/memfs/memfs.h"

#define NS INT64_C(1000000000)

static int64_t time_ns(const struct timespec *time)
{
	return time->tv_sec * NS + time->tv_nsec;
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return time_ns(&now);
}

static struct timespec ns_time(int64_t ns)
{
	int64_t rest = (ns % NS + NS) % NS;

	return (struct timespec){.tv_sec = (ns - rest) / NS, .tv_nsec = rest};
}

uint32_t inode_make_root(struct memfs *fs)
{
	struct inode *root = &fs->area->inodes[NODE_ROOT];

	root->nlink = 2;
	root->parent = NODE_ROOT;
	root->atime = root->mtime = root->ctime = now_ns();
	root->mode = S_IFDIR | 0755;
	return NODE_ROOT;
}

int64_t inode_make(struct memfs *fs, const struct arguments *arguments)
{
	const struct inode *directory = &fs->area->inodes[arguments->ino];
	bool inherits = directory->mode & S_ISGID;
	uint32_t ino = 1;
	struct inode *inode;

	while (ino < INODES && fs->area->inodes[ino].mode)
		ino++;
	if (ino == INODES)
		return -ENOSPC;
	inode = &fs->area->inodes[ino]; /* free: stored to plainly, up to mode */
	*inode = (struct inode){.generation = inode->generation + 1,
				.nlink = S_ISDIR(arguments->mode) ? 2 : 1,
				.uid = arguments->uid,
				.gid = inherits ? directory->gid : arguments->gid,
				.parent = arguments->ino,
				.rdev = arguments->rdev};
	inode->atime = inode->mtime = inode->ctime = now_ns();
	SET(fs, inode->mode, arguments->mode | (inherits && S_ISDIR(arguments->mode) ? S_ISGID : 0));
	return ino;
}

void inode_key(const struct memfs *fs, uint32_t ino, struct node_key *key)
{
	*key = (struct node_key){.number = ino, .birth = fs->area->inodes[ino].generation};
}

/* The kernel knows it no more: without a name it goes. */
void inode_forgotten(struct memfs *fs, uint32_t ino, const struct node_key *key)
{
	struct inode *inode = &fs->area->inodes[ino];

	if (!inode->mode || inode->generation != key->birth || inode->nlink)
		return;
	store_release(&inode->mode, 0);
	for (uint32_t i = 0; i < FILE_BLOCKS; i++)
		if (inode->blocks[i]) {
			fs->block_used[inode->blocks[i]] = false;
			fs->blocks_used--;
		}
}

/* Times of a change; `content`: of what it holds, too. */
void inode_touch(struct memfs *fs, uint32_t ino, bool content)
{
	struct inode *inode = &fs->area->inodes[ino];
	int64_t now = now_ns();

	if (content)
		SET(fs, inode->mtime, now);
	SET(fs, inode->ctime, now);
}

/* What a server knows for itself, from the area. */
void tables_derive(struct memfs *fs)
{
	memset(fs->block_used, 0, sizeof(fs->block_used));
	fs->blocks_used = 0;
	for (uint32_t ino = 1; ino < INODES; ino++) {
		const struct inode *inode = &fs->area->inodes[ino];

		for (uint32_t i = 0; inode->mode && i < FILE_BLOCKS; i++)
			if (inode->blocks[i]) {
				fs->block_used[inode->blocks[i]] = true;
				fs->blocks_used++;
			}
	}
	for (uint32_t i = 1; i < ENTRIES; i++)
		if (fs->area->entries[i].directory)
			fs->entries_high = i;
}

int64_t inode_getattr(struct memfs *fs, struct arguments *arguments)
{
	const struct inode *inode = &fs->area->inodes[arguments->ino];
	uint64_t blocks = 0;

	for (uint32_t i = 0; i < FILE_BLOCKS; i++)
		blocks += inode->blocks[i] != 0;
	*arguments->attr = (struct stat){.st_ino = arguments->ino,
					 .st_mode = inode->mode,
					 .st_nlink = inode->nlink,
					 .st_uid = inode->uid,
					 .st_gid = inode->gid,
					 .st_rdev = inode->rdev,
					 .st_size = (off_t)inode->size,
					 .st_blksize = BLOCK_BYTES,
					 .st_blocks = (blkcnt_t)(blocks * (BLOCK_BYTES / 512)),
					 .st_atim = ns_time(inode->atime),
					 .st_mtim = ns_time(inode->mtime),
					 .st_ctim = ns_time(inode->ctime)};
	return inode->mode ? 0 : -ESTALE;
}

int64_t inode_setattr(struct memfs *fs, struct arguments *arguments)
{
	struct inode *inode = &fs->area->inodes[arguments->ino];
	const struct stat *attr = arguments->attr;
	uint32_t set = arguments->flags;
	int64_t now = now_ns(), err;

	if (set & FUSE_SET_ATTR_SIZE) {
		err = data_resize(fs, arguments->ino, (uint64_t)attr->st_size);
		if (err)
			return err;
		SET(fs, inode->mtime, now);
	}
	if (set & FUSE_SET_ATTR_MODE)
		SET(fs, inode->mode, (inode->mode & S_IFMT) | (attr->st_mode & 07777));
	if (set & FUSE_SET_ATTR_UID)
		SET(fs, inode->uid, attr->st_uid);
	if (set & FUSE_SET_ATTR_GID)
		SET(fs, inode->gid, attr->st_gid);
	if (set & FUSE_SET_ATTR_ATIME)
		SET(fs, inode->atime, set & FUSE_SET_ATTR_ATIME_NOW ? now : time_ns(&attr->st_atim));
	if (set & FUSE_SET_ATTR_MTIME)
		SET(fs, inode->mtime, set & FUSE_SET_ATTR_MTIME_NOW ? now : time_ns(&attr->st_mtim));
	SET(fs, inode->ctime, now);
	return 0;
}

int64_t inode_statfs(struct memfs *fs, struct arguments *arguments)
{
	struct statvfs *st = arguments->out;
	uint32_t used = 1;

	for (uint32_t ino = 1; ino < INODES; ino++)
		used += fs->area->inodes[ino].mode != 0;
	*st = (struct statvfs){.f_bsize = BLOCK_BYTES,
			       .f_frsize = BLOCK_BYTES,
			       .f_blocks = BLOCKS - 1,
			       .f_bfree = BLOCKS - 1 - fs->blocks_used,
			       .f_bavail = BLOCKS - 1 - fs->blocks_used,
			       .f_files = INODES,
			       .f_ffree = INODES - used,
			       .f_favail = INODES - used,
			       .f_namemax = NAME_BYTES_MAX};
	return 0;
}

/* --- extended attributes --- */

static struct xattr *xattr_find(struct memfs *fs, const struct arguments *arguments)
{
	uint64_t owner = inode_id(fs, arguments->ino);

	for (uint32_t i = 0; i < XATTRS; i++)
		if (fs->area->xattrs[i].owner == owner && strcmp(fs->area->xattrs[i].name, arguments->name) == 0)
			return &fs->area->xattrs[i];
	return NULL;
}

static struct xattr *xattr_free(struct memfs *fs)
{
	for (uint32_t i = 0; i < XATTRS; i++) {
		struct xattr *xattr = &fs->area->xattrs[i];
		uint32_t ino = (uint32_t)xattr->owner;

		if (!xattr->owner || !fs->area->inodes[ino].mode || inode_id(fs, ino) != xattr->owner)
			return xattr;
	}
	return NULL;
}

/* A new value stands in a new place, and takes over from the old one. */
int64_t xattr_set(struct memfs *fs, struct arguments *arguments)
{
	struct xattr *old = xattr_find(fs, arguments), *new = xattr_free(fs);

	if (strncmp(arguments->name, "system.", 7) == 0)
		return -EOPNOTSUPP; /* access control lists would have to be obeyed */
	if (old && arguments->flags & XATTR_CREATE)
		return -EEXIST;
	if (!old && arguments->flags & XATTR_REPLACE)
		return -ENODATA;
	if (!new || arguments->size > VALUE_BYTES_MAX)
		return -ENOSPC;
	strncpy(new->name, arguments->name, NAME_BYTES_MAX);
	memcpy(new->value, arguments->data, arguments->size);
	new->size = arguments->size;
	SET(fs, new->owner, inode_id(fs, arguments->ino));
	if (old)
		SET(fs, old->owner, 0);
	inode_touch(fs, arguments->ino, false);
	return 0;
}

int64_t xattr_get(struct memfs *fs, struct arguments *arguments)
{
	const struct xattr *xattr = xattr_find(fs, arguments);

	if (!xattr)
		return -ENODATA;
	if (arguments->size && arguments->size < xattr->size)
		return -ERANGE;
	memcpy(arguments->out, xattr->value, xattr->size);
	return (int64_t)xattr->size;
}

int64_t xattr_list(struct memfs *fs, struct arguments *arguments)
{
	uint64_t owner = inode_id(fs, arguments->ino);
	char *out = arguments->out;
	size_t used = 0;

	for (uint32_t i = 0; i < XATTRS; i++) {
		const struct xattr *xattr = &fs->area->xattrs[i];
		size_t bytes = strlen(xattr->name) + 1;

		if (xattr->owner != owner)
			continue;
		if (arguments->size && used + bytes > arguments->size)
			return -ERANGE;
		if (arguments->size)
			memcpy(out + used, xattr->name, bytes);
		used += bytes;
	}
	return (int64_t)used;
}

int64_t xattr_remove(struct memfs *fs, struct arguments *arguments)
{
	struct xattr *xattr = xattr_find(fs, arguments);

	if (!xattr)
		return -ENODATA;
	SET(fs, xattr->owner, 0);
	inode_touch(fs, arguments->ino, false);
	return 0;
}
