/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is in files. Blocks that an inode has already are written to plainly: a write that a death interrupted is made
 * again with the same bytes. Bytes behind the end mean nothing; they become zero when the end moves beyond them.
 */
#include <errno.h>
#include <linux/falloc.h>
#include <string.h>

#include "test/memfs/memfs.h"

static uint64_t min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* A block of zeros that no inode has; 0: none is left. */
static uint32_t block_make(struct memfs *fs)
{
	for (uint32_t tried = 1; tried < BLOCKS; tried++) {
		uint32_t block = fs->block_next = fs->block_next % (BLOCKS - 1) + 1;

		if (!fs->block_used[block]) {
			fs->block_used[block] = true;
			fs->blocks_used++;
			memset(fs->area->blocks[block], 0, BLOCK_BYTES);
			return block;
		}
	}
	return 0;
}

static void block_free(struct memfs *fs, uint32_t block)
{
	fs->blocks_used -= fs->block_used[block];
	fs->block_used[block] = false;
}

/* Blocks for the holes in bytes [from, to). 0 or -ENOSPC. */
static int blocks_fill(struct memfs *fs, struct inode *inode, uint64_t from, uint64_t to)
{
	uint32_t first = (uint32_t)(from / BLOCK_BYTES), n = (uint32_t)((to + BLOCK_BYTES - 1) / BLOCK_BYTES) - first;
	uint32_t blocks[FILE_BLOCKS];
	int err = 0;

	memcpy(blocks, inode->blocks + first, n * sizeof(*blocks));
	for (uint32_t i = 0; i < n && !err; i++)
		if (!blocks[i]) {
			blocks[i] = block_make(fs);
			err = blocks[i] ? 0 : -ENOSPC;
		}
	for (uint32_t i = 0; i < n && err; i++)
		if (blocks[i] && !inode->blocks[first + i])
			block_free(fs, blocks[i]);
	if (!err && memcmp(blocks, inode->blocks + first, n * sizeof(*blocks)) != 0)
		change(fs, inode->blocks + first, blocks, n * sizeof(*blocks));
	return err;
}

/* The end moves up. Blocks behind the one it is in are holes or new. */
static void grow(struct memfs *fs, struct inode *inode, uint64_t size)
{
	uint32_t last = inode->size < FILE_BYTES_MAX ? inode->blocks[inode->size / BLOCK_BYTES] : 0;
	uint64_t within = inode->size % BLOCK_BYTES;

	if (last)
		memset(fs->area->blocks[last] + within, 0, BLOCK_BYTES - within);
	SET(fs, inode->size, size);
}

static void shrink(struct memfs *fs, struct inode *inode, uint64_t size)
{
	static const uint32_t none[FILE_BLOCKS];
	uint32_t keep = (uint32_t)((size + BLOCK_BYTES - 1) / BLOCK_BYTES);

	for (uint32_t i = keep; i < FILE_BLOCKS; i++) /* nobody takes them while we have the lock */
		if (inode->blocks[i])
			block_free(fs, inode->blocks[i]);
	change(fs, inode->blocks + keep, none, (FILE_BLOCKS - keep) * sizeof(*none));
	SET(fs, inode->size, size);
}

int64_t data_resize(struct memfs *fs, uint32_t ino, uint64_t size)
{
	struct inode *inode = &fs->area->inodes[ino];

	if (size > FILE_BYTES_MAX)
		return -EFBIG;
	if (size > inode->size)
		grow(fs, inode, size);
	else
		shrink(fs, inode, size);
	return 0;
}

/* open(2) with O_TRUNC. */
int64_t data_truncate(struct memfs *fs, struct arguments *arguments)
{
	inode_touch(fs, arguments->ino, true);
	return data_resize(fs, arguments->ino, 0);
}

int64_t data_read(struct memfs *fs, struct arguments *arguments)
{
	const struct inode *inode = &fs->area->inodes[arguments->ino];
	uint64_t end = min(inode->size, arguments->offset + arguments->size);
	uint8_t *out = arguments->out;
	uint64_t part;

	for (uint64_t at = arguments->offset; at < end; at += part, out += part) {
		uint32_t block = inode->blocks[at / BLOCK_BYTES];

		part = min(end - at, BLOCK_BYTES - at % BLOCK_BYTES);
		if (block)
			memcpy(out, fs->area->blocks[block] + at % BLOCK_BYTES, part);
		else
			memset(out, 0, part);
	}
	return out - (uint8_t *)arguments->out;
}

int64_t data_write(struct memfs *fs, struct arguments *arguments)
{
	struct inode *inode = &fs->area->inodes[arguments->ino];
	uint64_t end = arguments->offset + arguments->size, part;
	const uint8_t *from = arguments->data;
	int err;

	if (arguments->offset > FILE_BYTES_MAX || end > FILE_BYTES_MAX)
		return -EFBIG;
	err = blocks_fill(fs, inode, arguments->offset, end);
	if (err)
		return err;
	if (end > inode->size)
		grow(fs, inode, end);
	for (uint64_t at = arguments->offset; at < end; at += part, from += part) {
		part = min(end - at, BLOCK_BYTES - at % BLOCK_BYTES);
		memcpy(fs->area->blocks[inode->blocks[at / BLOCK_BYTES]] + at % BLOCK_BYTES, from, part);
	}
	inode_touch(fs, arguments->ino, true);
	return (int64_t)arguments->size;
}

int64_t data_fallocate(struct memfs *fs, struct arguments *arguments)
{
	struct inode *inode = &fs->area->inodes[arguments->ino];
	uint64_t end = arguments->offset + arguments->size;
	int err;

	if (arguments->flags)
		return -EOPNOTSUPP;
	if (arguments->offset > FILE_BYTES_MAX || end > FILE_BYTES_MAX)
		return -EFBIG;
	err = blocks_fill(fs, inode, arguments->offset, end);
	if (!err && end > inode->size)
		grow(fs, inode, end);
	inode_touch(fs, arguments->ino, true);
	return err;
}
