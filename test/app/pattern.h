/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The content that directwrite writes and directread expects: each 8 bytes depend on a seed and on their
 * offset, so a block that is old, shifted or taken from elsewhere is wrong in its first word.
 */
#ifndef TEST_APP_PATTERN_H
#define TEST_APP_PATTERN_H

#include <stddef.h>
#include <stdint.h>

#define BLOCK_BYTES 4096

/* splitmix64 */
static inline uint64_t pattern_word(uint64_t seed, uint64_t offset)
{
	uint64_t word = seed * UINT64_C(0x9e3779b97f4a7c15) + offset;

	word = (word ^ (word >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	word = (word ^ (word >> 27)) * UINT64_C(0x94d049bb133111eb);
	return word ^ (word >> 31);
}

static inline void pattern_fill(uint64_t *block, uint64_t seed, uint64_t offset)
{
	for (size_t i = 0; i < BLOCK_BYTES / sizeof(*block); i++)
		block[i] = pattern_word(seed, offset + i * sizeof(*block));
}

#endif
