/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * When the monitor dies, the server becomes the monitor: it finishes the requests it is at, takes up no other, and
 * executes its own program anew (exec.c), which adopts the mount and starts a server. So what runs after the death of a
 * monitor is what runs after an upgrade, and its memory is as fresh.
 *
 * A death of the server before execve(2) is one with both gone: nobody holds the mount then.
 */
#include "recover/guardian.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "recover/atomic.h"
#include "recover/exec.h"
#include "recover/internal.h"
#include "recover/log.h"

#define NAP_NS 100000
#define RETRY_SECONDS 1

static bool monitor_lives(const struct recover *recover)
{
	return getppid() == recover->state.header->monitor_pid;
}

static bool somebody_is_busy(const struct recover *recover)
{
	for (unsigned i = 0; i < recover->workers_n; i++)
		if (__atomic_load_n(&recover->state.slots[i].busy, __ATOMIC_SEQ_CST))
			return true;
	return false;
}

/* Returns where the program cannot be executed: then the server goes on as it is, and tries again. */
static void become_monitor(struct recover *recover)
{
	int program, err;

	log_warning("the monitor died: the server takes its place");
	atomic_store(&recover->leaving, true);
	wake_drop(recover);
	while (somebody_is_busy(recover))
		nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
	program = exec_open_self();
	err = program < 0 ? program : exec_become(recover, program);
	log_error("cannot become the monitor: %s", strerror(-err));
	atomic_store(&recover->leaving, false);
}

static void *guardian_main(void *argument)
{
	struct recover *recover = argument;
	sigset_t set;

	/* kept by the thread that asks for it, and lost when that changes its user */
	prctl(PR_SET_PDEATHSIG, GUARDIAN_SIGNAL);
	sigemptyset(&set);
	sigaddset(&set, GUARDIAN_SIGNAL);
	for (;;) {
		struct timespec retry = {.tv_sec = RETRY_SECONDS};

		if (!monitor_lives(recover)) {
			become_monitor(recover);
			sigtimedwait(&set, NULL, &retry);
		} else {
			sigwaitinfo(&set, NULL);
		}
	}
	return NULL;
}

void guardian_start(struct recover *recover)
{
	pthread_t thread;
	int err = recover->exec_arguments ? pthread_create(&thread, NULL, guardian_main, recover) : 0;

	if (err)
		bug("cannot start the guardian: %s", strerror(err));
}
