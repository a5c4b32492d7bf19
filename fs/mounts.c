/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The file systems at and below SOURCE, and file handles on them. A file system that gives no handles that can be
 * opened again is noted once and said at once: its inodes keep their descriptors.
 */
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "fs/inode.h"
#include "recover/atomic.h"
#include "recover/log.h"

struct handle_buffer {
	struct file_handle header;
	uint8_t bytes[INODE_HANDLE_BYTES];
};

/*
 * What is known of file systems by their statfs(2) type. Those that are not listed may find a name by other bytes (FAT,
 * SMB) or have close(2) report an error (NFS, FUSE).
 */
static const struct {
	uint32_t type, traits;
} known[] = {
	{0xef53, MOUNT_EXACT | MOUNT_NO_FLUSH},	    /* ext2, 3, 4 */
	{0x58465342, MOUNT_EXACT | MOUNT_NO_FLUSH}, /* xfs */
	{0x9123683e, MOUNT_EXACT | MOUNT_NO_FLUSH}, /* btrfs */
	{0x01021994, MOUNT_EXACT | MOUNT_NO_FLUSH}, /* tmpfs */
	{0xf2f52010, MOUNT_EXACT},		    /* f2fs */
	{0x794c7630, MOUNT_EXACT},		    /* overlayfs */
	{0x73717368, MOUNT_EXACT | MOUNT_NO_FLUSH}, /* squashfs */
	{0xe0f5e1e2, MOUNT_EXACT | MOUNT_NO_FLUSH}, /* erofs */
	{0x4d44, MOUNT_NO_FLUSH},		    /* vfat */
};

static uint32_t mount_traits(int fd)
{
	struct statfs st;

	if (fstatfs(fd, &st))
		return 0;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (known[i].type == (uint32_t)st.f_type)
			return known[i].traits;
	return 0;
}

static int handle_get(int fd, struct handle_buffer *buffer)
{
	int mount_id;

	buffer->header.handle_bytes = INODE_HANDLE_BYTES;
	return name_to_handle_at(fd, "", &buffer->header, &mount_id, AT_EMPTY_PATH) ? -errno : 0;
}

/* Can a handle made here be opened again? Asked once per file system, with its first directory or regular file. 0 or -errno. */
static int mount_try_handle(int mount_fd, int fd)
{
	struct handle_buffer buffer;
	int err = handle_get(fd, &buffer), again;

	if (err)
		return err;
	again = open_by_handle_at(mount_fd, &buffer.header, O_PATH);
	if (again < 0)
		return -errno;
	close(again);
	return 0;
}

static int mount_find(const struct fs_area *area, uint64_t device)
{
	for (uint32_t i = 0; i < load_acquire(&area->mounts_n); i++)
		if (area->mounts[i].device == device)
			return (int)i;
	return -ENOENT;
}

/* A descriptor that opens handles of the file system of `fd`, or -1: it gives none. */
static int mount_ask(struct fs *fs, uint64_t device, int fd, uint32_t *traits)
{
	char name[PROC_NAME_BYTES];
	int mount_fd = openat(fs->proc_fd, proc_name(name, fd), O_RDONLY | O_NONBLOCK | O_NOCTTY);
	int err = mount_fd < 0 ? -errno : mount_try_handle(mount_fd, fd);

	*traits = mount_fd < 0 ? 0 : mount_traits(mount_fd);
	if (mount_fd >= 0 && err) {
		close(mount_fd);
		mount_fd = -1;
	}
	if (!err)
		log_info("the file system with st_dev %#llx gives file handles: descriptors of its inodes are a cache",
			 (unsigned long long)device);
	else
		log_warning(
			"the file system with st_dev %#llx gives no file handles (%s): each of its known inodes holds a "
			"descriptor, no more than RLIMIT_NOFILE allows",
			(unsigned long long)device, strerror(-err));
	return mount_fd;
}

/* Death before the last store: the file system is met again. */
static int mount_add(struct fs *fs, uint64_t device)
{
	uint32_t index = fs->area->mounts_n;
	struct fs_mount *mount = &fs->area->mounts[index];

	if (index == MOUNTS_MAX)
		return -ENFILE;
	*mount = (struct fs_mount){.device = device, .fd = -1};
	store_release(&fs->area->mounts_n, index + 1);
	return (int)index;
}

/* Death before the last store: the descriptor is an orphan, the file system is asked again. */
int mount_of(struct fs *fs, uint64_t device, uint64_t mount_id, int fd, mode_t mode)
{
	int index = mount_find(fs->area, device);
	struct fs_mount *mount;

	/* never opens a fifo or a device: that does something */
	if (index >= 0 && (load_acquire(&fs->area->mounts[index].asked) || !(S_ISDIR(mode) || S_ISREG(mode))))
		return index;
	pthread_mutex_lock(&fs->mounts_lock);
	index = mount_find(fs->area, device);
	if (index < 0)
		index = mount_add(fs, device);
	mount = index < 0 ? NULL : &fs->area->mounts[index];
	if (mount && !mount->asked && (S_ISDIR(mode) || S_ISREG(mode))) {
		mount->fd = mount_ask(fs, device, fd, &mount->traits);
		mount->mount_id = mount_id;
		watch_mount(fs, mount);
		store_release(&mount->asked, 1);
	}
	pthread_mutex_unlock(&fs->mounts_lock);
	return index;
}

int mount_handle(struct fs *fs, int fd, struct inode *inode)
{
	struct handle_buffer buffer;
	int err;

	inode->handle_bytes = 0;
	if (fs->area->mounts[inode->mount].fd < 0)
		return -EOPNOTSUPP;
	err = handle_get(fd, &buffer);
	if (err)
		return err;
	inode->handle_type = buffer.header.handle_type;
	inode->handle_bytes = (uint8_t)buffer.header.handle_bytes;
	memcpy(inode->handle, buffer.bytes, buffer.header.handle_bytes);
	return 0;
}

/* The handle and what opens it, or -ESTALE. */
static int handle_put(const struct fs *fs, const struct inode *inode, struct handle_buffer *buffer)
{
	if (!inode->handle_bytes || inode->handle_bytes > INODE_HANDLE_BYTES || inode->mount >= fs->area->mounts_n)
		return -ESTALE;
	buffer->header.handle_bytes = inode->handle_bytes;
	buffer->header.handle_type = inode->handle_type;
	memcpy(buffer->bytes, inode->handle, inode->handle_bytes);
	return fs->area->mounts[inode->mount].fd;
}

int mount_open(struct fs *fs, const struct inode *inode, int flags)
{
	struct handle_buffer buffer;
	int mount_fd = handle_put(fs, inode, &buffer), fd;

	if (mount_fd < 0)
		return mount_fd;
	fd = open_by_handle_at(mount_fd, &buffer.header, flags);
	return fd < 0 ? -errno : fd;
}

long mount_open_step(struct request *rq, const struct inode *inode, int flags)
{
	struct handle_buffer buffer;
	int mount_fd = handle_put(fs_of(rq), inode, &buffer);

	if (mount_fd < 0 || load_relaxed(&inode->flags) & INODE_HELD)
		return -ESTALE;
	return request_call(rq, SYS_open_by_handle_at, mount_fd, (long)&buffer.header, flags, 0, 0, 0);
}

void mounts_mark(struct fs *fs, void (*mark)(void *context, int fd), void *context)
{
	for (uint32_t i = 0; i < fs->area->mounts_n; i++)
		mark(context, fs->area->mounts[i].fd);
}
