/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Notifications to the kernel, written to the mount's own device without libfuse, whose sessions are the server's.
 */
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "recover/internal.h"

#define NOTIFY_INC_EPOCH 8 /* FUSE_NOTIFY_INC_EPOCH, protocol 7.44 */
#define EPOCH_MINOR 44

static int notify(struct recover *recover, int code, struct iovec *iov, int n)
{
	struct fuse_out_header header = {.len = sizeof(header), .error = code};

	iov[0] = (struct iovec){&header, sizeof(header)};
	for (int i = 1; i < n; i++)
		header.len += (uint32_t)iov[i].iov_len;
	return writev(recover->state.header->device[0], iov, n) < 0 ? -errno : 0;
}

int notify_expire_entry(struct recover *recover, uint64_t parent, const char *name)
{
	size_t length = strlen(name);
	struct fuse_notify_inval_entry_out out = {
		.parent = parent, .namelen = (uint32_t)length, .flags = FUSE_EXPIRE_ONLY};
	struct iovec iov[] = {{0}, {&out, sizeof(out)}, {(void *)name, length + 1}};

	return notify(recover, FUSE_NOTIFY_INVAL_ENTRY, iov, 3);
}

int notify_inval_inode(struct recover *recover, uint64_t nodeid, int64_t offset, int64_t length)
{
	struct fuse_notify_inval_inode_out out = {.ino = nodeid, .off = offset, .len = length};
	struct iovec iov[] = {{0}, {&out, sizeof(out)}};

	return notify(recover, FUSE_NOTIFY_INVAL_INODE, iov, 2);
}

bool notify_has_epoch(const struct recover *recover)
{
	const struct fuse_init_in *in = (const void *)(recover->state.header->init_in + sizeof(struct fuse_in_header));

	return in->minor >= EPOCH_MINOR;
}

int notify_inc_epoch(struct recover *recover)
{
	struct iovec iov[1];

	return notify(recover, NOTIFY_INC_EPOCH, iov, 1);
}
