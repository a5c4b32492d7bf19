/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The second witness: what the thing that a system call changes was before the call, so that a later server can tell
 * whether it happened. Costs a look before each call; used where the registers of a dying thread cannot be read.
 *
 * Somebody who changes the same name in the source in the same instant can mislead it.
 */
#ifndef RECOVER_EVIDENCE_H
#define RECOVER_EVIDENCE_H

#include <stdbool.h>
#include <stdint.h>

struct evidence {
	uint32_t taken; /* stored last */
	uint32_t unused;
	uint64_t number, birth; /* of what stood there; 0: nothing. An xattr: 1 or 0. An append: the size */
	uint64_t other;		/* the second name of a rename or a link */
};

/* Before the call. Calls that may as well be made twice leave none. */
void evidence_take(struct evidence *evidence, long number, const long arguments[6]);

/* After a death in the call: did it happen? `result` is then what it must have returned. */
bool evidence_settle(const struct evidence *evidence, long number, const long arguments[6], long *result);

#endif
