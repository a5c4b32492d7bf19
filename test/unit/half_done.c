/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What two threads left half done at the same moment, and recovery makes of it: the cases that the model found
 * (test/model/journal.h), with the real tables.
 */
#include <stdio.h>
#include <stdlib.h>

#include "recover/internal.h"

static unsigned tests, failed;

static void is(const char *what, uint64_t got, uint64_t wanted)
{
	tests++;
	failed += got != wanted;
	printf("%sok %u - %s\n", got == wanted ? "" : "not ", tests, what);
	if (got != wanted)
		printf("# got %llu, wanted %llu\n", (unsigned long long)got, (unsigned long long)wanted);
}

static struct recover *mount_make(void)
{
	static const struct recover_fs fs = {.name = "none"};
	struct recover *recover = calloc(1, sizeof(*recover));
	const struct node_key key = {0};

	if (!recover || state_create(&recover->state, NULL, 0))
		exit(2);
	recover->fs = &fs;
	journal_init(&recover->journal, &recover->state);
	nodes_init(&recover->nodes, &recover->state, &recover->journal);
	handles_init(&recover->handles, &recover->state);
	if (nodes_make_root(&recover->nodes, &key, &(uint8_t[NODE_DATA_BYTES]){0}))
		exit(2);
	return recover;
}

static void mount_drop(struct recover *recover)
{
	free(recover->nodes.free);
	free(recover->handles.free);
	state_close(&recover->state);
	free(recover);
}

static struct record *begin(struct recover *recover, unsigned unique)
{
	struct record *record = journal_claim(&recover->journal);

	if (!record)
		exit(2);
	journal_begin(&recover->journal, record, unique, FUSE_LOOKUP);
	return record;
}

/* A reference for a request that is answered: the kernel's. */
static uint32_t grant(struct recover *recover, struct record *record, uint64_t number)
{
	const struct node_key key = {.number = number};
	uint32_t index;
	bool made;

	if (node_grant_new(&recover->nodes, record, &key, &(uint8_t[NODE_DATA_BYTES]){0}, &index, &made))
		exit(2);
	return index;
}

static void answered(struct recover *recover, struct record *record)
{
	record->phase = RECORD_REPLY;
	journal_end(&recover->journal, record);
}

/* One request has its reference, another has raised nlookup and not yet said so: both give back theirs. */
static void two_references(void)
{
	struct recover *recover = mount_make();
	struct record *first = begin(recover, 1), *listed, *raising;
	uint32_t index = grant(recover, first, 7);
	struct node *node = &recover->state.nodes[index];

	answered(recover, first);
	listed = begin(recover, 2);
	grant(recover, listed, 7);
	raising = begin(recover, 3);
	raising->grant = (struct grant){.state = GRANT_RAISE, .node = index, .before = node->nlookup};
	node->nlookup++;
	recovery_settle(recover);
	is("two requests give back a reference each, one of them half given", node->nlookup, 1);
	is("the half given one is settled", raising->grant.state, GRANT_NONE);
	mount_drop(recover);
}

/* A thread had freed a node and not yet said so, when another had it already and told the kernel. */
static void freed_and_taken(void)
{
	struct recover *recover = mount_make();
	struct worker_slot *slot = &recover->state.slots[0];
	struct record *old = begin(recover, 1), *new;
	uint32_t index = grant(recover, old, 7), again;
	uint64_t id = node_id(index, &recover->state.nodes[index]);
	struct node_step step = {.kind = NODE_STEP_FORGET, .node = index, .done = 1};

	answered(recover, old);
	step.generation = recover->state.nodes[index].generation;
	node_forget(&recover->nodes, slot, id, 1, 1);
	new = begin(recover, 2);
	again = grant(recover, new, 8);
	is("the node is used again", again, index);
	answered(recover, new);
	slot->step = step; /* as the first thread had left it */
	recovery_settle(recover);
	is("what the second made of it stays", recover->state.nodes[index].nlookup, 1);
	is("and can be found", recover->state.nodes[index].state, NODE_USED);
	mount_drop(recover);
}

int main(void)
{
	two_references();
	freed_and_taken();
	printf("1..%u\n", tests);
	return failed != 0;
}
