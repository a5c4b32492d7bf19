/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How many workers read at once: threads in place of workers, a pipe in place of the device, requests that last as told. */
#include "test/unit/check.h"

#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "recover/atomic.h"
#include "recover/readers.h"

#define WORKERS 5
#define CORES 2

static struct readers readers;
static uint64_t requests;
static int queue[2];
static _Atomic int reading, served, stuck;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER; /* a request 's' lasts for as long as the test has it */

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void carry_out(char kind)
{
	if (kind != 's')
		return;
	stuck++;
	pthread_mutex_lock(&gate);
	pthread_mutex_unlock(&gate);
	stuck--;
}

static void *worker(void *number)
{
	char kind;

	readers_join(&readers, (unsigned)(uintptr_t)number);
	for (;;) {
		uint64_t since;

		reading++;
		if (read(queue[0], &kind, 1) != 1)
			pause();
		reading--;
		since = now_ns();
		add_relaxed(&requests, 1);
		readers_begin(&readers);
		carry_out(kind);
		served++;
		readers_end(&readers, since, now_ns());
	}
	return NULL;
}

static void ask(char kind, int times)
{
	while (times--)
		if (write(queue[1], &kind, 1) != 1)
			abort();
}

/* Within five seconds. */
static bool comes_to(_Atomic int *value, int wanted)
{
	for (int i = 0; i < 5000 && *value != wanted; i++)
		usleep(1000);
	return *value == wanted;
}

static void one_reads_per_core(void)
{
	CHECK(comes_to(&reading, CORES));
	ask('q', 1000);
	CHECK(comes_to(&served, 1000));
	usleep(50000);
	CHECK_EQUAL(reading, CORES);
}

static void as_many_as_slow_requests_need_read_until_it_is_calm(void)
{
	uint64_t since;

	pthread_mutex_lock(&gate);
	ask('s', CORES);
	CHECK(comes_to(&stuck, CORES));
	served = 0;
	ask('q', 100); /* nobody was left for these */
	CHECK(comes_to(&served, 100));
	ask('s', WORKERS - CORES - 1);
	ask('q', 100);
	CHECK(comes_to(&served, 200));
	CHECK_EQUAL(stuck, WORKERS - 1);
	pthread_mutex_unlock(&gate);
	CHECK(comes_to(&stuck, 0));
	for (since = now_ns(); now_ns() - since < 5 * (uint64_t)READERS_CALM_MS * 1000000;) {
		ask('q', 1);
		usleep(500);
	}
	CHECK(comes_to(&reading, CORES));
}

/* Who looks out sleeps while nothing goes on, and wakes up again. */
static void it_is_so_again_after_a_quiet_time(void)
{
	usleep(300000);
	CHECK_EQUAL(atomic_load(&readers.asleep), true);
	as_many_as_slow_requests_need_read_until_it_is_calm();
}

static void fewer_workers_than_cores_all_read(void)
{
	struct readers few;

	readers_init(&few, 2, 8, &requests);
	CHECK_EQUAL(few.base, 2);
	readers_join(&few, 0);
	readers_join(&few, 1);
	for (int i = 0; i < 2; i++)
		readers_begin(&few);
	for (int i = 0; i < 2; i++)
		readers_end(&few, 0, 1);
	CHECK_EQUAL(atomic_load(&few.reading), 2);
	CHECK_EQUAL(atomic_load(&few.busy), 0);
}

int main(void)
{
	static const struct check checks[] = {
		{"one worker per core reads", one_reads_per_core},
		{"others read where requests are slow, until they no longer are",
		 as_many_as_slow_requests_need_read_until_it_is_calm},
		{"and again after a quiet time", it_is_so_again_after_a_quiet_time},
		{"where workers are fewer than cores all of them read", fewer_workers_than_cores_all_read},
	};
	pthread_t thread;

	if (pipe(queue))
		return 1;
	readers_init(&readers, WORKERS, CORES, &requests);
	for (uintptr_t i = 0; i < WORKERS; i++)
		pthread_create(&thread, NULL, worker, (void *)i);
	return check_run(checks, COUNT(checks));
}
