/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A mount without a kernel: a state in memory, its tables, one worker with a request buffer. Children made by fork()
 * share the state and the buffer, as a server and the next one do.
 */
#ifndef TEST_UNIT_FIXTURE_H
#define TEST_UNIT_FIXTURE_H

#include <err.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "recover/internal.h"

#define FIXTURE_BUFFER 65536

static atomic_int fixture_drops; /* calls of drop_node() and drop_handle() in this process */

static inline void fixture_drop_node(void *recover, uint32_t index, struct node *node)
{
	(void)recover, (void)index, (void)node;
	fixture_drops++;
}

static bool fixture_keeps; /* what keep_node() says */

static inline bool fixture_keep_node(void *recover, uint32_t index, struct node *node)
{
	(void)recover, (void)index, (void)node;
	return fixture_keeps;
}

static inline void fixture_drop_handle(void *recover, struct handle *handle)
{
	(void)recover, (void)handle;
	fixture_drops++;
}

/* All below this number stay open when descriptors are settled: the test's own. */
static int fixture_first_fd;
static int fixture_kept_fd = -1; /* and this one */

static inline void fixture_mark(struct recover *recover, void (*mark)(void *context, int fd), void *context)
{
	(void)recover;
	for (int fd = 0; fd < fixture_first_fd; fd++)
		mark(context, fd);
	mark(context, fixture_kept_fd);
}

static const struct recover_fs fixture_fs = {
	.name = "unit",
	.drop_node = fixture_drop_node,
	.keep_node = fixture_keep_node,
	.drop_handle = fixture_drop_handle,
	.mark = fixture_mark,
};

/* What a new server has for itself: fresh, as server.c makes it. */
static inline void fixture_life(struct recover *recover)
{
	recover->state.header->life++;
	journal_init(&recover->journal, &recover->state);
	nodes_init(&recover->nodes, &recover->state, &recover->journal);
	recover->nodes.drop = recover->fs->drop_node;
	recover->nodes.keep = recover->fs->keep_node;
	recover->nodes.context = recover;
	handles_init(&recover->handles, &recover->state);
	recover->handles.drop = recover->fs->drop_handle;
	recover->handles.context = recover;
}

static inline struct recover *fixture_new(void)
{
	struct recover *recover = calloc(1, sizeof(*recover));
	const struct node_key key = {0, 1, 0};
	const uint8_t data[NODE_DATA_BYTES] = {0};
	uint8_t *buffer;

	if (!recover || state_create(&recover->state, NULL, 4096))
		errx(1, "cannot make a state");
	recover->fs = &fixture_fs;
	recover->state.header->max_write = FIXTURE_BUFFER;
	buffer = mmap(NULL, 2 * FIXTURE_BUFFER, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (buffer == MAP_FAILED)
		err(1, "mmap");
	recover->workers_n = 1;
	recover->workers[0].recover = recover;
	recover->workers[0].slot = recover->state.slots;
	recover->workers[0].in = buffer + REQUEST_OFFSET;
	recover->workers[0].out = buffer + FIXTURE_BUFFER;
	recover->workers[0].device = -1;
	fixture_life(recover);
	if (nodes_make_root(&recover->nodes, &key, data))
		errx(1, "cannot make a root");
	return recover;
}

static inline void fixture_free(struct recover *recover)
{
	munmap(recover->workers[0].in - REQUEST_OFFSET, 2 * FIXTURE_BUFFER);
	free(recover->nodes.free);
	free(recover->handles.free);
	state_close(&recover->state);
	free(recover);
}

/* A begun record, claimed as a worker does. */
static inline struct record *fixture_record(struct recover *recover, uint64_t unique, uint32_t opcode)
{
	struct record *record = journal_claim(&recover->journal);

	if (!record)
		errx(1, "the journal is full");
	journal_begin(&recover->journal, record, unique, opcode);
	return record;
}

static inline struct node_key fixture_key(uint64_t number)
{
	return (struct node_key){.device = 7, .number = number, .birth = 11};
}

/* One more reference to the node `number` that the kernel holds; returns its index. */
static inline uint32_t fixture_node(struct recover *recover, uint64_t number)
{
	struct record *record = fixture_record(recover, 1000, FUSE_LOOKUP);
	const struct node_key key = fixture_key(number);
	const uint8_t data[NODE_DATA_BYTES] = {0};
	uint32_t index;
	bool made;

	if (node_grant_new(&recover->nodes, record, &key, data, &index, &made))
		errx(1, "cannot make a node");
	journal_end(&recover->journal, record);
	record->tid = 0;
	return index;
}

/* nlookup of the node with this number, 0 where there is none. The table is asked as a look-up asks it. */
static inline void fixture_visit(void *context, uint32_t index, struct node *node)
{
	(void)index;
	*(uint64_t *)context = node->nlookup;
}

static inline uint64_t fixture_nlookup(struct recover *recover, uint64_t number)
{
	const struct node_key key = fixture_key(number);
	uint64_t nlookup = 0;

	node_visit(&recover->nodes, &key, fixture_visit, &nlookup);
	return nlookup;
}

#endif
