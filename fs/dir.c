/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Directories that are being read. The cookies are the source's own, so a listing goes on after a death, a seek or a
 * change as it would there.
 */
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fs/answer.h"
#include "fs/inode.h"
#include "fs/ops.h"
#include "recover/atomic.h"

#define POSITION_UNKNOWN UINT64_MAX
#define POSITION_READING (UINT64_MAX - 1) /* a server died in getdents64(2) */
#define ELSEWHERE 2

struct listing {
	struct request *rq;
	struct handle *handle;
	size_t size, used;
	bool plus;
	bool grants; /* entries may still hand out references */
	uint64_t device;
	unsigned mount;
	struct answer_look look;
};

int fs_opendir(struct request *rq, uint64_t node, struct open_reply *reply)
{
	struct fs *fs = fs_of(rq);
	int fd = inode_reopen(rq, node, O_RDONLY | O_DIRECTORY);
	int err;

	if (fd < 0)
		return fd;
	memset(reply, 0, sizeof(*reply));
	reply->keep = inode_listing_kept(rq, inode_of(&fs->nodes->state->nodes[(uint32_t)node]));
	reply->cache = fs->area->answer.on;
	err = handle_open(fs->handles, rq->record, fd, (uint32_t)node, O_DIRECTORY, &reply->fh);
	if (err)
		close(fd);
	return err;
}

/* The inode for a READDIRPLUS entry, or none (nodeid 0): the kernel then looks the name up when it needs it. */
static void plus_lookup(struct listing *listing, const struct entry64 *from, struct fuse_entry_param *entry)
{
	int err = -ENOSPC;

	if (listing->grants && strcmp(from->name, ".") != 0 && strcmp(from->name, "..") != 0)
		err = inode_lookup(listing->rq, listing->handle->fd, from->name, listing->device, entry);
	if (!err)
		answer_store(listing->rq, &listing->look, listing->rq->in->nodeid, from->name, entry);
	if (err == -ENOSPC && strcmp(from->name, ".") != 0 && strcmp(from->name, "..") != 0)
		listing->grants = false;
	if (!err)
		return;
	memset(entry, 0, sizeof(*entry));
	entry->attr.st_ino = inode_number(listing->mount, from->ino);
	entry->attr.st_mode = (mode_t)from->type << 12;
}

/* False: it does not fit. */
static bool listing_add(struct listing *listing, const struct entry64 *from)
{
	char *to = (char *)listing->rq->out + listing->used;
	size_t room = listing->size - listing->used;
	struct fuse_entry_param entry;
	struct stat st = {.st_ino = inode_number(listing->mount, from->ino), .st_mode = (mode_t)from->type << 12};

	if (!listing->plus) {
		size_t needed = fuse_add_direntry(NULL, to, room, from->name, &st, from->off);

		if (needed > room)
			return false;
		listing->used += needed;
		return true;
	}
	if (fuse_add_direntry_plus(NULL, NULL, 0, from->name, NULL, 0) > room)
		return false;
	plus_lookup(listing, from, &entry);
	listing->used += fuse_add_direntry_plus(NULL, to, room, from->name, &entry, from->off);
	return true;
}

/* Adds what fits of `bytes` of entries; the position of the descriptor is known only if all did. */
static bool listing_add_all(struct listing *listing, const char *entries, long bytes)
{
	for (long at = 0; at < bytes;) {
		const struct entry64 *from = (const void *)(entries + at);

		if (!listing_add(listing, from)) {
			listing->handle->position = POSITION_UNKNOWN;
			return false;
		}
		listing->handle->position = (uint64_t)from->off;
		at += from->reclen;
	}
	return true;
}

/* Entries are shorter in getdents64(2) than in the reply: so many bytes of them fit, about. */
static size_t listing_ask(const struct listing *listing, size_t room)
{
	size_t left = listing->size - listing->used;
	size_t ask = listing->plus ? left / 6 : left / 4 * 3;

	if (ask < 512)
		ask = 512;
	return ask < room ? ask : room;
}

/*
 * A getdents64(2) that was killed may have moved on inside ext4, whose position of last time is still where it began: asked from
 * there it goes on, and leaves one name out (fs/ext4/dir.c, last_pos). Asked from elsewhere it begins anew.
 */
static void listing_restart(int fd, off_t offset)
{
	char entries[1024] __attribute__((aligned(8)));

	if (lseek(fd, offset ? 0 : ELSEWHERE, SEEK_SET) >= 0)
		syscall(SYS_getdents64, fd, entries, sizeof(entries));
}

ssize_t fs_readdir(struct request *rq, uint64_t node, uint64_t fh, size_t size, off_t offset, bool plus)
{
	struct fs *fs = fs_of(rq);
	char entries[32768] __attribute__((aligned(8)));
	struct listing listing = {.rq = rq, .plus = plus};
	struct handle spare;
	long got;

	listing.handle = noopen_handle(rq, node, fh, O_DIRECTORY, &spare);
	if (!listing.handle)
		return spare.fd;
	listing.size = size < rq->out_bytes ? size : rq->out_bytes;
	listing.device = fs->nodes->state->nodes[listing.handle->node].key.device;
	listing.mount = inode_of(&fs->nodes->state->nodes[listing.handle->node])->mount;
	listing.grants = plus && journal_take_area(recover_journal(rq->recover), rq->record);
	if (listing.handle->position == POSITION_READING)
		listing_restart(listing.handle->fd, offset);
	if (listing.handle->position != (uint64_t)offset && lseek(listing.handle->fd, offset, SEEK_SET) < 0)
		return -errno;
	if (listing.grants)
		answer_begin(rq, listing.handle->fd, &listing.look);
	do {
		listing.handle->position = POSITION_READING;
		got = syscall(SYS_getdents64, listing.handle->fd, entries, listing_ask(&listing, sizeof(entries)));
		if (got <= 0)
			listing.handle->position = POSITION_UNKNOWN;
		if (got < 0)
			return listing.used ? (ssize_t)listing.used : -errno;
	} while (got > 0 && listing_add_all(&listing, entries, got) && listing.size - listing.used >= 512);
	return (ssize_t)listing.used;
}
