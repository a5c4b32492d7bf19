/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reads the table of mounts. Nothing here asks a mount for anything, so nothing here waits for a server. */
#include "recover/mounted.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "recover/place.h"
#include "recover/state.h"

/* Undoes the octal escapes of /proc/self/mountinfo (proc_pid_mountinfo(5)). */
static void unescape(char *text)
{
	char *to = text;

	for (; *text; text++) {
		if (text[0] == '\\' && text[1] >= '0' && text[1] <= '3' && text[2] && text[3]) {
			*to++ = (char)((text[1] - '0') * 64 + (text[2] - '0') * 8 + (text[3] - '0'));
			text += 3;
		} else {
			*to++ = *text;
		}
	}
	*to = 0;
}

/* One line: 36 35 0:98 /root /mountpoint flags [optional fields] - type source options. `at` has room for 4 * PATH_MAX. */
static bool line_parse(const char *line, struct mounted *mounted, char *at)
{
	const char *end = strstr(line, " - ");

	if (!end ||
	    sscanf(line, "%*d %*d %u:%u %*s %16383s", &mounted->device_major, &mounted->device_minor, at) != 3 ||
	    sscanf(end, " - %63s", mounted->type) != 1)
		return false;
	unescape(at);
	return true;
}

int mounted_each(mounted_see *see, void *context)
{
	FILE *table = fopen("/proc/self/mountinfo", "r");
	char *line = NULL, *at;
	size_t room = 0;

	if (!table)
		return -errno;
	at = malloc(4 * PATH_MAX); /* each byte may be escaped */
	while (at && getline(&line, &room, table) > 0) {
		struct mounted mounted = {0};

		if (line_parse(line, &mounted, at))
			see(context, &mounted, at);
	}
	free(at);
	free(line);
	fclose(table);
	return 0;
}

struct search {
	const char *mountpoint;
	struct mounted *found;
	unsigned n;
};

static void see_path(void *context, const struct mounted *mounted, const char *at)
{
	struct search *search = context;

	if (strcmp(at, search->mountpoint) == 0) {
		*search->found = *mounted;
		search->n++;
	}
}

static void see_device(void *context, const struct mounted *mounted, const char *at)
{
	struct search *search = context;

	(void)at;
	if (mounted->device_major == search->found->device_major &&
	    mounted->device_minor == search->found->device_minor)
		search->n++;
}

int mounted_find(const char *mountpoint, struct mounted *mounted)
{
	struct search search = {.mountpoint = mountpoint, .found = mounted};
	int err = mounted_each(see_path, &search);

	if (err || search.n == 0)
		return err ? err : -ENOENT;
	search.n = 0;
	err = mounted_each(see_device, &search);
	mounted->elsewhere = search.n ? search.n - 1 : 0;
	return err;
}

int mounted_name(const char *argument, char path[PATH_MAX])
{
	char copy[PATH_MAX], *slash;
	size_t length = strlen(argument);

	while (length > 1 && argument[length - 1] == '/')
		length--;
	if (length >= sizeof(copy))
		return -ENAMETOOLONG;
	memcpy(copy, argument, length);
	copy[length] = 0;
	slash = strrchr(copy, '/');
	if (strcmp(slash ? slash + 1 : copy, ".") == 0 || strcmp(slash ? slash + 1 : copy, "..") == 0 || slash == copy)
		return realpath(copy, path) ? 0 : -errno;
	if (slash)
		*slash = 0;
	if (!realpath(slash ? copy : ".", path))
		return -errno;
	length = strlen(path);
	snprintf(path + length, PATH_MAX - length, "%s%s", path[length - 1] == '/' ? "" : "/",
		 slash ? slash + 1 : copy);
	return 0;
}

static bool state_serves(unsigned device_minor)
{
	char path[PATH_MAX];
	struct state state;
	const char *why;
	bool serves;

	place_find(device_minor, path, sizeof(path));
	if (state_open(&state, path, &why))
		return false;
	serves = state.header->device_minor == device_minor && state_held(&state);
	state_close(&state);
	return serves;
}

bool mounted_by(const struct mounted *mounted, const char *name)
{
	const char *subtype = strchr(mounted->type, '.');

	/* fuse, or fxfuse where the module made it (mount.c) */
	if (mounted->device_major ||
	    (strncmp(mounted->type, "fuse", 4) != 0 && strncmp(mounted->type, "fxfuse", 6) != 0))
		return false;
	return (subtype && strcmp(subtype + 1, name) == 0) || state_serves(mounted->device_minor);
}
