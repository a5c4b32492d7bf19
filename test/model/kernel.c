/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The model: the kernel, and what has to be true of it and of the state.
 */
#include <stddef.h>

#include "test/model/journal.h"

/* A reply arrives. */
void kernel_answered(struct world *world, unsigned r, uint8_t answer)
{
	const struct operation *operation = setup.operations[r];
	const struct record *record = &world->records[r];

	if (world->message[r] != K_READ) {
		wrong(world, "a reply to a request that nobody waits for");
		return;
	}
	world->message[r] = K_ANSWERED;
	if (answer != (operation->fails ? FAILED : GOOD))
		wrong(world, "the answer is not the true one");
	if (world->effects[r] != operation->changes)
		wrong(world, "what the request changes was not changed once");
	if (answer != GOOD)
		return;
	world->has_handle[r] = operation->opens;
	for (unsigned g = 0; g < operation->keys; g++) {
		unsigned key = operation->key[g];

		if (world->known[key].count && (world->known[key].node != record->granted[g] ||
						world->known[key].generation != record->reply_generation[g]))
			wrong(world, "the kernel is told of two nodes for one file");
		world->known[key].node = record->granted[g];
		world->known[key].generation = record->reply_generation[g];
		world->known[key].count++;
	}
}

/* Message m is read by a process, if it is its turn: what comes again stands before what is new. */
bool kernel_gives(struct world *world, unsigned m, bool *again)
{
	bool some_again = false;

	for (unsigned r = 0; r < REQUESTS; r++)
		some_again = some_again || world->message[r] == K_AGAIN;
	*again = world->message[m] == K_AGAIN;
	if (!*again && (world->message[m] != K_QUEUED || (some_again && m != THE_FORGET)))
		return false;
	world->message[m] = m == THE_FORGET ? K_ANSWERED : K_READ;
	return true;
}

bool kernel_has_some(const struct world *world)
{
	for (unsigned m = 0; m <= THE_FORGET; m++)
		if (world->message[m] == K_QUEUED || world->message[m] == K_AGAIN)
			return true;
	return false;
}

/* Who waits for a request that comes again is killed before it is read: the kernel drops it. */
bool kernel_drops(struct world *world, unsigned r)
{
	if (!setup.vanishes || world->message[r] != K_AGAIN)
		return false;
	world->message[r] = K_GONE;
	if (world->records[r].phase == RECORD_REPLY)
		world->ambiguous = 1;
	return true;
}

const char *check_held(const struct world *world)
{
	for (unsigned key = 0; key < KEYS; key++) {
		const struct node *node = &world->nodes[world->known[key].node];

		if (!world->known[key].count)
			continue;
		if (node->state != NODE_USED || node->generation != world->known[key].generation)
			return "the kernel holds a node that is no more";
		if (node->nlookup < world->known[key].count)
			return "the kernel holds more references than we know";
	}
	return NULL;
}

const char *check_end(const struct world *world)
{
	unsigned ours = 0, kernels = 0;

	for (unsigned r = 0; r < REQUESTS; r++) {
		if (world->message[r] != K_ANSWERED && world->message[r] != K_ABSENT && world->message[r] != K_GONE)
			return "a request is not answered";
		if (world->message[r] == K_GONE && world->effects[r] > 1)
			return "what a request changes was changed twice";
		if (world->records[r].phase != RECORD_FREE)
			return "a record is left";
		if (world->has_handle[r] != (world->handles[r] == HANDLE_OPEN) && !world->ambiguous)
			return "a handle is left that the kernel does not have";
	}
	for (unsigned n = 1; n < NODES; n++)
		ours += world->nodes[n].state == NODE_USED ? world->nodes[n].nlookup
							   : world->nodes[n].state == NODE_CLAIMED;
	for (unsigned key = 0; key < KEYS; key++)
		kernels += world->known[key].count;
	return ours > kernels && !world->ambiguous ? "references are left that the kernel does not have" : NULL;
}
