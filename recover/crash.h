/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Crash points: places where a test lets the server die, each named where it stands. They exist in test builds only
 * (FXFS_CRASH_POINTS); `fxfs --crash-points` lists them there. Which one strikes next is written into the state
 * (struct crash_arm in state.h).
 */
#ifndef RECOVER_CRASH_H
#define RECOVER_CRASH_H

#ifdef FXFS_CRASH_POINTS

#include <stdbool.h>
#include <stdint.h>

struct state;

/* Instead of a signal that the thread raises (struct crash_arm). */
enum { CRASH_SPINS = 100, CRASH_SLEEPS, CRASH_OVERFLOWS, CRASH_FORBIDDEN };

struct crash_point {
	const char *name;
	const char *where;
};

#define CRASH_TEXT_(x) #x
#define CRASH_TEXT(x) CRASH_TEXT_(x)

#define crash_point(point_name)                                                                           \
	do {                                                                                              \
		static const struct crash_point point_ __attribute__((section("crash_points"), used)) = { \
			#point_name, __FILE__ ":" CRASH_TEXT(__LINE__)};                                  \
		crash_pass(&point_);                                                                      \
	} while (0)

/* In a new server: where the armed point stands. */
void crash_start(struct state *state);
/* Which kind of request this thread carries out: a point may be armed for one kind only. */
void crash_request(uint32_t opcode);
void crash_pass(const struct crash_point *point);
/* As crash_pass(), but tells instead of dying: for what dies elsewhere (call_in). */
bool crash_strikes(const struct crash_point *point);
void crash_list(void);

#else

#define crash_point(point_name) ((void)0)
#define crash_start(state) ((void)0)
#define crash_request(opcode) ((void)0)

#endif

#endif
