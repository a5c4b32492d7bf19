/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One stat(2) that the kernel must not answer from its cache. The state is not needed, so this works as well in a container
 * to which only the mount came by propagation.
 */
#include "recover/health.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "recover/mounted.h"
#include "recover/recover.h"

enum { HEALTHY = 0, UNHEALTHY = 1 };

struct health {
	const char *mountpoint, *name;
};

static int health_stat(const char *path, struct outcome *outcome)
{
	uint64_t start = clock_ns();
	struct statx stx;

	if (statx(AT_FDCWD, path, AT_STATX_FORCE_SYNC | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &stx) == 0)
		return outcome_set(outcome, HEALTHY, "healthy: %s answered in %.1f ms", path,
				   (double)(clock_ns() - start) / 1e6);
	if (errno == ENOTCONN)
		return outcome_set(outcome, UNHEALTHY, "unhealthy: %s is dead: nobody serves it any more", path);
	return outcome_set(outcome, UNHEALTHY, "unhealthy: %s answers: %s", path, strerror(errno));
}

static void health_look(const void *argument, struct outcome *outcome)
{
	const struct health *health = argument;
	struct mounted mounted;
	char path[PATH_MAX];
	int err = mounted_name(health->mountpoint, path);

	if (!err)
		err = mounted_find(path, &mounted);
	if (err == -ENOENT)
		outcome_set(outcome, UNHEALTHY, "unhealthy: nothing is mounted on %s", health->mountpoint);
	else if (err)
		outcome_set(outcome, UNHEALTHY, "unhealthy: cannot look at %s: %s", health->mountpoint, strerror(-err));
	else if (!mounted_by(&mounted, health->name))
		outcome_set(outcome, UNHEALTHY, "unhealthy: %s is no mount of %s, its type is %s", path, health->name,
			    mounted.type);
	else
		health_stat(path, outcome);
}

void health_ask(const char *mountpoint, const char *name, double seconds, struct outcome *outcome)
{
	const struct health health = {.mountpoint = mountpoint, .name = name};
	int err = limit_run(health_look, &health, (int64_t)(seconds * 1000), outcome);

	if (err == -ETIMEDOUT)
		outcome_set(outcome, UNHEALTHY, "unhealthy: %s does not answer within %g s", mountpoint, seconds);
	else if (err)
		outcome_set(outcome, UNHEALTHY, "unhealthy: cannot ask %s: %s", mountpoint, strerror(-err));
}
