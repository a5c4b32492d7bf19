/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Whether an operation changes mtime and ctime, for some of the steps.
 *
 * Times tick, so that "changed" alone would depend on when the tick came. Here the clock is made to tick
 * first: a time after that comes from this step, any other from before. Which of the two it is must agree,
 * for each name the operation touches and for the directory it is in.
 */
#include "difftest.h"

#include <fcntl.h>
#include <string.h>

static bool before(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

/*
 * Until the coarse clock, which stamps files, has passed `start`: what happened before is stamped no later
 * than start (some file systems stamp with the fine clock), what happens now is stamped later.
 */
static void clock_tick(struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, start);
	do
		clock_gettime(CLOCK_REALTIME_COARSE, &now);
	while (!before(start, &now));
}

static void probe_add(struct times_probe *probe, const char *path)
{
	strcpy(probe->path[probe->n++], path);
}

void times_before(struct times_probe *probe, const struct op *op)
{
	char parent[PATH_SPACE];

	probe->n = 0;
	for (int i = 0; i < 2; i++) {
		if (!op_has_path(op, i))
			continue;
		probe_add(probe, op->path[i]);
		if (path_parent(op->path[i], parent))
			probe_add(probe, parent);
	}
	if (probe->n)
		clock_tick(&probe->start);
}

static const char *when(const struct timespec *t, const struct timespec *start)
{
	return before(start, t) ? "from the step" : "older than the step";
}

static void compare_when(struct report *rep, const char *what, const char *path, const struct timespec *start,
			 const struct timespec *a, const struct timespec *b)
{
	char name[400];

	if (before(start, a) == before(start, b))
		return;
	report_difference(rep, "%s of %s\n  A: %s\n  B: %s\n", what, name_quote(path, name, sizeof(name)),
			  when(a, start), when(b, start));
}

void times_after(const struct times_probe *probe, const int dir[SIDE_N], struct report *rep)
{
	struct stat a, b;

	for (int i = 0; i < probe->n; i++) {
		if (path_stat(dir[SIDE_A], probe->path[i], &a) || path_stat(dir[SIDE_B], probe->path[i], &b))
			continue;
		if (S_ISFIFO(a.st_mode) && except_has(EXCEPT_FIFO_TIMES))
			continue;
		compare_when(rep, "mtime", probe->path[i], &probe->start, &a.st_mtim, &b.st_mtim);
		compare_when(rep, "ctime", probe->path[i], &probe->start, &a.st_ctim, &b.st_ctim);
	}
}
