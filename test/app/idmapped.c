// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * idmapped DIRECTORY MOUNTPOINT SOURCE:MOUNT:COUNT...: mounts the directory a second time, as an idmapped mount
 * (mount_setattr(2)): users and groups SOURCE of its files are MOUNT there.
 */
#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

static void map_write(pid_t pid, const char *file, char *const ranges[])
{
	char path[64], text[4096];
	int length = 0, fd;

	for (; *ranges; ranges++) {
		unsigned source, mount, count;

		if (sscanf(*ranges, "%u:%u:%u", &source, &mount, &count) != 3)
			errx(2, "not a range: %s", *ranges);
		length += snprintf(text + length, sizeof(text) - length, "%u %u %u\n", source, mount, count);
	}
	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, text, length) != length)
		err(1, "%s", path);
	close(fd);
}

/* A user namespace with these ranges. */
static int namespace_open(char *const ranges[])
{
	int ready[2], fd;
	char path[64], byte;
	pid_t child;

	if (pipe(ready))
		err(1, "pipe");
	child = fork();
	if (child < 0)
		err(1, "fork");
	if (child == 0) {
		if (unshare(CLONE_NEWUSER) || write(ready[1], "", 1) != 1)
			err(1, "unshare");
		pause();
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		errx(1, "no user namespace");
	map_write(child, "uid_map", ranges);
	map_write(child, "gid_map", ranges);
	snprintf(path, sizeof(path), "/proc/%d/ns/user", child);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		err(1, "%s", path);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	return fd;
}

int main(int argc, char **argv)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP};
	int tree;

	if (argc < 4)
		errx(2, "usage: idmapped DIRECTORY MOUNTPOINT SOURCE:MOUNT:COUNT...");
	attr.userns_fd = namespace_open(argv + 3);
	tree = open_tree(AT_FDCWD, argv[1], OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0)
		err(1, "open_tree %s", argv[1]);
	if (mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)))
		err(1, "mount_setattr %s", argv[1]);
	if (move_mount(tree, "", AT_FDCWD, argv[2], MOVE_MOUNT_F_EMPTY_PATH))
		err(1, "move_mount %s", argv[2]);
	return 0;
}
