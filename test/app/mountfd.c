// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * mountfd MOUNTPOINT COMMAND [ARGUMENT...]: opens /dev/fuse, mounts it at MOUNTPOINT, and becomes
 * `COMMAND ARGUMENT... /dev/fd/N`, N being the descriptor: what a container runtime does for a file system
 * that may not mount by itself. The file system type is $TYPE, or fuse.fxfs.
 */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	const char *type = getenv("TYPE") ? getenv("TYPE") : "fuse.fxfs";
	char options[128], path[32], **command;
	int fd;

	if (argc < 3)
		errx(2, "usage: mountfd MOUNTPOINT COMMAND [ARGUMENT...]");
	fd = open("/dev/fuse", O_RDWR);
	if (fd < 0)
		err(1, "/dev/fuse");
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions",
		 fd);
	if (mount("beforehand", argv[1], type, MS_NOSUID, options) < 0)
		err(1, "mount %s", argv[1]);

	command = calloc(argc, sizeof(*command));
	if (!command)
		err(1, NULL);
	for (int i = 2; i < argc; i++)
		command[i - 2] = argv[i];
	snprintf(path, sizeof(path), "/dev/fd/%d", fd);
	command[argc - 2] = path;
	execvp(command[0], command);
	err(1, "%s", command[0]);
}
