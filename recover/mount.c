/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Attaches /dev/fuse to the mountpoint and takes it off again, by mount(2) itself: no helper. A mountpoint
 * /dev/fd/N is a descriptor of /dev/fuse that somebody else has mounted.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "recover/internal.h"
#include "recover/log.h"

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
static void warn_request_timeout(void)
{
	static const char *const names[] = {"default_request_timeout", "max_request_timeout"};
	char path[64], text[16];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		int fd;

		snprintf(path, sizeof(path), "/proc/sys/fs/fuse/%s", names[i]);
		fd = open(path, O_RDONLY);
		if (fd < 0)
			continue;
		memset(text, 0, sizeof(text));
		if (read(fd, text, sizeof(text) - 1) > 0 && atoi(text) > 0)
			log_warning("fs.fuse.%s is %d s: one request that takes longer aborts the mount", names[i],
				    atoi(text));
		close(fd);
	}
}

/* 0 or -errno; the descriptor serves in `device`. */
int mount_attach(struct recover *recover, int *device)
{
	const struct recover_options *options = recover->options;
	char data[128], type[64];
	struct stat st;
	int fd = mount_passed_fd(options->mountpoint);
	int err;

	warn_request_timeout();
	if (fd >= 0) {
		if (fcntl(fd, F_GETFD) < 0) {
			err = -errno;
			log_error("cannot use %s: %s", options->mountpoint, strerror(-err));
			return err;
		}
		*device = fd;
		return 0;
	}
	fd = open("/dev/fuse", O_RDWR);
	if (fd < 0) {
		log_error("cannot open /dev/fuse: %s", strerror(errno));
		return -errno;
	}
	if (stat(options->mountpoint, &st))
		goto fail;
	snprintf(data, sizeof(data), "fd=%d,rootmode=%o,user_id=%u,group_id=%u,allow_other,default_permissions", fd,
		 st.st_mode & S_IFMT, getuid(), getgid());
	snprintf(type, sizeof(type), "fuse.%s", recover->fs->name);
	if (mount(options->source, options->mountpoint, type, options->mount_flags, data))
		goto fail;
	*device = fd;
	return 0;
fail:
	err = -errno;
	log_error("cannot mount on %s: %s", options->mountpoint, strerror(-err));
	close(fd);
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
