/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Arming, and dying. Empty but in test builds.
 */
#include "recover/crash.h"

#ifdef FXFS_CRASH_POINTS

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "recover/atomic.h"
#include "recover/state.h"

extern const struct crash_point __start_crash_points[], __stop_crash_points[];

static struct crash_arm *arm;
static __thread uint32_t opcode_now;

void crash_start(struct state *state)
{
	arm = &state->header->crash;
}

void crash_request(uint32_t opcode)
{
	opcode_now = opcode;
}

bool crash_strikes(const struct crash_point *point)
{
	uint32_t number = (uint32_t)(point - __start_crash_points) + 1;

	if (!arm || load_relaxed(&arm->point) != number || (arm->opcode && arm->opcode != opcode_now))
		return false;
	if (__atomic_fetch_sub(&arm->passes, 1, __ATOMIC_SEQ_CST) != 1)
		return false;
	/* the next server dies too, where a second point is armed */
	arm->opcode = 0;
	arm->passes = 1;
	__atomic_add_fetch(&arm->struck, 1, __ATOMIC_SEQ_CST);
	store_release(&arm->point, arm->next);
	arm->next = 0;
	return true;
}

void crash_pass(const struct crash_point *point)
{
	uint32_t signal_number = arm ? arm->signal : 0;

	if (!crash_strikes(point))
		return;
	kill(getpid(), signal_number ? (int)signal_number : SIGKILL);
	for (;;)
		pause();
}

void crash_list(void)
{
	for (const struct crash_point *point = __start_crash_points; point < __stop_crash_points; point++)
		printf("%s %s\n", point->name, point->where);
}

#endif
