/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The model: death, its witness (recover/witness.c), and what the next server does (recover/recovery.c).
 */
#include <string.h>

#include "test/model/journal.h"

static bool settle_next(struct world *world, struct process *process, unsigned place)
{
	(void)world;
	*process = (struct process){.place = (uint8_t)place, .message = NOTHING};
	return true;
}

/* The next record of settle_records(): true when all are done. */
static bool settle_record(struct world *world, struct process *process)
{
	unsigned r = process->i;
	struct record *record = &world->records[r];
	bool revoke = process->place == P_R_REVOKE;

	if (r == REQUESTS)
		return true;
	if (record->phase != RECORD_BEGUN && !(revoke && record->phase == RECORD_REPLY && mistaken(M_REVOKE_REPLY)))
		process->i++;
	else if (record->grant && (!revoke || mistaken(M_JUDGED_LATE)))
		resolve(world, record);
	else if (!revoke || mistaken(M_KEEP_BEGUN) || act_take_back(world, 0, r, WORKERS, P_R_REVOKE))
		process->i++;
	return false;
}

bool act_recovery(struct world *world)
{
	struct process *process = &world->processes[0];
	struct slot *slot = &world->slots[process->i];

	switch (process->place) {
	case P_R_LIFE:
		for (unsigned r = 0; r < REQUESTS; r++)
			world->records[r].claimed = 0;
		return settle_next(world, process, P_R_STEPS);
	case P_R_STEPS:
		if (process->i == SLOTS)
			return settle_next(world, process, mistaken(M_JUDGED_LATE) ? P_R_REVOKE : P_R_RESOLVE);
		if (slot->kind == LOWER_NONE) {
			process->i++;
		} else if (mistaken(M_NO_STEP)) {
			slot->kind = LOWER_NONE;
		} else {
			lower(process, process->i, P_R_STEPS);
			process->place = P_LOWERED;
		}
		return true;
	case P_R_RESOLVE:
		return settle_record(world, process) ? settle_next(world, process, P_R_REVOKE) : true;
	case P_R_REVOKE:
		return settle_record(world, process) ? settle_next(world, process, P_R_FORGETS) : true;
	case P_R_FORGETS:
		process->message = THE_FORGET;
		if (process->i == WORKERS)
			return settle_next(world, process, P_R_RESEND);
		if (slot->buffer && !mistaken(M_FORGET_LOST) && act_forget(world, 0))
			return true;
		slot->buffer = 0;
		process->i++;
		return true;
	case P_R_RESEND:
		for (unsigned r = 0; r < REQUESTS; r++)
			if (world->message[r] == K_READ)
				world->message[r] = K_AGAIN;
		for (unsigned p = 0; p < WORKERS; p++)
			idle(&world->processes[p]);
		world->drained = 0;
		world->recovering = 0;
		for (unsigned r = 0; r < REQUESTS && mistaken(M_COLLECT_FIRST); r++)
			world->records[r] = (struct record){0};
		return true;
	case P_LOWER:
		return act_note(world, 0);
	default:
		return act_lower(world, 0);
	}
}

/* The witness that sees it die: what the registers say of the system call (witness_testify). */
static void testify(struct world *world, const struct process *process)
{
	struct record *record = &world->records[process->message];

	if (process->place == P_CALL) {
		record->step = STEP_NONE;
	} else if (process->place == P_RESULT || process->place == P_DONE) {
		record->result = process->result;
		record->step = STEP_DONE;
	}
}

bool act_die(struct world *world)
{
	if (world->deaths == setup.deaths)
		return false;
	world->deaths++;
	for (unsigned p = 0; p < WORKERS; p++) {
		if (!world->recovering && setup.registers && !mistaken(M_NO_WITNESS) && !mistaken(M_STARTED_IS_DONE))
			testify(world, &world->processes[p]);
		world->processes[p] = (struct process){.place = P_STOPPED, .message = NOTHING};
	}
	memset(world->stripes, NOBODY, sizeof(world->stripes));
	memset(world->listed, 0, sizeof(world->listed));
	world->allocation = world->drain = NOBODY;
	world->drained = 0;
	world->recovering = 1;
	world->processes[0].place = P_R_LIFE;
	return true;
}
