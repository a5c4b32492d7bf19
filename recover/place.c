/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where the state of a mount stands: made under a name of its own before the mount exists, found by --status under the
 * number of the mount's device, removed with the mount.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "recover/internal.h"
#include "recover/log.h"
#include "recover/place.h"

/* Where the state is made: under its final name where that is known, else under one that only we use. */
static const char *state_first_path(const struct recover_options *options, char *path, size_t size)
{
	if (options->state_path)
		return options->state_path;
	mkdir("/run", 0755); /* an image may have none */
	if (mkdir("/run/fxfs", 0700) && errno != EEXIST)
		return NULL;
	snprintf(path, size, "/run/fxfs/new.%d", getpid());
	unlink(path);
	return path;
}

/* A state that an earlier mount left at the user's path goes if that mount is dead; anything else stays. */
static int state_replace(const char *path)
{
	struct state old;
	const char *why;
	int err = state_open(&old, path, &why);
	bool held;

	if (err) {
		log_error("%s exists and is not used: %s", path, why);
		return -EEXIST;
	}
	held = state_held(&old);
	if (held)
		log_error("%s is in use by the mount of monitor %d", path, old.header->monitor_pid);
	state_close(&old);
	if (held)
		return -EBUSY;
	if (unlink(path)) {
		err = -errno;
		log_error("cannot replace the state %s: %s", path, strerror(-err));
	}
	return err;
}

/* 0 or -errno; what is wrong was said. */
int place_make(struct recover *recover)
{
	char path[64];
	const char *first = state_first_path(recover->options, path, sizeof(path));
	const char *asked = recover->options->state_path;
	int err = state_create(&recover->state, first, recover->fs->area_bytes);

	if (err == -EEXIST && asked) {
		err = state_replace(first);
		if (err)
			return err;
		err = state_create(&recover->state, first, recover->fs->area_bytes);
	}
	if (!asked && (err == -EROFS || err == -EACCES || err == -ENOENT || err == -EPERM)) {
		log_warning("/run/fxfs is not writable (%s): the state is in memory, and --status cannot find it",
			    strerror(-err));
		err = state_create(&recover->state, NULL, recover->fs->area_bytes);
	}
	if (err)
		log_error("cannot create the state %.4095s: %s", asked ? asked : "in /run/fxfs", strerror(-err));
	return err;
}

/*
 * Held while a name in /run/fxfs is given or taken: the number in it is free as soon as a mount is gone, and the next one
 * that gets it may be naming its state just when the last one looks whether the name is still its own. -1: there is no
 * such directory, and no name in it.
 */
static int names_lock(void)
{
	int fd = open("/run/fxfs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0)
		flock(fd, LOCK_EX);
	return fd;
}

static void names_unlock(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* --status looks under the default name: there a link leads to a state that is kept elsewhere. */
static void state_link(const char *path, const char *name)
{
	mkdir("/run/fxfs", 0700);
	unlink(name);
	if (symlink(path, name))
		log_warning("cannot link %s to %s: %s: --status needs -o state=", name, path, strerror(errno));
}

unsigned place_connection(int device)
{
	char path[48], line[128];
	unsigned minor_number = 0;
	FILE *info;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", device);
	info = fopen(path, "r");
	while (info && fgets(line, sizeof(line), info))
		if (sscanf(line, "fuse_connection: %u", &minor_number) == 1)
			break;
	if (info)
		fclose(info);
	return minor_number;
}

/* Where --status looks: by device number, or, without one, where nobody but a person finds it. */
static void state_public_path(const struct state_header *header, char *path, size_t size)
{
	if (header->device_minor)
		state_default_path(header->device_minor, path, size);
	else
		snprintf(path, size, "/run/fxfs/fd-%" PRIx64 ".state", header->started_realtime_ns);
}

/* The mount has a device number now: the state gets the name by which --status finds it. */
void place_name(struct recover *recover)
{
	struct state_header *header = recover->state.header;
	char path[64];
	struct statx stx;
	int lock;

	if (mount_is_passed(recover))
		header->device_minor = place_connection(header->device[0]);
	else if (statx(AT_FDCWD, recover->options->mountpoint, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE,
		       &stx) == 0)
		header->device_minor = stx.stx_dev_minor;
	if (!header->path[0])
		return;
	state_public_path(header, path, sizeof(path));
	lock = names_lock();
	if (recover->options->state_path)
		state_link(recover->options->state_path, path);
	else if (rename(header->path, path) == 0)
		snprintf(header->path, sizeof(header->path), "%s", path);
	names_unlock(lock);
}

void place_describe(struct recover *recover)
{
	struct state_header *header = recover->state.header;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	header->started_realtime_ns = (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
	header->workers = recover->workers_n;
	snprintf(header->source, sizeof(header->source), "%s", recover->options->source);
	snprintf(header->mountpoint, sizeof(header->mountpoint), "%s", recover->options->mountpoint);
	snprintf(header->cache, sizeof(header->cache), "%s", recover->options->cache);
}

/* Does the path lead to the open state? */
static bool state_is_at(const struct state *state, const char *path)
{
	struct stat ours, there;

	return fstat(state->fd, &ours) == 0 && stat(path, &there) == 0 && ours.st_dev == there.st_dev &&
	       ours.st_ino == there.st_ino;
}

/*
 * The number in the default name is free again as soon as the mount is gone: what stands there may be the next one's.
 * Followed, a link of ours leads to our file.
 */
static void state_unlink(const struct state *state, const char *path)
{
	if (state_is_at(state, path))
		unlink(path);
}

void place_remove(const struct state *state)
{
	char name[64];
	int lock = names_lock();

	state_public_path(state->header, name, sizeof(name));
	state_unlink(state, name);
	if (state->header->path[0])
		state_unlink(state, state->header->path);
	names_unlock(lock);
}

/* Another mount namespace need not have the name: it gets one where the file can be linked to. */
void place_adopt(struct recover *recover)
{
	struct state_header *header = recover->state.header;
	char path[64], open_file[32];
	int lock;

	if (!header->path[0])
		return;
	mkdir("/run/fxfs", 0700);
	lock = names_lock();
	snprintf(open_file, sizeof(open_file), "/proc/self/fd/%d", recover->state.fd);
	if (!state_is_at(&recover->state, header->path) &&
	    linkat(AT_FDCWD, open_file, AT_FDCWD, header->path, AT_SYMLINK_FOLLOW)) {
		log_warning(
			"the state has no name any more: --status cannot find it (-o state= on a lasting directory)");
		header->path[0] = 0;
	}
	state_public_path(header, path, sizeof(path));
	if (header->path[0] && strcmp(header->path, path) != 0)
		state_link(header->path, path);
	names_unlock(lock);
}

/* With -o state=PATH the name in /run/fxfs, where only root writes, is a link. */
static void place_follow(const char *name, char *path, size_t size)
{
	ssize_t length = readlink(name, path, size - 1);

	if (length < 0)
		snprintf(path, size, "%s", name);
	else
		path[length] = 0;
}

void place_find(uint32_t device_minor, char *path, size_t size)
{
	char name[64];

	state_default_path(device_minor, name, sizeof(name));
	place_follow(name, path, size);
}

int places_open(struct places *places)
{
	places->directory = opendir("/run/fxfs");
	if (!places->directory)
		return -errno;
	places->lock = names_lock();
	return 0;
}

bool places_next(struct places *places, struct place *place)
{
	const struct dirent *entry;
	const char *why;

	while ((entry = readdir(places->directory))) {
		if (strlen(entry->d_name) + sizeof("/run/fxfs/") > sizeof(place->name))
			continue; /* no name of ours */
		snprintf(place->name, sizeof(place->name), "/run/fxfs/%.52s", entry->d_name);
		place_follow(place->name, place->path, sizeof(place->path));
		if (state_open(&place->state, place->path, &why) == 0)
			return true;
	}
	return false;
}

void places_close(struct places *places)
{
	names_unlock(places->lock);
	closedir(places->directory);
}

void place_forget(const struct place *place)
{
	state_unlink(&place->state, place->path);
	unlink(place->name);
}
