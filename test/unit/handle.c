/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of open files, and what deaths between two stores leave of it and of the descriptors. */
#include "test/unit/check.h"
#include "test/unit/death.h"
#include "test/unit/fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "recover/atomic.h"

static int open_null(void)
{
	int fd = open("/dev/null", O_RDONLY);

	if (fd < 0)
		err(1, "/dev/null");
	return fd;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static void a_handle_is_found_until_it_is_closed(void)
{
	struct recover *recover = fixture_new();
	struct record *record = fixture_record(recover, 1, FUSE_OPEN);
	int fd = open_null();
	struct handle *handle;
	uint64_t id;

	fixture_drops = 0;
	REQUIRE(handle_open(&recover->handles, record, fd, 9, 3, &id) == 0);
	CHECK_EQUAL(record->handle, id);
	handle = handle_find(&recover->handles, id);
	REQUIRE(handle);
	CHECK_EQUAL(handle->fd, fd);
	CHECK_EQUAL(handle->node, 9);
	CHECK_EQUAL(handle->flags, 3);
	CHECK(!handle_find(&recover->handles, id + (UINT64_C(1) << 32)));
	CHECK(!handle_find(&recover->handles, id + 1));
	CHECK(!handle_find(&recover->handles, 0));
	CHECK(!handle_find(&recover->handles, UINT64_MAX));
	CHECK_EQUAL(handles_count(&recover->state), 1);

	handle_close(&recover->handles, handle);
	CHECK(!is_open(fd));
	CHECK(!handle_find(&recover->handles, id));
	CHECK_EQUAL(fixture_drops, 1);
	CHECK_EQUAL(handles_count(&recover->state), 0);
	CHECK_EQUAL(recover->state.header->handles_used, 0);
	fixture_free(recover);
}

/* Only an open one: RELEASE and the first half of an OPEN hide it. */
static void a_handle_is_found_while_it_is_open_only(void)
{
	struct recover *recover = fixture_new();
	struct record *record = fixture_record(recover, 1, FUSE_OPEN);
	struct handle *handle;
	uint64_t id;

	REQUIRE(handle_open(&recover->handles, record, -1, 9, 3, &id) == 0);
	handle = handle_find(&recover->handles, id);
	REQUIRE(handle);
	handle->state = HANDLE_OPENING;
	CHECK(!handle_find(&recover->handles, id));
	handle->state = HANDLE_CLOSING;
	CHECK(!handle_find(&recover->handles, id));
	handle->state = HANDLE_OPEN;
	CHECK(handle_find(&recover->handles, id) == handle);
	fixture_free(recover);
}

static void a_number_is_not_used_again_as_it_was(void)
{
	struct recover *recover = fixture_new();
	struct record *record = fixture_record(recover, 1, FUSE_OPEN);
	uint64_t first, second;

	REQUIRE(handle_open(&recover->handles, record, open_null(), 9, 0, &first) == 0);
	handle_close(&recover->handles, handle_find(&recover->handles, first));
	REQUIRE(handle_open(&recover->handles, record, open_null(), 9, 0, &second) == 0);
	CHECK_EQUAL(second & UINT32_MAX, first & UINT32_MAX);
	CHECK(second != first);
	CHECK(!handle_find(&recover->handles, first));
	handle_close(&recover->handles, handle_find(&recover->handles, second));
	fixture_free(recover);
}

static void the_next_server_finds_what_was_freed(void)
{
	struct recover *recover = fixture_new();
	struct record *record = fixture_record(recover, 1, FUSE_OPEN);
	uint64_t id[10], again;

	for (int i = 0; i < 10; i++)
		REQUIRE(handle_open(&recover->handles, record, -1, 9, 0, &id[i]) == 0);
	handle_close(&recover->handles, handle_find(&recover->handles, id[4]));
	free(recover->handles.free);
	fixture_life(recover);
	REQUIRE(handle_open(&recover->handles, record, -1, 9, 0, &again) == 0);
	CHECK_EQUAL(again & UINT32_MAX, id[4] & UINT32_MAX);
	CHECK_EQUAL(recover->state.header->handles_high, 10);
	for (int i = 0; i < 10; i++)
		CHECK_EQUAL(handle_find(&recover->handles, id[i]) != NULL, i != 4);
	fixture_free(recover);
}

static void revoking_closes_what_no_step_owns(void)
{
	struct recover *recover = fixture_new();
	struct record *record = fixture_record(recover, 1, FUSE_OPEN);
	uint64_t id;
	int fd = open_null();

	REQUIRE(handle_open(&recover->handles, record, fd, 9, 0, &id) == 0);
	handle_revoke(&recover->handles, record);
	CHECK(!is_open(fd));
	CHECK(!handle_find(&recover->handles, id));
	CHECK_EQUAL(record->handle, 0);
	handle_revoke(&recover->handles, record);
	CHECK_EQUAL(recover->state.header->handles_used, 0);

	/* a request that is made again returns the descriptor of its step: it has to be open still */
	fd = open_null();
	record->nsteps = 1;
	record->steps[0] = (struct step){.state = STEP_DONE, .number = SYS_openat, .result = fd};
	REQUIRE(handle_open(&recover->handles, record, fd, 9, 0, &id) == 0);
	handle_revoke(&recover->handles, record);
	CHECK(is_open(fd));
	CHECK(!handle_find(&recover->handles, id));
	journal_close_fds(record);
	CHECK(!is_open(fd));
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

static void *crowd_member(void *unused)
{
	struct record *record = fixture_record(crowded, 1, FUSE_OPEN);

	for (unsigned i = 0; i < CROWD_ROUNDS; i++) {
		uint64_t id;

		if (handle_open(&crowded->handles, record, -1, 2, 0, &id) || (id & UINT32_MAX) >= COUNT(taken) ||
		    atomic_exchange(&taken[id & UINT32_MAX], 1)) {
			atomic_fetch_add(&taken_twice, 1);
			break;
		}
		atomic_store(&taken[id & UINT32_MAX], 0);
		handle_close(&crowded->handles, handle_find(&crowded->handles, id));
	}
	return unused;
}

static void no_two_threads_get_the_same_free_handle(void)
{
	pthread_t thread[CROWD];

	crowded = fixture_new();
	for (unsigned i = 0; i < CROWD; i++)
		REQUIRE(pthread_create(&thread[i], NULL, crowd_member, NULL) == 0);
	for (unsigned i = 0; i < CROWD; i++)
		pthread_join(thread[i], NULL);
	CHECK_EQUAL(taken_twice, 0);
	CHECK_EQUAL(handles_count(&crowded->state), 0);
	fixture_free(crowded);
}

static void *close_it(void *handle)
{
	handle_close(&crowded->handles, handle);
	return NULL;
}

/* Who holds the lock is choosing a free handle: none may become free under its eyes that is not yet listed as free. */
static void a_handle_becomes_free_under_the_lock_only(void)
{
	struct record *record;
	struct handle *handle;
	pthread_t thread;
	uint64_t id;

	crowded = fixture_new();
	record = fixture_record(crowded, 1, FUSE_OPEN);
	REQUIRE(handle_open(&crowded->handles, record, -1, 2, 0, &id) == 0);
	handle = handle_find(&crowded->handles, id);
	pthread_mutex_lock(&crowded->handles.lock);
	REQUIRE(pthread_create(&thread, NULL, close_it, handle) == 0);
	for (int ms = 0; ms < 50; ms++) {
		usleep(1000);
		CHECK(load_acquire(&handle->state) != HANDLE_FREE);
	}
	pthread_mutex_unlock(&crowded->handles.lock);
	pthread_join(thread, NULL);
	CHECK_EQUAL(handle->state, HANDLE_FREE);
	CHECK_EQUAL(crowded->handles.free_n, 1);
	fixture_free(crowded);
}

/* --- deaths ------------------------------------------------------------------------------------------------- */

#define THE_FD 50 /* what an operation opens gets this number; the test's own are below */

static struct recover *mortal;
static struct record *its_record;
static uint64_t its_id;
static bool by_a_step;

/* As an operation does it: a step opens, then a handle takes the descriptor. */
static void work_open(void *unused)
{
	int fd;

	(void)unused;
	if (by_a_step)
		fd = (int)journal_call(&its_record->steps[0], false, SYS_openat, AT_FDCWD, (long)"/dev/null", O_RDONLY,
				       0, 0, 0);
	else
		fd = open_null();
	handle_open(&mortal->handles, its_record, fd, 2, 0, &its_id);
}

static void work_close(void *unused)
{
	(void)unused;
	handle_close(&mortal->handles, handle_find(&mortal->handles, its_id));
}

static void work_revoke(void *unused)
{
	(void)unused;
	handle_revoke(&mortal->handles, its_record);
}

/* What the next server's file system opens before anything is settled gets the lowest number: it has to stay. */
static void work_recover(void *unused)
{
	(void)unused;
	fixture_life(mortal);
	fixture_kept_fd = open_null();
	recovery_settle(mortal);
	if (!is_open(fixture_kept_fd))
		_exit(3);
	close(fixture_kept_fd);
}

static void close_all(void)
{
	syscall(SYS_close_range, THE_FD, ~0u, 0);
}

/* Everything below THE_FD is in use, and it is the next to be had. */
static void fill_descriptors(void)
{
	int fd;

	do
		fd = open_null();
	while (fd < THE_FD);
	close_all();
	fixture_first_fd = THE_FD;
}

static void nothing_is_left(const char *what, unsigned store, bool before)
{
	const struct state *state = &mortal->state;
	int named = journal_step_fd(its_record, 0);
	bool good = handles_count(state) == 0 && its_record->handle == 0;

	for (uint64_t i = 1; i <= state->header->handles_high; i++)
		good = good && state->handles[i].state == HANDLE_FREE;
	good = good && is_open(THE_FD) == (named == THE_FD) && !is_open(THE_FD + 1);
	if (!CHECK(good))
		printf("# %s: death %s store %u: %u handles, the record names %llx and descriptor %d, which is %s\n",
		       what, before ? "before" : "after", store, handles_count(state),
		       (unsigned long long)its_record->handle, named, is_open(THE_FD) ? "open" : "closed");
}

/* Dies right before and right after each store, in the same table of open files as the one that recovers. */
static void die_everywhere(const char *what, death_work *work, bool is_open_first, unsigned at_least)
{
	struct deaths *deaths;
	unsigned moments;

	deaths = deaths_collect(&mortal->state, work, NULL);
	moments = deaths->moments;
	CHECK(moments >= at_least);
	for (unsigned i = 1; i < moments && !check_failed; i++)
		for (int before = 0; before <= 1; before++) {
			int status;

			image_load(&mortal->state, deaths->before);
			close_all();
			if (is_open_first)
				open_null();
			deaths->stop_at = i;
			deaths->stop_before = before;
			status = death_watched(deaths, true, work, NULL);
			CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
			if (i > 1 || !before || work == work_revoke || work == work_open) { /* else it was not begun */
				CHECK_EQUAL(death_run(true, work_recover, NULL), 0);
				nothing_is_left(what, i, before);
			}
		}
	close_all();
	deaths_free(deaths);
}

static void deaths_while_opening(void)
{
	NEEDS_DEATHS();
	for (int step = 0; step <= 1; step++) {
		mortal = fixture_new();
		fill_descriptors();
		by_a_step = step;
		its_record = fixture_record(mortal, 77, FUSE_OPEN);
		its_record->nsteps = (unsigned)step;
		die_everywhere(step ? "open by a step" : "open", work_open, false, 8);
		syscall(SYS_close_range, 3, ~0u, 0);
		fixture_free(mortal);
	}
}

static void deaths_while_closing(void)
{
	NEEDS_DEATHS();
	mortal = fixture_new();
	fill_descriptors();
	its_record = fixture_record(mortal, 77, FUSE_RELEASE);
	by_a_step = false;
	work_open(NULL);
	its_record->handle = 0;
	die_everywhere("close", work_close, true, 4);
	syscall(SYS_close_range, 3, ~0u, 0);
	fixture_free(mortal);
}

static void deaths_while_revoking(void)
{
	NEEDS_DEATHS();
	for (int step = 0; step <= 1; step++) {
		mortal = fixture_new();
		fill_descriptors();
		by_a_step = step;
		its_record = fixture_record(mortal, 77, FUSE_OPEN);
		its_record->nsteps = (unsigned)step;
		work_open(NULL);
		die_everywhere(step ? "revoke an open by a step" : "revoke", work_revoke, true, 4);
		syscall(SYS_close_range, 3, ~0u, 0);
		fixture_free(mortal);
	}
}

int main(void)
{
	static const struct check checks[] = {
		{"a handle is found until it is closed", a_handle_is_found_until_it_is_closed},
		{"a handle is found while it is open only", a_handle_is_found_while_it_is_open_only},
		{"a number is not used again as it was", a_number_is_not_used_again_as_it_was},
		{"the next server finds what was freed", the_next_server_finds_what_was_freed},
		{"revoking closes what no step owns", revoking_closes_what_no_step_owns},
		{"no two threads get the same free handle", no_two_threads_get_the_same_free_handle},
		{"a handle becomes free under the lock only", a_handle_becomes_free_under_the_lock_only},
		{"deaths while opening", deaths_while_opening},
		{"deaths while closing", deaths_while_closing},
		{"deaths while revoking", deaths_while_revoking},
	};

	return check_run(checks, COUNT(checks));
}
