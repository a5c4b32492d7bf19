/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * For programs that check each answer of a file system. Counts live in shared memory: processes and threads that a
 * program starts count together.
 */
#ifndef TEST_CHECK_H
#define TEST_CHECK_H

#include <err.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define WRONG_MAX 20 /* enough to know */

struct tally {
	unsigned long operations, wrong;
	int64_t longest_ns;
	int stop;
};

static struct tally *tally;
static __thread const char *check_who = "";
static __thread unsigned long check_round;

static inline int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline void check_complain(int line, const char *what, long got, int error, long wanted)
{
	__atomic_add_fetch(&tally->wrong, 1, __ATOMIC_RELAXED);
	printf("WRONG line %d, %sround %lu: %s: %ld (%s), expected %ld\n", line, check_who, check_round, what, got,
	       got < 0 ? strerror(error) : "", wanted);
	fflush(stdout);
}

/* What a call returned must be `wanted`, or with a negative `wanted` it must have failed with that error. */
static inline long check(int line, const char *what, int64_t since, long got, int error, long wanted)
{
	int64_t took = now_ns() - since, longest = __atomic_load_n(&tally->longest_ns, __ATOMIC_RELAXED);

	__atomic_add_fetch(&tally->operations, 1, __ATOMIC_RELAXED);
	while (took > longest &&
	       !__atomic_compare_exchange_n(&tally->longest_ns, &longest, took, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
	if (wanted < 0 ? got != -1 || error != -wanted : got != wanted)
		check_complain(line, what, got, error, wanted);
	return got;
}

#define IS(wanted, call)                                             \
	({                                                           \
		int64_t since_ = now_ns();                           \
		long got_ = (errno = 0, (long)(call));               \
		check(__LINE__, #call, since_, got_, errno, wanted); \
	})

/* A descriptor, whatever its number. */
#define OPENED(call)                                                         \
	({                                                                   \
		int64_t since_ = now_ns();                                   \
		int fd_ = (call);                                            \
		int error_ = errno;                                          \
		check(__LINE__, #call, since_, fd_ < 0 ? -1 : 0, error_, 0); \
		fd_;                                                         \
	})

static void check_on_signal(int signo)
{
	(void)signo;
	tally->stop = 1;
}

/* TERM and INT end the program after its round, with no system call disturbed. */
static inline void check_start(void)
{
	struct sigaction action = {.sa_handler = check_on_signal, .sa_flags = SA_RESTART};

	tally = mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (tally == MAP_FAILED)
		err(2, "mmap");
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
}

static inline int check_goes_on(int64_t end_ns)
{
	return now_ns() < end_ns && !__atomic_load_n(&tally->stop, __ATOMIC_RELAXED) &&
	       __atomic_load_n(&tally->wrong, __ATOMIC_RELAXED) < WRONG_MAX;
}

/* The last line, and the exit status. */
static inline int check_end(void)
{
	printf("operations %lu wrong %lu longest_ms %.1f\n", tally->operations, tally->wrong, tally->longest_ns / 1e6);
	return tally->wrong != 0;
}

static inline uint64_t check_random(uint64_t seed)
{
	static __thread uint64_t x;

	x = (x ? x : seed * UINT64_C(0x9e3779b97f4a7c15) + 1) * UINT64_C(6364136223846793005) +
	    UINT64_C(1442695040888963407);
	return x >> 33;
}

#endif
