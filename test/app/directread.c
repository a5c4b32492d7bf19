// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * directread FILE SEED: reads the whole file in 4096-byte O_DIRECT reads and checks every byte against the
 * pattern. Any error, short read or wrong byte ends it with status 1; no read is tried a second time.
 */
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pattern.h"

int main(int argc, char **argv)
{
	static uint64_t block[BLOCK_BYTES / 8] __attribute__((aligned(BLOCK_BYTES)));
	struct stat st;
	uint64_t seed, offset;
	int fd;

	if (argc != 3)
		errx(2, "usage: directread FILE SEED");
	seed = strtoull(argv[2], NULL, 0);
	fd = open(argv[1], O_RDONLY | O_DIRECT);
	if (fd < 0 || fstat(fd, &st) < 0)
		err(1, "%s", argv[1]);

	for (offset = 0; offset < (uint64_t)st.st_size; offset += BLOCK_BYTES) {
		ssize_t n = read(fd, block, BLOCK_BYTES);

		if (n < 0)
			err(1, "%s: read at %" PRIu64, argv[1], offset);
		if (n != BLOCK_BYTES)
			errx(1, "%s: read at %" PRIu64 " gave %zd bytes", argv[1], offset, n);
		for (size_t i = 0; i < BLOCK_BYTES / 8; i++)
			if (block[i] != pattern_word(seed, offset + i * 8))
				errx(1, "%s: wrong content at %" PRIu64, argv[1], offset + i * 8);
	}
	if (read(fd, block, BLOCK_BYTES) != 0)
		errx(1, "%s: there is something after the end", argv[1]);
	printf("%" PRIu64 " blocks read\n", offset / BLOCK_BYTES);
	return 0;
}
