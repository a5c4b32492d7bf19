/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* FNV-1a, 64 bits: for names and alike that nobody chooses in order to collide, or where a collision does no harm. */
#ifndef RECOVER_FNV_H
#define RECOVER_FNV_H

#include <stddef.h>
#include <stdint.h>

#define FNV_BEGIN UINT64_C(0xcbf29ce484222325)

/* The digest of what `digest` stands for (at first FNV_BEGIN) and then `n` bytes. */
static inline uint64_t fnv(uint64_t digest, const void *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		digest = (digest ^ ((const uint8_t *)bytes)[i]) * UINT64_C(0x100000001b3);
	return digest;
}

#endif
