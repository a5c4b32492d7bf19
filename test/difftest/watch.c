/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The watchdog: the first process of the test, which only looks whether the driver gets on. A step that
 * stands still, in an actor or in the comparison after it, is a difference too.
 */
#include "difftest.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void hang_report(void)
{
	const char *where = shared->phase_actor < 0 ? "in the comparison after" : "in the operation of";

	printf("\ndifftest: DIFFERENCE: hang: no progress for %d s %s step %u of seed %llu\n", HANG_SECONDS, where,
	       shared->step, (unsigned long long)shared->seed);
	steps_print(stdout, shared->seed, shared->step, 20);
	replay_print(shared->seed, shared->step);
	fflush(stdout);
}

static void kill_all(pid_t driver)
{
	kill(driver, SIGKILL);
	for (int i = 0; i < ACTOR_N; i++)
		if (shared->actor_pid[i] > 0)
			kill(shared->actor_pid[i], SIGKILL);
}

static int driver_status(int status)
{
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	fprintf(stderr, "difftest: the driver died of signal %d\n", WTERMSIG(status));
	return EXIT_ENVIRONMENT;
}

/* Looks ten times a second, so that a short run ends at once. */
static int driver_wait(pid_t driver)
{
	const struct timespec pause = {.tv_nsec = 100000000};
	uint64_t progress = 0;
	int still = 0, status;

	for (;;) {
		if (waitpid(driver, &status, WNOHANG) == driver)
			return driver_status(status);
		nanosleep(&pause, NULL);
		still = shared->progress == progress ? still + 1 : 0;
		progress = shared->progress;
		if (still > HANG_SECONDS * 10)
			break;
	}
	hang_report();
	kill_all(driver);
	return EXIT_DIFFERENT;
}

int watch_run(void)
{
	pid_t driver;

	fflush(stdout);
	driver = fork();
	if (driver < 0)
		return EXIT_ENVIRONMENT;
	if (!driver) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		exit(driver_main());
	}
	return driver_wait(driver);
}
