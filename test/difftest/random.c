/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Random numbers that depend on (seed, step) alone, and the distributions the operations share: offsets
 * and sizes sit around pages, blocks and 4 GiB, where mistakes are.
 */
#include "difftest.h"

#include <string.h>

static uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ull;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

void rng_init(struct rng *r, uint64_t seed, uint64_t step)
{
	r->state = mix(seed + 0x9e3779b97f4a7c15ull) ^ mix(step * 0xd1342543de82ef95ull + 1);
}

uint64_t rng_next(struct rng *r)
{
	r->state += 0x9e3779b97f4a7c15ull;
	return mix(r->state);
}

unsigned rng_below(struct rng *r, unsigned n)
{
	return (rng_next(r) >> 32) * n >> 32;
}

bool rng_one_in(struct rng *r, unsigned n)
{
	return rng_below(r, n) == 0;
}

long rng_pick(struct rng *r, const long *values, size_t n)
{
	return values[rng_below(r, n)];
}

/* Modes are mostly permissive: a tree where nobody may do anything finds nothing. */
mode_t rng_mode(struct rng *r, mode_t usual)
{
	if (rng_below(r, 10) < 5)
		return usual;
	if (rng_below(r, 10) < 6)
		return RNG_PICK(r, 0777, 0755, 0775, 0770, 0750, 0700, 0666, 0644, 0664, 0600, 01777, 02775, 02777,
				03777, 04755, 02755, 06755, 02644, 04666);
	return rng_below(r, 010000);
}

long rng_offset(struct rng *r)
{
	if (rng_one_in(r, 12))
		return RNG_PICK(r, 0xffffffffl, 0x100000000l, 0x100000005l, 0x280000000l);
	if (rng_one_in(r, 2))
		return RNG_PICK(r, 0, 0, 0, 1, 511, 512, 4095, 4096, 4097, 8192, 65535, 65536, 131072);
	return rng_below(r, rng_one_in(r, 4) ? 1 << 18 : 20000);
}

long rng_size(struct rng *r)
{
	if (rng_one_in(r, 2))
		return RNG_PICK(r, 0, 1, 2, 17, 100, 511, 512, 4095, 4096, 4097, 8192);
	if (rng_one_in(r, 8))
		return RNG_PICK(r, 65535, 65536, 65537, 131072, 131073);
	return rng_below(r, 10000);
}

void data_fill(void *buf, size_t len, uint64_t seed)
{
	unsigned char *p = buf;
	uint64_t word;
	size_t i;

	for (i = 0; i + 8 <= len; i += 8) {
		word = mix(seed + i);
		memcpy(p + i, &word, 8);
	}
	word = mix(seed + i);
	memcpy(p + i, &word, len - i);
}

uint64_t data_hash(const void *buf, size_t len)
{
	const unsigned char *p = buf;
	uint64_t hash = len, word;
	size_t i;

	for (i = 0; i + 8 <= len; i += 8) {
		memcpy(&word, p + i, 8);
		hash = (hash ^ word) * 0x9fb21c651e98df25ull;
		hash ^= hash >> 32;
	}
	word = 0;
	memcpy(&word, p + i, len - i);
	return mix(hash ^ word);
}
