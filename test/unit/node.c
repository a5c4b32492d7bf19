/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of nodes: references, chains, generations, and what deaths between two stores leave of them. */
#include "test/unit/check.h"
#include "test/unit/death.h"
#include "test/unit/fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "recover/atomic.h"

static const uint8_t no_data[NODE_DATA_BYTES];

static void a_node_is_made_once_and_found_by_its_nodeid(void)
{
	struct recover *recover = fixture_new();
	struct record *record = fixture_record(recover, 1, FUSE_LOOKUP);
	const struct node_key key = fixture_key(5);
	uint8_t data[NODE_DATA_BYTES] = "data";
	uint32_t index, again, found;
	bool made;

	CHECK_EQUAL(node_grant(&recover->nodes, record, &key, &index), -ENOENT);
	CHECK_EQUAL(node_grant_new(&recover->nodes, record, &key, data, &index, &made), 0);
	CHECK(made);
	CHECK_EQUAL(node_grant_new(&recover->nodes, record, &key, no_data, &again, &made), 0);
	CHECK(!made);
	CHECK_EQUAL(again, index);
	CHECK_EQUAL(fixture_nlookup(recover, 5), 2);
	CHECK_EQUAL(record->ngrants, 2);

	struct node *node = &recover->state.nodes[index];
	uint64_t id = node_id(index, node);

	CHECK(strcmp((char *)node->data, "data") == 0);
	CHECK(node_find(&recover->nodes, id, &found) == node && found == index);
	CHECK(!node_find(&recover->nodes, id + (UINT64_C(1) << 32), &found));
	CHECK(!node_find(&recover->nodes, 0, &found));
	CHECK(!node_find(&recover->nodes, recover->state.header->nodes_high + 1, &found));
	CHECK(!node_find(&recover->nodes, UINT32_MAX, &found));
	CHECK(node_find(&recover->nodes, NODE_ROOT, &found) && found == NODE_ROOT);
	fixture_free(recover);
}

static void a_record_holds_two_grants_and_with_an_area_thousands(void)
{
	struct recover *recover = fixture_new();
	struct record *record = fixture_record(recover, 1, FUSE_READDIRPLUS);
	uint32_t index;
	bool made;
	int err = 0;

	for (uint64_t number = 100; number < 102; number++) {
		const struct node_key key = fixture_key(number);

		CHECK_EQUAL(node_grant_new(&recover->nodes, record, &key, no_data, &index, &made), 0);
	}

	const struct node_key known = fixture_key(100), other = fixture_key(103);

	CHECK_EQUAL(node_grant(&recover->nodes, record, &known, &index), -ENOSPC);
	CHECK_EQUAL(node_grant_new(&recover->nodes, record, &other, no_data, &index, &made), -ENOSPC);
	CHECK_EQUAL(fixture_nlookup(recover, 100), 1);

	journal_begin(&recover->journal, record, 2, FUSE_READDIRPLUS);
	CHECK(journal_take_area(&recover->journal, record));
	for (uint64_t number = 200; !err && number < 200 + GRANTS_PER_AREA; number++) {
		const struct node_key key = fixture_key(number);

		err = node_grant_new(&recover->nodes, record, &key, no_data, &index, &made);
	}
	CHECK_EQUAL(err, 0);
	CHECK_EQUAL(node_grant(&recover->nodes, record, &known, &index), -ENOSPC);
	CHECK_EQUAL(record->ngrants, GRANTS_PER_AREA);
	node_revoke(&recover->nodes, recover->state.slots, record);
	CHECK_EQUAL(record->ngrants, 0);
	CHECK_EQUAL(fixture_nlookup(recover, 200), 0);
	CHECK_EQUAL(fixture_nlookup(recover, 199 + GRANTS_PER_AREA), 0);
	CHECK_EQUAL(fixture_nlookup(recover, 100), 1);
	CHECK_EQUAL(recover->state.header->nodes_used, 2);
	fixture_free(recover);
}

static void forget_lowers_and_frees_and_the_next_has_another_generation(void)
{
	struct recover *recover = fixture_new();
	struct worker_slot *slot = recover->state.slots;
	uint32_t index = fixture_node(recover, 5), found;
	uint64_t id = node_id(index, &recover->state.nodes[index]);
	struct nodes_counted counted;

	fixture_drops = 0;
	CHECK_EQUAL(fixture_node(recover, 5), index);
	CHECK_EQUAL(fixture_node(recover, 5), index);
	counted = nodes_count(&recover->state);
	CHECK_EQUAL(counted.used, 1);
	CHECK_EQUAL(counted.nlookup, 3);
	node_forget(&recover->nodes, slot, id, 2, 1);
	CHECK_EQUAL(fixture_nlookup(recover, 5), 1);
	CHECK_EQUAL(slot->forgets_done, 1);
	CHECK_EQUAL(fixture_drops, 0);
	node_forget(&recover->nodes, slot, id, 1, 2);
	CHECK_EQUAL(fixture_nlookup(recover, 5), 0);
	CHECK_EQUAL(slot->forgets_done, 2);
	CHECK_EQUAL(fixture_drops, 1);
	CHECK(!node_find(&recover->nodes, id, &found));
	CHECK_EQUAL(recover->state.header->nodes_used, 0);

	/* one more than there was, and a nodeid that is gone: counted as done, nothing else */
	node_forget(&recover->nodes, slot, id, 1, 3);
	CHECK_EQUAL(slot->forgets_done, 3);

	CHECK_EQUAL(fixture_node(recover, 6), index); /* freed first, used first */
	CHECK(node_id(index, &recover->state.nodes[index]) != id);
	node_forget(&recover->nodes, slot, id, 1, 4);
	CHECK_EQUAL(fixture_nlookup(recover, 6), 1);
	fixture_free(recover);
}

static void a_node_that_is_kept_stays_until_it_is_asked_about_again(void)
{
	struct recover *recover = fixture_new();
	struct worker_slot *slot = recover->state.slots;
	uint32_t index = fixture_node(recover, 5), found;
	uint64_t id = node_id(index, &recover->state.nodes[index]);

	fixture_keeps = true;
	fixture_drops = 0;
	node_forget(&recover->nodes, slot, id, 1, 1);
	nodes_sweep(&recover->nodes, slot, 100);
	CHECK(node_find(&recover->nodes, id, &found));
	CHECK_EQUAL(nodes_count(&recover->state).kept, 1);
	CHECK_EQUAL(nodes_count(&recover->state).used, 0);

	CHECK_EQUAL(fixture_node(recover, 5), index); /* the kernel is told of it once more */
	fixture_keeps = false;
	nodes_sweep(&recover->nodes, slot, 100);
	CHECK_EQUAL(fixture_nlookup(recover, 5), 1);
	CHECK_EQUAL(fixture_drops, 0);

	fixture_keeps = true;
	node_forget(&recover->nodes, slot, id, 1, 2);
	fixture_keeps = false;
	nodes_sweep(&recover->nodes, slot, 1);
	nodes_sweep(&recover->nodes, slot, 1);
	CHECK(!node_find(&recover->nodes, id, &found));
	CHECK_EQUAL(fixture_drops, 1);
	CHECK_EQUAL(slot->forgets_done, 2);
	CHECK_EQUAL(recover->state.header->nodes_used, 0);
	fixture_free(recover);
}

static void the_root_is_never_forgotten(void)
{
	struct recover *recover = fixture_new();
	uint32_t found;

	node_forget(&recover->nodes, recover->state.slots, NODE_ROOT, 1, 1);
	CHECK_EQUAL(recover->state.slots[0].forgets_done, 1);
	CHECK(node_find(&recover->nodes, NODE_ROOT, &found));
	CHECK_EQUAL(recover->state.nodes[NODE_ROOT].nlookup, 1);
	fixture_free(recover);
}

static void more_references_given_back_than_there_are_free_the_node(void)
{
	struct recover *recover = fixture_new();
	uint32_t index = fixture_node(recover, 5), found;
	uint64_t id = node_id(index, &recover->state.nodes[index]);
	int quiet = dup(2), null = open("/dev/null", O_WRONLY);

	dup2(null, 2); /* it says so */
	node_forget(&recover->nodes, recover->state.slots, id, 7, 1);
	dup2(quiet, 2);
	close(null);
	close(quiet);
	CHECK(!node_find(&recover->nodes, id, &found));
	CHECK_EQUAL(fixture_nlookup(recover, 5), 0);
	fixture_free(recover);
}

/* Makes nodes until two share a chain; returns the newer one's index. Its neighbour is its `next`. */
static uint32_t collide(struct recover *recover)
{
	uint64_t number = 1;

	for (int i = 0; i < 4000; i++) {
		number = number * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		uint32_t index = fixture_node(recover, number);

		if (recover->state.nodes[index].next > NODE_ROOT)
			return index;
	}
	errx(1, "no two keys share a chain");
}

static void nodes_of_one_chain_are_told_apart(void)
{
	struct recover *recover = fixture_new();
	struct node *nodes = recover->state.nodes;
	uint32_t newer = collide(recover), older = nodes[newer].next;
	uint64_t newer_number = nodes[newer].key.number, older_number = nodes[older].key.number;

	CHECK_EQUAL(fixture_nlookup(recover, newer_number), 1);
	CHECK_EQUAL(fixture_nlookup(recover, older_number), 1);
	node_forget(&recover->nodes, recover->state.slots, node_id(older, &nodes[older]), 1, 1);
	CHECK_EQUAL(fixture_nlookup(recover, newer_number), 1);
	CHECK_EQUAL(fixture_nlookup(recover, older_number), 0);
	CHECK_EQUAL(nodes[newer].next, 0);
	older = fixture_node(recover, older_number);
	CHECK_EQUAL(nodes[older].next, newer);
	node_forget(&recover->nodes, recover->state.slots, node_id(older, &nodes[older]), 1, 2);
	CHECK_EQUAL(fixture_nlookup(recover, newer_number), 1);
	CHECK_EQUAL(fixture_nlookup(recover, older_number), 0);

	/* the same number with another device or birth is another node */
	struct node_key key = nodes[newer].key;
	struct record *record = fixture_record(recover, 1, FUSE_LOOKUP);
	uint32_t index;

	key.birth++;
	CHECK_EQUAL(node_grant(&recover->nodes, record, &key, &index), -ENOENT);
	key.birth--;
	key.device++;
	CHECK_EQUAL(node_grant(&recover->nodes, record, &key, &index), -ENOENT);
	fixture_free(recover);
}

/* Keys that share a chain and differ in one word only. */
static void each_word_of_a_key_counts(void)
{
	for (int word = 0; word < 3; word++) {
		struct recover *recover = fixture_new();
		struct node *nodes = recover->state.nodes;
		struct record *record = fixture_record(recover, 1, FUSE_LOOKUP);
		uint64_t value = 1;
		uint32_t index = 0, found;
		bool made;

		for (int i = 0; i < 20000 && nodes[index].next <= NODE_ROOT; i++) {
			struct node_key key = fixture_key(5);

			value = value * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
			*(word == 0 ? &key.device : word == 1 ? &key.number : &key.birth) = value;
			journal_begin(&recover->journal, record, 1, FUSE_LOOKUP);
			REQUIRE(node_grant_new(&recover->nodes, record, &key, no_data, &index, &made) == 0);
		}
		journal_begin(&recover->journal, record, 1, FUSE_LOOKUP);
		REQUIRE(nodes[index].next > NODE_ROOT);
		CHECK_EQUAL(node_grant(&recover->nodes, record, &nodes[nodes[index].next].key, &found), 0);
		CHECK_EQUAL(found, nodes[index].next);
		CHECK_EQUAL(node_grant(&recover->nodes, record, &nodes[index].key, &found), 0);
		CHECK_EQUAL(found, index);
		fixture_free(recover);
	}
}

static void the_next_server_finds_what_was_freed(void)
{
	struct recover *recover = fixture_new();
	uint32_t index = 0;
	uint64_t high;

	for (uint64_t number = 1; number <= 20; number++)
		index = fixture_node(recover, number);
	high = recover->state.header->nodes_high;
	node_forget(&recover->nodes, recover->state.slots, node_id(index, &recover->state.nodes[index]), 1, 1);
	free(recover->nodes.free);
	fixture_life(recover);
	CHECK_EQUAL(fixture_node(recover, 21), index);
	CHECK_EQUAL(recover->state.header->nodes_high, high);
	CHECK_EQUAL(fixture_nlookup(recover, 20), 0);
	CHECK_EQUAL(fixture_nlookup(recover, 3), 1);
	fixture_free(recover);
}

/* --- several threads ---------------------------------------------------------------------------------------- */

#define CROWD 4
#ifdef FXFS_SANITIZE
#define CROWD_ROUNDS 5000
#else
#define CROWD_ROUNDS 50000
#endif

static struct recover *crowded;
static atomic_int taken[4096];
static atomic_int taken_twice;

/* Each makes and forgets nodes of its own; no two may get the same place at a time. */
static void *crowd_member(void *argument)
{
	unsigned me = *(unsigned *)argument;
	struct worker_slot *slot = &crowded->state.slots[me];
	struct record *record = fixture_record(crowded, 1, FUSE_LOOKUP);

	for (unsigned i = 0; i < CROWD_ROUNDS; i++) {
		const struct node_key key = fixture_key(10 + me);
		uint32_t index;
		bool made;

		journal_begin(&crowded->journal, record, i, FUSE_LOOKUP);
		if (node_grant_new(&crowded->nodes, record, &key, no_data, &index, &made) || !made ||
		    index >= COUNT(taken) || atomic_exchange(&taken[index], 1)) {
			atomic_fetch_add(&taken_twice, 1);
			break;
		}
		atomic_store(&taken[index], 0);
		node_forget(&crowded->nodes, slot, node_id(index, &crowded->state.nodes[index]), 1, 1);
	}
	return NULL;
}

static void no_two_threads_get_the_same_free_node(void)
{
	pthread_t thread[CROWD];
	unsigned number[CROWD];

	crowded = fixture_new();
	for (unsigned i = 0; i < CROWD; i++) {
		number[i] = i;
		REQUIRE(pthread_create(&thread[i], NULL, crowd_member, &number[i]) == 0);
	}
	for (unsigned i = 0; i < CROWD; i++)
		pthread_join(thread[i], NULL);
	CHECK_EQUAL(taken_twice, 0);
	CHECK(crowded->state.header->nodes_high <= 2 * CROWD);
	for (unsigned i = 0; i < CROWD; i++)
		CHECK_EQUAL(fixture_nlookup(crowded, 10 + i), 0);
	fixture_free(crowded);
}

static void *forget_it(void *id)
{
	node_forget(&crowded->nodes, crowded->state.slots, *(uint64_t *)id, 1, 1);
	return NULL;
}

/* Who holds the lock is choosing a free node: none may become free under its eyes that is not yet listed as free. */
static void a_node_becomes_free_under_the_lock_only(void)
{
	pthread_t thread;
	struct node *node;
	uint32_t index;
	uint64_t id;

	crowded = fixture_new();
	index = fixture_node(crowded, 5);
	node = &crowded->state.nodes[index];
	id = node_id(index, node);
	pthread_mutex_lock(&crowded->nodes.allocation);
	REQUIRE(pthread_create(&thread, NULL, forget_it, &id) == 0);
	for (int ms = 0; ms < 50; ms++) {
		usleep(1000);
		CHECK(load_acquire(&node->state) != NODE_FREE);
	}
	pthread_mutex_unlock(&crowded->nodes.allocation);
	pthread_join(thread, NULL);
	CHECK_EQUAL(node->state, NODE_FREE);
	CHECK_EQUAL(crowded->nodes.free_n, 1);
	fixture_free(crowded);
}

/* --- deaths ------------------------------------------------------------------------------------------------- */

static struct recover *mortal;
static struct record *its_record;
static struct node_key its_key;
static uint32_t forget_bytes; /* of the FORGET in the worker's buffer */

/* What the next server does, in a process of its own: it closes what nobody names. */
static void work_recover(void *unused)
{
	(void)unused;
	/* it empties the buffer; here the buffer comes from a death again and again */
	((struct fuse_in_header *)mortal->workers[0].in)->len = forget_bytes;
	fixture_life(mortal);
	recovery_settle(mortal);
}

struct expectation {
	const char *what;
	uint64_t number[3], nlookup[3]; /* what each of these nodes has to have in the end */
	uint64_t used;
};

/* How far `number` is from its expectation, or 0; said once per moment. */
static bool all_right(const struct expectation *expectation, unsigned moment, int second)
{
	const struct state *state = &mortal->state;
	struct nodes_counted counted;
	uint64_t sum = 0;
	bool good = true;

	for (unsigned i = 0; i < 3; i++) {
		sum += expectation->nlookup[i];
		good = good && (!expectation->number[i] ||
				fixture_nlookup(mortal, expectation->number[i]) == expectation->nlookup[i]);
	}
	counted = nodes_count(state);
	good = good && counted.used == expectation->used && counted.nlookup == sum && !counted.kept;
	for (uint64_t i = 1; i <= state->header->nodes_high; i++)
		good = good && state->nodes[i].state != NODE_CLAIMED;
	for (unsigned i = 0; i < STATE_SLOTS; i++)
		good = good && state->slots[i].step.kind == NODE_STEP_NONE;
	for (unsigned i = 0; i < JOURNAL_RECORDS; i++)
		good = good && (state->records[i].phase != RECORD_BEGUN ||
				(!state->records[i].ngrants && !state->records[i].grant.state));
	if (!good)
		printf("# %s: wrong after a death at store %u, and in the recovery at %d\n", expectation->what, moment,
		       second);
	return CHECK(good);
}

/* After which of the first deaths the recovery dies too: all of them, where that does not take minutes. */
#ifdef FXFS_SANITIZE
#define SECOND_DEATHS 4
#else
#define SECOND_DEATHS 1
#endif

/*
 * Lets the work die after each of its stores, recovers, and checks; and lets the recovery die after each of its own
 * stores too, recovers again, and checks.
 */
static void die_everywhere(death_work *work, const struct expectation *expectation, unsigned at_least)
{
	struct deaths *deaths;
	unsigned moments;

	fixture_first_fd = 100;
	deaths = deaths_collect(&mortal->state, work, NULL);
	moments = deaths->moments;
	if (moments < at_least)
		printf("# %s: only %u moments\n", expectation->what, moments);
	CHECK(moments >= at_least);
	for (unsigned i = 0; i < moments && !check_failed; i++) {
		struct deaths *second;

		deaths_load(deaths, i);
		CHECK_EQUAL(death_run(false, work_recover, NULL), 0);
		all_right(expectation, i, -1);
		if (i % SECOND_DEATHS)
			continue;

		deaths_load(deaths, i);
		second = deaths_collect(&mortal->state, work_recover, NULL);
		for (unsigned j = 0; j < second->moments && !check_failed; j++) {
			deaths_load(second, j);
			CHECK_EQUAL(death_run(false, work_recover, NULL), 0);
			all_right(expectation, i, (int)j);
		}
		deaths_free(second);
	}
	deaths_free(deaths);
}

static void work_grant(void *unused)
{
	uint32_t index;

	(void)unused;
	node_grant(&mortal->nodes, its_record, &its_key, &index);
}

static void work_grant_new(void *unused)
{
	uint32_t index;
	bool made;

	(void)unused;
	node_grant_new(&mortal->nodes, its_record, &its_key, no_data, &index, &made);
}

static void deaths_while_granting(void)
{
	const struct expectation expectation = {"grant", {5, 6}, {2, 1}, 2};

	NEEDS_DEATHS();
	mortal = fixture_new();
	fixture_node(mortal, 5);
	fixture_node(mortal, 5);
	fixture_node(mortal, 6);
	its_record = fixture_record(mortal, 77, FUSE_LOOKUP);
	its_key = fixture_key(6);
	work_grant(NULL); /* one that is listed before */
	its_key = fixture_key(5);
	die_everywhere(work_grant, &expectation, 7);
	fixture_free(mortal);
}

static void deaths_while_making_a_node(void)
{
	const struct expectation expectation = {"grant_new", {5, 6}, {1, 0}, 1};

	NEEDS_DEATHS();
	mortal = fixture_new();
	fixture_node(mortal, 5);
	its_record = fixture_record(mortal, 77, FUSE_LOOKUP);
	its_key = fixture_key(6);
	die_everywhere(work_grant_new, &expectation, 15);
	fixture_free(mortal);
}

static void deaths_while_making_a_node_in_a_chain_of_a_freed_one(void)
{
	struct expectation expectation = {.what = "grant_new in a chain", .nlookup = {1, 0}};
	uint32_t newer, older;

	NEEDS_DEATHS();
	mortal = fixture_new();
	newer = collide(mortal);
	older = mortal->state.nodes[newer].next;
	its_key = mortal->state.nodes[older].key;
	expectation.number[0] = mortal->state.nodes[newer].key.number;
	expectation.number[1] = its_key.number;
	for (uint32_t i = NODE_ROOT + 1; i <= mortal->state.header->nodes_high; i++)
		if (i != newer)
			node_forget(&mortal->nodes, mortal->state.slots, node_id(i, &mortal->state.nodes[i]), 1, 1);
	expectation.used = nodes_count(&mortal->state).used;
	CHECK_EQUAL(expectation.used, 1);
	its_record = fixture_record(mortal, 77, FUSE_LOOKUP);
	die_everywhere(work_grant_new, &expectation, 15);
	fixture_free(mortal);
}

static void work_revoke(void *unused)
{
	(void)unused;
	node_revoke(&mortal->nodes, mortal->state.slots, its_record);
}

static void deaths_while_revoking(void)
{
	const struct expectation expectation = {"revoke", {5, 6}, {1, 0}, 1};

	NEEDS_DEATHS();
	mortal = fixture_new();
	fixture_node(mortal, 5);
	its_record = fixture_record(mortal, 77, FUSE_LINK);
	its_key = fixture_key(5);
	work_grant(NULL);
	its_key = fixture_key(6);
	work_grant_new(NULL);
	die_everywhere(work_revoke, &expectation, 12);
	fixture_free(mortal);
}

/* The dead server had listed one reference, and was about to list another to the same node in another request. */
static void deaths_with_two_grants_of_one_node(void)
{
	const struct expectation expectation = {"grant beside a grant", {5}, {1}, 1};

	NEEDS_DEATHS();
	mortal = fixture_new();
	fixture_node(mortal, 5);
	its_key = fixture_key(5);
	its_record = fixture_record(mortal, 77, FUSE_LOOKUP);
	work_grant(NULL);
	its_record = fixture_record(mortal, 78, FUSE_LOOKUP);
	die_everywhere(work_grant, &expectation, 7);
	fixture_free(mortal);
}

static void work_forget(void *unused)
{
	(void)unused;
	forget_apply(mortal, (const void *)mortal->workers[0].in, mortal->state.slots);
}

/* A FORGET is in the worker's buffer only: whenever the server dies, it is applied once. */
static void put_forget(const uint32_t *index, const uint64_t *nlookup, unsigned n)
{
	struct fuse_in_header *in = (void *)mortal->workers[0].in;
	struct fuse_batch_forget_in *head = (void *)(in + 1);
	struct fuse_forget_one *one = (void *)(head + 1);

	in->opcode = FUSE_BATCH_FORGET;
	head->count = n;
	for (unsigned i = 0; i < n; i++)
		one[i] = (struct fuse_forget_one){node_id(index[i], &mortal->state.nodes[index[i]]), nlookup[i]};
	forget_bytes = (uint32_t)(sizeof(*in) + sizeof(*head) + n * sizeof(*one));
	in->len = forget_bytes;
}

static void deaths_while_forgetting(void)
{
	uint32_t index;

	NEEDS_DEATHS();
	for (uint64_t by = 1; by <= 3; by++) { /* of three */
		const struct expectation expectation = {"forget", {5, 6}, {2, 3 - by}, by < 3 ? 2 : 1};
		struct fuse_in_header *in;

		mortal = fixture_new();
		in = (void *)mortal->workers[0].in;
		for (int i = 0; i < 2; i++)
			fixture_node(mortal, 5);
		for (int i = 0; i < 3; i++)
			index = fixture_node(mortal, 6);
		in->opcode = FUSE_FORGET;
		in->nodeid = node_id(index, &mortal->state.nodes[index]);
		((struct fuse_forget_in *)(in + 1))->nlookup = by;
		forget_bytes = in->len = sizeof(*in) + sizeof(struct fuse_forget_in);
		die_everywhere(work_forget, &expectation, by < 3 ? 5 : 9);
		forget_bytes = 0;
		fixture_free(mortal);
	}
}

static void deaths_while_forgetting_many(void)
{
	struct expectation expectation = {.what = "batch forget", .nlookup = {0, 1, 3}};
	uint32_t index[4];

	NEEDS_DEATHS();
	mortal = fixture_new();
	index[0] = collide(mortal);
	index[1] = mortal->state.nodes[index[0]].next;
	for (uint32_t i = NODE_ROOT + 1; i <= mortal->state.header->nodes_high; i++)
		if (i != index[0] && i != index[1])
			node_forget(&mortal->nodes, mortal->state.slots, node_id(i, &mortal->state.nodes[i]), 1, 1);
	fixture_node(mortal, mortal->state.nodes[index[0]].key.number);
	for (int i = 0; i < 5; i++)
		index[2] = fixture_node(mortal, 5);
	index[3] = NODE_ROOT;
	expectation.number[0] = mortal->state.nodes[index[1]].key.number;
	expectation.number[1] = mortal->state.nodes[index[0]].key.number;
	expectation.number[2] = 5;
	expectation.used = nodes_count(&mortal->state).used;
	CHECK_EQUAL(expectation.used--, 3);
	mortal->state.slots[0].forgets_done = 0;
	put_forget((uint32_t[]){index[1], index[0], index[3], index[2]}, (uint64_t[]){1, 1, 1, 2}, 4);
	die_everywhere(work_forget, &expectation, 20);
	forget_bytes = 0;
	fixture_free(mortal);
}

/*
 * A node that one thread frees, another may have taken already when the first dies before it cleared its step: the
 * step is about the node that was.
 */
static void a_step_does_not_touch_the_next_life_of_its_node(void)
{
	struct deaths *deaths;
	unsigned reused = 0;

	NEEDS_DEATHS();
	mortal = fixture_new();
	uint32_t index = fixture_node(mortal, 5);
	struct node *node = &mortal->state.nodes[index];

	put_forget(&index, &(uint64_t){1}, 1);
	deaths = deaths_collect(&mortal->state, work_forget, NULL);
	for (unsigned i = 0; i < deaths->moments; i++) {
		deaths_load(deaths, i);
		free(mortal->nodes.free);
		fixture_life(mortal);
		if (node->state != NODE_FREE || mortal->state.slots[0].step.kind == NODE_STEP_NONE)
			continue;
		if (fixture_node(mortal, 6) == index)
			reused++;
		CHECK_EQUAL(death_run(false, work_recover, NULL), 0);
		CHECK_EQUAL(fixture_nlookup(mortal, 6), 1);
		CHECK_EQUAL(fixture_nlookup(mortal, 5), 0);
		CHECK_EQUAL(mortal->state.slots[0].step.kind, NODE_STEP_NONE);
	}
	CHECK(reused > 0);
	deaths_free(deaths);
	forget_bytes = 0;
	fixture_free(mortal);
}

static void work_sweep(void *unused)
{
	(void)unused;
	nodes_sweep(&mortal->nodes, mortal->state.slots, 2);
}

/* Once nobody wants to keep a node it goes, whatever is said of it after a death: it may be half gone. */
static void deaths_while_sweeping(void)
{
	struct deaths *deaths;
	unsigned freed = 0, stayed = 0;

	NEEDS_DEATHS();
	mortal = fixture_new();
	uint32_t index = fixture_node(mortal, 5);
	struct node *node = &mortal->state.nodes[index];

	fixture_keeps = true;
	node_forget(&mortal->nodes, mortal->state.slots, node_id(index, node), 1, 1);
	fixture_keeps = false;
	deaths = deaths_collect(&mortal->state, work_sweep, NULL);
	fixture_keeps = true;
	for (unsigned i = 0; i < deaths->moments; i++) {
		const struct node_key key = fixture_key(5);
		uint32_t found = 0;

		deaths_load(deaths, i);
		fixture_life(mortal);
		CHECK_EQUAL(death_run(false, work_recover, NULL), 0);
		CHECK_EQUAL(mortal->state.slots[0].step.kind, NODE_STEP_NONE);
		its_record = fixture_record(mortal, 77, FUSE_LOOKUP);
		CHECK_EQUAL(node_grant(&mortal->nodes, its_record, &key, &found),
			    node->state == NODE_USED ? 0 : -ENOENT);
		if (node->state == NODE_USED)
			stayed++;
		else
			freed++;
	}
	CHECK(freed > 3 && stayed > 0);
	deaths_free(deaths);
	fixture_keeps = false;
	fixture_free(mortal);
}

int main(void)
{
	static const struct check checks[] = {
		{"a node is made once and found by its nodeid", a_node_is_made_once_and_found_by_its_nodeid},
		{"a record holds two grants, with an area thousands",
		 a_record_holds_two_grants_and_with_an_area_thousands},
		{"forget lowers and frees, and the next node has another generation",
		 forget_lowers_and_frees_and_the_next_has_another_generation},
		{"a node that is kept stays until it is asked about again",
		 a_node_that_is_kept_stays_until_it_is_asked_about_again},
		{"the root is never forgotten", the_root_is_never_forgotten},
		{"more references given back than there are free the node",
		 more_references_given_back_than_there_are_free_the_node},
		{"nodes of one chain are told apart", nodes_of_one_chain_are_told_apart},
		{"each word of a key counts", each_word_of_a_key_counts},
		{"the next server finds what was freed", the_next_server_finds_what_was_freed},
		{"no two threads get the same free node", no_two_threads_get_the_same_free_node},
		{"a node becomes free under the lock only", a_node_becomes_free_under_the_lock_only},
		{"deaths while granting", deaths_while_granting},
		{"deaths while making a node", deaths_while_making_a_node},
		{"deaths while making a node in a chain of a freed one",
		 deaths_while_making_a_node_in_a_chain_of_a_freed_one},
		{"deaths while revoking", deaths_while_revoking},
		{"deaths with two grants of one node", deaths_with_two_grants_of_one_node},
		{"deaths while forgetting", deaths_while_forgetting},
		{"deaths while forgetting many", deaths_while_forgetting_many},
		{"a step does not touch the next life of its node", a_step_does_not_touch_the_next_life_of_its_node},
		{"deaths while sweeping", deaths_while_sweeping},
	};

	return check_run(checks, COUNT(checks));
}
