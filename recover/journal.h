/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The journal: one record per request in flight, written before the server does anything and freed
 * after the kernel took the reply.
 *
 * Life of a record, and what a death after each store leaves:
 *
 *	FREE -> BEGUN     unique, opcode        resent: carried out from the start
 *	step STARTED      before a system call  did it happen? a witness says (witness.h, evidence.h)
 *	step DONE         after it, with result resent: carried out again, but this step only returns its result
 *	grants, handle    what the reply hands  recovery takes them back, the request is carried out again
 *	                  to the kernel
 *	REPLY             the reply is stored   resent: the stored reply is sent again (one that is too long to be
 *	                                        stored comes from a request that changes nothing: carried out again);
 *	                                        not resent: the kernel took it, what it granted stays granted
 *	-> FREE           the reply was written
 *
 * An operation that is carried out again runs the same code with the same record: the steps that are done
 * return their recorded results in the same order. So an operation makes every system call that changes
 * something through journal_call(), in an order that depends on nothing but the request and those results.
 */
#ifndef RECOVER_JOURNAL_H
#define RECOVER_JOURNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "recover/evidence.h"
#include "recover/state.h"

#define JOURNAL_RECORDS 1024
#define JOURNAL_STEPS 6
#define JOURNAL_REPLY_BYTES 208
#define GRANT_AREAS (2 * STATE_WORKERS_MAX)
#define GRANTS_PER_AREA 4096
#define GRANTS_INLINE 2

#define UNIQUE_RESEND (UINT64_C(1) << 63) /* FUSE_UNIQUE_RESEND, protocol 7.40 */

enum record_phase { RECORD_FREE, RECORD_BEGUN, RECORD_REPLY, RECORD_PHASE_N };
enum step_state { STEP_NONE, STEP_STARTED, STEP_DONE, STEP_STATE_N };

#define STEP_STORES UINT32_MAX /* instead of a system call stores of the file system's own: request_step() */

/* One system call that changes something. The assembly in call.c knows the offsets of state and result. */
struct step {
	uint32_t state;
	uint32_t number; /* of the system call, or STEP_STORES: a step that returns a descriptor owns it */
	int64_t result;	 /* as the kernel returned it: -errno or a value */
	struct evidence evidence;
};

/* A raised nlookup in progress; see node.c. */
struct grant {
	uint32_t state; /* enum grant_state */
	uint32_t node;
	uint64_t before; /* nlookup before it was raised */
	uint32_t position;
	uint32_t unused;
};

struct record {
	uint64_t unique; /* without UNIQUE_RESEND */
	uint32_t phase;	 /* enum record_phase, stored last when begun, first when freed */
	uint32_t opcode;
	uint32_t life;	 /* header.life when it was begun or last claimed */
	uint32_t faults; /* servers that this request is to blame for */
	int32_t tid;	 /* of the worker that carries it out */
	uint32_t nsteps;
	struct step steps[JOURNAL_STEPS];
	uint64_t handle; /* id of the handle that the reply hands out; 0: none */
	struct grant grant;
	uint32_t ngrants; /* nodes whose nlookup was raised by one each */
	uint32_t area;	  /* where they are listed: 0 inline, n: grants[n - 1] */
	uint32_t granted[GRANTS_INLINE];
	uint32_t reply_bytes; /* 0: the reply was too long to be stored */
	uint32_t unused;
	uint8_t reply[JOURNAL_REPLY_BYTES];
};

/* What a server knows of the journal for itself. */
struct journal {
	struct state *state;
	pthread_mutex_t lock; /* claiming records; areas */
	uint64_t areas_used[(GRANT_AREAS + 63) / 64];
};

void journal_init(struct journal *journal, struct state *state);

/* A free record that nobody else will get, or NULL where there is none. */
struct record *journal_claim(struct journal *journal);

/* The record of a request that was resent, or NULL: most were read by a dying thread and have none. */
struct record *journal_find(struct journal *journal, uint64_t unique);

/* Begins `record` for a request; forgets all that it held. */
void journal_begin(struct journal *journal, struct record *record, uint64_t unique, uint32_t opcode);

/* Ends it: what it granted belongs to the kernel now. */
void journal_end(struct journal *journal, struct record *record);

/* A list for GRANTS_PER_AREA grants; without one a record holds GRANTS_INLINE. False where none is free. */
bool journal_take_area(struct journal *journal, struct record *record);

/* The list of granted nodes of a record, and how many fit. */
uint32_t *journal_grants(struct state *state, struct record *record, uint32_t *room);

/* Does a finished step of the record own descriptor `fd`? */
bool journal_owns_fd(const struct record *record, int fd);

/* Closes the descriptors that steps own; they own them no more. */
void journal_close_fds(struct record *record);

/* Does a system call return a descriptor, which its step owns? */
bool journal_call_opens(uint32_t number);

/* The descriptor that step `i` of the record owns, or -1. */
int journal_step_fd(const struct record *record, uint32_t i);

uint32_t journal_in_flight(const struct state *state);

/*
 * Makes a system call that changes something, once: if `step` is done it returns what was recorded. Returns
 * what the kernel returns: -errno or a value. A descriptor that is returned belongs to the record until a handle
 * takes it (handle.h). `evidence`: no other witness will be there.
 */
long journal_call(struct step *step, bool evidence, long number, long a, long b, long c, long d, long e, long f);

#endif
