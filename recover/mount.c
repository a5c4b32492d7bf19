/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Attaches a device to the mountpoint and takes it off again, by mount(2) itself: no helper. A mountpoint
 * /dev/fd/N is a descriptor of /dev/fuse that somebody else has mounted. The device may be /dev/fxfuse, of the module in
 * kernel/: the last part of its name is that of its file system type, and of its directories in /sys/fs and /proc/sys/fs.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "recover/internal.h"
#include "recover/log.h"

/* FSCONFIG_CMD_CREATE: not in musl's <sys/mount.h>, and glibc's excludes <linux/mount.h>. */
#define CONTEXT_CREATE 6

/* N of /dev/fd/N, or -1. */
static int mount_passed_fd(const char *mountpoint)
{
	static const char prefix[] = "/dev/fd/";
	char *end;
	long n;

	if (strncmp(mountpoint, prefix, sizeof(prefix) - 1) != 0)
		return -1;
	n = strtol(mountpoint + sizeof(prefix) - 1, &end, 10);
	return *end || n < 3 || n > INT_MAX ? -1 : (int)n;
}

bool mount_is_passed(const struct recover *recover)
{
	return mount_passed_fd(recover->options->mountpoint) >= 0;
}

/* The kernel's own time-out ends the whole connection, not one request. The second bounds, or replaces, the first. */
static void warn_request_timeout(const char *kind)
{
	static const char *const names[] = {"default_request_timeout", "max_request_timeout"};
	char path[64], text[16];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		int fd;

		snprintf(path, sizeof(path), "/proc/sys/fs/%s/%s", kind, names[i]);
		fd = open(path, O_RDONLY);
		if (fd < 0)
			continue;
		memset(text, 0, sizeof(text));
		if (read(fd, text, sizeof(text) - 1) > 0 && atoi(text) > 0)
			log_warning("fs.%s.%s is %d s: one request that takes longer aborts the mount", kind, names[i],
				    atoi(text));
		close(fd);
	}
}

/* fuse, or fxfuse. */
static const char *mount_kind(const struct recover *recover)
{
	const char *slash = strrchr(recover->state.header->device_path, '/');

	return slash && slash[1] ? slash + 1 : "fuse";
}

int mount_connection_open(const struct recover *recover)
{
	char name[24], type[64];
	int context, root = -1, fd = -1;

	snprintf(type, sizeof(type), "%sctl", mount_kind(recover));
	snprintf(name, sizeof(name), "%u", recover->state.header->device_minor);
	context = (int)syscall(SYS_fsopen, type, 0);
	if (context < 0)
		return -1;
	if (syscall(SYS_fsconfig, context, CONTEXT_CREATE, NULL, NULL, 0) == 0)
		root = (int)syscall(SYS_fsmount, context, 0, 0);
	close(context);
	if (root >= 0) {
		fd = openat(root, name, O_PATH | O_DIRECTORY);
		close(root);
	}
	return fd;
}

void mount_connection_path(const struct recover *recover, const char *file, char *path, size_t size)
{
	int fd = recover->state.header->keep[KEEP_CONNECTION];

	if (fd >= 0) {
		snprintf(path, size, "/proc/self/fd/%d/%s", fd, file);
		return;
	}
	snprintf(path, size, "/sys/fs/%s/connections/%u/%s", mount_kind(recover), recover->state.header->device_minor,
		 file);
}

/* By its descriptor: its path may be another's in this mount namespace, or none. */
int mount_reopen(int device)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", device);
	fd = open(path, O_RDWR);
	return fd < 0 ? -errno : fd;
}

/* The descriptor that somebody else has mounted, and what it is of. */
static int device_take(struct recover *recover, int fd)
{
	char *path = recover->state.header->device_path, link[32];
	ssize_t length;

	if (fcntl(fd, F_GETFD) < 0) {
		log_error("cannot use %s: %s", recover->options->mountpoint, strerror(errno));
		return -EBADF;
	}
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(recover->state.header->device_path) - 1);
	path[length < 0 ? 0 : length] = 0;
	return fd;
}

/* The device that was asked for; else that of the module where it is loaded, and the kernel's own otherwise. */
static int device_open(struct recover *recover)
{
	static const char *const known[] = {"/dev/fxfuse", "/dev/fuse"};
	const char *asked = recover->options->device, *path;
	int fd = -1;

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]) && fd < 0; i++) {
		path = asked ? asked : known[i];
		fd = open(path, O_RDWR);
		if (fd < 0 && !asked && i == 0 && errno != ENOENT && errno != ENXIO && errno != ENODEV)
			log_warning("%s is not used: %s", path, strerror(errno));
	}
	if (fd < 0) {
		int err = -errno;

		log_error("cannot open %s: %s", path, strerror(-err));
		return err;
	}
	snprintf(recover->state.header->device_path, sizeof(recover->state.header->device_path), "%s", path);
	log_info("device=%s: %s", path, strcmp(path, "/dev/fuse") ? "of the module fxfuse" : "the kernel's own");
	return fd;
}

static int mount_device(const struct recover *recover, int device)
{
	const struct recover_options *options = recover->options;
	char data[128], type[64];
	struct stat st;

	if (stat(options->mountpoint, &st))
		return -errno;
	snprintf(data, sizeof(data), "fd=%d,rootmode=%o,user_id=%u,group_id=%u,allow_other,default_permissions", device,
		 st.st_mode & S_IFMT, getuid(), getgid());
	snprintf(type, sizeof(type), "%s.%s", mount_kind(recover), recover->fs->name);
	return mount(options->source, options->mountpoint, type, options->mount_flags, data) ? -errno : 0;
}

int mount_open_device(struct recover *recover)
{
	int passed = mount_passed_fd(recover->options->mountpoint);
	int fd = passed < 0 ? device_open(recover) : device_take(recover, passed);

	if (fd < 0)
		return fd;
	recover->state.header->device[0] = fd;
	warn_request_timeout(mount_kind(recover));
	return 0;
}

int mount_attach(const struct recover *recover)
{
	int err;

	if (mount_is_passed(recover))
		return 0;
	err = mount_device(recover, recover->state.header->device[0]);
	if (err)
		log_error("cannot mount on %s: %s", recover->options->mountpoint, strerror(-err));
	return err;
}

/* Takes the mount off; where files are open on it, out of sight only (they go on), or by force. 0 or -errno. */
int mount_detach(const struct recover *recover, bool force)
{
	const char *mountpoint = recover->options->mountpoint;

	if (mount_is_passed(recover))
		return -EOPNOTSUPP; /* whoever mounted it unmounts it */
	if (umount2(mountpoint, force ? MNT_FORCE | MNT_DETACH : UMOUNT_NOFOLLOW) == 0)
		return 0;
	if (errno == EBUSY && umount2(mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) == 0) {
		log_warning("%s is busy: taken out of sight, open files go on until they are closed", mountpoint);
		return 0;
	}
	return -errno;
}
