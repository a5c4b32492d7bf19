/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The tables of bpf/answer.h as the server writes them. Any thread may, and none waits for another for longer than it takes to
 * write one entry.
 */
#include "fs/answer_table.h"

#include <sched.h>
#include <string.h>

#include "fs/inode.h"
#include "recover/atomic.h"

struct answer_tables answer_tables;
static uint64_t mark; /* odd: what an entry of this server's has in `seq` while it is written */

_Static_assert(sizeof(struct fuse_attr) == ANSWER_ATTR_WORDS * sizeof(uint64_t), "attributes do not fit");

/* False: another thread is writing it. */
static bool seq_lock(uint64_t *seq)
{
	uint64_t was = load_relaxed(seq);

	if (was == mark)
		return false;
	return __atomic_compare_exchange_n(seq, &was, mark, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

static uint64_t seq_unlock(struct fs *fs, uint64_t *seq)
{
	uint64_t next = add_relaxed(&fs->area->answer.stamp, 2) & ~UINT64_C(1);

	__atomic_store_n(seq, next, __ATOMIC_SEQ_CST);
	return next;
}

static bool counter_is(const uint64_t *counters, uint64_t slot, uint64_t counter)
{
	return slot < ANSWER_SLOTS && load_acquire(&counters[slot]) == counter;
}

static void stored(struct fs *fs, bool was_used, bool was_true)
{
	if (!was_used)
		add_relaxed(&fs->area->answer.entries, 1);
	else if (was_true)
		add_relaxed(&fs->area->answer.evictions, 1);
}

static bool name_words(const char *name, uint64_t words[ANSWER_NAME_WORDS])
{
	size_t length = strlen(name);

	if (length > ANSWER_NAME_BYTES)
		return false;
	memset(words, 0, ANSWER_NAME_BYTES);
	memcpy(words, name, length);
	return true;
}

static bool entry_is(const struct answer_entry *entry, uint64_t parent, const uint64_t name[ANSWER_NAME_WORDS])
{
	return entry->parent == parent && memcmp(entry->name, name, ANSWER_NAME_BYTES) == 0;
}

static struct answer_whole *whole_ways(const struct fs *fs, uint64_t node)
{
	return answer_tables.wholes[answer_set(answer_mix(0, node), fs->area->answer.sets / ANSWER_PER_WHOLE)].way;
}

/* Another thread holds it for a moment; one that has died meanwhile is no other thread. */
static void seq_wait(uint64_t *seq)
{
	while (!seq_lock(seq))
		sched_yield();
}

static void whole_clear(struct fs *fs, uint64_t node)
{
	struct answer_whole *ways = whole_ways(fs, node);

	for (int i = 0; i < ANSWER_WAYS; i++) {
		if (load_relaxed(&ways[i].node) != node)
			continue;
		seq_wait(&ways[i].seq);
		if (ways[i].node == node)
			ways[i].node = 0;
		seq_unlock(fs, &ways[i].seq);
	}
}

struct answer_whole *table_begin_whole(struct fs *fs, const struct answer_sample *directory, uint64_t node,
				       uint64_t *seq)
{
	struct answer_whole *whole = &whole_ways(fs, node)[load_relaxed(&fs->area->answer.stamp) / 2 % ANSWER_WAYS];

	whole_clear(fs, node);
	if (directory->flags || !seq_lock(&whole->seq))
		return NULL;
	whole->slot = directory->slot;
	whole->counter = directory->names;
	whole->node = node;
	whole->ready = 0;
	*seq = seq_unlock(fs, &whole->seq);
	return whole;
}

void table_end_whole(struct fs *fs, struct answer_whole *whole, uint64_t seq)
{
	if (!__atomic_compare_exchange_n(&whole->seq, &seq, mark, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
		return;
	whole->ready = 1;
	seq_unlock(fs, &whole->seq);
}

/* Where it is, or else one that is free or void, or else any. */
static struct answer_entry *entry_choose(struct fs *fs, uint64_t parent, const uint64_t name[ANSWER_NAME_WORDS])
{
	struct answer_entry *ways =
		answer_tables.entries[answer_set(answer_name_hash(parent, name), fs->area->answer.sets)].way;
	struct answer_entry *spare = NULL;

	for (int i = 0; i < ANSWER_WAYS; i++) {
		if (entry_is(&ways[i], parent, name))
			return &ways[i];
		if (!spare && (!ways[i].parent || !counter_is(answer_tables.names, ways[i].slot, ways[i].counter)))
			spare = &ways[i];
	}
	return spare ? spare : &ways[load_relaxed(&fs->area->answer.stamp) / 2 % ANSWER_WAYS];
}

/*
 * The directory that the entry is of loses its mark: it is taken for another name. One that is not true any more is of no name
 * that is there, or was put again for the mark. Under the entry's lock.
 */
static void entry_leaves(struct fs *fs, const struct answer_entry *entry, uint64_t parent,
			 const uint64_t name[ANSWER_NAME_WORDS])
{
	bool evicted = entry->parent && !entry_is(entry, parent, name) &&
		       counter_is(answer_tables.names, entry->slot, entry->counter);

	if (evicted)
		whole_clear(fs, entry->parent);
	stored(fs, entry->parent, evicted);
}

/* More is known of the name; and whoever takes the entry from now on says so to the directory's mark, which is there. */
static bool entry_stays(const struct answer_entry *entry, const struct answer_sample *directory, uint64_t parent,
			const uint64_t name[ANSWER_NAME_WORDS])
{
	return !(load_acquire(&entry->seq) & 1) && entry_is(entry, parent, name) && entry->counter == directory->names;
}

bool table_put_name(struct fs *fs, const struct answer_sample *directory, uint64_t parent, const char *name,
		    uint64_t node)
{
	uint64_t words[ANSWER_NAME_WORDS];
	struct answer_entry *entry;

	if (directory->flags || !name_words(name, words))
		return !directory->flags; /* the program is not asked about long names */
	entry = entry_choose(fs, parent, words);
	if (node == ANSWER_ASK && entry_stays(entry, directory, parent, words))
		return true;
	if (!seq_lock(&entry->seq))
		return false;
	entry_leaves(fs, entry, parent, words);
	entry->slot = directory->slot;
	entry->counter = directory->names;
	entry->parent = parent;
	memcpy(entry->name, words, sizeof(words));
	entry->node = node;
	seq_unlock(fs, &entry->seq);
	return true;
}

static struct answer_attr *attr_ways(struct fs *fs, uint64_t node)
{
	return answer_tables.attrs[answer_set(answer_mix(0, node), fs->area->answer.sets)].way;
}

static struct answer_attr *attr_choose(struct fs *fs, uint64_t node)
{
	struct answer_attr *ways = attr_ways(fs, node), *spare = NULL;

	for (int i = 0; i < ANSWER_WAYS; i++) {
		if (ways[i].node == node)
			return &ways[i];
		if (!spare && (!ways[i].node || !counter_is(answer_tables.inodes, ways[i].slot, ways[i].counter)))
			spare = &ways[i];
	}
	return spare ? spare : &ways[load_relaxed(&fs->area->answer.stamp) / 2 % ANSWER_WAYS];
}

void table_put_attr(struct fs *fs, const struct answer_sample *sample, uint64_t nodeid, const struct stat *st)
{
	struct answer_attr *attr = attr_choose(fs, nodeid);
	const struct fuse_attr now = inode_attr(st);

	if (!seq_lock(&attr->seq))
		return;
	stored(fs, attr->node, attr->node != nodeid && counter_is(answer_tables.inodes, attr->slot, attr->counter));
	if (attr->node != nodeid || attr->slot != sample->slot || attr->counter != sample->inodes)
		attr->absent = 0;
	attr->slot = sample->slot;
	attr->counter = sample->inodes;
	attr->node = nodeid;
	memcpy(attr->attr, &now, sizeof(now));
	seq_unlock(fs, &attr->seq);
}

void table_put_absent(struct fs *fs, const struct answer_sample *sample, uint64_t nodeid, uint32_t which)
{
	struct answer_attr *attr = attr_choose(fs, nodeid);

	if (attr->node != nodeid || !seq_lock(&attr->seq))
		return;
	if (attr->node == nodeid && attr->slot == sample->slot && attr->counter == sample->inodes)
		attr->absent |= which;
	seq_unlock(fs, &attr->seq);
}

/* Is the node in attrs[], and that still true? If not, it is not there when this returns. */
bool table_keeps_attr(struct fs *fs, uint64_t nodeid)
{
	struct answer_attr *ways = attr_ways(fs, nodeid);

	for (int i = 0; i < ANSWER_WAYS; i++) {
		if (load_relaxed(&ways[i].node) != nodeid)
			continue;
		if (!(load_acquire(&ways[i].seq) & 1) &&
		    counter_is(answer_tables.inodes, ways[i].slot, ways[i].counter))
			return true;
		seq_wait(&ways[i].seq);
		if (ways[i].node == nodeid) {
			ways[i].node = 0;
			add_relaxed(&fs->area->answer.entries, -1);
		}
		seq_unlock(fs, &ways[i].seq);
	}
	return false;
}

static struct answer_open *open_ways(const struct fs *fs, uint64_t nodeid)
{
	return answer_tables.opens[answer_set(answer_mix(0, nodeid), fs->area->answer.sets)].way;
}

void table_put_open(struct fs *fs, uint64_t nodeid, uint32_t backing_id)
{
	struct answer_open *ways = open_ways(fs, nodeid);

	for (int i = 0; i < ANSWER_WAYS; i++) {
		if (load_relaxed(&ways[i].node) || !seq_lock(&ways[i].seq))
			continue;
		bool free = !ways[i].node;

		if (free) {
			ways[i].backing_id = backing_id;
			ways[i].node = nodeid;
		}
		seq_unlock(fs, &ways[i].seq);
		if (free)
			return;
	}
}

static struct answer_open *open_find(const struct fs *fs, uint64_t nodeid)
{
	struct answer_open *ways = open_ways(fs, nodeid);

	for (int i = 0; i < ANSWER_WAYS; i++)
		if (load_relaxed(&ways[i].node) == nodeid)
			return &ways[i];
	return NULL;
}

bool table_has_open(const struct fs *fs, uint64_t nodeid)
{
	return open_find(fs, nodeid);
}

uint32_t table_withdraw_open(struct fs *fs, uint64_t nodeid)
{
	struct answer_open *entry;
	uint32_t id = 0;

	while ((entry = open_find(fs, nodeid))) {
		seq_wait(&entry->seq);
		if (entry->node == nodeid) {
			id = (uint32_t)entry->backing_id;
			entry->node = 0;
		}
		seq_unlock(fs, &entry->seq);
	}
	return id;
}

struct answer_open *table_full_open(struct fs *fs, uint64_t nodeid)
{
	struct answer_open *ways = open_ways(fs, nodeid);

	for (int i = 0; i < ANSWER_WAYS; i++)
		if (!load_relaxed(&ways[i].node))
			return NULL;
	return &ways[load_relaxed(&fs->area->answer.stamp) / 2 % ANSWER_WAYS];
}

/* The dead server may have been taking an entry, and not have said so to the directory that it was of. */
static void wholes_clear(struct fs *fs)
{
	for (uint32_t set = 0; set < fs->area->answer.sets / ANSWER_PER_WHOLE; set++)
		for (int i = 0; i < ANSWER_WAYS; i++) {
			struct answer_whole *whole = &answer_tables.wholes[set].way[i];

			if (!whole->node)
				continue;
			seq_wait(&whole->seq);
			whole->node = 0;
			seq_unlock(fs, &whole->seq);
		}
}

void table_start(struct fs *fs, uint32_t life)
{
	mark = (uint64_t)life << 1 | 1;
	wholes_clear(fs);
}
