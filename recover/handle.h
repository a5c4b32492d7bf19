/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Handles: open files and directories that the kernel holds by a number (fh). The descriptor stays open in the
 * shared table of open files when the server dies; the handle says whose it is.
 *
 * The number handed to the kernel is index | generation << 32, so that a RELEASE that is sent again finds nothing.
 *
 * States, and what a death leaves in each:
 *	FREE       nothing
 *	OPENING    named by a record, which takes it back (handle_revoke) and keeps its descriptor if a step owns it
 *	OPEN       the kernel has it, or a record names it still
 *	CLOSING    RELEASE was begun: recovery closes the descriptor and frees it
 */
#ifndef RECOVER_HANDLE_H
#define RECOVER_HANDLE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "recover/state.h"

struct record;

enum handle_state { HANDLE_FREE, HANDLE_OPENING, HANDLE_OPEN, HANDLE_CLOSING, HANDLE_STATE_N };

struct handle {
	uint32_t state; /* enum handle_state */
	uint32_t generation;
	int32_t fd;
	uint32_t node;	   /* index */
	uint32_t flags;	   /* the file system's own */
	uint32_t lock;	   /* the file system's own, 0 at first */
	uint64_t position; /* the file system's own; may be lost in a death */
};

struct handles {
	struct state *state;
	/* Undoes what hangs on an open handle (counts of its node); may be called twice for one handle. */
	void (*drop)(void *context, struct handle *handle);
	void *context;
	pthread_mutex_t lock;
	uint32_t *free; /* of this server only, as in node.h */
	uint32_t free_n, free_room;
	uint32_t scan;
};

void handles_init(struct handles *handles, struct state *state);

/*
 * Makes a handle of `fd` for `record`'s reply; it owns the descriptor from then on. 0 or -ENFILE, and the descriptor
 * is the caller's still.
 */
int handle_open(struct handles *handles, struct record *record, int fd, uint32_t node, uint32_t flags, uint64_t *id);

/* The open handle that the kernel calls `id`, or NULL. */
struct handle *handle_find(struct handles *handles, uint64_t id);

/* RELEASE: no request finds it any more; drops, closes and frees it. Bears a death at any point. */
void handle_close(struct handles *handles, struct handle *handle);

/* A record's handle that the kernel never got, but for its descriptor if a step of the record owns that. */
void handle_revoke(struct handles *handles, struct record *record);

uint32_t handles_count(const struct state *state);

#endif
