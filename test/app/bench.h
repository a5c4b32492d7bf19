/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * For programs that take the time of operations: a clock, a median, how many requests reached the server, and the loop
 * around a table of operations.
 */
#ifndef TEST_BENCH_H
#define TEST_BENCH_H

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int count_ask = -1, count_answers = -1; /* to and from who counts the requests, if anybody does */

static inline void must(bool good, const char *what)
{
	if (!good)
		err(1, "%s", what);
}

static inline int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline int compare_doubles(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static inline double median(double *values, size_t n)
{
	qsort(values, n, sizeof(*values), compare_doubles);
	return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

/*
 * Starts a shell that runs the command whenever it is asked. It is there before anything is open and has / as its
 * directory: a child made later would close what it inherited, and that asks the server.
 */
static inline void count_start(const char *command)
{
	int questions[2], answers[2];

	must(pipe2(questions, O_CLOEXEC) == 0 && pipe2(answers, O_CLOEXEC) == 0, "pipe");
	switch (fork()) {
	case -1:
		err(1, "fork");
	case 0:
		if (dup2(questions[0], STDIN_FILENO) < 0 || dup2(answers[1], STDOUT_FILENO) < 0 || chdir("/"))
			_exit(127);
		execl("/bin/sh", "sh", "-c", "while read -r line; do \"$0\"; done", command, (char *)NULL);
		_exit(127);
	}
	close(questions[0]);
	close(answers[1]);
	count_ask = questions[1];
	count_answers = answers[0];
}

/* How many requests the server has had. RELEASE and FORGET come a moment after what caused them: they are waited for. */
static inline double requests_count(void)
{
	char text[64] = "";

	if (count_ask < 0)
		return 0;
	usleep(5000);
	must(write(count_ask, "\n", 1) == 1, "count");
	if (read(count_answers, text, sizeof(text) - 1) <= 0)
		errx(1, "how many requests there were is not told");
	return strtod(text, NULL);
}

/* One line of the benchmark: what, nanoseconds for each, requests for each. */
static inline void result(const char *what, double ns, double requests)
{
	printf("%s\t%.0f\t", what, ns);
	if (count_ask >= 0)
		printf("%.3g\n", requests);
	else
		printf("-\n");
	fflush(stdout);
}

/* Has the kernel forget names and inodes, on the source and on mounts; the server is told by FORGET. */
static inline void drop_names(void)
{
	int drop = open("/proc/sys/vm/drop_caches", O_WRONLY);

	must(drop >= 0 && write(drop, "2\n", 2) == 2, "/proc/sys/vm/drop_caches");
	close(drop);
	usleep(20000);
}

/* --- a table of operations --- */

#define BATCHES_MAX 4096

struct op {
	const char *name;
	void (*prepare)(void);
	long (*run)(long i); /* for the i-th time; how many things that were */
	long batch;	     /* times in a batch */
	long most;	     /* times in all, for one that uses something up; 0: any number */
	bool writes;	     /* gets an empty directory of its own */
	bool cold;	     /* what the kernel knows is dropped before each batch */
};

/* Nanoseconds for each thing. */
static inline double op_batch(const struct op *op, long *i, long *things)
{
	int64_t begin;

	if (op->cold)
		drop_names();
	*things = 0;
	begin = now_ns();
	for (long n = 0; n < op->batch; n++)
		*things += op->run((*i)++);
	return (double)(now_ns() - begin) / (double)*things;
}

/* The median of batches in `ms` milliseconds, of three at least; then one more batch is done with its requests counted. */
static inline void op_measure(const struct op *op, long ms)
{
	static double times[BATCHES_MAX];
	int64_t end;
	double before, requests = 0;
	long i = 0, n = 0, things;

	if (op->prepare)
		op->prepare();
	end = now_ns() + ms * 1000000;
	while (n < BATCHES_MAX && (n < 3 || now_ns() < end) && (!op->most || i + 2 * op->batch <= op->most))
		times[n++] = op_batch(op, &i, &things);
	if (count_ask >= 0) {
		if (op->cold)
			drop_names();
		before = requests_count();
		things = 0;
		for (long left = op->batch; left; left--)
			things += op->run(i++);
		requests = (requests_count() - before) / (double)things;
	}
	result(op->name, median(times, n), requests);
}

/* In a process of its own: one that fails takes no other one with it. */
static inline bool op_start(const struct op *op, long ms, int number)
{
	char dir[16];
	int status;

	fflush(stdout);
	switch (fork()) {
	case -1:
		err(1, "fork");
	case 0:
		snprintf(dir, sizeof(dir), "%d", number);
		must(!op->writes || (mkdir(dir, 0755) == 0 && chdir(dir) == 0), dir);
		op_measure(op, ms);
		exit(0);
	}
	return wait(&status) > 0 && status == 0;
}

/* [-c COMMAND] [-t MS] DIR reads|writes: does each of one kind. COMMAND prints how many requests the server has had. */
static inline int ops_main(int argc, char **argv, const struct op *ops, int n)
{
	int option, failed = 0;
	bool writes;
	long ms = 100;

	while ((option = getopt(argc, argv, "c:t:")) != -1) {
		if (option == 'c')
			count_start(optarg);
		else if (option == 't')
			ms = atol(optarg);
		else
			errx(2, "wrong option");
	}
	must(optind + 2 == argc && chdir(argv[optind]) == 0, "directory");
	writes = strcmp(argv[optind + 1], "writes") == 0;
	for (int i = 0; i < n; i++)
		if (ops[i].writes == writes && !op_start(&ops[i], ms, i))
			failed = 1;
	return failed;
}

#endif
