/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Descriptors of inodes: a cache over file handles, bounded by RLIMIT_NOFILE, in the state so that a new server
 * finds it warm.
 *
 * A descriptor is closed by eviction while other threads may be about to use it. So a user pins first and reads
 * inode.fd then; eviction takes inode.fd away first and looks for pins then: one of the two sees the other, because all
 * four are sequentially consistent.
 *
 * A slot is true if the inode it names says so too (fd_slot) and has a descriptor. Death while
 * a descriptor changes hands leaves one that no inode names; recovery closes it.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "fs/inode.h"
#include "recover/atomic.h"
#include "recover/crash.h"

#define FDS_RESERVE 256 /* descriptors for the mount's own use */
#define FDS_SHRINK 64

void fds_init(struct fs *fs)
{
	struct rlimit limit = {1024, 1024};
	rlim_t room;

	pthread_mutex_init(&fs->fds.lock, NULL);
	getrlimit(RLIMIT_NOFILE, &limit);
	room = limit.rlim_cur > 2 * FDS_RESERVE ? (limit.rlim_cur - FDS_RESERVE) * 3 / 4 : limit.rlim_cur / 4;
	fs->fds.room = room > FD_CACHE_MAX ? FD_CACHE_MAX : (unsigned)room;
	fs->fds.hand = 0;
}

void fds_pin(struct request *rq, uint32_t index)
{
	struct fs_thread *thread = fs_thread(rq);

	for (unsigned i = 0; i < thread->pinned_n; i++)
		if (atomic_load_explicit(&thread->pinned[i], memory_order_relaxed) == index)
			return;
	if (thread->pinned_n < FS_PINS)
		atomic_store(&thread->pinned[thread->pinned_n++], index);
}

void fds_close_later(struct request *rq, int fd)
{
	struct fs_thread *thread = fs_thread(rq);

	if (thread->temporary_n < FS_TEMPORARY)
		thread->temporary[thread->temporary_n++] = fd;
	else
		close(fd);
}

void fds_end_request(struct request *rq)
{
	struct fs_thread *thread = fs_thread(rq);

	while (thread->pinned_n)
		atomic_store_explicit(&thread->pinned[--thread->pinned_n], 0, memory_order_release);
	while (thread->temporary_n)
		close(thread->temporary[--thread->temporary_n]);
}

static bool fds_pinned(const struct fs *fs, uint32_t index)
{
	for (unsigned t = 0; t <= STATE_WORKERS_MAX; t++)
		for (unsigned i = 0; i < FS_PINS; i++)
			if (atomic_load(&fs->threads[t].pinned[i]) == index)
				return true;
	return false;
}

/* The inode that a slot names, NULL if the slot is free. */
static struct inode *slot_inode(struct fs *fs, unsigned slot)
{
	uint32_t index = fs->area->fd_slots[slot];
	struct state *state = fs->nodes->state;
	struct inode *inode;

	if (index == 0 || index > load_acquire(&state->header->nodes_high))
		return NULL;
	inode = inode_of(&state->nodes[index]);
	return inode->fd >= 0 && inode->fd_slot == slot ? inode : NULL;
}

/* Closes the descriptor in a slot if it may be; under fds.lock. */
static bool slot_evict(struct fs *fs, unsigned slot, struct inode *inode)
{
	int fd = inode->fd;

	if (!inode->handle_bytes || load_relaxed(&inode->flags) & INODE_HELD)
		return false;
	__atomic_store_n(&inode->fd, -1, __ATOMIC_SEQ_CST);
	if (fds_pinned(fs, fs->area->fd_slots[slot])) {
		store_release(&inode->fd, fd);
		return false;
	}
	close(fd);
	return true;
}

/* A free slot, made free if need be: the clock's second chance for inodes used since it last came by. */
static int slot_find(struct fs *fs)
{
	for (unsigned tried = 0; tried < 2 * fs->fds.room; tried++) {
		unsigned slot = fs->fds.hand;
		struct inode *inode = slot_inode(fs, slot);

		fs->fds.hand = (slot + 1) % fs->fds.room;
		if (!inode)
			return (int)slot;
		if (load_relaxed(&inode->flags) & INODE_RECENT)
			__atomic_fetch_and(&inode->flags, (uint8_t)~INODE_RECENT, __ATOMIC_RELAXED);
		else if (slot_evict(fs, slot, inode))
			return (int)slot;
	}
	return -ENFILE;
}

int fds_put(struct request *rq, uint32_t index, struct inode *inode, int fd)
{
	struct fs *fs = fs_of(rq);
	int slot, use = fd;

	fds_pin(rq, index);
	pthread_mutex_lock(&fs->fds.lock);
	if (inode->fd >= 0) {
		use = inode->fd;
	} else {
		slot = slot_find(fs);
		if (slot >= 0) {
			inode->fd_slot = (uint32_t)slot;
			if ((uint32_t)slot >= fs->area->fd_slots_high)
				store_release(&fs->area->fd_slots_high, (uint32_t)slot + 1);
			store_release(&fs->area->fd_slots[slot], index);
			crash_point(slot_taken);
			store_release(&inode->fd, fd);
			crash_point(descriptor_stored);
		} else {
			use = inode->handle_bytes ? fd : -ENFILE;
		}
	}
	pthread_mutex_unlock(&fs->fds.lock);
	if (use == fd && slot_inode(fs, inode->fd_slot) != inode)
		fds_close_later(rq, fd);
	else if (use != fd)
		close(fd);
	return use;
}

bool fds_shrink(struct fs *fs)
{
	unsigned closed = 0;

	pthread_mutex_lock(&fs->fds.lock);
	for (unsigned tried = 0; tried < fs->fds.room && closed < FDS_SHRINK; tried++) {
		unsigned slot = fs->fds.hand;
		struct inode *inode = slot_inode(fs, slot);

		fs->fds.hand = (slot + 1) % fs->fds.room;
		if (inode && slot_evict(fs, slot, inode))
			closed++;
	}
	pthread_mutex_unlock(&fs->fds.lock);
	return closed > 0;
}

void fds_drop(struct fs *fs, struct inode *inode)
{
	int fd;

	pthread_mutex_lock(&fs->fds.lock);
	fd = inode->fd;
	store_release(&inode->fd, -1);
	pthread_mutex_unlock(&fs->fds.lock);
	if (fd >= 0)
		close(fd);
}

void fds_mark(struct fs *fs, void (*mark)(void *context, int fd), void *context)
{
	for (unsigned slot = 0; slot < fs->area->fd_slots_high; slot++) {
		struct inode *inode = slot_inode(fs, slot);

		if (inode)
			mark(context, inode->fd);
	}
}
