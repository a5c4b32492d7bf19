/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Records of requests in flight. A worker keeps one record for itself and uses it again for each request, so
 * that nothing is searched or locked while nothing dies.
 */
#include "recover/journal.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "recover/atomic.h"
#include "recover/call.h"
#include "recover/crash.h"
#include "recover/log.h"

void journal_init(struct journal *journal, struct state *state)
{
	memset(journal, 0, sizeof(*journal));
	journal->state = state;
	pthread_mutex_init(&journal->lock, NULL);
	for (uint32_t i = 0; i < state->header->records_high; i++) {
		struct record *record = &state->records[i];

		if (record->phase != RECORD_FREE && record->area)
			journal->areas_used[(record->area - 1) / 64] |= UINT64_C(1) << (record->area - 1) % 64;
	}
}

/* tid marks a free record as some thread's own; it means nothing in the next life. */
static bool record_can_be_claimed(const struct record *record, uint32_t life)
{
	return load_acquire(&record->phase) == RECORD_FREE &&
	       (load_relaxed(&record->tid) == 0 || load_relaxed(&record->life) != life);
}

/* The first one there is: recovery walks as many as were ever in use. Death with the count raised only: harmless. */
struct record *journal_claim(struct journal *journal)
{
	struct state_header *header = journal->state->header;
	struct record *record = journal->state->records, *end = record + JOURNAL_RECORDS;

	pthread_mutex_lock(&journal->lock);
	while (record < end && !record_can_be_claimed(record, header->life))
		record++;
	if (record < end) {
		store_relaxed(&record->tid, (int32_t)gettid());
		store_relaxed(&record->life, header->life);
		if (record - journal->state->records >= header->records_high)
			store_release(&header->records_high, header->records_high + 1);
	}
	pthread_mutex_unlock(&journal->lock);
	return record < end ? record : NULL;
}

struct record *journal_find(struct journal *journal, uint64_t unique)
{
	unique &= ~UNIQUE_RESEND;
	for (uint32_t i = 0; i < load_acquire(&journal->state->header->records_high); i++) {
		struct record *record = &journal->state->records[i];

		if (load_acquire(&record->phase) != RECORD_FREE && record->unique == unique)
			return record;
	}
	return NULL;
}

void journal_begin(struct journal *journal, struct record *record, uint64_t unique, uint32_t opcode)
{
	for (uint32_t i = 0; i < record->nsteps && i < JOURNAL_STEPS; i++)
		record->steps[i].state = STEP_NONE;
	record->nsteps = 0;
	record->handle = 0;
	record->grant.state = 0;
	record->ngrants = 0;
	record->area = 0;
	record->reply_bytes = 0;
	record->faults = 0;
	record->unique = unique & ~UNIQUE_RESEND;
	record->opcode = opcode;
	store_relaxed(&record->life, journal->state->header->life);
	store_release(&record->phase, RECORD_BEGUN);
	crash_point(record_begun);
}

static void journal_give_area(struct journal *journal, uint32_t area)
{
	pthread_mutex_lock(&journal->lock);
	journal->areas_used[(area - 1) / 64] &= ~(UINT64_C(1) << (area - 1) % 64);
	pthread_mutex_unlock(&journal->lock);
}

void journal_end(struct journal *journal, struct record *record)
{
	uint32_t area = record->area;

	crash_point(reply_written);
	store_release(&record->phase, RECORD_FREE);
	crash_point(record_freed);
	if (area)
		journal_give_area(journal, area);
}

bool journal_take_area(struct journal *journal, struct record *record)
{
	uint32_t area = 0;

	pthread_mutex_lock(&journal->lock);
	for (uint32_t i = 0; i < GRANT_AREAS && !area; i++)
		if (!(journal->areas_used[i / 64] & UINT64_C(1) << i % 64)) {
			journal->areas_used[i / 64] |= UINT64_C(1) << i % 64;
			area = i + 1;
		}
	pthread_mutex_unlock(&journal->lock);
	if (area)
		store_release(&record->area, area);
	return area != 0;
}

uint32_t *journal_grants(struct state *state, struct record *record, uint32_t *room)
{
	*room = record->area ? GRANTS_PER_AREA : GRANTS_INLINE;
	return record->area ? &state->grants[(uint64_t)(record->area - 1) * GRANTS_PER_AREA] : record->granted;
}

bool journal_call_opens(uint32_t number)
{
	return number == SYS_openat || number == SYS_open_by_handle_at;
}

int journal_step_fd(const struct record *record, uint32_t i)
{
	const struct step *step = &record->steps[i];

	if (step->state != STEP_DONE || step->result < 0)
		return -1;
	return journal_call_opens(step->number) ? (int)step->result : -1;
}

bool journal_owns_fd(const struct record *record, int fd)
{
	for (uint32_t i = 0; i < record->nsteps && i < JOURNAL_STEPS; i++)
		if (journal_step_fd(record, i) == fd)
			return true;
	return false;
}

/* A death between the two leaves an orphan, which recovery closes. */
void journal_close_fds(struct record *record)
{
	for (uint32_t i = 0; i < record->nsteps && i < JOURNAL_STEPS; i++) {
		int owned = journal_step_fd(record, i);

		if (owned >= 0) {
			store_release(&record->steps[i].result, -ENFILE);
			close(owned);
		}
	}
}

uint32_t journal_in_flight(const struct state *state)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < load_acquire(&state->header->records_high); i++)
		n += state->records[i].phase != RECORD_FREE;
	return n;
}

/* Whether a call that a death interrupted happened is asked before it is made again. */
static bool step_is_done(struct step *step, const long arguments[7])
{
	long result;

	if (step->state == STEP_STARTED && evidence_settle(&step->evidence, arguments[0], arguments + 1, &result)) {
		step->result = result;
		store_release(&step->state, STEP_DONE);
	}
	return step->state == STEP_DONE;
}

/* A death in the system call, when it has had its effect: a breakpoint where it returns. */
static void crash_in_call(void)
{
#ifdef FXFS_CRASH_POINTS
	static const struct crash_point point
		__attribute__((section("crash_points"), used)) = {"call_in", __FILE__ ":" CRASH_TEXT(__LINE__)};
	uintptr_t page = (uintptr_t)call_after & ~(uintptr_t)4095;

	if (!crash_strikes(&point))
		return;
	mprotect((void *)page, 8192, PROT_READ | PROT_WRITE | PROT_EXEC);
#if defined(__x86_64__)
	*(uint8_t *)(uintptr_t)call_after = 0xcc; /* int3: SIGTRAP */
#elif defined(__aarch64__)
	*(uint32_t *)(uintptr_t)call_after = 0xd4200000; /* brk #0 */
	__builtin___clear_cache((char *)call_after, (char *)call_after + 4);
#endif
#endif
}

long journal_call(struct step *step, bool evidence, long number, long a, long b, long c, long d, long e, long f)
{
	const long arguments[] = {number, a, b, c, d, e, f};

	if (step->number == (uint32_t)number && step_is_done(step, arguments))
		return (long)step->result;
	store_release(&step->state, STEP_NONE);
	step->number = (uint32_t)number;
	if (evidence)
		evidence_take(&step->evidence, number, arguments + 1);
	else
		step->evidence.taken = 0;
	crash_point(call_before);
	crash_in_call();
	do
		call_witnessed(step, arguments);
	while (step->result == -EINTR);
	crash_point(call_after);
	return (long)step->result;
}
