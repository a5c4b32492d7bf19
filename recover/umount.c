/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * umount2(2) of the mount, which is what ends the monitor as well: it is asked by no signal, because a process id in the
 * state may be of another pid namespace, and the mount at hand a copy in another mount namespace than the monitor's.
 * Only a mount of ours is touched. A busy one stays as it is unless forced, as with umount(8); a dead one is no use to who
 * keeps it busy.
 */
#include "recover/umount.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>

#include "recover/internal.h"
#include "recover/mounted.h"
#include "recover/place.h"

#define NAP_MS 5
#define GRACE_MS 500 /* for the child to say that its own limit has passed */

struct umount {
	const char *mountpoint, *name;
	bool force;
	int64_t limit_ms;
};

bool umount_is_dead(const char *path)
{
	struct statx stx;

	return statx(AT_FDCWD, path, AT_STATX_FORCE_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE, &stx) && errno == ENOTCONN;
}

/* 0 or -errno. Another mount of the same connection is not ended by force. */
static int mount_take_off(const char *path, const struct mounted *mounted, bool force)
{
	int flags = UMOUNT_NOFOLLOW, err;

	if (force)
		flags |= MNT_DETACH | (mounted->elsewhere ? 0 : MNT_FORCE);
	if (umount2(path, flags) == 0)
		return 0;
	err = -errno;
	if (err != -EBUSY || !umount_is_dead(path))
		return err;
	return umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) ? -errno : 0;
}

/* What is there of dead mounts at this place, or of this number. How many. */
static int leftovers_remove(const char *path, unsigned device_minor)
{
	struct places places;
	struct place place;
	int n = 0;

	if (places_open(&places))
		return 0;
	while (places_next(&places, &place)) {
		const struct state_header *header = place.state.header;

		if ((strcmp(header->mountpoint, path) == 0 || (device_minor && header->device_minor == device_minor)) &&
		    !state_held(&place.state)) {
			place_forget(&place);
			n++;
		}
		state_close(&place.state);
	}
	places_close(&places);
	return n;
}

/* Until nobody has the mount any more: 0, or the monitor that has. */
static int32_t end_wait(const struct state *state, int64_t until_ms)
{
	while (state_held(state)) {
		if (clock_ms() >= until_ms)
			return state->header->monitor_pid;
		nanosleep(&(struct timespec){.tv_nsec = NAP_MS * 1000000}, NULL);
	}
	return 0;
}

/* The state of the mount of this number; false: there is none that can be found. */
static bool state_find(unsigned device_minor, struct state *state)
{
	char path[PATH_MAX];
	const char *why;

	place_find(device_minor, path, sizeof(path));
	return state_open(state, path, &why) == 0;
}

static void umount_ours(const struct umount *umount, const char *path, const struct mounted *mounted,
			struct outcome *outcome)
{
	int64_t until_ms = clock_ms() + umount->limit_ms;
	int32_t monitor = 0;
	struct state state;
	bool known = state_find(mounted->device_minor, &state);
	int err = mount_take_off(path, mounted, umount->force);

	if (err) {
		outcome_set(outcome, err == -EBUSY ? EXIT_MOUNT : EXIT_SYSTEM, "cannot unmount %s: %s%s", path,
			    strerror(-err), err == -EBUSY ? " (--force: whoever uses it gets errors)" : "");
		return;
	}
	if (known && !mounted->elsewhere)
		monitor = end_wait(&state, until_ms);
	if (monitor)
		outcome_set(outcome, EXIT_OK,
			    "unmounted %s; its monitor %d goes on: it is mounted elsewhere too, or not done yet", path,
			    monitor);
	else
		outcome_set(outcome, EXIT_OK, "unmounted %s%s", path,
			    mounted->elsewhere ? "; it is mounted elsewhere too, and goes on there" : "");
	leftovers_remove(path, mounted->device_minor);
}

static void umount_nothing(const char *path, struct outcome *outcome)
{
	int n = leftovers_remove(path, 0);

	outcome_set(outcome, EXIT_OK, "nothing is mounted on %s%s", path,
		    n ? "; removed what a dead mount had left in /run/fxfs" : "");
}

static void umount_run(const void *argument, struct outcome *outcome)
{
	const struct umount *umount = argument;
	struct mounted mounted;
	char path[PATH_MAX];
	int err = mounted_name(umount->mountpoint, path);

	if (err == -ENOENT || err == -ENOTDIR) {
		outcome_set(outcome, EXIT_OK, "nothing is mounted on %s: %s", umount->mountpoint, strerror(-err));
		return;
	}
	if (!err)
		err = mounted_find(path, &mounted);
	if (err == -ENOENT)
		umount_nothing(path, outcome);
	else if (err)
		outcome_set(outcome, EXIT_SYSTEM, "cannot look at %s: %s", umount->mountpoint, strerror(-err));
	else if (!mounted_by(&mounted, umount->name))
		outcome_set(outcome, EXIT_USAGE, "%s is no mount of %s, its type is %s: left alone", path, umount->name,
			    mounted.type);
	else
		umount_ours(umount, path, &mounted, outcome);
}

void umount_ask(const char *mountpoint, const char *name, bool force, double seconds, struct outcome *outcome)
{
	const struct umount umount = {
		.mountpoint = mountpoint, .name = name, .force = force, .limit_ms = (int64_t)(seconds * 1000)};
	int err = limit_run(umount_run, &umount, umount.limit_ms + GRACE_MS, outcome);

	if (err == -ETIMEDOUT)
		outcome_set(outcome, EXIT_MOUNT, "cannot unmount %s within %g s: its server hangs%s", mountpoint,
			    seconds, force ? "" : " (--force ends it)");
	else if (err)
		outcome_set(outcome, EXIT_SYSTEM, "cannot unmount %s: %s", mountpoint, strerror(-err));
}
