/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Changes that are made once, all of one or nothing of it, whatever instruction the server dies at.
 */
#ifndef MEMFS_SURVIVE_H
#define MEMFS_SURVIVE_H

#include <stddef.h>
#include <stdint.h>

struct memfs;
struct request;
struct arguments;
struct recover_options;

#define UNDO_BYTES 8192

/* The change in progress: what stood where it stored. In the area. */
struct undo {
	uint64_t used; /* bytes of log; 0: none is in progress, or it is complete */
	uint8_t log[UNDO_BYTES];
};

/* What a request asks for, under the lock: a result, or -errno. */
typedef int64_t operation(struct memfs *fs, struct arguments *arguments);

/* Carries out an operation that changes something, or returns the result if an earlier server did. */
int64_t once(struct request *request, operation *carry_out, struct arguments *arguments);

/* Carries out one that does not. */
int64_t look(struct request *request, operation *carry_out, struct arguments *arguments);

/* Stores into what a later server will read. What nothing leads to yet may be stored to plainly. */
void change(struct memfs *fs, void *to, const void *from, size_t bytes);

#define SET(fs, field, value)                              \
	do {                                               \
		__typeof__(field) new_ = (value);          \
		change(fs, &(field), &new_, sizeof(new_)); \
	} while (0)

/* Mounts and serves; an exit code of mount(8). */
int survive_run(struct memfs *fs, struct recover_options *options);

#endif
