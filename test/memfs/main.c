/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * memfs MOUNTPOINT [N]: an empty file system in memory, in the foreground until it is unmounted. With N its server kills
 * itself at every Nth place or so where half of a change is made. Here are the command line and the callbacks of
 * libfuse: each hands its arguments to one operation and replies once.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "test/memfs/memfs.h"

#define EXIT_USAGE 1

void die_sometimes(const struct memfs *fs)
{
	struct timespec now;

	if (!fs->dies)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (((uint64_t)now.tv_nsec * UINT64_C(0x9e3779b97f4a7c15) >> 33) % fs->dies == 0)
		kill(getpid(), SIGKILL);
}

static struct memfs *memfs_here(void)
{
	return recover_private(request_current()->recover);
}

/* The inode that the kernel means by a nodeid; 0: none. */
static uint32_t ino_of(fuse_ino_t nodeid)
{
	uint32_t index;
	const struct node *node = node_find(recover_nodes(request_current()->recover), nodeid, &index);

	return node ? ((const struct node_data *)node->data)->ino : 0;
}

static struct arguments about(fuse_ino_t nodeid)
{
	const struct fuse_in_header *in = request_current()->in;

	return (struct arguments){.ino = ino_of(nodeid), .uid = in->uid, .gid = in->gid, .out = request_current()->out};
}

static int64_t changed(operation *carry_out, struct arguments *arguments)
{
	return arguments->ino ? once(request_current(), carry_out, arguments) : -ESTALE;
}

static int64_t looked(operation *carry_out, struct arguments *arguments)
{
	return arguments->ino ? look(request_current(), carry_out, arguments) : -ESTALE;
}

static void reply_status(fuse_req_t req, int64_t result)
{
	fuse_reply_err(req, result < 0 ? (int)-result : 0);
}

static void reply_out(fuse_req_t req, int64_t bytes)
{
	if (bytes < 0)
		reply_status(req, bytes);
	else
		fuse_reply_buf(req, (const char *)request_current()->out, (size_t)bytes);
}

static void reply_sized(fuse_req_t req, int64_t bytes, size_t asked)
{
	if (bytes >= 0 && !asked)
		fuse_reply_xattr(req, (size_t)bytes);
	else
		reply_out(req, bytes);
}

/* A reference for the kernel to what an operation found or made. Nothing is cached: the server is asked each time. */
static int64_t entry_grant(int64_t ino, struct fuse_entry_param *entry, uint32_t *index)
{
	struct request *request = request_current();
	struct nodes *nodes = recover_nodes(request->recover);
	struct node_data data = {.ino = (uint32_t)ino};
	struct arguments arguments = {.ino = (uint32_t)ino, .attr = &entry->attr};
	struct node_key key;
	int64_t err;
	bool made;

	if (ino < 0)
		return ino;
	memset(entry, 0, sizeof(*entry));
	err = looked(inode_getattr, &arguments);
	if (err)
		return err;
	inode_key(memfs_here(), (uint32_t)ino, &key);
	err = node_grant_new(nodes, request->record, &key, &data, index, &made);
	if (!err)
		entry->ino = node_id(*index, &nodes->state->nodes[*index]);
	return err;
}

static void reply_entry(fuse_req_t req, int64_t ino)
{
	struct fuse_entry_param entry;
	uint32_t index;
	int64_t err = entry_grant(ino, &entry, &index);

	if (err)
		reply_status(req, err);
	else
		fuse_reply_entry(req, &entry);
}

/* A handle without a descriptor: there is nothing behind it. */
static int64_t open_handle(uint32_t node, struct fuse_file_info *fi)
{
	struct request *request = request_current();

	return handle_open(recover_handles(request->recover), request->record, -1, node, 0, &fi->fh);
}

static void on_init(void *userdata, struct fuse_conn_info *conn)
{
	(void)userdata;
	conn->no_interrupt = 1;
}

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct arguments arguments = about(parent);

	arguments.name = name;
	reply_entry(req, looked(name_lookup, &arguments));
}

static void on_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct arguments arguments = about(parent);

	arguments.name = name;
	arguments.mode = mode;
	arguments.rdev = rdev;
	reply_entry(req, changed(name_make, &arguments));
}

static void on_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	on_mknod(req, parent, name, S_IFDIR | mode, 0);
}

static void on_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct arguments arguments = about(parent);

	arguments.name = name;
	arguments.mode = S_IFLNK | 0777;
	arguments.data = target;
	arguments.size = strlen(target);
	reply_entry(req, changed(name_make, &arguments));
}

static void on_readlink(fuse_req_t req, fuse_ino_t node)
{
	struct arguments arguments = about(node);

	arguments.size = PATH_MAX;
	reply_out(req, looked(data_read, &arguments));
}

static void on_link(fuse_req_t req, fuse_ino_t node, fuse_ino_t parent, const char *name)
{
	struct arguments arguments = about(node);

	arguments.other = ino_of(parent);
	arguments.new_name = name;
	reply_entry(req, arguments.other ? changed(name_link, &arguments) : -ESTALE);
}

static void on_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct arguments arguments = about(parent);

	arguments.name = name;
	reply_status(req, changed(name_unlink, &arguments));
}

static void on_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct arguments arguments = about(parent);

	arguments.name = name;
	reply_status(req, changed(name_rmdir, &arguments));
}

static void on_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name,
		      unsigned flags)
{
	struct arguments arguments = about(parent);

	arguments.name = name;
	arguments.other = ino_of(new_parent);
	arguments.new_name = new_name;
	arguments.flags = flags;
	reply_status(req, arguments.other ? changed(name_rename, &arguments) : -ESTALE);
}

static void reply_attr(fuse_req_t req, fuse_ino_t node, int64_t err)
{
	struct arguments arguments = about(node);
	struct stat st;

	arguments.attr = &st;
	if (!err)
		err = looked(inode_getattr, &arguments);
	if (err)
		reply_status(req, err);
	else
		fuse_reply_attr(req, &st, 0);
}

static void on_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	(void)fi;
	reply_attr(req, node, 0);
}

static void on_setattr(fuse_req_t req, fuse_ino_t node, struct stat *attr, int set, struct fuse_file_info *fi)
{
	struct arguments arguments = about(node);

	(void)fi;
	arguments.attr = attr;
	arguments.flags = (uint32_t)set;
	reply_attr(req, node, changed(inode_setattr, &arguments));
}

static void on_statfs(fuse_req_t req, fuse_ino_t node)
{
	struct arguments arguments = about(node);
	struct statvfs st;
	int64_t err;

	arguments.out = &st;
	err = looked(inode_statfs, &arguments);
	if (err)
		reply_status(req, err);
	else
		fuse_reply_statfs(req, &st);
}

static void on_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct arguments arguments = about(node);
	int64_t err = 0;

	if (fi->flags & O_TRUNC)
		err = changed(data_truncate, &arguments);
	if (!err)
		err = open_handle((uint32_t)node, fi);
	if (err)
		reply_status(req, err);
	else
		fuse_reply_open(req, fi);
}

static void on_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct arguments arguments = about(parent);
	struct fuse_entry_param entry;
	uint32_t index;
	int64_t err;

	arguments.name = name;
	arguments.mode = mode;
	arguments.flags = (uint32_t)fi->flags;
	err = entry_grant(changed(name_create, &arguments), &entry, &index);
	if (!err)
		err = open_handle(index, fi);
	if (err)
		reply_status(req, err);
	else
		fuse_reply_create(req, &entry, fi);
}

static bool is_open(const struct fuse_file_info *fi)
{
	return handle_find(recover_handles(request_current()->recover), fi->fh) != NULL;
}

static void on_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct arguments arguments = about(node);

	arguments.size = size < request_current()->out_bytes ? size : request_current()->out_bytes;
	arguments.offset = (uint64_t)offset;
	reply_out(req, is_open(fi) ? looked(data_read, &arguments) : -EBADF);
}

/* The kernel knows where the file ends, also for O_APPEND: nobody else writes. */
static void on_write(fuse_req_t req, fuse_ino_t node, const char *data, size_t size, off_t offset,
		     struct fuse_file_info *fi)
{
	struct arguments arguments = about(node);
	int64_t written;

	arguments.data = data;
	arguments.size = size;
	arguments.offset = (uint64_t)offset;
	written = is_open(fi) ? changed(data_write, &arguments) : -EBADF;
	if (written < 0)
		reply_status(req, written);
	else
		fuse_reply_write(req, (size_t)written);
}

static void on_fallocate(fuse_req_t req, fuse_ino_t node, int mode, off_t offset, off_t length,
			 struct fuse_file_info *fi)
{
	struct arguments arguments = about(node);

	arguments.flags = (uint32_t)mode;
	arguments.offset = (uint64_t)offset;
	arguments.size = (uint64_t)length;
	reply_status(req, is_open(fi) ? changed(data_fallocate, &arguments) : -EBADF);
}

static void on_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct handles *handles = recover_handles(request_current()->recover);
	struct handle *handle = handle_find(handles, fi->fh);

	(void)node;
	if (handle) /* none: this RELEASE was sent again */
		handle_close(handles, handle);
	fuse_reply_err(req, 0);
}

static void on_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	int64_t err = open_handle((uint32_t)node, fi);

	if (err)
		reply_status(req, err);
	else
		fuse_reply_open(req, fi);
}

static void on_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct arguments arguments = about(node);

	arguments.size = size < request_current()->out_bytes ? size : request_current()->out_bytes;
	arguments.offset = (uint64_t)offset;
	reply_out(req, is_open(fi) ? looked(name_list, &arguments) : -EBADF);
}

static void on_setxattr(fuse_req_t req, fuse_ino_t node, const char *name, const char *value, size_t size, int flags)
{
	struct arguments arguments = about(node);

	arguments.name = name;
	arguments.data = value;
	arguments.size = size;
	arguments.flags = (uint32_t)flags;
	reply_status(req, changed(xattr_set, &arguments));
}

static void on_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
	struct arguments arguments = about(node);

	arguments.name = name;
	arguments.size = size;
	reply_sized(req, looked(xattr_get, &arguments), size);
}

static void on_listxattr(fuse_req_t req, fuse_ino_t node, size_t size)
{
	struct arguments arguments = about(node);

	arguments.size = size;
	reply_sized(req, looked(xattr_list, &arguments), size);
}

static void on_removexattr(fuse_req_t req, fuse_ino_t node, const char *name)
{
	struct arguments arguments = about(node);

	arguments.name = name;
	reply_status(req, changed(xattr_remove, &arguments));
}

const struct fuse_lowlevel_ops memfs_operations = {
	.init = on_init,
	.lookup = on_lookup,
	.mknod = on_mknod,
	.mkdir = on_mkdir,
	.symlink = on_symlink,
	.readlink = on_readlink,
	.link = on_link,
	.unlink = on_unlink,
	.rmdir = on_rmdir,
	.rename = on_rename,
	.getattr = on_getattr,
	.setattr = on_setattr,
	.statfs = on_statfs,
	.open = on_open,
	.create = on_create,
	.read = on_read,
	.write = on_write,
	.fallocate = on_fallocate,
	.release = on_release,
	.opendir = on_opendir,
	.readdir = on_readdir,
	.releasedir = on_release,
	.setxattr = on_setxattr,
	.getxattr = on_getxattr,
	.listxattr = on_listxattr,
	.removexattr = on_removexattr,
};

int main(int argc, char **argv)
{
	char mountpoint[PATH_MAX];
	struct recover_options options = {.source = "memory",
					  .mountpoint = mountpoint,
					  .version = FXFS_VERSION,
					  .cache = "none",
					  .foreground = true,
					  .arguments = argv,
					  .notify_fd = -1};
	struct memfs *fs = calloc(1, sizeof(*fs));
	bool again = argc > 1 && strncmp(argv[1], "--", 2) == 0; /* survive_run() knows */

	if (!fs || (!again && (argc < 2 || argc > 3 || !realpath(argv[1], mountpoint)))) {
		fprintf(stderr, "usage: memfs MOUNTPOINT [N]\n");
		return EXIT_USAGE;
	}
	fs->dies = argc > 2 + again ? (unsigned)atoi(argv[2 + again]) : 0;
	return survive_run(fs, &options);
}
