// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * pulse FILE: stats, opens and reads FILE, and reads a descriptor of it that stays open, over and over, until
 * TERM. Prints how many operations there were, how many failed, and the longest time between the end of one and the
 * end of the next: the pause an application sees while the server is restarted.
 */
#include <err.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t stop;
static long operations, errors;
static double longest_ms;
static struct timespec last;

static void on_signal(int signo)
{
	(void)signo;
	stop = 1;
}

/* Counts an operation that just ended. */
static void beat(int good)
{
	struct timespec now;
	double ms;

	clock_gettime(CLOCK_MONOTONIC, &now);
	ms = (now.tv_sec - last.tv_sec) * 1e3 + (now.tv_nsec - last.tv_nsec) / 1e6;
	if (operations && ms > longest_ms)
		longest_ms = ms;
	last = now;
	operations++;
	errors += !good;
}

int main(int argc, char **argv)
{
	/* The signal that ends this must not make a system call fail. */
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	char first[512], again[512];
	ssize_t length;
	int kept;

	if (argc != 2)
		errx(2, "usage: pulse FILE");
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	kept = open(argv[1], O_RDONLY);
	if (kept < 0)
		err(1, "%s", argv[1]);
	length = pread(kept, first, sizeof(first), 0);
	if (length < 0)
		err(1, "%s", argv[1]);

	while (!stop) {
		struct stat st;
		int fd;

		beat(stat(argv[1], &st) == 0);
		fd = open(argv[1], O_RDONLY);
		beat(fd >= 0);
		beat(fd >= 0 && pread(fd, again, sizeof(again), 0) == length && !memcmp(first, again, length));
		close(fd);
		beat(pread(kept, again, sizeof(again), 0) == length && !memcmp(first, again, length));
	}
	printf("operations %ld errors %ld longest_ms %.1f\n", operations, errors, longest_ms);
	return errors != 0;
}
