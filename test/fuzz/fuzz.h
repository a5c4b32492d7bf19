/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the fuzzers share: `PROGRAM --seeds DIR` writes the first inputs instead of fuzzing; and how to read memory. */
#ifndef TEST_FUZZ_FUZZ_H
#define TEST_FUZZ_FUZZ_H

#include <err.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static const char *fuzz_directory;

static inline void fuzz_seed(const void *bytes, size_t n)
{
	static unsigned count;
	char path[4200];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%04u", fuzz_directory, count++);
	file = fopen(path, "w");
	if (!file || fwrite(bytes, 1, n, file) != n || fclose(file))
		err(1, "%s", path);
}

/* Called before anything else. */
static inline void fuzz_start(int argc, char **argv, void (*seeds)(void))
{
	if (argc == 3 && strcmp(argv[1], "--seeds") == 0) {
		fuzz_directory = argv[2];
		seeds();
		exit(0);
	}
}

/* Reads each byte, so that the sanitizer sees it. */
static inline void fuzz_read(const void *bytes, size_t n)
{
	static volatile uint8_t sum;
	const volatile uint8_t *at = bytes;

	for (size_t i = 0; i < n; i++)
		sum = (uint8_t)(sum + at[i]);
}

#endif
