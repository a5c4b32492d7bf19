/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Arming, and dying. Empty but in test builds.
 */
#include "recover/crash.h"

#ifdef FXFS_CRASH_POINTS

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
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
	arm->passes = 1;
	__atomic_add_fetch(&arm->struck, 1, __ATOMIC_SEQ_CST);
	if (arm->again) {
		arm->again--;
		return true;
	}
	/* the next server dies too, where a second point is armed */
	arm->opcode = 0;
	store_release(&arm->point, arm->next);
	arm->next = 0;
	return true;
}

/* Uses up the stack. */
__attribute__((noinline)) static unsigned overflow(unsigned depth)
{
	volatile uint8_t frame[4096];

	frame[0] = (uint8_t)depth;
	return depth == UINT32_MAX ? 0 : overflow(depth + 1) + frame[0];
}

/* Returns where a forbidden system call is not forbidden. */
static void die_of(uint32_t how)
{
	if (how == CRASH_OVERFLOWS)
		overflow(0);
	while (how == CRASH_SPINS)
		atomic_signal_fence(memory_order_seq_cst);
	while (how == CRASH_SLEEPS)
		sleep(1);
	if (how == CRASH_FORBIDDEN) /* asks only */
		syscall(SYS_personality, 0xffffffff);
	else
		raise((int)how);
}

void crash_pass(const struct crash_point *point)
{
	uint32_t signal_number = arm ? arm->signal : 0;

	if (!crash_strikes(point))
		return;
	if (signal_number)
		die_of(signal_number);
	else
		raise(SIGKILL);
}

void crash_list(void)
{
	for (const struct crash_point *point = __start_crash_points; point < __stop_crash_points; point++)
		printf("%s %s\n", point->name, point->where);
}

#endif
