/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Bounds everything that recovery walks: header, slots, journal and handles in full, for it reads all of them anyway.
 * Nodes may be many, so they are checked where they are used (node.c). What is wrong but possible is not noticed.
 */
#include "recover/check.h"

#include <errno.h>
#include <string.h>
#include <fuse_kernel.h>

#include "recover/atomic.h"
#include "recover/handle.h"
#include "recover/journal.h"
#include "recover/log.h"
#include "recover/node.h"

static bool is_node(const struct state *state, uint32_t index)
{
	return index != 0 && index <= state->header->nodes_high;
}

/* A descriptor of the mount's own: one that no request ever opened, and that none may close. */
static bool is_own(const struct state *state, int64_t fd)
{
	const struct state_header *header = state->header;

	if ((fd >= 0 && fd <= 2) || fd == state->fd)
		return true;
	for (int i = 0; i < STATE_WORKERS_MAX; i++)
		if (fd >= 0 && fd == header->device[i])
			return true;
	for (int i = 0; i < KEEP_N; i++)
		if (fd >= 0 && fd == header->keep[i])
			return true;
	return false;
}

static bool step_fits(const struct state *state, const struct step *step)
{
	if (step->state >= STEP_STATE_N)
		return false;
	return step->state != STEP_DONE || !journal_call_opens(step->number) || step->result < 0 ||
	       (step->result <= INT32_MAX && !is_own(state, step->result));
}

static bool grants_fit(const struct state *state, struct record *record)
{
	uint32_t room, *list;

	if (record->area > GRANT_AREAS || record->grant.state >= GRANT_STATE_N ||
	    (record->grant.state != GRANT_NONE && !is_node(state, record->grant.node)))
		return false;
	list = journal_grants((struct state *)state, record, &room);
	if (record->ngrants > room)
		return false;
	for (uint32_t i = 0; i < record->ngrants; i++)
		if (!is_node(state, list[i]))
			return false;
	return true;
}

static bool reply_fits(const struct record *record)
{
	const struct fuse_out_header *out = (const void *)record->reply;

	if (record->phase != RECORD_REPLY || record->reply_bytes == 0)
		return true;
	return record->reply_bytes <= sizeof(record->reply) && record->reply_bytes >= sizeof(*out) &&
	       out->len == record->reply_bytes;
}

/* `areas`: lists that records before this one have. */
static bool record_fits(const struct state *state, struct record *record, bool areas[GRANT_AREAS + 1])
{
	if (record->phase >= RECORD_PHASE_N || record->nsteps > JOURNAL_STEPS || !grants_fit(state, record) ||
	    !reply_fits(record) || (record->area && areas[record->area]))
		return false;
	for (uint32_t i = 0; i < record->nsteps; i++)
		if (!step_fits(state, &record->steps[i]))
			return false;
	areas[record->area] = true;
	return true;
}

static void check_records(struct state *state)
{
	bool areas[GRANT_AREAS + 1] = {false};

	for (unsigned i = 0; i < state->header->records_high; i++) {
		struct record *record = &state->records[i];

		if (record->phase == RECORD_FREE || record_fits(state, record, areas))
			continue;
		log_error(
			"record %u of the journal (request %llu, opcode %u) cannot be: dropped, the request starts anew",
			i, (unsigned long long)record->unique, record->opcode);
		store_release(&record->phase, RECORD_FREE);
	}
}

static bool node_step_fits(const struct state *state, const struct node_step *step)
{
	if (step->kind >= NODE_STEP_KIND_N || !is_node(state, step->node))
		return false;
	return step->kind != NODE_STEP_REVOKE ||
	       (step->record < state->header->records_high && step->done < state->records[step->record].ngrants + 1);
}

static void check_slots(struct state *state)
{
	for (unsigned i = 0; i < STATE_SLOTS; i++) {
		struct node_step *step = &state->slots[i].step;

		if (step->kind == NODE_STEP_NONE || node_step_fits(state, step))
			continue;
		log_error("the step of thread %u on node %u cannot be: dropped", i, step->node);
		store_release(&step->kind, NODE_STEP_NONE);
	}
}

static bool handle_fits(const struct state *state, const struct handle *handle)
{
	if (handle->state == HANDLE_OPENING)
		return true; /* nothing else in it counts yet */
	return handle->state < HANDLE_STATE_N && is_node(state, handle->node) && handle->fd >= -1 &&
	       !is_own(state, handle->fd);
}

static void check_handles(struct state *state)
{
	for (uint64_t i = 1; i <= state->header->handles_high; i++) {
		struct handle *handle = &state->handles[i];

		if (handle->state == HANDLE_FREE || handle_fits(state, handle))
			continue;
		log_error("handle %llu (descriptor %d, node %u) cannot be: dropped, whoever has it open gets EBADF",
			  (unsigned long long)i, handle->fd, handle->node);
		store_release(&handle->fd, -1);
		store_release(&handle->state, HANDLE_FREE);
	}
}

int check_state(struct state *state)
{
	const char *why;
	int err = state_check_numbers(state->header, &why);

	if (err) {
		log_error("the state cannot be followed: %s", why);
		return err;
	}
	check_slots(state);
	check_records(state);
	check_handles(state);
	return 0;
}
