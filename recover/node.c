/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The table of nodes and the index over their keys, both in the state, so that a new server finds them as
 * they were and its start does not grow with them.
 *
 * What a death leaves between two stores:
 *
 *	raising nlookup  record.grant names node and old value before the store. RAISE: applied if nlookup is old + 1
 *	                 (the dead thread held the stripe: nobody else changed it; so all grants are finished before
 *	                 any is revoked). RAISED: applied.
 *	a new node       record.grant says NEW before it is taken from the free ones; it may be in its chains or not,
 *	                 revoking looks.
 *	lowering         the slot's step names node and new value before the store; finishing it stores the
 *	                 same value again.
 *	freeing          part of a lowering step to 0, where keep() lets it go: step.freeing says so first, and keep() is not
 *	                 asked again. Leave the chains, drop(), FREE; each may be done twice. Once FREE
 *	                 another thread may take the node before the step is over: the generation tells.
 *
 * Free nodes are not listed in the state (a list would need its own steps): a server remembers those it freed
 * itself, and otherwise looks at a few nodes per allocation before it takes a fresh one.
 */
#include "recover/node.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "recover/atomic.h"
#include "recover/crash.h"
#include "recover/journal.h"
#include "recover/log.h"

#define NODE_SCAN 64

static uint32_t node_hash(const struct node_key *key)
{
	uint64_t h = key->number * UINT64_C(0x9e3779b97f4a7c15) ^ key->device * UINT64_C(0xc2b2ae3d27d4eb4f) ^
		     key->birth * UINT64_C(0x165667b19e3779f9);

	return (uint32_t)(h >> 32) & (NODE_HEADS - 1);
}

static pthread_mutex_t *node_stripe(struct nodes *nodes, const struct node_key *key)
{
	return &nodes->stripe[node_hash(key) % NODE_STRIPES];
}

static bool node_key_equal(const struct node_key *a, const struct node_key *b)
{
	return a->number == b->number && a->device == b->device && a->birth == b->birth;
}

void nodes_init(struct nodes *nodes, struct state *state, struct journal *journal)
{
	memset(nodes, 0, sizeof(*nodes));
	nodes->state = state;
	nodes->journal = journal;
	for (int i = 0; i < NODE_STRIPES; i++)
		pthread_mutex_init(&nodes->stripe[i], NULL);
	for (int i = 0; i < ALIAS_GROUPS; i++)
		pthread_mutex_init(&nodes->alias_group[i], NULL);
	pthread_mutex_init(&nodes->allocation, NULL);
	nodes->scan = NODE_ROOT + 1;
}

pthread_mutex_t *node_lock(struct nodes *nodes, const struct node *node)
{
	pthread_mutex_t *stripe = node_stripe(nodes, &node->key);

	pthread_mutex_lock(stripe);
	return stripe;
}

static void node_link(struct nodes *nodes, uint32_t index)
{
	struct node *node = &nodes->state->nodes[index];
	uint32_t *head = &nodes->state->heads[node_hash(&node->key)];

	node->next = *head;
	store_release(head, index);
}

/*
 * Where the chain of `key` names the next node that is `index` or, without one, has the key; NULL: it does not. A chain
 * that a crash has torn leads beyond the table or in a circle: then it ends there.
 */
static uint32_t *chain_find(struct nodes *nodes, const struct node_key *key, uint32_t index)
{
	uint64_t high = load_acquire(&nodes->state->header->nodes_high);
	uint32_t *link = &nodes->state->heads[node_hash(key)];

	for (uint64_t walked = 0; *link; walked++) {
		struct node *node = &nodes->state->nodes[*link];

		if (*link > high || walked > high) {
			log_error("the chain of node %u is torn at %u", index, *link);
			return NULL;
		}
		if (index ? *link == index : node_key_equal(&node->key, key))
			return link;
		link = &node->next;
	}
	return NULL;
}

/* One store takes it out of the chain; does nothing where it is not in it. */
static void node_unlink(struct nodes *nodes, uint32_t index)
{
	struct node *node = &nodes->state->nodes[index];
	uint32_t *link = chain_find(nodes, &node->key, index);

	if (link)
		store_release(link, node->next);
}

/* Once per node: it is found by its alias from here on. */
static void alias_link(struct nodes *nodes, uint32_t index)
{
	struct node *node = &nodes->state->nodes[index];
	uint32_t alias = nodes->alias ? nodes->alias(node) : 0;
	uint32_t *head = &nodes->state->aliases[alias % ALIAS_HEADS];

	if (!alias)
		return;
	pthread_mutex_lock(&nodes->alias_group[alias % ALIAS_GROUPS]);
	store_release(&node->alias_next, *head);
	store_release(head, index);
	pthread_mutex_unlock(&nodes->alias_group[alias % ALIAS_GROUPS]);
}

/*
 * Whoever is reading the chain may stand on the node, and would go astray when that becomes another's: the count tells
 * him to read again. It is raised before the node is free, also where a death made an earlier try of it.
 */
static void alias_unlink(struct nodes *nodes, uint32_t index)
{
	struct node *node = &nodes->state->nodes[index];
	uint32_t alias = nodes->alias ? nodes->alias(node) : 0;
	uint32_t *link = &nodes->state->aliases[alias % ALIAS_HEADS];
	uint64_t high = load_acquire(&nodes->state->header->nodes_high),
		 walked = 0; /* a torn chain ends: chain_find() */

	if (!alias)
		return;
	pthread_mutex_lock(&nodes->alias_group[alias % ALIAS_GROUPS]);
	while (*link && *link <= high && *link != index && walked++ < high)
		link = &nodes->state->nodes[*link].alias_next;
	if (*link == index)
		store_release(link, node->alias_next);
	__atomic_add_fetch(&nodes->state->unlinked[alias % ALIAS_GROUPS], 1, __ATOMIC_ACQ_REL);
	pthread_mutex_unlock(&nodes->alias_group[alias % ALIAS_GROUPS]);
}

uint64_t node_find_alias(struct state *state, uint32_t alias,
			 bool (*same)(const void *context, const struct node *node), const void *context,
			 uint32_t *index)
{
	uint64_t *unlinked = &state->unlinked[alias % ALIAS_GROUPS];
	uint64_t before, found, walked;

	do {
		before = load_acquire(unlinked);
		found = walked = 0;
		for (uint32_t i = load_acquire(&state->aliases[alias % ALIAS_HEADS]);
		     i && i <= load_acquire(&state->header->nodes_high) && walked++ < NODES_MAX &&
		     load_acquire(unlinked) == before;
		     i = load_acquire(&state->nodes[i].alias_next))
			if (same(context, &state->nodes[i])) {
				*index = i;
				found = node_id(i, &state->nodes[i]);
				break;
			}
		/* an addition of nothing, so that what was read before is not read after it */
	} while (__atomic_add_fetch(unlinked, 0, __ATOMIC_ACQ_REL) != before);
	return found;
}

static uint32_t node_search(struct nodes *nodes, const struct node_key *key)
{
	uint32_t *link = chain_find(nodes, key, 0);

	return link ? *link : 0;
}

int nodes_make_root(struct nodes *nodes, const struct node_key *key, const void *data)
{
	struct node *root;
	int err;

	err = state_grow(nodes->state, nodes->state->nodes_offset, &nodes->state->header->nodes_bytes,
			 (NODE_ROOT + 1) * sizeof(*root));
	if (err)
		return err;
	root = &nodes->state->nodes[NODE_ROOT];
	root->key = *key;
	root->nlookup = 1;
	memcpy(root->data, data, NODE_DATA_BYTES);
	store_release(&root->state, NODE_USED);
	node_link(nodes, NODE_ROOT);
	alias_link(nodes, NODE_ROOT);
	store_release(&nodes->state->header->nodes_high, NODE_ROOT);
	return 0;
}

struct node *node_find(struct nodes *nodes, uint64_t nodeid, uint32_t *index)
{
	uint64_t i = nodeid & UINT32_MAX;
	struct node *node;

	if (i == 0 || i > load_acquire(&nodes->state->header->nodes_high))
		return NULL;
	node = &nodes->state->nodes[i];
	if (load_acquire(&node->state) != NODE_USED || node->generation != nodeid >> 32)
		return NULL;
	*index = (uint32_t)i;
	return node;
}

/* Looks at a few nodes, round and round, for one that an earlier server freed. */
static uint32_t node_scan(struct nodes *nodes)
{
	const struct state_header *header = nodes->state->header;

	if (load_relaxed(&header->nodes_used) >= header->nodes_high)
		return 0;
	for (int i = 0; i < NODE_SCAN; i++) {
		uint32_t index = nodes->scan;

		nodes->scan = index >= header->nodes_high ? NODE_ROOT + 1 : index + 1;
		if (index <= header->nodes_high && load_acquire(&nodes->state->nodes[index].state) == NODE_FREE)
			return index;
	}
	return 0;
}

static uint32_t node_fresh(struct nodes *nodes)
{
	struct state_header *header = nodes->state->header;
	uint64_t index = header->nodes_high + 1;

	if (index >= NODES_MAX)
		return 0;
	if (state_grow(nodes->state, nodes->state->nodes_offset, &header->nodes_bytes,
		       (index + 1) * sizeof(struct node)))
		return 0;
	store_release(&header->nodes_high, index); /* death after: a free node that a scan finds */
	return (uint32_t)index;
}

/*
 * A free node that no other thread will take. The scan only runs while the private list is empty, so it meets
 * no node that is listed. The record says so before the node does: a death in between leaves it free.
 */
static uint32_t node_allocate(struct nodes *nodes, struct record *record)
{
	struct node *node;
	uint32_t index;

	pthread_mutex_lock(&nodes->allocation);
	if (nodes->free_n)
		index = nodes->free[--nodes->free_n];
	else
		index = node_scan(nodes);
	if (!index)
		index = node_fresh(nodes);
	if (index) {
		node = &nodes->state->nodes[index];
		record->grant.node = index;
		record->grant.before = 0;
		record->grant.position = record->ngrants;
		store_release(&record->grant.state, GRANT_NEW);
		crash_point(node_promised);
		node->generation++;
		store_release(&node->state, NODE_CLAIMED);
		crash_point(node_claimed);
		add_relaxed(&nodes->state->header->nodes_used, 1);
	}
	pthread_mutex_unlock(&nodes->allocation);
	return index;
}

/* Remembers a node that became free. Without memory for it the scan finds it later. Under the allocation lock. */
static void node_remember_free(struct nodes *nodes, uint32_t index)
{
	if (nodes->free_n == nodes->free_room) {
		uint32_t room = nodes->free_room ? nodes->free_room * 2 : 1024;
		uint32_t *more = realloc(nodes->free, room * sizeof(*more));

		if (more) {
			nodes->free = more;
			nodes->free_room = room;
		}
	}
	if (nodes->free_n < nodes->free_room)
		nodes->free[nodes->free_n++] = index;
}

/* Under the stripe lock. Each of its stores may be made again after a death. */
static void node_free(struct nodes *nodes, uint32_t index)
{
	struct node *node = &nodes->state->nodes[index];

	if (node->state == NODE_FREE)
		return;
	if (node->state == NODE_USED) {
		node_unlink(nodes, index);
		alias_unlink(nodes, index);
		crash_point(node_unlinked);
		if (nodes->drop)
			nodes->drop(nodes->context, index, node);
	}
	crash_point(node_dropped);
	/* free and listed at once: a scan in between would give it to somebody, and the list to somebody else */
	pthread_mutex_lock(&nodes->allocation);
	store_release(&node->state, NODE_FREE);
	crash_point(node_freed);
	add_relaxed(&nodes->state->header->nodes_used, -1);
	node_remember_free(nodes, index);
	pthread_mutex_unlock(&nodes->allocation);
}

/* Room for one more grant in the record? Its list moves to an area when the inline places are used up. */
static bool grant_has_room(struct nodes *nodes, struct record *record)
{
	uint32_t room;

	journal_grants(nodes->state, record, &room);
	return record->ngrants < room;
}

/* A raised nlookup enters the record's list; death before the last store leaves it RAISED for recovery. */
static void grant_settle(struct nodes *nodes, struct record *record)
{
	uint32_t room, *list = journal_grants(nodes->state, record, &room);

	if (record->grant.position == record->ngrants && record->ngrants < room) {
		crash_point(grant_raised);
		list[record->ngrants] = record->grant.node;
		store_release(&record->ngrants, record->ngrants + 1);
		crash_point(grant_listed);
	}
	store_release(&record->grant.state, GRANT_NONE);
}

/* Under the stripe lock. */
static void grant_raise(struct nodes *nodes, struct record *record, uint32_t index)
{
	struct node *node = &nodes->state->nodes[index];

	record->grant.node = index;
	record->grant.before = node->nlookup;
	record->grant.position = record->ngrants;
	store_release(&record->grant.state, GRANT_RAISE);
	crash_point(grant_noted);
	store_release(&node->nlookup, node->nlookup + 1);
	crash_point(nlookup_raised);
	store_release(&record->grant.state, GRANT_RAISED);
	grant_settle(nodes, record);
}

int node_grant(struct nodes *nodes, struct record *record, const struct node_key *key, uint32_t *index)
{
	pthread_mutex_t *stripe = node_stripe(nodes, key);

	if (!grant_has_room(nodes, record))
		return -ENOSPC;
	pthread_mutex_lock(stripe);
	*index = node_search(nodes, key);
	if (*index)
		grant_raise(nodes, record, *index);
	pthread_mutex_unlock(stripe);
	return *index ? 0 : -ENOENT;
}

void node_visit(struct nodes *nodes, const struct node_key *key,
		void (*visit)(void *context, uint32_t index, struct node *node), void *context)
{
	pthread_mutex_t *stripe = node_stripe(nodes, key);
	uint32_t index;

	pthread_mutex_lock(stripe);
	index = node_search(nodes, key);
	if (index)
		visit(context, index, &nodes->state->nodes[index]);
	pthread_mutex_unlock(stripe);
}

/* Under the stripe lock. */
static uint32_t node_make(struct nodes *nodes, struct record *record, const struct node_key *key, const void *data)
{
	uint32_t index = node_allocate(nodes, record);
	struct node *node = &nodes->state->nodes[index];

	if (!index)
		return 0;
	node->key = *key;
	memcpy(node->data, data, NODE_DATA_BYTES);
	node->nlookup = 1;
	store_release(&node->state, NODE_USED);
	crash_point(node_used);
	node_link(nodes, index);
	crash_point(node_linked);
	alias_link(nodes, index);
	crash_point(node_aliased);
	store_release(&record->grant.state, GRANT_RAISED);
	grant_settle(nodes, record);
	return index;
}

int node_grant_new(struct nodes *nodes, struct record *record, const struct node_key *key, const void *data,
		   uint32_t *index, bool *made)
{
	pthread_mutex_t *stripe = node_stripe(nodes, key);

	*made = false;
	if (!grant_has_room(nodes, record))
		return -ENOSPC;
	pthread_mutex_lock(stripe);
	*index = node_search(nodes, key);
	if (*index) {
		grant_raise(nodes, record, *index);
	} else {
		*index = node_make(nodes, record, key, data);
		*made = *index != 0;
	}
	pthread_mutex_unlock(stripe);
	return *index ? 0 : -ENFILE;
}

static void node_apply_nlookup(struct nodes *nodes, struct node_step *step)
{
	struct node *node = &nodes->state->nodes[step->node];

	store_release(&node->nlookup, step->nlookup);
	crash_point(nlookup_lowered);
	if (step->nlookup || step->node == NODE_ROOT)
		return;
	if (!step->freeing && nodes->keep && nodes->keep(nodes->context, step->node, node))
		return;
	store_release(&step->freeing, 1);
	node_free(nodes, step->node);
}

/* What the step says, once more or for the first time. Under the stripe lock. */
static void node_apply_step(struct nodes *nodes, struct worker_slot *slot)
{
	struct node_step *step = &slot->step;

	crash_point(step_noted);
	if (nodes->state->nodes[step->node].generation == step->generation)
		node_apply_nlookup(nodes, step);
	if (step->kind == NODE_STEP_FORGET)
		store_release(&slot->forgets_done, step->done);
	else
		store_release(&nodes->state->records[step->record].ngrants, step->done);
	crash_point(step_counted);
	store_release(&step->kind, NODE_STEP_NONE);
}

/* Under the stripe lock: writes down what will be, then does it. */
static void node_lower(struct nodes *nodes, struct worker_slot *slot, uint32_t kind, uint32_t index, uint64_t by,
		       uint32_t record, uint32_t done)
{
	uint64_t have = nodes->state->nodes[index].nlookup;

	if (have < by) {
		log_error("node %u: the kernel gives back %llu references of %llu", index, (unsigned long long)by,
			  (unsigned long long)have);
		by = have;
	}
	slot->step.node = index;
	slot->step.generation = nodes->state->nodes[index].generation;
	slot->step.nlookup = have - by;
	slot->step.record = record;
	slot->step.done = done;
	slot->step.freeing = 0;
	store_release(&slot->step.kind, kind);
	node_apply_step(nodes, slot);
}

void node_forget(struct nodes *nodes, struct worker_slot *slot, uint64_t nodeid, uint64_t count, uint32_t done)
{
	uint32_t index;
	struct node *node = node_find(nodes, nodeid, &index);
	pthread_mutex_t *stripe;

	if (!node || index == NODE_ROOT) {
		store_release(&slot->forgets_done, done);
		return;
	}
	stripe = node_lock(nodes, node);
	node_lower(nodes, slot, NODE_STEP_FORGET, index, count, 0, done);
	pthread_mutex_unlock(stripe);
}

static bool node_stays(const struct node *node)
{
	return load_acquire(&node->state) == NODE_USED && !load_relaxed(&node->nlookup);
}

/* A step as of a FORGET of no reference: freeing needs one. */
static void node_ask_again(struct nodes *nodes, struct worker_slot *slot, uint32_t index)
{
	struct node *node = &nodes->state->nodes[index];
	pthread_mutex_t *stripe;

	if (index == NODE_ROOT || !node_stays(node))
		return;
	stripe = node_lock(nodes, node);
	if (node_stays(node) && stripe == node_stripe(nodes, &node->key))
		node_lower(nodes, slot, NODE_STEP_FORGET, index, 0, 0, slot->forgets_done);
	pthread_mutex_unlock(stripe);
}

void nodes_sweep(struct nodes *nodes, struct worker_slot *slot, unsigned n)
{
	uint64_t high = load_acquire(&nodes->state->header->nodes_high);
	uint32_t from = add_relaxed(&nodes->swept, n);

	for (uint32_t i = from; i != from + n; i++)
		node_ask_again(nodes, slot, NODE_ROOT + i % high);
}

void node_finish_grant(struct nodes *nodes, struct record *record)
{
	struct grant *grant = &record->grant;
	struct node *node = &nodes->state->nodes[grant->node];

	switch (grant->state) {
	case GRANT_NEW:
		node_free(nodes, grant->node);
		store_release(&grant->state, GRANT_NONE);
		break;
	case GRANT_RAISE:
		if (node->nlookup == grant->before + 1)
			grant_settle(nodes, record);
		else
			store_release(&grant->state, GRANT_NONE);
		break;
	case GRANT_RAISED:
		grant_settle(nodes, record);
		break;
	}
}

void node_revoke_last(struct nodes *nodes, struct worker_slot *slot, struct record *record)
{
	uint32_t number = (uint32_t)(record - nodes->state->records);
	uint32_t room, *list = journal_grants(nodes->state, record, &room);
	uint32_t last = record->ngrants - 1;
	pthread_mutex_t *stripe = node_lock(nodes, &nodes->state->nodes[list[last]]);

	node_lower(nodes, slot, NODE_STEP_REVOKE, list[last], 1, number, last);
	pthread_mutex_unlock(stripe);
	add_relaxed(&nodes->state->header->counters.grants_revoked, 1);
}

void node_revoke(struct nodes *nodes, struct worker_slot *slot, struct record *record)
{
	while (record->ngrants)
		node_revoke_last(nodes, slot, record);
}

void node_finish_step(struct nodes *nodes, struct worker_slot *slot)
{
	if (slot->step.kind != NODE_STEP_NONE)
		node_apply_step(nodes, slot);
}

struct nodes_counted nodes_count(const struct state *state)
{
	struct nodes_counted counted = {0};

	for (uint64_t i = NODE_ROOT + 1; i <= state->header->nodes_high; i++) {
		const struct node *node = &state->nodes[i];

		if (load_relaxed(&node->state) != NODE_USED)
			continue;
		if (!node->nlookup)
			counted.kept++;
		else
			counted.used++;
		counted.nlookup += node->nlookup;
	}
	return counted;
}
