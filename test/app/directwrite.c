// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * directwrite FILE SEED BYTES: writes BYTES of the pattern from the start of the file, in 4096-byte O_DIRECT
 * writes; makes the file if it is missing. Any error or short write ends it with status 1; no write is tried
 * a second time.
 */
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "pattern.h"

int main(int argc, char **argv)
{
	static uint64_t block[BLOCK_BYTES / 8] __attribute__((aligned(BLOCK_BYTES)));
	uint64_t seed, bytes, offset;
	int fd;

	if (argc != 4)
		errx(2, "usage: directwrite FILE SEED BYTES");
	seed = strtoull(argv[2], NULL, 0);
	bytes = strtoull(argv[3], NULL, 0);
	fd = open(argv[1], O_WRONLY | O_CREAT | O_DIRECT, 0644);
	if (fd < 0)
		err(1, "%s", argv[1]);

	for (offset = 0; offset < bytes; offset += BLOCK_BYTES) {
		ssize_t n;

		pattern_fill(block, seed, offset);
		n = write(fd, block, BLOCK_BYTES);
		if (n < 0)
			err(1, "%s: write at %" PRIu64, argv[1], offset);
		if (n != BLOCK_BYTES)
			errx(1, "%s: write at %" PRIu64 " took %zd bytes", argv[1], offset, n);
	}
	if (close(fd) < 0)
		err(1, "%s: close", argv[1]);
	printf("%" PRIu64 " blocks written\n", offset / BLOCK_BYTES);
	return 0;
}
