/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The crash matrix: each operation, with the server dying at each crash point, one at a time, compared with the same
 * operation without a death.
 *
 *	operations.c   what an application does, and what it sees
 *	matrix.c       the mount, arming, comparing, the table
 */
#ifndef MATRIX_H
#define MATRIX_H

#include <stddef.h>
#include <stdint.h>

/* What an application saw, as text. */
struct seen {
	char text[8192];
	size_t used;
};

void see(struct seen *seen, const char *format, ...) __attribute__((format(printf, 2, 3)));

struct operation {
	const char *name;
	const char *member; /* of the adapter's table of operations (fs/adapter.c), or of what it takes raw */
	uint32_t opcode;    /* while such a request is carried out the server dies */
	/* In an empty working directory on the mount: before the point is armed, and then. */
	void (*prepare)(void);
	void (*act)(struct seen *seen);
	/* What is there afterwards, with no point armed any more. NULL: the tree alone. */
	void (*look)(struct seen *seen);
};

extern const struct operation operations[];
extern const size_t operations_n;

/* All names below the working directory with type, mode, links, size, content and extended attributes. */
void see_tree(struct seen *seen);

#endif
