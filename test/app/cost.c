// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * cost COUNT ROUNDS stat|open PATH: what one call costs on PATH/0 to PATH/COUNT-1, in nanoseconds, the least of all rounds. Where
 * the machine counts instructions (QEMU -icount shift=0) these are instructions.
 *
 * Prints `NANOSECONDS SUCCEEDED`: of how many of the last round the call succeeded.
 */
#include <err.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static bool call(const char *path, bool open_it)
{
	struct stat st;
	char byte;
	int fd;

	if (!open_it)
		return !stat(path, &st);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return false;
	(void)!read(fd, &byte, 1);
	close(fd);
	return true;
}

int main(int argc, char **argv)
{
	char(*paths)[256];
	int count, rounds, succeeded = 0;
	int64_t least = INT64_MAX;
	bool open_it;

	if (argc != 5)
		errx(2, "usage: cost COUNT ROUNDS stat|open PATH");
	count = atoi(argv[1]);
	rounds = atoi(argv[2]);
	open_it = !strcmp(argv[3], "open");
	paths = calloc((size_t)count, sizeof(*paths));
	if (!paths)
		err(2, "calloc");
	for (int i = 0; i < count; i++)
		snprintf(paths[i], sizeof(paths[i]), "%s/%d", argv[4], i);
	while (rounds-- > 0) {
		int64_t begin = now_ns(), took;

		succeeded = 0;
		for (int i = 0; i < count; i++)
			succeeded += call(paths[i], open_it);
		took = (now_ns() - begin) / count;
		if (took < least)
			least = took;
	}
	printf("%lld %d\n", (long long)least, succeeded);
	return 0;
}
