/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Operations on names: finding, making, removing, renaming, linking.
 */
#include <errno.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fs/answer.h"
#include "fs/creds.h"
#include "fs/inode.h"
#include "fs/ops.h"

/* The kernel remembers that the name is missing for as long as it would that it is there: nodeid 0. */
static int lookup_missing(struct request *rq, uint64_t parent, struct fuse_entry_param *entry)
{
	double ttl = inode_name_ttl(rq);

	if (ttl <= 0 || !inode_names_exact(rq, parent))
		return -ENOENT;
	memset(entry, 0, sizeof(*entry));
	entry->entry_timeout = ttl;
	return 0;
}

int fs_lookup(struct request *rq, uint64_t parent, const char *name, struct fuse_entry_param *entry, bool *submount)
{
	struct fs *fs = fs_of(rq);
	int directory = inode_fd(rq, parent);
	struct answer_look look;
	uint32_t index;
	int err;

	*submount = false;
	if (directory < 0)
		return directory;
	answer_begin(rq, directory, &look);
	err = inode_lookup(rq, directory, name, 0, entry);
	if (err == -ENOENT)
		answer_store_missing(rq, &look, directory, parent, name);
	if (err)
		return err == -ENOENT ? lookup_missing(rq, parent, entry) : err;
	*submount =
		S_ISDIR(entry->attr.st_mode) && entry->attr.st_dev != node_find(fs->nodes, parent, &index)->key.device;
	if (!*submount)
		answer_store(rq, &look, parent, name, entry);
	if (*submount) { /* what is mounted there changes without an event */
		inode_flags_add(inode_of(node_find(fs->nodes, entry->ino, &index)), INODE_SUBMOUNT);
		entry->attr_timeout = entry->entry_timeout = fs->ttl;
	}
	return 0;
}

int fs_readlink(struct request *rq, uint64_t node, char *target, size_t size)
{
	int fd = inode_fd(rq, node);
	ssize_t length;

	if (fd < 0)
		return fd;
	length = readlinkat(fd, "", target, size - 1);
	if (length < 0)
		return -errno;
	target[length] = 0;
	return 0;
}

int fs_mknod(struct request *rq, uint64_t parent, const char *name, mode_t mode, dev_t rdev,
	     struct fuse_entry_param *entry)
{
	const struct fuse_mknod_in *in = request_arguments(rq);
	int directory = inode_fd(rq, parent);
	long err;

	if (directory < 0)
		return directory;
	err = creds_create(rq, in->umask);
	if (!err)
		err = request_call(rq, SYS_mknodat, directory, (long)name, mode, (long)rdev, 0, 0);
	return err ? (int)err : inode_lookup_new(rq, directory, name, entry);
}

int fs_mkdir(struct request *rq, uint64_t parent, const char *name, mode_t mode, struct fuse_entry_param *entry)
{
	const struct fuse_mkdir_in *in = request_arguments(rq);
	int directory = inode_fd(rq, parent);
	long err;

	if (directory < 0)
		return directory;
	err = creds_create(rq, in->umask);
	if (!err)
		err = request_call(rq, SYS_mkdirat, directory, (long)name, mode, 0, 0, 0);
	return err ? (int)err : inode_lookup_new(rq, directory, name, entry);
}

int fs_symlink(struct request *rq, const char *target, uint64_t parent, const char *name,
	       struct fuse_entry_param *entry)
{
	int directory = inode_fd(rq, parent);
	long err;

	if (directory < 0)
		return directory;
	err = creds_make(rq);
	if (!err)
		err = request_call(rq, SYS_symlinkat, (long)target, directory, (long)name, 0, 0, 0);
	return err ? (int)err : inode_lookup_new(rq, directory, name, entry);
}

static int remove_name(struct request *rq, uint64_t parent, const char *name, int flags)
{
	int directory = inode_fd(rq, parent);

	if (directory < 0)
		return directory;
	inode_hold(rq, directory, name);
	creds_caller(rq);
	return (int)request_call(rq, SYS_unlinkat, directory, (long)name, flags, 0, 0, 0);
}

int fs_unlink(struct request *rq, uint64_t parent, const char *name)
{
	return remove_name(rq, parent, name, 0);
}

int fs_rmdir(struct request *rq, uint64_t parent, const char *name)
{
	return remove_name(rq, parent, name, AT_REMOVEDIR);
}

static bool name_is_there(int directory, const char *name)
{
	struct stat st;

	return fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) == 0;
}

int fs_rename(struct request *rq, uint64_t parent, const char *name, uint64_t new_parent, const char *new_name,
	      unsigned flags)
{
	int from = inode_fd(rq, parent);
	int to = inode_fd(rq, new_parent), err;

	if (from < 0 || to < 0)
		return from < 0 ? from : to;
	err = creds_make(rq);
	if (err && !name_is_there(to, new_name)) /* one that is there is not made */
		return err;
	inode_hold(rq, to, new_name);
	err = (int)request_call(rq, SYS_renameat2, from, (long)name, to, (long)new_name, flags, 0);
	if (err && flags & RENAME_WHITEOUT) /* ext4 makes it first: the directory has other times, and makes no event */
		watch_ask(fs_of(rq), parent);
	return err;
}

int fs_link(struct request *rq, uint64_t node, uint64_t parent, const char *name, struct fuse_entry_param *entry)
{
	int fd = inode_fd(rq, node);
	int directory = inode_fd(rq, parent);
	long err;

	if (fd < 0 || directory < 0)
		return fd < 0 ? fd : directory;
	err = creds_make(rq);
	if (!err)
		err = request_call(rq, SYS_linkat, fd, (long)"", directory, (long)name, AT_EMPTY_PATH, 0);
	return err ? (int)err : inode_lookup(rq, directory, name, 0, entry);
}
