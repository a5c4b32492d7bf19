/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A small file system in memory: what its files share. It is the example of a FUSE file system on recover/, and a test
 * of it: that header is all that it includes. What makes it survive is in survive.c, the rest is as it would be anyhow.
 *
 * Numbers stand for pointers, 0 for none; fields are changed by SET() (survive.h) where something leads to them.
 */
#ifndef MEMFS_MEMFS_H
#define MEMFS_MEMFS_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "recover/recover.h"
#include "test/memfs/survive.h"

#define INODES 2048
#define ENTRIES 4096
#define XATTRS 512
#define BLOCKS 6144
#define BLOCK_BYTES 4096
#define FILE_BLOCKS 512
#define FILE_BYTES_MAX ((uint64_t)FILE_BLOCKS * BLOCK_BYTES)
#define NAME_BYTES_MAX 255
#define VALUE_BYTES_MAX 1024

struct inode {
	uint32_t mode; /* 0: free */
	uint32_t generation;
	uint32_t nlink, uid, gid;
	uint32_t parent; /* of a directory */
	uint64_t rdev, size;
	int64_t atime, mtime, ctime;  /* nanoseconds */
	uint32_t blocks[FILE_BLOCKS]; /* 0: a hole; bytes beyond size mean nothing */
};

/* A name. Its number is where a listing goes on. */
struct entry {
	uint32_t directory; /* 0: free */
	uint32_t ino;
	char name[NAME_BYTES_MAX + 1];
};

struct xattr {
	uint64_t owner; /* inode_id(); free as well when there is none of it any more */
	uint64_t size;
	char name[NAME_BYTES_MAX + 1];
	uint8_t value[VALUE_BYTES_MAX];
};

/* The area in the state: all that outlives a server. */
struct area {
	struct undo undo;
	struct inode inodes[INODES];
	struct entry entries[ENTRIES];
	struct xattr xattrs[XATTRS];
	uint8_t blocks[BLOCKS][BLOCK_BYTES];
};

struct memfs {
	struct area *area;
	struct recover *recover;
	unsigned dies; /* for tests: at one of that many places where it matters; 0: not of itself */
	/* of this server */
	pthread_mutex_t lock;	 /* guards the area and what follows */
	uint32_t entries_high;	 /* those behind it are free */
	bool block_used[BLOCKS]; /* an inode has it */
	uint32_t blocks_used, block_next;
};

/* What a node of recover/ keeps of ours. */
struct node_data {
	uint32_t ino;
	uint8_t unused[NODE_DATA_BYTES - sizeof(uint32_t)];
};

/* Of a request, as far as its operation needs them. */
struct arguments {
	uint32_t ino, other; /* for names: the directories */
	const char *name, *new_name;
	uint32_t mode, uid, gid, flags;
	uint64_t rdev;
	const void *data;
	void *out;
	uint64_t size, offset;
	struct stat *attr;
};

static inline uint64_t inode_id(const struct memfs *fs, uint32_t ino)
{
	return ino | (uint64_t)fs->area->inodes[ino].generation << 32;
}

/* inode.c */
uint32_t inode_make_root(struct memfs *fs);
/* A new one, without a name yet: nothing of it is kept unless the operation succeeds. -ENOSPC. */
int64_t inode_make(struct memfs *fs, const struct arguments *arguments);
void inode_key(const struct memfs *fs, uint32_t ino, struct node_key *key);
void inode_forgotten(struct memfs *fs, uint32_t ino, const struct node_key *key);
void inode_touch(struct memfs *fs, uint32_t ino, bool content);
void tables_derive(struct memfs *fs);
operation inode_getattr, inode_setattr, inode_statfs, xattr_set, xattr_get, xattr_list, xattr_remove;

/* name.c: `name` in the directory `ino`, `new_name` in `other`. Those that find or make something return its ino. */
operation name_lookup, name_make, name_create, name_link, name_unlink, name_rmdir, name_rename, name_list;

/* data.c */
int64_t data_resize(struct memfs *fs, uint32_t ino, uint64_t size);
operation data_read, data_write, data_truncate, data_fallocate;

/* main.c */
void die_sometimes(const struct memfs *fs);
extern const struct fuse_lowlevel_ops memfs_operations;

#endif
