/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The least that a unit test needs: a list of named functions is run in order and reported as TAP. A check that
 * fails says where and goes on; REQUIRE() ends the function instead.
 */
#ifndef TEST_UNIT_CHECK_H
#define TEST_UNIT_CHECK_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

struct check {
	const char *name;
	void (*run)(void);
};

static bool check_failed;
static const char *check_skipped;

/* Counts as failed, or says nothing when `good`. */
static inline bool check_that(bool good, const char *file, int line, const char *what)
{
	if (!good) {
		printf("# %s:%d: %s\n", file, line, what);
		fflush(stdout);
		check_failed = true;
	}
	return good;
}

static inline bool check_equal(long long got, long long wanted, const char *file, int line, const char *what)
{
	if (got != wanted)
		printf("# got %lld, wanted %lld\n", got, wanted);
	return check_that(got == wanted, file, line, what);
}

#define CHECK(condition) check_that(!!(condition), __FILE__, __LINE__, #condition)
#define CHECK_EQUAL(got, wanted) \
	check_equal((long long)(got), (long long)(wanted), __FILE__, __LINE__, #got " == " #wanted)
#define REQUIRE(condition)             \
	do {                           \
		if (!CHECK(condition)) \
			return;        \
	} while (0)

/* `why` begins with "machine lacks" where that is so. */
#define SKIP(why)                      \
	do {                           \
		check_skipped = (why); \
		return;                \
	} while (0)

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* A new directory of the test's own; it removes it. */
static inline void check_directory(char *path, size_t size)
{
	const char *parent = getenv("TMPDIR");

	snprintf(path, size, "%s/fxfs-unit.XXXXXX", parent ? parent : "/tmp");
	if (!mkdtemp(path)) {
		perror(path);
		exit(1);
	}
}

static inline int check_run(const struct check *checks, size_t n)
{
	bool all = true;

	printf("1..%zu\n", n);
	for (size_t i = 0; i < n; i++) {
		check_failed = false;
		check_skipped = NULL;
		fflush(stdout); /* a child that ends by exit() must not print it again */
		checks[i].run();
		printf("%sok %zu - %s%s%s\n", check_failed ? "not " : "", i + 1, checks[i].name,
		       check_skipped ? " # SKIP " : "", check_skipped ? check_skipped : "");
		all = all && !check_failed;
	}
	return all ? 0 : 1;
}

#endif
