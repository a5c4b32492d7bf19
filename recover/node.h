/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Nodes: what the kernel knows by a nodeid. The table keeps for each its key (what it is in the file
 * system underneath), nlookup (how many references the kernel holds) and NODE_DATA_BYTES that
 * belong to the file system. nlookup is equal to the kernel's after any number of deaths.
 *
 * A nodeid is index | generation << 32. The root is index 1, generation 0. A nodeid is not used again while the
 * kernel may know it: a freed index comes back with the next generation.
 *
 * A second index finds a node by its alias, a number that the file system makes of what it keeps in the node (a file
 * handle). Processes that take no lock read it: node_find_alias().
 *
 * Locks: a stripe (by hash of the key) guards the chain, nlookup and data of the nodes in it; an alias group guards the
 * chains of aliases in it; the allocation lock guards the free list. Order: stripe, then alias or allocation.
 */
#ifndef RECOVER_NODE_H
#define RECOVER_NODE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "recover/state.h"

#define NODE_DATA_BYTES 80
#define NODE_ROOT 1
#define NODE_STRIPES 64

struct record;
struct journal;

enum node_state { NODE_FREE, NODE_CLAIMED, NODE_USED, NODE_STATE_N };
enum node_step_kind { NODE_STEP_NONE, NODE_STEP_FORGET, NODE_STEP_REVOKE, NODE_STEP_KIND_N };
enum grant_state { GRANT_NONE, GRANT_NEW, GRANT_RAISE, GRANT_RAISED, GRANT_STATE_N };

/* Three words that tell apart what must not be taken for one another, also after a number was used again. */
struct node_key {
	uint64_t device, number, birth;
};

struct node {
	uint32_t state; /* enum node_state; free until all else is written */
	uint32_t generation;
	uint64_t nlookup;
	struct node_key key;
	uint32_t next;	     /* in its chain; 0 ends it */
	uint32_t alias_next; /* the same by alias */
	uint8_t data[NODE_DATA_BYTES] __attribute__((aligned(8)));
};

struct nodes {
	struct state *state;
	struct journal *journal;
	/* Lets go of what `node` holds (descriptors); may be called twice for one node. Under the stripe lock. */
	void (*drop)(void *context, uint32_t index, struct node *node);
	/* nlookup is 0: must the node stay, because the kernel may come to it nevertheless? Under the stripe lock. NULL: no. */
	bool (*keep)(void *context, uint32_t index, struct node *node);
	void *context;
	/* Of data that does not change while the node is in use; 0: it has none. NULL: no node has. */
	uint32_t (*alias)(const struct node *node);
	pthread_mutex_t stripe[NODE_STRIPES];
	pthread_mutex_t alias_group[ALIAS_GROUPS];
	pthread_mutex_t allocation;
	uint32_t *free; /* of this server only: after a death the table is searched, little by little */
	uint32_t free_n, free_room;
	uint32_t scan;
	uint32_t swept; /* see nodes_sweep() */
};

void nodes_init(struct nodes *nodes, struct state *state, struct journal *journal);

/* Makes the root, once per mount. */
int nodes_make_root(struct nodes *nodes, const struct node_key *key, const void *data);

static inline uint64_t node_id(uint32_t index, const struct node *node)
{
	return index | (uint64_t)node->generation << 32;
}

/* The node of a nodeid that came from the kernel, NULL where there is none (any more): -ESTALE. */
struct node *node_find(struct nodes *nodes, uint64_t nodeid, uint32_t *index);

/*
 * Raises nlookup of the node with `key` by one, for `record`'s reply, and returns its index; -ENOENT if there is
 * none, -ENOSPC if the record cannot hold another grant.
 */
int node_grant(struct nodes *nodes, struct record *record, const struct node_key *key, uint32_t *index);

/* The same, but makes the node with `data` where there is none; `made` says so. -ENFILE: the table is full. */
int node_grant_new(struct nodes *nodes, struct record *record, const struct node_key *key, const void *data,
		   uint32_t *index, bool *made);

/*
 * A grant that a death interrupted becomes a listed one or none. For all records before anything is revoked: it is
 * told by the node's nlookup whether it was raised.
 */
void node_finish_grant(struct nodes *nodes, struct record *record);

/* Takes back every grant of a record whose reply did not reach the kernel. Bears a death at any point. */
void node_revoke(struct nodes *nodes, struct worker_slot *slot, struct record *record);

/* Takes back the last grant: what it is for could not be handed out. */
void node_revoke_last(struct nodes *nodes, struct worker_slot *slot, struct record *record);

/* FORGET: lowers nlookup by `count`; `done` is the progress counter stored in the slot when it is applied. */
void node_forget(struct nodes *nodes, struct worker_slot *slot, uint64_t nodeid, uint64_t count, uint32_t done);

/* Brings a step that a death interrupted to its end. */
void node_finish_step(struct nodes *nodes, struct worker_slot *slot);

/*
 * Asks keep() again of those that stay, among the next `n` of the table, round and round; by whoever makes them stay, so that
 * they are never many more than those that must.
 */
void nodes_sweep(struct nodes *nodes, struct worker_slot *slot, unsigned n);

/* Calls visit() under the stripe lock if there is a node with `key`; no reference is taken. */
void node_visit(struct nodes *nodes, const struct node_key *key,
		void (*visit)(void *context, uint32_t index, struct node *node), void *context);

/* The stripe of the node, locked. The caller unlocks what it got: the node may have become another meanwhile. */
pthread_mutex_t *node_lock(struct nodes *nodes, const struct node *node);

/*
 * The nodeid of the node with `alias` for which same() says so, 0: there is none. From any process, without a lock: same()
 * may see a node that is being freed or made, and its answer is then not taken. `index` is its place in the table.
 */
uint64_t node_find_alias(struct state *state, uint32_t alias,
			 bool (*same)(const void *context, const struct node *node), const void *context,
			 uint32_t *index);

struct nodes_counted {
	uint64_t used;	  /* that the kernel holds references to, without the root */
	uint64_t nlookup; /* how many */
	uint64_t kept;	  /* those that keep() has stay */
};

/* For people. */
struct nodes_counted nodes_count(const struct state *state);

#endif
