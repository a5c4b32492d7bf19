/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The third process of a mount, as the monitor keeps it: started, started again, ended. What it does is the file system's. */
#ifndef RECOVER_WATCHER_H
#define RECOVER_WATCHER_H

#include <stdint.h>
#include <sys/types.h>

struct recover;

struct watcher {
	pid_t pid;
	int64_t started_ms;
	int64_t timer_ms; /* when the next may be started; 0: at once */
	unsigned deaths;  /* in a row, soon after the start */
};

/* Starts one where the mount wants one, none is there and it is time to. */
void watcher_look(struct watcher *watcher, struct recover *recover, void *stack);

/* It died and was reaped. */
void watcher_bury(struct watcher *watcher, struct recover *recover, int status);

/* The mount is over: ends it and waits for it. */
void watcher_end(struct watcher *watcher, struct recover *recover);

/* Before the monitor becomes another program: ends a watcher that is our child, and does not wait. */
void watcher_stop(struct recover *recover);

#endif
