/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The ioctls that make sense for a regular file or a directory. The kernel hands over those it knows how to carry
 * (restricted ioctls: sizes from the command); everything else is answered as a file system that has none.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fs/creds.h"
#include "fs/inode.h"
#include "fs/ops.h"

struct ioctl_shape {
	unsigned command;
	size_t bytes; /* that the kernel really reads or writes */
	bool set;
};

static const struct ioctl_shape shapes[] = {
	{FS_GETFLAGS, sizeof(int), false},  {FS_SETFLAGS, sizeof(int), true},	   {FS_GETVERSION, sizeof(int), false},
	{FS_SETVERSION, sizeof(int), true}, {FS_FSGETXATTR, FSXATTR_BYTES, false}, {FS_FSSETXATTR, FSXATTR_BYTES, true},
};

static const struct ioctl_shape *ioctl_shape(unsigned command)
{
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		if (shapes[i].command == command)
			return &shapes[i];
	return NULL;
}

int fs_ioctl(struct request *rq, uint64_t node, uint64_t fh, unsigned command, const void *in, size_t in_size,
	     size_t *out_size)
{
	const struct ioctl_shape *shape = ioctl_shape(command);
	struct handle spare, *handle = noopen_handle(rq, node, fh, 0, &spare);
	uint64_t argument[8] = {0};
	int err;

	if (!handle)
		return spare.fd;
	if (!shape)
		return -ENOTTY;
	if (shape->set && handle == &spare)
		return -EROFS;
	if (shape->set) {
		if (in_size < shape->bytes)
			return -EINVAL;
		memcpy(argument, in, shape->bytes);
		*out_size = 0;
		creds_caller(rq);
		return (int)request_call(rq, SYS_ioctl, handle->fd, command, (long)argument, 0, 0, 0);
	}
	err = ioctl(handle->fd, (int)command, argument) ? -errno : 0;
	if (err)
		return err;
	*out_size = *out_size < sizeof(argument) ? *out_size : sizeof(argument);
	memcpy(rq->out, argument, *out_size);
	return 0;
}
