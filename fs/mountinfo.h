/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Directories below SOURCE on which something is mounted, or was. */
#ifndef FS_MOUNTINFO_H
#define FS_MOUNTINFO_H

#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>

#define MOUNTINFO_HANDLE_BYTES 128

struct mountinfo_directory {
	uint32_t fsid[2];
	struct file_handle handle;
	uint8_t bytes[MOUNTINFO_HANDLE_BYTES];
};

struct mountinfo {
	FILE *table;
	char *paths; /* one after the other, as they were when they were last looked at */
	size_t bytes;
};

typedef void mountinfo_tell(void *context, const struct mountinfo_directory *directory, const char *name);

/* A descriptor that poll(2) says POLLPRI of when the table has changed; -errno. */
int mountinfo_open(void);

/* Tells of each such directory, and of each from the last time. */
void mountinfo_look(struct mountinfo *mountinfo, int fd, int source_fd, mountinfo_tell *tell, void *context);

#endif
