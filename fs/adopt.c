/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * After a hand-over: no descriptor that the state names is open. What an inode is its file handle says, so it is opened
 * again when it is needed; here is what cannot wait: the source itself, its file systems, inodes without a name, open
 * files, lock owners. What changed in the source meanwhile the kernel has told the group of the watcher (watch.c), which was
 * kept; where it was not, the watcher has the kernel drop all it knows.
 *
 * Runs in the monitor, before there is a server. A death in it leaves numbers in the state that mean nothing, as they did
 * before it.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fs/inode.h"
#include "fs/ops.h"
#include "recover/atomic.h"
#include "recover/log.h"
#include "recover/mounted.h"

#define SAID_MOST 8 /* lines about open files that are lost, and about locks */
#define NAP_NS 1000000
#define NAPS 1000 /* in all */

static struct node *adopt_node(struct fs *fs, uint32_t index)
{
	return &fs->nodes->state->nodes[index];
}

/* Numbers of descriptors that the area and the inodes have; the inodes are left in their slots. */
static void adopt_forget_numbers(struct fs *fs)
{
	struct fs_area *area = fs->area;
	const struct state *state = fs->nodes->state;

	for (uint32_t slot = 0; slot < area->fd_slots_high; slot++) {
		uint32_t index = area->fd_slots[slot];

		if (index != 0 && index <= state->header->nodes_high)
			store_release(&inode_of(adopt_node(fs, index))->fd, -1);
	}
	for (uint32_t i = 0; i < area->mounts_n; i++) {
		area->mounts[i].fd = -1;
		area->mounts[i].watched_ns = 0;
		store_release(&area->mounts[i].asked, 0); /* it is met again */
	}
	for (uint32_t i = 0; i < area->lock_owners_high; i++)
		area->lock_owners[i].fd = -1;
}

static int adopt_root(struct fs *fs)
{
	struct inode *inode = inode_of(adopt_node(fs, NODE_ROOT));

	inode->fd_slot = 0;
	store_release(&inode->fd, fs->source_fd);
	store_release(&fs->area->fd_slots[0], NODE_ROOT);
	if (inode_is_root(fs, fs->source_fd))
		return 0;
	log_error("the source is not the directory that was mounted");
	return -ESTALE;
}

struct below {
	struct fs *fs;
	char source[PATH_MAX];
	size_t length;
};

static bool adopt_knows_device(const struct fs *fs, int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		return false;
	for (uint32_t i = 0; i < fs->area->mounts_n; i++)
		if (fs->area->mounts[i].device == st.st_dev)
			return true;
	return false;
}

static void adopt_see(void *context, const struct mounted *mounted, const char *at)
{
	const struct below *below = context;
	int fd;

	(void)mounted;
	if (strncmp(at, below->source, below->length) != 0 || (at[below->length] != '/' && below->length > 1))
		return;
	fd = open(at, O_PATH | O_DIRECTORY | O_NOFOLLOW);
	if (fd < 0)
		return;
	if (adopt_knows_device(below->fs, fd))
		inode_meet(below->fs, fd);
	close(fd);
}

/* File systems below SOURCE that are known: before anything on them is opened. */
static void adopt_mounts(struct fs *fs)
{
	struct below below = {.fs = fs};
	char path[32];
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fs->source_fd);
	length = readlink(path, below.source, sizeof(below.source) - 1);
	if (length <= 0 || fs->area->mounts_n < 2)
		return;
	below.length = (size_t)length;
	mounted_each(adopt_see, &below);
}

static bool adopt_has_inode(struct fs *fs, uint32_t index)
{
	return index != 0 && index <= fs->nodes->state->header->nodes_high && adopt_node(fs, index)->state == NODE_USED;
}

/* Those whose last name is gone are there for as long as somebody has them open: the kernel, by a backing id. */
static void adopt_nameless(struct fs *fs)
{
	for (uint32_t slot = 1; slot < fs->area->fd_slots_high; slot++) {
		uint32_t index = fs->area->fd_slots[slot];
		struct inode *inode = adopt_has_inode(fs, index) ? inode_of(adopt_node(fs, index)) : NULL;
		int fd;

		if (!inode || inode->fd_slot != slot || !(inode->flags & INODE_HELD))
			continue;
		fd = mount_open(fs, inode, O_PATH | O_NOFOLLOW);
		if (fd >= 0)
			store_release(&inode->fd, fd);
	}
}

/* Anew, by file handle or by the descriptor of an inode that has no other way. */
static int adopt_open(struct fs *fs, uint32_t index, int flags)
{
	struct inode *inode = inode_of(adopt_node(fs, index));
	char name[PROC_NAME_BYTES];
	int fd = mount_open(fs, inode, flags);

	if (fd < 0 && inode->fd >= 0) {
		fd = openat(fs->proc_fd, proc_name(name, inode->fd), flags & ~O_NOFOLLOW);
		fd = fd < 0 ? -errno : fd;
	}
	return fd;
}

static int adopt_handle(struct fs *fs, const struct handle *handle)
{
	int flags = (int)(handle->flags & HANDLE_OPEN_FLAGS & ~(unsigned)O_APPEND) | O_NONBLOCK | O_NOCTTY;
	bool directory = handle->flags & O_DIRECTORY;
	int fd;

	if (!adopt_has_inode(fs, handle->node) ||
	    inode_of(adopt_node(fs, handle->node))->type != (directory ? S_IFDIR : S_IFREG))
		return -ESTALE;
	if (directory)
		flags = O_RDONLY | O_DIRECTORY;
	fd = adopt_open(fs, handle->node, flags);
	if (fd == -EPERM && handle->flags & O_APPEND) /* chattr +a */
		fd = adopt_open(fs, handle->node, flags | O_APPEND);
	return fd;
}

static void adopt_handles(struct fs *fs)
{
	struct state *state = fs->nodes->state;
	uint64_t lost = 0;

	for (uint64_t i = 1; i <= state->header->handles_high; i++) {
		struct handle *handle = &state->handles[i];
		int fd;

		if (handle->state != HANDLE_OPEN)
			continue;
		handle->position = UINT64_MAX; /* the next listing says where it goes on */
		fd = adopt_handle(fs, handle);
		store_release(&handle->fd, fd < 0 ? -1 : fd);
		if (fd >= 0)
			continue;
		if (lost++ < SAID_MOST)
			log_warning("an open file (inode %llu) is lost: %s",
				    (unsigned long long)adopt_node(fs, handle->node)->key.number, strerror(-fd));
	}
	if (lost)
		log_error("%llu open files could not be opened again: who has them open gets ESTALE",
			  (unsigned long long)lost);
	state->header->counters.lost_handles += lost;
}

/*
 * Of the processes before us every one has gone, but what they had open may fall a moment later. `err` of the last try;
 * `left`: naps that are left.
 */
static bool adopt_try_again(int err, unsigned *left)
{
	if ((err != -EWOULDBLOCK && err != -EACCES) || !*left)
		return false;
	--*left;
	nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
	return true;
}

static int adopt_flock(const struct handle *handle, unsigned *left)
{
	int err;

	do
		err = flock(handle->fd, (handle->lock == HANDLE_LOCK_EXCLUSIVE ? LOCK_EX : LOCK_SH) | LOCK_NB) ? -errno
													       : 0;
	while (err && adopt_try_again(err, left));
	return err;
}

static int adopt_ranges(const struct lock_owner *owner, unsigned *left)
{
	unsigned copy = owner->copy & 1, n = owner->ranges_n[copy];
	int err = n > LOCK_RANGES ? -ENOLCK : 0;

	for (unsigned i = 0; i < n && !err; i++) {
		const struct lock_range *range = &owner->ranges[copy][i];
		struct flock lock = {.l_type = range->start & LOCK_RANGE_WRITE ? F_WRLCK : F_RDLCK,
				     .l_start = (off_t)(range->start & ~LOCK_RANGE_WRITE),
				     .l_len = range->length};

		do
			err = fcntl(owner->fd, F_OFD_SETLK, &lock) ? -errno : 0;
		while (err && adopt_try_again(err, left));
	}
	return err;
}

static int adopt_owner(struct fs *fs, struct lock_owner *owner, unsigned *left)
{
	int fd = -ESTALE, err;

	if (!adopt_has_inode(fs, owner->node))
		return -ESTALE;
	for (unsigned i = 0; fd < 0 && i < LOCK_MODES; i++)
		fd = adopt_open(fs, owner->node, lock_modes[i] | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return fd;
	owner->fd = fd;
	err = adopt_ranges(owner, left);
	if (err)
		close(fd);
	return err;
}

static void adopt_lock_lost(struct fs *fs, struct handle *handle, uint32_t node, int err)
{
	struct state_header *header = fs->nodes->state->header;

	if (handle)
		store_release(&handle->lock, HANDLE_LOCK_LOST);
	if (header->counters.lost_locks++ < SAID_MOST && adopt_has_inode(fs, node))
		log_warning("a lock (inode %llu) is lost, its owner gets EIO: %s",
			    (unsigned long long)adopt_node(fs, node)->key.number, strerror(-err));
}

static void adopt_locks(struct fs *fs)
{
	struct state *state = fs->nodes->state;
	unsigned left = NAPS;

	for (uint32_t i = 0; i < fs->area->lock_owners_high; i++) {
		struct lock_owner *owner = &fs->area->lock_owners[i];
		int err = owner->state ? adopt_owner(fs, owner, &left) : 0;

		if (!err)
			continue;
		store_release(&owner->state, 0);
		adopt_lock_lost(fs, handle_find(fs->handles, owner->handle), owner->node, err);
	}
	for (uint64_t i = 1; i <= state->header->handles_high; i++) {
		struct handle *handle = &state->handles[i];
		bool locked = handle->lock == HANDLE_LOCK_SHARED || handle->lock == HANDLE_LOCK_EXCLUSIVE;
		int err = handle->state == HANDLE_OPEN && locked ? adopt_flock(handle, &left) : 0;

		if (err)
			adopt_lock_lost(fs, handle, handle->node, err);
	}
}

/* What the mount was made with stays, whatever the options are now. */
static void adopt_agreed(struct fs *fs)
{
	uint64_t flags = recover_init_flags(fs->recover);

	fs->passthrough_wanted = fs->area->passthrough_wanted;
	fs->locks_local = !(flags & FUSE_POSIX_LOCKS);
}

int adopt_descriptors(struct fs *fs, int *kept, unsigned n)
{
	int err;

	adopt_agreed(fs);
	adopt_forget_numbers(fs);
	watch_adopt(fs, kept, n);
	err = adopt_root(fs);
	if (err)
		return err;
	err = inode_meet(fs, fs->source_fd);
	if (err)
		return err;
	adopt_mounts(fs);
	adopt_nameless(fs);
	adopt_handles(fs);
	adopt_locks(fs);
	return 0;
}
