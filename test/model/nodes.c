/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The model: references to nodes, as in recover/node.c.
 */
#include "test/model/journal.h"

void idle(struct process *process)
{
	*process = (struct process){.place = P_IDLE, .message = NOTHING};
}

bool lock(uint8_t *lock_of, unsigned p)
{
	if (*lock_of != NOBODY && *lock_of != p + 1)
		return false;
	*lock_of = (uint8_t)(p + 1);
	return true;
}

static unsigned node_search(const struct world *world, unsigned key)
{
	for (unsigned n = 1; n < NODES; n++)
		if (world->nodes[n].linked && world->nodes[n].key == key)
			return n;
	return 0;
}

static void node_freed(struct world *world, unsigned n)
{
	if (world->nodes[n].state == NODE_FREE)
		return;
	world->nodes[n] = (struct node){.generation = world->nodes[n].generation};
	world->listed[n] = !mistaken(M_LISTED_LATE);
}

/* node_free() in pieces: true when it is done. */
static bool node_free(struct world *world, unsigned n)
{
	if (world->nodes[n].linked)
		world->nodes[n].linked = 0;
	else if (world->nodes[n].state != NODE_FREE)
		node_freed(world, n);
	else
		return true;
	return false;
}

/* The list first, then what a scan finds; NODES: there is none. */
static unsigned node_take(struct world *world)
{
	for (unsigned n = 1; n < NODES; n++)
		if (world->listed[n]) {
			world->listed[n] = 0;
			if (world->nodes[n].state != NODE_FREE)
				wrong(world, "a node is taken that is in use");
			return n;
		}
	for (unsigned n = 1; n < NODES; n++)
		if (world->nodes[n].state == NODE_FREE)
			return n;
	return NODES;
}

/* Begins to lower nlookup of a node for a slot; `back` is where the process goes afterwards. */
void lower(struct process *process, unsigned slot, unsigned back)
{
	process->slot = (uint8_t)slot;
	process->back = (uint8_t)back;
	process->place = P_LOWER;
}

/* node_lower() and node_apply_step(). The slot knows node, record and kind from here on. */
bool act_lower(struct world *world, unsigned p)
{
	struct process *process = &world->processes[p];
	struct slot *slot = &world->slots[process->slot];
	struct node *node = &world->nodes[slot->node];

	switch (process->place) {
	case P_LOWERED:
		process->place = P_COUNTED;
		if (!mistaken(M_NO_GENERATION) && node->generation != slot->generation)
			break; /* it was freed, and is another's now */
		if (mistaken(M_NO_STEP))
			node->nlookup--;
		else
			node->nlookup = slot->nlookup;
		if (!node->nlookup)
			process->place = P_UNLINK;
		break;
	case P_UNLINK:
		process->place = P_FREE;
		if (node->linked)
			node->linked = 0;
		break;
	case P_FREE:
		if (world->allocation != NOBODY)
			return false;
		process->place = mistaken(M_LISTED_LATE) ? P_LISTED : P_COUNTED;
		node_freed(world, slot->node);
		break;
	case P_LISTED:
		if (world->allocation != NOBODY)
			return false;
		process->place = P_COUNTED;
		world->listed[slot->node] = 1;
		break;
	case P_COUNTED:
		process->place = P_STEPPED;
		if (slot->kind == LOWER_FORGET)
			slot->forgets_done = slot->done;
		else
			world->records[slot->record].ngrants = slot->done;
		break;
	case P_STEPPED:
		*slot = (struct slot){.forgets_done = slot->forgets_done, .buffer = slot->buffer};
		for (unsigned key = 0; key < KEYS; key++)
			if (world->stripes[key] == p + 1)
				world->stripes[key] = NOBODY;
		process->place = process->back;
		if (process->place == P_STOPPED) /* a FORGET was applied */
			idle(process);
		break;
	}
	return true;
}

/* node_revoke_last(), node_forget(): the step is written down. False: the stripe is another's. */
bool act_note(struct world *world, unsigned p)
{
	struct process *process = &world->processes[p];
	struct slot *slot = &world->slots[process->slot];
	bool forget = process->message == THE_FORGET;
	struct record *record = &world->records[process->record];
	unsigned n = forget ? world->known[0].node : record->granted[record->ngrants - 1];
	struct node *node = &world->nodes[n];

	if (!lock(&world->stripes[node->key], p))
		return false;
	slot->kind = forget ? LOWER_FORGET : LOWER_REVOKE;
	slot->node = (uint8_t)n;
	slot->generation = node->generation;
	slot->nlookup = (uint8_t)(node->nlookup - 1);
	slot->record = process->record;
	slot->done = (uint8_t)(forget ? 1 : record->ngrants - 1);
	if (!node->nlookup)
		wrong(world, "a reference is taken back that is not there");
	process->place = P_LOWERED;
	return true;
}

/* One piece of node_revoke() and handle_revoke() of a record; true when all is back. */
bool act_take_back(struct world *world, unsigned p, unsigned r, unsigned slot, unsigned back)
{
	struct process *process = &world->processes[p];
	struct record *record = &world->records[r];

	process->record = (uint8_t)r;
	if (record->ngrants)
		lower(process, slot, back);
	else if (record->handle && world->handles[r] != HANDLE_FREE)
		world->handles[r] = HANDLE_FREE;
	else if (record->handle)
		record->handle = 0;
	else
		return true;
	return false;
}

static void grant_settle(struct record *record)
{
	if (record->grant_position == record->ngrants) {
		record->granted[record->ngrants] = record->grant_node;
		record->ngrants++;
	} else {
		record->grant = record->grant_node = record->grant_before = record->grant_position = 0;
	}
}

/* One piece of node_resolve(). */
void resolve(struct world *world, struct record *record)
{
	struct node *node = &world->nodes[record->grant_node];

	if (record->grant == GRANT_NEW ? node_free(world, record->grant_node)
				       : record->grant == GRANT_RAISE && node->nlookup != record->grant_before + 1)
		record->grant = record->grant_node = record->grant_before = record->grant_position = 0;
	else if (record->grant != GRANT_NEW)
		grant_settle(record);
}

/* node_grant_new(), for each key of the request; then what comes after. False: a lock is another's. */
bool act_grant(struct world *world, unsigned p)
{
	struct process *process = &world->processes[p];
	struct record *record = &world->records[process->message];
	const struct operation *operation = setup.operations[process->message];
	unsigned key = operation->key[process->g];
	struct node *node = &world->nodes[record->grant_node];
	unsigned n;

	switch (process->place) {
	case P_GRANT:
		if (process->result != GOOD || process->g == operation->keys) {
			process->place = process->result != GOOD ? P_BACK : operation->opens ? P_PROMISE : P_REPLY;
			if (mistaken(M_REPLY_AFTER_WRITE) && process->place == P_REPLY)
				process->place = P_WRITE;
			break;
		}
		if (!lock(&world->stripes[key], p))
			return false;
		process->place = node_search(world, key) ? P_RAISE : P_NEW;
		break;
	case P_RAISE:
		n = node_search(world, key);
		if (mistaken(M_RAISE_UNNOTED) && process->i == 0) {
			world->nodes[n].nlookup++;
			process->i = 1;
			break;
		}
		record->grant = GRANT_RAISE;
		record->grant_node = (uint8_t)n;
		record->grant_before = (uint8_t)(world->nodes[n].nlookup - process->i);
		record->grant_position = record->ngrants;
		process->place = process->i || mistaken(M_RAISE_LATE) ? P_RAISED : P_NLOOKUP;
		process->i = 0;
		break;
	case P_NLOOKUP:
		node->nlookup++;
		process->place = P_RAISED;
		break;
	case P_NEW:
		if (!lock(&world->allocation, p))
			return false;
		n = node_take(world);
		if (n == NODES) { /* it waits until the other has let go of one: there are fewer than in truth */
			world->allocation = world->stripes[key] = NOBODY;
			process->place = P_GRANT;
			break;
		}
		record->grant = GRANT_NEW;
		record->grant_node = (uint8_t)n;
		record->grant_position = record->ngrants;
		process->place = P_GENERATION;
		break;
	case P_GENERATION:
		node->generation++;
		process->place = P_CLAIMED;
		break;
	case P_CLAIMED:
		node->state = NODE_CLAIMED;
		world->allocation = NOBODY;
		process->place = P_USED;
		break;
	case P_USED:
		node->key = (uint8_t)key;
		node->nlookup = 1;
		node->state = NODE_USED;
		process->place = P_LINK;
		break;
	case P_LINK:
		node->linked = 1;
		process->place = P_RAISED;
		break;
	case P_RAISED:
		record->grant = GRANT_RAISED;
		process->place = P_LIST;
		break;
	case P_LIST:
		grant_settle(record);
		process->place = P_SETTLED;
		break;
	case P_SETTLED:
		grant_settle(record);
		world->stripes[key] = NOBODY;
		process->g++;
		process->place = P_GRANT;
		break;
	}
	return true;
}
