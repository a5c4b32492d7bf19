/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The model: a worker and its request, as in recover/server.c, journal.c, call.c, handle.c and session.c.
 */
#include "test/model/journal.h"

static void begin(struct record *record)
{
	*record = (struct record){.phase = RECORD_BEGUN, .claimed = 1};
}

/* worker_read*(), up to the request. */
static bool act_read(struct world *world, unsigned p, unsigned choice)
{
	struct process *process = &world->processes[p];
	bool draining = world->drain == p + 1, again;

	if (choice && process->place != P_READ)
		return false;
	switch (process->place) {
	case P_IDLE:
		if (!world->drained && !mistaken(M_DRAIN_ALONE) && !lock(&world->drain, p))
			return false;
		process->place = world->drained ? P_LENGTH : P_DRAIN;
		break;
	case P_DRAIN:
		process->place = kernel_has_some(world) ? P_LENGTH : P_COLLECT;
		if (!world->drained)
			break;
		world->drain = NOBODY;
		process->place = P_IDLE;
		break;
	case P_LENGTH:
		if (!mistaken(M_FORGET_AGAIN))
			world->slots[p].buffer = 0;
		process->place = P_PROGRESS;
		break;
	case P_PROGRESS:
		world->slots[p].forgets_done = 0;
		process->place = P_READ;
		break;
	case P_READ:
		draining = draining || (mistaken(M_DRAIN_ALONE) && !world->drained);
		if (draining && choice == NOTHING && !kernel_has_some(world)) {
			process->place = P_COLLECT; /* what it saw vanished: the next request that anybody makes */
			break;
		}
		if (choice >= NOTHING || !kernel_gives(world, choice, &again))
			return false;
		process->message = (uint8_t)choice;
		process->again = again;
		world->slots[p].buffer = choice == THE_FORGET;
		process->place = choice == THE_FORGET ? P_FORGET : !draining ? P_TAKE : again ? P_CLAIM : P_COLLECT;
		if (choice == THE_FORGET && world->drain == p + 1)
			world->drain = NOBODY;
		break;
	case P_CLAIM:
		if (world->records[process->message].phase != RECORD_FREE)
			world->records[process->message].claimed = 1;
		if (world->drain == p + 1)
			world->drain = NOBODY;
		process->place = P_TAKE;
		break;
	case P_COLLECT:
		for (unsigned r = 0; r < REQUESTS && !mistaken(M_NO_COLLECT); r++)
			if (world->records[r].phase != RECORD_FREE && !world->records[r].claimed) {
				world->records[r] = (struct record){0};
				return true;
			}
		world->drained = 1;
		if (world->drain == p + 1)
			world->drain = NOBODY;
		process->place = process->message == NOTHING ? P_IDLE : P_TAKE;
		break;
	}
	return true;
}

/* worker_take_record() and journal_call(). */
static void act_call(struct world *world, unsigned p)
{
	struct process *process = &world->processes[p];
	unsigned r = process->message;
	struct record *record = &world->records[r];
	const struct operation *operation = setup.operations[r];

	switch (process->place) {
	case P_TAKE:
		process->place = P_STEP;
		if (!process->again || record->phase == RECORD_FREE) {
			begin(record);
			break;
		}
		record->claimed = 1;
		if (record->phase == RECORD_REPLY)
			process->place = operation->is_long ? P_LONG : P_AGAIN;
		break;
	case P_LONG:
		if (!act_take_back(world, p, r, p, P_LONG))
			break;
		record->phase = RECORD_BEGUN;
		record->reply = NOT_YET;
		process->place = P_STEP;
		break;
	case P_STEP:
		process->place = P_GRANT;
		process->result = GOOD;
		if (!operation->changes)
			break;
		/* step_is_done(): the evidence is what the call changed */
		if (record->step == STEP_STARTED && !mistaken(M_NO_WITNESS) &&
		    (mistaken(M_STARTED_IS_DONE) || (!setup.registers && world->effects[r]))) {
			record->step = STEP_DONE;
			record->result = GOOD;
		}
		process->result = record->result;
		if (record->step == STEP_DONE && !mistaken(M_NOT_RECORDED))
			break;
		record->step = STEP_NONE;
		process->place = P_STARTED;
		break;
	case P_STARTED:
		record->step = STEP_STARTED;
		process->place = P_CALL;
		break;
	case P_CALL:
		process->result = world->effects[r] ? EXISTS : GOOD;
		world->effects[r]++;
		process->place = P_RESULT;
		break;
	case P_RESULT:
		record->result = process->result;
		process->place = P_DONE;
		break;
	case P_DONE:
		record->step = STEP_DONE;
		process->place = P_GRANT;
		break;
	}
}

/* handle_open(), session_take_back(), session_reply(), journal_end(). */
static void act_reply(struct world *world, unsigned p)
{
	struct process *process = &world->processes[p];
	unsigned r = process->message;
	struct record *record = &world->records[r];
	const struct operation *operation = setup.operations[r];
	bool late = mistaken(M_REPLY_AFTER_WRITE), early_end = mistaken(M_END_BEFORE_WRITE);

	switch (process->place) {
	case P_PROMISE:
		record->handle = !mistaken(M_HANDLE_UNNOTED);
		process->place = P_OPENING;
		break;
	case P_OPENING:
		if (world->handles[r] != HANDLE_FREE) /* in truth it takes another */
			wrong(world, "a handle is left that nobody has");
		world->handles[r] = HANDLE_OPENING;
		process->place = P_OPEN;
		break;
	case P_OPEN:
		world->handles[r] = HANDLE_OPEN;
		process->place = operation->fails ? P_BACK : late ? P_WRITE : P_REPLY;
		break;
	case P_BACK:
		if (!act_take_back(world, p, r, p, P_BACK))
			break;
		process->result = process->result == GOOD ? FAILED : process->result;
		process->place = late ? P_WRITE : P_REPLY;
		break;
	case P_REPLY:
		record->reply = process->result;
		for (unsigned g = 0; g < record->ngrants; g++)
			record->reply_generation[g] = world->nodes[record->granted[g]].generation;
		record->phase = RECORD_REPLY;
		process->place = late || early_end ? P_END : P_WRITE;
		break;
	case P_WRITE:
		if (late)
			for (unsigned g = 0; g < record->ngrants; g++)
				record->reply_generation[g] = world->nodes[record->granted[g]].generation;
		kernel_answered(world, r, process->result);
		process->place = late ? P_REPLY : P_END;
		if (mistaken(M_RAISE_LATE) && operation->keys)
			world->nodes[record->granted[0]].nlookup++;
		break;
	case P_AGAIN:
		kernel_answered(world, r, record->reply);
		process->place = P_END;
		break;
	case P_END:
		if (early_end && world->message[r] == K_READ) {
			record->phase = RECORD_FREE;
			process->place = P_WRITE;
			break;
		}
		*record = (struct record){0};
		idle(process);
		break;
	}
}

bool act_forget(struct world *world, unsigned p)
{
	struct process *process = &world->processes[p];
	const struct node *node = &world->nodes[world->known[0].node];
	struct slot *slot = &world->slots[process->place == P_FORGET ? p : process->i];

	if (slot->forgets_done == 0 && node->state == NODE_USED && node->generation == world->known[0].generation)
		lower(process, (unsigned)(slot - world->slots), process->place == P_FORGET ? P_STOPPED : P_R_FORGETS);
	else if (slot->forgets_done == 0)
		slot->forgets_done = 1;
	else
		return false;
	return true;
}

bool act_worker(struct world *world, unsigned p, unsigned choice)
{
	struct process *process = &world->processes[p];
	unsigned place = process->place;

	if (place >= P_IDLE && place <= P_COLLECT)
		return act_read(world, p, choice);
	if (choice)
		return false;
	if (place >= P_TAKE && place <= P_DONE)
		act_call(world, p);
	else if (place >= P_GRANT && place <= P_SETTLED)
		return act_grant(world, p);
	else if (place >= P_PROMISE && place <= P_END)
		act_reply(world, p);
	else if (place == P_FORGET && !act_forget(world, p))
		idle(process);
	else if (place == P_LOWER)
		return act_note(world, p);
	else if (place >= P_LOWERED && place <= P_STEPPED)
		return act_lower(world, p);
	return true;
}
