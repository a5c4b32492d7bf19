/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recover/descriptors.h"

#include <errno.h>
#include <limits.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef CLOSE_RANGE_UNSHARE /* Linux 5.9 */
#define CLOSE_RANGE_UNSHARE (1U << 1)
#endif

/* The highest of them up to `last`, or standard error. */
static unsigned highest(const int *fds, unsigned n, unsigned last)
{
	int found = STDERR_FILENO;

	for (unsigned i = 0; i < n; i++)
		if (fds[i] > found && (unsigned)fds[i] <= last)
			found = fds[i];
	return (unsigned)found;
}

int descriptors_own(const int *fds, unsigned n)
{
	unsigned last = UINT_MAX, keep = highest(fds, n, last);

	if (syscall(SYS_close_range, keep + 1, last, CLOSE_RANGE_UNSHARE))
		return -errno;
	while (keep > STDERR_FILENO) {
		last = keep - 1;
		keep = highest(fds, n, last);
		if (keep < last)
			syscall(SYS_close_range, keep + 1, last, 0);
	}
	return 0;
}
