/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The watcher's eye on the table of mounts: what is mounted on a directory below SOURCE, or taken off it, makes no event in
 * any file system. When the table changes, the names on which something is or was mounted are expired.
 *
 * What was mounted before is known to this watcher only. One that starts anew does not learn of what was taken off since
 * the last one looked: a bind mount within one file system is then seen until its name is asked for again.
 */
#include "fs/mountinfo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "recover/log.h"

int mountinfo_open(void)
{
	int fd = open("/proc/self/mountinfo", O_RDONLY);

	return fd < 0 ? -errno : fd;
}

/* Undoes the octal escapes of proc_pid_mountinfo(5). */
static void unescape(char *text)
{
	char *to = text;

	for (; *text; text++)
		if (text[0] == '\\' && text[1] >= '0' && text[1] <= '3' && text[2] && text[3]) {
			*to++ = (char)((text[1] - '0') * 64 + (text[2] - '0') * 8 + (text[3] - '0'));
			text += 3;
		} else {
			*to++ = *text;
		}
	*to = 0;
}

/* The fifth field of a line, if it is a path below `source`. */
static char *mountpoint_of(char *line, const char *source)
{
	size_t length = strcmp(source, "/") == 0 ? 0 : strlen(source);
	char *save, *field = strtok_r(line, " ", &save);

	for (int i = 0; field && i < 4; i++)
		field = strtok_r(NULL, " ", &save);
	if (!field)
		return NULL;
	unescape(field);
	return strncmp(field, source, length) == 0 && field[length] == '/' && field[length + 1] ? field : NULL;
}

/* Splits the path, and asks the kernel what an event of its directory would call that: it opens nothing. */
static void tell_directory(char *path, mountinfo_tell *tell, void *context)
{
	char *slash = strrchr(path, '/');
	struct mountinfo_directory directory = {.handle.handle_bytes = MOUNTINFO_HANDLE_BYTES};
	struct statfs st;
	int mount_id;

	*slash = 0;
	if (name_to_handle_at(AT_FDCWD, *path ? path : "/", &directory.handle, &mount_id, 0) == 0 &&
	    statfs(*path ? path : "/", &st) == 0) {
		memcpy(directory.fsid, &st.f_fsid, sizeof(directory.fsid));
		tell(context, &directory, slash + 1);
	}
	*slash = '/';
}

/* The paths that a table of mounts has below `source`, each with its end; NULL: out of memory. */
static char *paths_read(FILE *table, const char *source, size_t *bytes)
{
	char *line = NULL, *path, *paths = NULL;
	size_t room = 0;
	FILE *out = open_memstream(&paths, bytes);

	if (!out)
		return NULL;
	rewind(table);
	while (getline(&line, &room, table) > 0) {
		path = mountpoint_of(line, source);
		if (path)
			fwrite(path, strlen(path) + 1, 1, out);
	}
	free(line);
	fclose(out);
	return paths;
}

void mountinfo_look(struct mountinfo *mountinfo, int fd, int source_fd, mountinfo_tell *tell, void *context)
{
	char link[32], source[PATH_MAX], *paths;
	ssize_t length;
	size_t bytes = 0;

	if (!mountinfo->table)
		mountinfo->table = fdopen(fd, "r");
	snprintf(link, sizeof(link), "/proc/self/fd/%d", source_fd);
	length = readlink(link, source, sizeof(source) - 1);
	if (length < 0 || !mountinfo->table)
		return;
	source[length] = 0;
	paths = paths_read(mountinfo->table, source, &bytes);
	if (!paths)
		return;
	for (char *path = mountinfo->paths; path && path < mountinfo->paths + mountinfo->bytes;
	     path += strlen(path) + 1)
		tell_directory(path, tell, context);
	for (char *path = paths; path < paths + bytes; path += strlen(path) + 1)
		tell_directory(path, tell, context);
	free(mountinfo->paths);
	mountinfo->paths = paths;
	mountinfo->bytes = bytes;
}
