/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The journal: who gets which record, what it remembers, and that a step is made once. */
#include "test/unit/check.h"
#include "test/unit/death.h"
#include "test/unit/fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>

static void a_record_is_found_while_its_request_is_in_flight(void)
{
	struct recover *recover = fixture_new();
	struct record *record = journal_claim(&recover->journal);

	CHECK(!journal_find(&recover->journal, 42));
	CHECK_EQUAL(journal_in_flight(&recover->state), 0);
	journal_begin(&recover->journal, record, 42 | UNIQUE_RESEND, FUSE_MKDIR);
	CHECK_EQUAL(record->phase, RECORD_BEGUN);
	CHECK_EQUAL(record->opcode, FUSE_MKDIR);
	CHECK_EQUAL(record->life, recover->state.header->life);
	CHECK(journal_find(&recover->journal, 42) == record);
	CHECK(journal_find(&recover->journal, 42 | UNIQUE_RESEND) == record);
	CHECK(!journal_find(&recover->journal, 43));
	CHECK_EQUAL(journal_in_flight(&recover->state), 1);
	journal_end(&recover->journal, record);
	CHECK(!journal_find(&recover->journal, 42));
	CHECK_EQUAL(journal_in_flight(&recover->state), 0);
	fixture_free(recover);
}

static void begin_forgets_what_the_record_held(void)
{
	struct recover *recover = fixture_new();
	struct record *record = fixture_record(recover, 1, FUSE_OPEN);

	for (int i = 0; i < JOURNAL_STEPS; i++)
		record->steps[i] = (struct step){.state = STEP_DONE, .number = SYS_openat, .result = 3};
	record->nsteps = JOURNAL_STEPS;
	record->handle = 5;
	record->grant.state = GRANT_RAISED;
	record->ngrants = 2;
	record->reply_bytes = 16;
	record->faults = 3;
	CHECK(journal_take_area(&recover->journal, record));
	journal_end(&recover->journal, record);
	journal_begin(&recover->journal, record, 2, FUSE_OPEN);
	for (int i = 0; i < JOURNAL_STEPS; i++)
		CHECK_EQUAL(record->steps[i].state, STEP_NONE);
	CHECK_EQUAL(record->nsteps, 0);
	CHECK_EQUAL(record->handle, 0);
	CHECK_EQUAL(record->grant.state, GRANT_NONE);
	CHECK_EQUAL(record->ngrants, 0);
	CHECK_EQUAL(record->area, 0);
	CHECK_EQUAL(record->reply_bytes, 0);
	CHECK_EQUAL(record->faults, 0);
	fixture_free(recover);
}

static void each_record_is_claimed_once_in_a_life(void)
{
	struct recover *recover = fixture_new();
	static bool seen[JOURNAL_RECORDS];
	struct record *record;

	memset(seen, 0, sizeof(seen));
	for (int i = 0; i < JOURNAL_RECORDS; i++) {
		record = journal_claim(&recover->journal);
		REQUIRE(record);
		CHECK(!seen[record - recover->state.records]);
		seen[record - recover->state.records] = true;
	}
	CHECK(!journal_claim(&recover->journal));

	/* of the next life all that are not in flight */
	journal_begin(&recover->journal, &recover->state.records[7], 70, FUSE_READ);
	fixture_life(recover);
	for (int i = 0; i < JOURNAL_RECORDS - 1; i++) {
		record = journal_claim(&recover->journal);
		REQUIRE(record);
		CHECK(record != &recover->state.records[7]);
	}
	CHECK(!journal_claim(&recover->journal));
	fixture_free(recover);
}

static void areas_are_had_once_and_come_back(void)
{
	struct recover *recover = fixture_new();
	static bool seen[GRANT_AREAS + 1];
	struct record *record = NULL;
	uint32_t room;

	memset(seen, 0, sizeof(seen));
	for (int i = 0; i < GRANT_AREAS; i++) {
		record = fixture_record(recover, (uint64_t)i, FUSE_READDIRPLUS);
		journal_grants(&recover->state, record, &room);
		CHECK_EQUAL(room, GRANTS_INLINE);
		REQUIRE(journal_take_area(&recover->journal, record));
		REQUIRE(record->area > 0 && record->area <= GRANT_AREAS);
		CHECK(!seen[record->area]);
		seen[record->area] = true;
		CHECK(journal_grants(&recover->state, record, &room) ==
		      recover->state.grants + (uint64_t)(record->area - 1) * GRANTS_PER_AREA);
		CHECK_EQUAL(room, GRANTS_PER_AREA);
	}

	struct record *other = fixture_record(recover, 9999, FUSE_READDIRPLUS);

	CHECK(!journal_take_area(&recover->journal, other));
	CHECK_EQUAL(other->area, 0);
	/* the next server knows which are in use */
	fixture_life(recover);
	CHECK(!journal_take_area(&recover->journal, other));
	journal_end(&recover->journal, record);
	CHECK(journal_take_area(&recover->journal, other));
	CHECK_EQUAL(other->area, record->area);
	fixture_free(recover);
}

static void a_step_is_made_once(void)
{
	struct step step = {0};
	char name[200], path[256];

	check_directory(name, sizeof(name));
	snprintf(path, sizeof(path), "%s/d", name);
	CHECK_EQUAL(journal_call(&step, false, SYS_mkdirat, AT_FDCWD, (long)path, 0700, 0, 0, 0), 0);
	CHECK_EQUAL(step.state, STEP_DONE);
	CHECK_EQUAL(access(path, F_OK), 0);
	CHECK_EQUAL(journal_call(&step, false, SYS_mkdirat, AT_FDCWD, (long)path, 0700, 0, 0, 0),
		    0); /* and not EEXIST */
	rmdir(path);
	CHECK_EQUAL(journal_call(&step, false, SYS_mkdirat, AT_FDCWD, (long)path, 0700, 0, 0, 0), 0);
	CHECK(access(path, F_OK) != 0);

	/* errors are results as well */
	struct step failed = {0};

	CHECK_EQUAL(journal_call(&failed, false, SYS_unlinkat, AT_FDCWD, (long)path, AT_REMOVEDIR, 0, 0, 0), -ENOENT);
	REQUIRE(mkdir(path, 0700) == 0);
	CHECK_EQUAL(journal_call(&failed, false, SYS_unlinkat, AT_FDCWD, (long)path, AT_REMOVEDIR, 0, 0, 0), -ENOENT);
	CHECK_EQUAL(access(path, F_OK), 0);
	rmdir(path);
	rmdir(name);
}

static void descriptors_belong_to_the_steps_that_opened_them(void)
{
	struct recover *recover = fixture_new();
	struct record *record = fixture_record(recover, 1, FUSE_CREATE);
	long fd[2], dir;

	record->nsteps = 4;
	dir = journal_call(&record->steps[0], false, SYS_mkdirat, AT_FDCWD, (long)"/dev/null/x", 0, 0, 0, 0);
	for (int i = 0; i < 2; i++)
		fd[i] = journal_call(&record->steps[i + 1], false, SYS_openat, AT_FDCWD, (long)"/dev/null", O_RDONLY, 0,
				     0, 0);
	CHECK_EQUAL(
		journal_call(&record->steps[3], false, SYS_openat, AT_FDCWD, (long)"/dev/null/x", O_RDONLY, 0, 0, 0),
		-ENOTDIR);
	CHECK_EQUAL(dir, -ENOTDIR);
	CHECK_EQUAL(journal_step_fd(record, 0), -1);
	CHECK_EQUAL(journal_step_fd(record, 1), fd[0]);
	CHECK_EQUAL(journal_step_fd(record, 3), -1);
	CHECK(journal_owns_fd(record, (int)fd[0]) && journal_owns_fd(record, (int)fd[1]));
	CHECK(!journal_owns_fd(record, 0));
	journal_close_fds(record);
	CHECK(fcntl((int)fd[0], F_GETFD) < 0 && fcntl((int)fd[1], F_GETFD) < 0);
	CHECK_EQUAL(journal_step_fd(record, 2), -1);

	/* a result 0 of another call is no descriptor */
	record->steps[0] = (struct step){.state = STEP_DONE, .number = SYS_mkdirat, .result = 0};
	CHECK_EQUAL(journal_step_fd(record, 0), -1);
	/* and nothing beyond what the record says it has */
	record->nsteps = 1;
	record->steps[2] = (struct step){.state = STEP_DONE, .number = SYS_openat, .result = 2};
	CHECK(!journal_owns_fd(record, 2));
	fixture_free(recover);
}

/* A request that is set aside keeps its record; the worker goes on with another. */
static void a_parked_request_is_answered_later(void)
{
	struct recover *recover = fixture_new();
	struct worker *worker = &recover->workers[0];
	struct fuse_in_header in = {.len = sizeof(in), .opcode = FUSE_SETLKW, .unique = 4711};
	struct record *record = fixture_record(recover, in.unique, FUSE_SETLKW);
	struct fuse_out_header out;
	struct parked parked;
	int pair[2];

	REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) == 0);
	worker->device = pair[0];
	worker->record = record;
	worker->request = (struct request){
		.in = &in, .recover = recover, .worker = worker, .slot = worker->slot, .record = record};
	CHECK_EQUAL(request_park(&worker->request, &parked), 0);
	CHECK(!worker->request.record);
	CHECK(worker->record && worker->record != record);
	CHECK_EQUAL(record->phase, RECORD_BEGUN);
	CHECK(journal_find(&recover->journal, 4711) == record);

	parked_reply(&parked, worker->slot, -EAGAIN);
	REQUIRE(read(pair[1], &out, sizeof(out)) == sizeof(out));
	CHECK_EQUAL(out.unique, 4711);
	CHECK_EQUAL(out.error, -EAGAIN);
	CHECK_EQUAL(out.len, sizeof(out));
	CHECK_EQUAL(record->phase, RECORD_FREE);
	CHECK_EQUAL(record->tid, 0);

	/* one that came again with a record of an earlier life: the worker keeps its own */
	struct record *earlier = &recover->state.records[900], *own = worker->record;

	journal_begin(&recover->journal, earlier, 5, FUSE_SETLKW);
	worker->request.record = earlier;
	CHECK_EQUAL(request_park(&worker->request, &parked), 0);
	CHECK(worker->record == own);
	CHECK(parked.record == earlier);

	/* no record left: -ENOLCK, and nothing has changed */
	while (journal_claim(&recover->journal))
		;
	worker->request.record = own;
	CHECK_EQUAL(request_park(&worker->request, &parked), -ENOLCK);
	CHECK(worker->request.record == own && worker->record == own);
	close(pair[0]);
	close(pair[1]);
	fixture_free(recover);
}

/* A reply that the kernel does not take, or that is an error, gives back what it would have handed over. */
static void hand_nothing_over(int error, int device)
{
	struct recover *recover = fixture_new();
	struct worker *worker = &recover->workers[0];
	struct fuse_in_header in = {.len = sizeof(in), .opcode = FUSE_CREATE, .unique = 6};
	struct record *record = fixture_record(recover, 6, FUSE_CREATE);
	const struct node_key key = fixture_key(5);
	const uint8_t data[NODE_DATA_BYTES] = {0};
	uint32_t index;
	uint64_t id;
	bool made;
	long fd;

	record->nsteps = 1;
	fd = journal_call(&record->steps[0], false, SYS_openat, AT_FDCWD, (long)"/dev/null", O_RDONLY, 0, 0, 0);
	REQUIRE(node_grant_new(&recover->nodes, record, &key, data, &index, &made) == 0);
	REQUIRE(handle_open(&recover->handles, record, (int)fd, index, 0, &id) == 0);
	worker->device = device;
	worker->request = (struct request){
		.in = &in, .recover = recover, .worker = worker, .slot = worker->slot, .record = record};
	request_reply(&worker->request, error, "data", error ? 0 : 4);
	CHECK_EQUAL(recover->state.header->counters.reply_errors, device < 0);
	CHECK_EQUAL(fixture_nlookup(recover, 5), 0);
	CHECK(!handle_find(&recover->handles, id));
	CHECK(fcntl((int)fd, F_GETFD) < 0);
	fixture_free(recover);
}

static void an_undeliverable_reply_is_undone(void)
{
	hand_nothing_over(0, -1);
}

static void an_error_hands_nothing_over(void)
{
	int null = open("/dev/null", O_WRONLY);

	REQUIRE(null >= 0);
	hand_nothing_over(-EIO, null);
	close(null);
}

/* What the kernel took stays granted, and a reply that fits is in the record. */
static void a_delivered_reply_is_in_the_record(void)
{
	struct recover *recover = fixture_new();
	struct worker *worker = &recover->workers[0];
	struct fuse_in_header in = {.len = sizeof(in), .opcode = FUSE_LOOKUP, .unique = 6};
	struct record *record = fixture_record(recover, 6, FUSE_LOOKUP);
	static char text[JOURNAL_REPLY_BYTES], got[2 * JOURNAL_REPLY_BYTES];
	int pair[2];

	REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
	worker->device = pair[0];
	worker->request = (struct request){
		.in = &in, .recover = recover, .worker = worker, .slot = worker->slot, .record = record};
	memset(text, 'x', sizeof(text));
	for (size_t bytes = sizeof(text) - sizeof(struct fuse_out_header); bytes <= sizeof(text); bytes++) {
		size_t all = bytes + sizeof(struct fuse_out_header);
		bool fits = all <= JOURNAL_REPLY_BYTES;

		record->phase = RECORD_BEGUN;
		request_reply(&worker->request, 0, text, bytes);
		CHECK_EQUAL(read(pair[1], got, sizeof(got)), all);
		CHECK_EQUAL(record->phase, RECORD_REPLY);
		CHECK_EQUAL(record->reply_bytes, fits ? all : 0);
		CHECK(!fits || memcmp(record->reply, got, all) == 0);
	}
	close(pair[0]);
	close(pair[1]);
	fixture_free(recover);
}

/* --- deaths ------------------------------------------------------------------------------------------------- */

static struct recover *mortal;
static struct record *its_record;

static void work_begin(void *unused)
{
	(void)unused;
	journal_begin(&mortal->journal, its_record, 99, FUSE_MKDIR);
}

/* A record is there whole or not at all: what it held before does not come back with the next request. */
static void deaths_while_beginning(void)
{
	struct deaths *deaths;

	NEEDS_DEATHS();
	mortal = fixture_new();
	its_record = fixture_record(mortal, 98, FUSE_OPEN);
	its_record->nsteps = JOURNAL_STEPS;
	for (int i = 0; i < JOURNAL_STEPS; i++)
		its_record->steps[i] = (struct step){.state = STEP_DONE, .number = SYS_openat, .result = 2};
	its_record->handle = 5;
	its_record->ngrants = 2;
	its_record->reply_bytes = 16;
	journal_end(&mortal->journal, its_record);
	deaths = deaths_collect(&mortal->state, work_begin, NULL);
	CHECK(deaths->moments >= 12);
	for (unsigned i = 0; i < deaths->moments; i++) {
		struct record *found;

		deaths_load(deaths, i);
		found = journal_find(&mortal->journal, 99);
		CHECK(found == (i + 1 < deaths->moments ? NULL : its_record));
		CHECK(!journal_find(&mortal->journal, 98));
		CHECK(!found || (!found->nsteps && !found->handle && !found->ngrants && !found->reply_bytes &&
				 found->steps[0].state == STEP_NONE));
	}
	deaths_free(deaths);
	fixture_free(mortal);
}

/* --- several threads ---------------------------------------------------------------------------------------- */

static atomic_int claimed[JOURNAL_RECORDS];

static void *claim_some(void *unused)
{
	for (int i = 0; i < JOURNAL_RECORDS / 4; i++) {
		struct record *record = journal_claim(&mortal->journal);

		if (!record)
			break;
		journal_begin(&mortal->journal, record, 1, FUSE_READDIRPLUS);
		if (i % 8 == 0)
			journal_take_area(&mortal->journal, record);
		atomic_fetch_add(&claimed[record - mortal->state.records], 1);
		journal_end(&mortal->journal, record);
	}
	return unused;
}

static void threads_claim_different_records(void)
{
	pthread_t thread[4];

	mortal = fixture_new();
	for (int i = 0; i < 4; i++)
		REQUIRE(pthread_create(&thread[i], NULL, claim_some, NULL) == 0);
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	for (int i = 0; i < JOURNAL_RECORDS; i++)
		CHECK_EQUAL(claimed[i], 1);
	fixture_free(mortal);
}

int main(void)
{
	static const struct check checks[] = {
		{"a record is found while its request is in flight", a_record_is_found_while_its_request_is_in_flight},
		{"begin forgets what the record held", begin_forgets_what_the_record_held},
		{"each record is claimed once in a life", each_record_is_claimed_once_in_a_life},
		{"areas are had once and come back", areas_are_had_once_and_come_back},
		{"a step is made once", a_step_is_made_once},
		{"descriptors belong to the steps that opened them", descriptors_belong_to_the_steps_that_opened_them},
		{"a parked request is answered later", a_parked_request_is_answered_later},
		{"an undeliverable reply is undone", an_undeliverable_reply_is_undone},
		{"an error hands nothing over", an_error_hands_nothing_over},
		{"a delivered reply is in the record", a_delivered_reply_is_in_the_record},
		{"deaths while beginning", deaths_while_beginning},
		{"threads claim different records", threads_claim_different_records},
	};

	return check_run(checks, COUNT(checks));
}
