/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who keeps a mount when monitor and server die at once: a holder (hold.h), or systemd, sd_notify(3). Kept are the devices
 * of all workers (a request that one of them had read ends with the last reference to it), the request buffers, and the
 * state, opened once more: that open file is not the one that is locked (state_held()).
 *
 * The monitor stores them before anybody is told that the mount is there, and again when it takes over and when the holder
 * is a new one. A death before that leaves a mount as without a holder; one after the mount's end leaves an entry whose
 * connection is gone, which the holder drops when it looks, and the next start as well.
 */
#ifndef RECOVER_HANDOVER_H
#define RECOVER_HANDOVER_H

#include <stdbool.h>
#include <stdint.h>

struct recover;

/* In the monitor, when the mount has its devices. What does not work is said; the mount goes on without. */
void handover_open(struct recover *recover);

/* When the monitor looks next, if nothing happens; 0: never. */
int64_t handover_next_ms(const struct recover *recover);

/*
 * Whenever the monitor wakes up while a server is ready: only then it may open a descriptor (recovery closes those that
 * nobody names). `revents`: of keep[KEEP_HOLD].
 */
void handover_look(struct recover *recover, int64_t now_ms, short revents);

/* The mount is over. */
void handover_forget(struct recover *recover);

/* For a service manager: READY=1 and the like, sd_notify(3). `what` may have several lines. Nothing without one. */
void handover_tell(const char *what);

#endif
