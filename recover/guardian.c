/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * When the monitor dies, the server becomes the monitor: it executes its own program anew (exec.c), which adopts the
 * mount and starts a server. So what runs after the death of a monitor is what runs after an upgrade, and its memory is
 * as fresh. To its other threads execve(2) is a death like any other, but for the one thing that a witness would be
 * needed for, and the witness was the monitor: a system call that changes something. So no such call is begun, and those
 * being made are waited for; one that takes long (a slow source) is given time, while the others go on.
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
#define NAPS 200 /* as long as they are waited for, and as long as they get then */
#define RETRY_SECONDS 1

static bool monitor_lives(const struct recover *recover)
{
	return getppid() == recover->state.header->monitor_pid;
}

static bool somebody_calls(const struct recover *recover)
{
	for (unsigned i = 0; i < recover->workers_n; i++)
		if (__atomic_load_n(&recover->state.slots[i].calling, __ATOMIC_SEQ_CST))
			return true;
	return false;
}

/* From here on no thread begins a call that changes something, and none is in one. */
static void wait_for_calls(struct recover *recover)
{
	for (unsigned naps = 1;; naps++) {
		atomic_store(&recover->leaving, true);
		if (!somebody_calls(recover))
			return;
		nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
		if (naps % NAPS == 0) {
			atomic_store(&recover->leaving, false);
			nanosleep(&(struct timespec){.tv_nsec = NAPS * NAP_NS}, NULL);
		}
	}
}

/* Returns where the program cannot be executed: then the server goes on as it is, and tries again. */
static void become_monitor(struct recover *recover)
{
	int program, err;

	log_warning("the monitor died: the server takes its place");
	wake_drop(recover);
	wait_for_calls(recover);
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
	while (sem_wait(&recover->settled))
		;
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
