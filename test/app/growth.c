// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * How the time of an operation grows.
 *
 *   growth fill DIR COUNT                         makes that many empty files
 *   growth names [-c COMMAND] DIR COUNT           in a directory of COUNT names: look up, create, unlink, read
 *   growth known [-c COMMAND] DIR COUNT           looks up that many of the files of DIR
 *   growth threads [-c COMMAND] [-t MS] DIR N     N threads at once, on the files of `ops DIR prepare`
 *
 * COMMAND prints how many requests the server has had.
 */
#include "bench.h"

#include <dirent.h>
#include <pthread.h>
#include <sys/stat.h>

#define SAMPLE 300 /* names of a directory */
#define THREADS_MAX 64
#define FILES 64
#define SMALL 4096

static long count;
static long ms = 300;

static void fill(void)
{
	char name[32];

	for (long i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "%ld", i);
		must(mknod(name, S_IFREG | 0644, 0) == 0, name);
		if (i % 20000 == 19999 && isatty(STDERR_FILENO))
			fprintf(stderr, "\r\033[K       %ld of %ld files", i + 1, count);
	}
}

/* Each i below count gives another one: 7919 is a prime that divides no power of ten. */
static long sample(long i)
{
	return i * 7919 % count;
}

static double look_up(long i)
{
	char name[32];
	struct stat st;

	snprintf(name, sizeof(name), "%ld", sample(i));
	must(stat(name, &st) == 0, name);
	return 1;
}

static double make(long i)
{
	char name[32];
	int fd;

	snprintf(name, sizeof(name), "new-%ld", i);
	fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0644);
	must(fd >= 0, name);
	close(fd);
	return 1;
}

static double take_away(long i)
{
	char name[32];

	snprintf(name, sizeof(name), "new-%ld", i);
	must(unlink(name) == 0, name);
	return 1;
}

static double read_all(long i)
{
	DIR *dir = opendir(".");
	double n = 0;

	(void)i;
	must(dir, "opendir");
	for (errno = 0; readdir(dir); errno = 0)
		n++;
	must(errno == 0, "readdir");
	closedir(dir);
	return n;
}

static void measure(const char *what, double (*run)(long i), long times)
{
	double before = requests_count(), things = 0, ns;
	int64_t begin = now_ns();

	for (long i = 0; i < times; i++)
		things += run(i);
	ns = (double)(now_ns() - begin);
	result(what, ns / things, (requests_count() - before) / things);
}

static void measure_names(void)
{
	long n = count < SAMPLE ? count : SAMPLE;
	char what[64];

	snprintf(what, sizeof(what), "%ld names: look-up, cold", count);
	measure(what, look_up, n);
	snprintf(what, sizeof(what), "%ld names: readdir, per entry", count);
	measure(what, read_all, count < 1000 ? 10 : 1);
	if (access(".", W_OK))
		return; /* mounted read-only */
	snprintf(what, sizeof(what), "%ld names: create + close", count);
	measure(what, make, SAMPLE);
	snprintf(what, sizeof(what), "%ld names: unlink", count);
	measure(what, take_away, SAMPLE);
}

static void measure_known(void)
{
	char what[64];

	snprintf(what, sizeof(what), "%ld inodes looked up, each", count);
	measure(what, look_up, count);
}

/* --- threads --- */

static const char *const thread_ops[] = {"stat", "open + close", "open + read 4 KiB + close"};

struct worker {
	pthread_t thread;
	long done;
	int number;
	size_t op; /* of thread_ops */
};

static volatile bool go, stop;

static void one(size_t op, const char *name)
{
	char content[SMALL];
	struct stat st;
	int fd;

	if (op == 0) {
		must(stat(name, &st) == 0, name);
		return;
	}
	fd = open(name, O_RDONLY);
	must(fd >= 0 && (op == 1 || read(fd, content, SMALL) == SMALL), name);
	close(fd);
}

static void *work(void *argument)
{
	struct worker *worker = argument;
	char name[32];

	while (!go)
		usleep(100);
	while (!stop) {
		snprintf(name, sizeof(name), "f%ld", (worker->number * 7 + worker->done) % FILES);
		one(worker->op, name);
		worker->done++;
	}
	return NULL;
}

/* The time for each operation of all threads together: the throughput, upside down. */
static void measure_threads(size_t op)
{
	static struct worker workers[THREADS_MAX];
	double requests = requests_count(), done = 0, ns;
	int64_t begin;
	char label[64];

	must(count <= THREADS_MAX, "threads");
	go = stop = false;
	for (int i = 0; i < count; i++) {
		workers[i] = (struct worker){.op = op, .number = i};
		must(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0, "thread");
	}
	begin = now_ns();
	go = true;
	usleep((useconds_t)(ms * 1000));
	stop = true;
	for (int i = 0; i < count; i++) {
		pthread_join(workers[i].thread, NULL);
		done += (double)workers[i].done;
	}
	ns = (double)(now_ns() - begin);
	requests = requests_count() - requests;
	snprintf(label, sizeof(label), "%ld thread%s: %s", count, count == 1 ? "" : "s", thread_ops[op]);
	result(label, ns / done, requests / done);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	int option;

	optind = 2;
	while ((option = getopt(argc, argv, "c:t:")) != -1) {
		if (option == 'c')
			count_start(optarg);
		else if (option == 't')
			ms = atol(optarg);
		else
			errx(2, "wrong option");
	}
	if (optind + 2 != argc)
		errx(2, "usage: growth fill|names|known|threads [-c COMMAND] [-t MS] DIR COUNT");
	must(chdir(argv[optind]) == 0, argv[optind]);
	count = atol(argv[optind + 1]);
	if (strcmp(mode, "fill") == 0) {
		fill();
	} else if (strcmp(mode, "names") == 0) {
		measure_names();
	} else if (strcmp(mode, "known") == 0) {
		measure_known();
	} else {
		for (size_t op = 0; op < sizeof(thread_ops) / sizeof(thread_ops[0]); op++)
			measure_threads(op);
	}
	return 0;
}
