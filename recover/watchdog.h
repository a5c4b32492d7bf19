/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Ends a server that makes no progress on a request, or takes up none: in the monitor, from what the threads write into
 * their slots. A thread in D state, or one for which the kernel works, is left alone: no new server could do better. So
 * is one that sleeps in a system call of which it waits for nothing of ours: a slow source.
 */
#ifndef RECOVER_WATCHDOG_H
#define RECOVER_WATCHDOG_H

#include <stdint.h>
#include <sys/types.h>

#include "recover/state.h"

struct recover;

/* One thread, as it was when it was last looked at. */
struct watched {
	uint64_t unique;
	unsigned long long kernel_ticks;
};

struct watchdog {
	unsigned seconds; /* 0: off */
	int64_t last_ms;
	int64_t idle_since_ms; /* since when requests wait and none is taken up; 0: they do not */
	int64_t started_ms;    /* of a server that is not ready yet; 0: it is */
	uint64_t requests;
	struct watched watched[STATE_WORKERS_MAX];
};

void watchdog_init(struct watchdog *watchdog, unsigned seconds);

/* A server was started; it says that it is ready. */
void watchdog_started(struct watchdog *watchdog);
void watchdog_ready(struct watchdog *watchdog);

/* Milliseconds until it wants to look again; -1: never. */
int64_t watchdog_interval(const struct watchdog *watchdog);

/* Looks, where it is time to, and sends SIGKILL to a server that hangs. */
void watchdog_look(struct watchdog *watchdog, struct recover *recover, pid_t server);

#endif
