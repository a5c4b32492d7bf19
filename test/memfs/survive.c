/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * All that this file system does in order to survive its server: with survive.h, what stands here.
 *
 * Its data are in the area of the state, where the next server finds them; what it derives from them (which blocks are
 * free) is in private memory and is derived again. One lock, also private: it is free again in a new server.
 *
 * An operation changes the area under that lock by change(), which writes down what stood there, and then that this is
 * written down (undo.used), before it stores. When all is stored, the result and STEP_DONE are stored in the same way into the
 * request's step, and one store, undo.used = 0, makes all of it final. What a death leaves:
 *
 *	before that store   start() puts back what stood there, the last first, STEP_DONE among it. It may die in this too:
 *	                    what is put back twice is the same. The request comes again and is carried out from the start
 *	after it            the request comes again, finds STEP_DONE, and gets the result that is recorded
 *
 * Inodes without a name go when the kernel forgets them. That is one store, which may be made twice: the key of the node
 * has the generation, so that an inode which was made again under the number is left alone.
 */
#include "test/memfs/survive.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test/memfs/memfs.h"

/* Between two stores whose order counts: a thread dies between two instructions, so only the compiler is told. */
#define IN_ORDER() __atomic_signal_fence(__ATOMIC_SEQ_CST)

/* Behind the bytes in the log, so that it can be read from its end. */
struct undo_entry {
	uint64_t at; /* from the beginning of the state, where the steps are as well */
	uint64_t bytes;
};

static uint8_t *state_base(struct memfs *fs)
{
	return (uint8_t *)recover_state(fs->recover)->header;
}

void change(struct memfs *fs, void *to, const void *from, size_t bytes)
{
	struct undo_entry entry = {.at = (uint64_t)((uint8_t *)to - state_base(fs)), .bytes = bytes};
	struct undo *undo = &fs->area->undo;

	if (undo->used + bytes + sizeof(entry) > UNDO_BYTES)
		abort(); /* our bug: the next server puts it right */
	memcpy(undo->log + undo->used, to, bytes);
	memcpy(undo->log + undo->used + bytes, &entry, sizeof(entry));
	store_release(&undo->used, undo->used + bytes + sizeof(entry));
	IN_ORDER();
	die_sometimes(fs);
	memcpy(to, from, bytes);
}

static void undo_all(struct memfs *fs)
{
	struct undo *undo = &fs->area->undo;

	while (undo->used) {
		const uint8_t *end = undo->log + undo->used - sizeof(struct undo_entry);
		struct undo_entry entry;

		memcpy(&entry, end, sizeof(entry));
		memcpy(state_base(fs) + entry.at, end - entry.bytes, entry.bytes);
		store_release(&undo->used, undo->used - sizeof(entry) - entry.bytes);
	}
}

int64_t once(struct request *request, operation *carry_out, struct arguments *arguments)
{
	struct memfs *fs = recover_private(request->recover);
	struct step *step = request_step(request);
	int64_t result;

	pthread_mutex_lock(&fs->lock);
	if (step->state != STEP_DONE) {
		result = carry_out(fs, arguments);
		if (result < 0 && fs->area->undo.used) { /* an error changes nothing */
			undo_all(fs);
			tables_derive(fs);
		}
		SET(fs, step->result, result);
		SET(fs, step->state, STEP_DONE);
		store_release(&fs->area->undo.used, 0);
		die_sometimes(fs);
	}
	result = step->result;
	pthread_mutex_unlock(&fs->lock);
	return result;
}

int64_t look(struct request *request, operation *carry_out, struct arguments *arguments)
{
	struct memfs *fs = recover_private(request->recover);
	int64_t result;

	pthread_mutex_lock(&fs->lock);
	result = carry_out(fs, arguments);
	pthread_mutex_unlock(&fs->lock);
	return result;
}

static struct memfs *survive_bind(struct recover *recover)
{
	struct memfs *fs = recover_private(recover);

	fs->recover = recover;
	fs->area = (void *)recover_state(recover)->area;
	return fs;
}

/* In the monitor, once per mount. */
static int survive_prepare(struct recover *recover)
{
	struct memfs *fs = survive_bind(recover);
	struct node_key key;
	uint32_t root;

	root = inode_make_root(fs);
	inode_key(fs, root, &key);
	return nodes_make_root(recover_nodes(recover), &key, &(struct node_data){.ino = root});
}

/* In each new server, while nothing else runs. */
static int survive_start(struct recover *recover)
{
	struct memfs *fs = survive_bind(recover);

	pthread_mutex_init(&fs->lock, NULL);
	undo_all(fs);
	tables_derive(fs);
	return 0;
}

static void survive_drop_node(void *recover, uint32_t index, struct node *node)
{
	struct memfs *fs = recover_private(recover);

	(void)index;
	pthread_mutex_lock(&fs->lock);
	inode_forgotten(fs, ((struct node_data *)node->data)->ino, &node->key);
	pthread_mutex_unlock(&fs->lock);
}

/* Besides what recover/ does: in a test the server kills itself. */
static const struct contain_call calls[] = {CONTAIN_CALL(kill)};
static const struct contain_set server_may = {.calls = calls, .calls_n = 1};

static const struct recover_fs memfs = {
	.name = "memfs",
	.ops = &memfs_operations,
	.area_bytes = sizeof(struct area),
	.prepare = survive_prepare,
	.start = survive_start,
	.drop_node = survive_drop_node,
	.server_may = &server_may,
};

/*
 * After the death of the monitor, or when another program is put under the mount, ours is executed again with an argument
 * before those of the first time, and everything is as start() finds it in the state.
 */
int survive_run(struct memfs *fs, struct recover_options *options)
{
	int state;

	if (options->arguments[1] && sscanf(options->arguments[1], "--check-state=%d", &state) == 1)
		return recover_check(&memfs, fs, state);
	if (options->arguments[1] && sscanf(options->arguments[1], "--adopt=%d", &state) == 1)
		return recover_adopt(&memfs, options, fs, state);
	return recover_run(&memfs, options, fs);
}
