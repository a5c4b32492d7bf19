/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Any bytes as a request: what request_valid() lets pass must be safe to take apart. libfuse does that here, with
 * operations that read all they are given, on a buffer that ends where the request ends.
 */
#include "test/fuzz/fuzz.h"
#include "test/unit/fixture.h"

#include <sys/socket.h>

static struct recover *mounts[2]; /* one agreed on FUSE_SETXATTR_EXT, the other did not */
static struct worker *serving;

/* --- operations ---------------------------------------------------------------------------------------------- */

static void reads(const void *bytes, size_t n)
{
	fuzz_read(bytes, n);
}

static void reads_name(const char *name)
{
	fuzz_read(name, strlen(name) + 1);
}

/* What the adapter of a file system reads for itself. */
static void reads_arguments(size_t n)
{
	fuzz_read((const struct fuse_in_header *)serving->in + 1, n);
}

static void reads_info(const struct fuse_file_info *fi)
{
	if (fi)
		reads(fi, sizeof(*fi));
}

static void on_init(void *userdata, struct fuse_conn_info *conn)
{
	if (worker_recover(userdata) == mounts[1])
		fuse_set_feature_flag(conn, FUSE_CAP_SETXATTR_EXT);
	conn->no_interrupt = 1;
}

static void on_node(fuse_req_t req, fuse_ino_t node)
{
	(void)node;
	fuse_reply_err(req, 0);
}

static void on_name(fuse_req_t req, fuse_ino_t node, const char *name)
{
	(void)node;
	reads_name(name);
	fuse_reply_err(req, 0);
}

static void on_file(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	(void)node;
	reads_info(fi);
	fuse_reply_err(req, 0);
}

static void on_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	reads_arguments(sizeof(struct fuse_open_in));
	on_file(req, node, fi);
}

static void on_setattr(fuse_req_t req, fuse_ino_t node, struct stat *attr, int valid, struct fuse_file_info *fi)
{
	(void)node, (void)valid;
	reads(attr, sizeof(*attr));
	reads_info(fi);
	reads_arguments(sizeof(struct fuse_setattr_in));
	fuse_reply_err(req, 0);
}

static void on_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	(void)mode, (void)rdev;
	reads_arguments(sizeof(struct fuse_mknod_in));
	on_name(req, parent, name);
}

static void on_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	(void)mode;
	reads_arguments(sizeof(struct fuse_mkdir_in));
	on_name(req, parent, name);
}

static void on_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	reads_name(target);
	on_name(req, parent, name);
}

static void on_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name,
		      unsigned flags)
{
	(void)new_parent, (void)flags;
	reads_name(name);
	on_name(req, parent, new_name);
}

static void on_link(fuse_req_t req, fuse_ino_t node, fuse_ino_t parent, const char *name)
{
	(void)node;
	on_name(req, parent, name);
}

static void on_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	(void)mode;
	reads_arguments(sizeof(struct fuse_create_in));
	reads_info(fi);
	on_name(req, parent, name);
}

static void on_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi)
{
	(void)mode;
	reads_arguments(sizeof(struct fuse_create_in));
	on_file(req, parent, fi);
}

static void on_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, struct fuse_file_info *fi)
{
	(void)size, (void)offset;
	on_file(req, node, fi);
}

static void on_write(fuse_req_t req, fuse_ino_t node, const char *data, size_t size, off_t offset,
		     struct fuse_file_info *fi)
{
	(void)offset;
	reads(data, size);
	reads_arguments(sizeof(struct fuse_write_in));
	on_file(req, node, fi);
}

static void on_fsync(fuse_req_t req, fuse_ino_t node, int data_only, struct fuse_file_info *fi)
{
	(void)data_only;
	on_file(req, node, fi);
}

static void on_setxattr(fuse_req_t req, fuse_ino_t node, const char *name, const char *value, size_t size, int flags)
{
	(void)flags;
	reads(value, size);
	if (serving->recover == mounts[1])
		reads_arguments(sizeof(struct fuse_setxattr_in));
	on_name(req, node, name);
}

static void on_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
	(void)size;
	on_name(req, node, name);
}

static void on_listxattr(fuse_req_t req, fuse_ino_t node, size_t size)
{
	(void)size;
	on_node(req, node);
}

static void on_access(fuse_req_t req, fuse_ino_t node, int mask)
{
	(void)mask;
	on_node(req, node);
}

static void on_getlk(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, struct flock *lock)
{
	reads(lock, sizeof(*lock));
	on_file(req, node, fi);
}

static void on_setlk(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, struct flock *lock, int sleep)
{
	(void)sleep;
	on_getlk(req, node, fi, lock);
}

static void on_flock(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, int operation)
{
	(void)operation;
	on_file(req, node, fi);
}

static void on_bmap(fuse_req_t req, fuse_ino_t node, size_t blocksize, uint64_t block)
{
	(void)blocksize, (void)block;
	on_node(req, node);
}

static void on_ioctl(fuse_req_t req, fuse_ino_t node, unsigned command, void *argument, struct fuse_file_info *fi,
		     unsigned flags, const void *in, size_t in_size, size_t out_size)
{
	(void)command, (void)argument, (void)flags, (void)out_size;
	reads(in, in_size);
	on_file(req, node, fi);
}

static void on_poll(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, struct fuse_pollhandle *handle)
{
	if (handle)
		fuse_pollhandle_destroy(handle);
	on_file(req, node, fi);
}

static void on_fallocate(fuse_req_t req, fuse_ino_t node, int mode, off_t offset, off_t length,
			 struct fuse_file_info *fi)
{
	(void)mode, (void)offset, (void)length;
	on_file(req, node, fi);
}

static void on_copy_file_range(fuse_req_t req, fuse_ino_t node_in, off_t in, struct fuse_file_info *fi_in,
			       fuse_ino_t node_out, off_t out, struct fuse_file_info *fi_out, size_t length, int flags)
{
	(void)in, (void)node_out, (void)out, (void)length, (void)flags;
	reads_info(fi_out);
	on_file(req, node_in, fi_in);
}

static void on_lseek(fuse_req_t req, fuse_ino_t node, off_t offset, int whence, struct fuse_file_info *fi)
{
	(void)offset, (void)whence;
	on_file(req, node, fi);
}

static const struct fuse_lowlevel_ops operations = {
	.init = on_init,
	.lookup = on_name,
	.getattr = on_file,
	.setattr = on_setattr,
	.readlink = on_node,
	.mknod = on_mknod,
	.mkdir = on_mkdir,
	.unlink = on_name,
	.rmdir = on_name,
	.symlink = on_symlink,
	.rename = on_rename,
	.link = on_link,
	.open = on_open,
	.read = on_read,
	.write = on_write,
	.flush = on_file,
	.release = on_file,
	.fsync = on_fsync,
	.opendir = on_open,
	.readdir = on_read,
	.readdirplus = on_read,
	.releasedir = on_file,
	.fsyncdir = on_fsync,
	.statfs = on_node,
	.setxattr = on_setxattr,
	.getxattr = on_getxattr,
	.listxattr = on_listxattr,
	.removexattr = on_name,
	.access = on_access,
	.create = on_create,
	.tmpfile = on_tmpfile,
	.getlk = on_getlk,
	.setlk = on_setlk,
	.flock = on_flock,
	.bmap = on_bmap,
	.ioctl = on_ioctl,
	.poll = on_poll,
	.fallocate = on_fallocate,
	.lseek = on_lseek,
	.copy_file_range = on_copy_file_range,
};

static const struct recover_fs reader = {.name = "fuzz",
					 .ops = &operations,
					 .drop_node = fixture_drop_node,
					 .drop_handle = fixture_drop_handle,
					 .mark = fixture_mark};

/* --- one request ---------------------------------------------------------------------------------------------- */

/* A mount that has answered INIT. */
static struct recover *mount_new(struct recover **place)
{
	struct {
		struct fuse_in_header in;
		struct fuse_init_in init;
	} init = {.in = {.len = sizeof(init), .opcode = FUSE_INIT, .unique = 1},
		  .init = {.major = FUSE_KERNEL_VERSION,
			   .minor = FUSE_KERNEL_MINOR_VERSION,
			   .max_readahead = 65536,
			   .flags = FUSE_INIT_EXT | FUSE_SETXATTR_EXT | FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS |
				    FUSE_BIG_WRITES | FUSE_DO_READDIRPLUS | FUSE_IOCTL_DIR,
			   .flags2 = (uint32_t)(FUSE_HAS_RESEND >> 32)}};
	static struct recover_options options;
	struct recover *recover = fixture_new();
	int pair[2];

	*place = recover;
	recover->fs = &reader;
	recover->options = &options;
	for (uint64_t number = 1; number <= 4; number++)
		fixture_node(recover, number);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) || write(pair[1], &init, sizeof(init)) != sizeof(init))
		err(1, "no kernel");
	recover->state.header->device[0] = pair[0];
	if (session_open_all(recover))
		errx(1, "no session");
	recover->workers[0].swallow = true;
	return recover;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct recover *recover;
	struct fuse_in_header *in;

	if (size < 1 + sizeof(*in) || size > 65536)
		return 0;
	recover = mounts[data[0] & 1];
	serving = &recover->workers[0];
	size--;
	in = malloc(size);
	if (!in)
		return 0;
	memcpy(in, data + 1, size);
	if (in->len != UINT32_MAX) /* that one stands for a wrong length; any other is mended */
		in->len = (uint32_t)size;
	/* DESTROY ends the session */
	if (in->opcode != FUSE_DESTROY && request_valid(in, size, recover_init_flags(recover))) {
		serving->in = (uint8_t *)in;
		serving->slot->forgets_done = 0;
		switch (in->opcode) {
		case FUSE_FORGET:
		case FUSE_BATCH_FORGET:
			forget_apply(recover, in, serving->slot);
			break;
		case FUSE_INTERRUPT:
			reads_arguments(sizeof(struct fuse_interrupt_in));
			break;
		case FUSE_STATX:
			reads_arguments(sizeof(struct fuse_statx_in));
			break;
		case FUSE_SYNCFS:
			reads_arguments(sizeof(struct fuse_syncfs_in));
			break;
		default:
			session_dispatch(serving, size);
		}
	}
	free(in);
	return 0;
}

/* Each opcode, with as many zeros as suffice, and as two names. */
static void seeds(void)
{
	uint8_t seed[1 + sizeof(struct fuse_in_header) + 160] = {0};
	struct fuse_in_header in = {.nodeid = 2};

	for (in.opcode = 1; in.opcode < 64; in.opcode++) {
		memcpy(seed + 1, &in, sizeof(in));
		seed[0] = 1;
		fuzz_seed(seed, sizeof(seed));
		seed[0] = 0;
		memcpy(seed + 1 + sizeof(in), "name", 5);
		memcpy(seed + 1 + sizeof(in) + 5, "other", 6);
		fuzz_seed(seed, 1 + sizeof(in) + 11);
		memset(seed + 1 + sizeof(in), 0, 11);
	}
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	fuzz_start(*argc, *argv, seeds);
	mount_new(&mounts[0]);
	mount_new(&mounts[1]);
	if (recover_init_flags(mounts[0]) & FUSE_SETXATTR_EXT || !(recover_init_flags(mounts[1]) & FUSE_SETXATTR_EXT))
		errx(1, "the mounts are not what they have to be");
	return 0;
}
