/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What cannot be in a state is dropped before it is followed, and what can be stays. */
#include "test/unit/check.h"
#include "test/unit/fixture.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "recover/check.h"

/* Is the record still in flight after `bytes` at `at` became `value`? */
static bool stays(struct recover *recover, struct record *record, void *at, const void *value, size_t bytes)
{
	struct record good = *record;
	bool kept;

	memcpy(at, value, bytes);
	kept = check_state(&recover->state) == 0 && record->phase != RECORD_FREE;
	*record = good;
	return kept;
}

#define STAYS_WITH(field, v)                                                                   \
	({                                                                                     \
		__typeof__(record->field) value_ = (v);                                        \
		stays(recover, record, &record->field, (const void *)&value_, sizeof(value_)); \
	})

static void a_record_that_cannot_be_is_dropped(void)
{
	struct recover *recover = fixture_new();
	struct record *record = fixture_record(recover, 1, FUSE_OPEN);
	uint32_t high = (uint32_t)recover->state.header->nodes_high;

	recover->state.header->device[0] = 77;
	record->nsteps = 1;
	record->steps[0] = (struct step){.state = STEP_DONE, .number = SYS_openat, .result = 99};
	CHECK(STAYS_WITH(faults, 1));
	CHECK(!STAYS_WITH(phase, RECORD_PHASE_N));
	CHECK(!STAYS_WITH(nsteps, JOURNAL_STEPS + 1));
	CHECK(!STAYS_WITH(steps[0].state, STEP_STATE_N));
	CHECK(!STAYS_WITH(steps[0].result, 77));
	CHECK(!STAYS_WITH(steps[0].result, 2));
	CHECK(!STAYS_WITH(steps[0].result, INT64_C(1) << 32));
	CHECK(STAYS_WITH(steps[0].result, -EEXIST));
	CHECK(STAYS_WITH(area, GRANT_AREAS));
	CHECK(!STAYS_WITH(area, GRANT_AREAS + 1));
	CHECK(!STAYS_WITH(ngrants, GRANTS_INLINE + 1));
	CHECK(!STAYS_WITH(grant.state, GRANT_STATE_N));
	record->ngrants = 1;
	CHECK(STAYS_WITH(granted[0], high));
	CHECK(!STAYS_WITH(granted[0], high + 1));
	CHECK(!STAYS_WITH(granted[0], 0));
	record->granted[0] = high;
	record->grant.state = GRANT_RAISE;
	CHECK(STAYS_WITH(grant.node, high));
	CHECK(!STAYS_WITH(grant.node, high + 1));
	record->grant.state = GRANT_NONE;
	record->phase = RECORD_REPLY;
	((struct fuse_out_header *)record->reply)->len = 16;
	CHECK(STAYS_WITH(reply_bytes, 0));
	CHECK(STAYS_WITH(reply_bytes, 16));
	CHECK(!STAYS_WITH(reply_bytes, 17));
	CHECK(!STAYS_WITH(reply_bytes, sizeof(record->reply) + 1));
	fixture_free(recover);
}

static void two_records_do_not_share_a_list(void)
{
	struct recover *recover = fixture_new();
	struct record *first = fixture_record(recover, 1, FUSE_OPEN), *second = fixture_record(recover, 2, FUSE_OPEN);

	first->area = second->area = 3;
	CHECK_EQUAL(check_state(&recover->state), 0);
	CHECK_EQUAL((first->phase != RECORD_FREE) + (second->phase != RECORD_FREE), 1);
	fixture_free(recover);
}

static void a_step_that_cannot_be_is_dropped(void)
{
	struct recover *recover = fixture_new();
	struct node_step *step = &recover->state.slots[2].step;
	uint32_t high = (uint32_t)recover->state.header->nodes_high;

	*step = (struct node_step){.kind = NODE_STEP_FORGET, .node = high};
	CHECK_EQUAL(check_state(&recover->state), 0);
	CHECK_EQUAL(step->kind, NODE_STEP_FORGET);
	step->node = high + 1;
	CHECK_EQUAL(check_state(&recover->state), 0);
	CHECK_EQUAL(step->kind, NODE_STEP_NONE);
	*step = (struct node_step){.kind = NODE_STEP_REVOKE, .node = high, .record = JOURNAL_RECORDS};
	CHECK_EQUAL(check_state(&recover->state), 0);
	CHECK_EQUAL(step->kind, NODE_STEP_NONE);
	fixture_free(recover);
}

static void a_header_that_cannot_be_is_an_error(void)
{
	struct recover *recover = fixture_new();
	struct state_header *header = recover->state.header;
	uint64_t high = header->nodes_high;

	header->nodes_high = NODES_MAX;
	CHECK_EQUAL(check_state(&recover->state), -EBADMSG);
	header->nodes_high = high;
	memset(header->program, 'x', sizeof(header->program));
	CHECK_EQUAL(check_state(&recover->state), -EBADMSG);
	fixture_free(recover);
}

/* A chain that leads in a circle, or nowhere, ends. */
static void a_torn_chain_ends(void)
{
	struct recover *recover = fixture_new();
	const uint8_t data[NODE_DATA_BYTES] = {0};
	const struct node_key key = {1, 7, 3};
	struct record *record = fixture_record(recover, 1, FUSE_LOOKUP);
	uint32_t index, again;
	bool made;

	REQUIRE(node_grant_new(&recover->nodes, record, &key, data, &index, &made) == 0);
	for (uint32_t i = 0; i < NODE_HEADS; i++)
		if (recover->state.heads[i] == index)
			recover->state.nodes[index].next = index;
	recover->state.nodes[index].key.birth = 4; /* no longer what is looked for */
	CHECK_EQUAL(node_grant(&recover->nodes, record, &key, &again), -ENOENT);
	recover->state.nodes[index].next = UINT32_MAX;
	CHECK_EQUAL(node_grant(&recover->nodes, record, &key, &again), -ENOENT);
	fixture_free(recover);
}

/* Whatever stands there: what is left after the check can be settled. */
static void garbage_is_settled(void)
{
	struct recover *recover = fixture_new();
	unsigned kept = 0;

	REQUIRE(freopen("/dev/null", "w", stderr)); /* a line for each of thousands */
	recover->state.header->records_high = 64;
	srandom(1);
	for (int round = 0; round < 200; round++) {
		for (unsigned i = 0; i < 64; i++) {
			uint8_t *at = (uint8_t *)&recover->state.records[i];

			for (size_t b = 0; b < sizeof(struct record); b++)
				at[b] = random() % 4 ? 0 : (uint8_t)(random() % 4);
		}
		for (unsigned i = 0; i < STATE_SLOTS; i++) {
			uint8_t *at = (uint8_t *)&recover->state.slots[i].step;

			for (size_t b = 0; b < sizeof(struct node_step); b++)
				at[b] = random() % 4 ? 0 : (uint8_t)(random() % 4);
		}
		CHECK_EQUAL(check_state(&recover->state), 0);
		for (unsigned i = 0; i < STATE_SLOTS; i++)
			node_finish_step(&recover->nodes, &recover->state.slots[i]);
		for (unsigned i = 0; i < 64; i++) {
			struct record *record = &recover->state.records[i];

			if (record->phase != RECORD_BEGUN)
				continue;
			kept++;
			node_finish_grant(&recover->nodes, record);
			node_revoke(&recover->nodes, &recover->state.slots[0], record);
		}
	}
	printf("# %u records looked possible\n", kept);
	fixture_free(recover);
}

int main(void)
{
	static const struct check checks[] = {
		{"a record that cannot be is dropped", a_record_that_cannot_be_is_dropped},
		{"two records do not share a list", two_records_do_not_share_a_list},
		{"a step that cannot be is dropped", a_step_that_cannot_be_is_dropped},
		{"a header that cannot be is an error", a_header_that_cannot_be_is_an_error},
		{"a torn chain ends", a_torn_chain_ends},
		{"garbage is settled", garbage_is_settled},
	};

	return check_run(checks, COUNT(checks));
}
