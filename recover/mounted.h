/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is mounted where, as the table of mounts has it: the kernel answers for it, and no server is asked. */
#ifndef RECOVER_MOUNTED_H
#define RECOVER_MOUNTED_H

#include <limits.h>
#include <stdbool.h>

struct mounted {
	unsigned device_major, device_minor;
	char type[64];	    /* "fuse.fxfs" */
	unsigned elsewhere; /* how many more mounts the table has of this file system */
};

typedef void mounted_see(void *context, const struct mounted *mounted, const char *at);

/* Each line of the table. 0 or -errno. */
int mounted_each(mounted_see *see, void *context);

/* What is mounted on `mountpoint`, an absolute path; of several, the one on top. 0, -ENOENT: nothing is, or -errno. */
int mounted_find(const char *mountpoint, struct mounted *mounted);

/*
 * The absolute path of a mountpoint; only the directory that holds it is resolved, so what hangs there does not matter.
 * 0 or -errno.
 */
int mounted_name(const char *argument, char path[PATH_MAX]);

/*
 * Is it served by the file system `name`? Either it was mounted by it, or somebody else mounted it and handed over
 * /dev/fuse: then a state says so.
 */
bool mounted_by(const struct mounted *mounted, const char *name);

#endif
