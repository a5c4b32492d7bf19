/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One system call whose progress can be read from outside: from the step in the state, and in between
 * from the registers of the thread that died in it.
 */
#ifndef RECOVER_CALL_H
#define RECOVER_CALL_H

struct step;

/*
 * Stores STEP_STARTED, makes the system call arguments[0] (arguments[1..6]), stores its result, stores
 * STEP_DONE. Touches nothing else, so that the instruction pointer of a thread that died between the two
 * stores says what happened: at call_before it was not made; at call_after the result register is the answer.
 */
void call_witnessed(struct step *step, const long arguments[7]);

extern const char call_before[], call_after[], call_end[];

#endif
