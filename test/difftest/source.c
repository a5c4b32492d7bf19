/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Looks at what was done through the mount B from the other side, in its source: names at once, attributes
 * after at most the time-out of the attribute cache (how often that took any time is counted).
 */
#include "difftest.h"

#include <errno.h>
#include <string.h>

#define LATE_MAX_MS 1200
#define LATE_STEP_MS 20

unsigned source_late;

static bool stat_same(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_mode == b->st_mode && a->st_nlink == b->st_nlink &&
	       a->st_uid == b->st_uid && a->st_gid == b->st_gid && a->st_size == b->st_size &&
	       a->st_rdev == b->st_rdev && !memcmp(&a->st_mtim, &b->st_mtim, sizeof(a->st_mtim)) &&
	       !memcmp(&a->st_ctim, &b->st_ctim, sizeof(a->st_ctim));
}

static void stat_describe(char *text, size_t size, const struct stat *st)
{
	snprintf(text, size, "ino:%lu mode:%o nlink:%lu uid:%u gid:%u size:%ld mtime:%ld.%09ld ctime:%ld.%09ld",
		 (unsigned long)st->st_ino, st->st_mode, (unsigned long)st->st_nlink, st->st_uid, st->st_gid,
		 (long)st->st_size, st->st_mtim.tv_sec, st->st_mtim.tv_nsec, st->st_ctim.tv_sec, st->st_ctim.tv_nsec);
}

/* Whether the mount comes to show the source's attributes in time. */
static bool stat_catches_up(int mount_dir, int source_dir, const char *path, struct stat st[2])
{
	const struct timespec pause = {.tv_nsec = LATE_STEP_MS * 1000000};

	for (int ms = 0; ms <= LATE_MAX_MS; ms += LATE_STEP_MS) {
		if (path_stat(mount_dir, path, &st[0]) || path_stat(source_dir, path, &st[1]))
			return false;
		if (stat_same(&st[0], &st[1]))
			return true;
		source_late += !ms;
		nanosleep(&pause, NULL);
	}
	return false;
}

void source_compare(struct report *rep, int mount_dir, int source_dir, const char *path)
{
	const int dir[SIDE_N] = {source_dir, mount_dir};
	int in_mount, in_source;
	char name[400], text[2][300];
	struct stat st[2];

	in_mount = path_stat(mount_dir, path, &st[0]);
	in_source = path_stat(source_dir, path, &st[1]);
	if (in_mount != in_source)
		report_difference(rep, "existence of %s\n  mount: %s\n  source: %s\n",
				  name_quote(path, name, sizeof(name)), strerrorname_np(-in_mount) ?: "ok",
				  strerrorname_np(-in_source) ?: "ok");
	if (in_mount || in_source)
		return;
	if (!stat_catches_up(mount_dir, source_dir, path, st)) {
		stat_describe(text[0], sizeof(text[0]), &st[0]);
		stat_describe(text[1], sizeof(text[1]), &st[1]);
		report_difference(rep, "attributes of %s\n  mount: %s\n  source: %s\n",
				  name_quote(path, name, sizeof(name)), text[0], text[1]);
	} else if (S_ISREG(st[0].st_mode)) {
		compare_content(rep, dir, path);
	}
}
