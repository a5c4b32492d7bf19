/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the server and the BPF program share: answers that the program gives instead of the server, and the counters that
 * say whether they are still true. All of it lies in array maps, which the server has mapped and writes directly.
 *
 *	names[]    one per slot: raised before a name in a directory of that slot changes
 *	inodes[]   the same for the attributes, xattrs and ACLs of an inode
 *	entries[]  {directory, name} -> node, with the counter of the directory that it was true for
 *	wholes[]   directories of which entries[] has each name: all others are missing
 *	attrs[]    node -> attributes, with the counter of the inode
 *	opens[]    node -> the backing id by which its file may be opened for reading; there is no counter, it is withdrawn
 *	samples[]  of each worker: what the program saw of the inode that it has just asked statx(2) about
 *
 * A slot is a hash of the inode's number: inodes that share one make each other's answers void, never wrong.
 *
 * Why an answer is never old. A worker samples, then looks, then stores with the counter that it sampled; the program
 * answers only if the counter is still the same. The program raises it in LSM hooks, which are called with the inode locked
 * (i_rwsem) that is about to change, and a sample says whether it is locked: either the change began before the sample,
 * and what is seen is not stored; or after it, and the counter has another value by the time anything changes. So
 * there is no moment at which both are missed, and no hook after the change is needed. The same holds for writers:
 * opening for writing raises i_writecount, then the counter; a sample says whether there are any, and a regular file that
 * somebody may write to is not stored. That covers write(2) of every kind, and stores through mappings. What the VFS changes
 * without such a lock (times, the link count of a file that is linked or renamed) is raised afterwards too.
 *
 * Why a name that is not in entries[] is missing. An entry that is taken for another name first takes the mark in wholes[] from
 * the directory that it was of; the program sees the mark, then no entry, then the mark again, unchanged. Where it comes upon an
 * entry that is being written it does not know.
 *
 * An entry is written under its `seq`, which is odd meanwhile, and even and another than ever before afterwards. A death
 * leaves it odd, and the entry void: it then says which server wrote it, and the next one goes over it.
 */
#ifndef BPF_ANSWER_H
#define BPF_ANSWER_H

#include <stdint.h>

#define ANSWER_NAME_WORDS 7
#define ANSWER_NAME_BYTES (ANSWER_NAME_WORDS * 8)
#define ANSWER_WAYS 8
#define ANSWER_DEVICES 16
#define ANSWER_ATTR_WORDS 11 /* struct fuse_attr */

/* Powers of 2. */
#define ANSWER_ENTRIES 65536
#define ANSWER_ENTRIES_MIN (ANSWER_WAYS * ANSWER_PER_WHOLE)
#define ANSWER_ENTRIES_MAX (1 << 24)
#define ANSWER_SETS (ANSWER_ENTRIES / ANSWER_WAYS)
#define ANSWER_SLOTS 65536
#define ANSWER_SAMPLES 128
#define ANSWER_STATS 64

#define ANSWER_ASK UINT64_MAX

/* Of so many entries there is room for one directory's mark. */
#define ANSWER_PER_WHOLE 4

/* answer_attr.absent, and what the module asks for */
#define ANSWER_CAPABILITY 1
#define ANSWER_ACL_ACCESS 2
#define ANSWER_ACL_DEFAULT 4

struct answer_entry {
	uint64_t seq;
	uint64_t slot; /* of the directory */
	uint64_t counter;
	uint64_t parent;		  /* nodeid; 0: free */
	uint64_t name[ANSWER_NAME_WORDS]; /* filled up with zeroes */
	uint64_t node;			  /* 0: there is no such name; ANSWER_ASK: there is */
};

struct answer_attr {
	uint64_t seq;
	uint64_t slot;
	uint64_t counter;
	uint64_t node;	 /* 0: free */
	uint64_t absent; /* ANSWER_*: it has no such xattr */
	uint64_t attr[ANSWER_ATTR_WORDS];
};

struct answer_whole {
	uint64_t seq;
	uint64_t slot;
	uint64_t counter;
	uint64_t node;	/* of the directory; 0: free */
	uint64_t ready; /* 0: its names are being read */
};

struct answer_open {
	uint64_t seq;
	uint64_t node; /* 0: free */
	uint64_t backing_id;
};

struct answer_opens {
	struct answer_open way[ANSWER_WAYS];
};

struct answer_entries {
	struct answer_entry way[ANSWER_WAYS];
};

struct answer_attrs {
	struct answer_attr way[ANSWER_WAYS];
};

struct answer_wholes {
	struct answer_whole way[ANSWER_WAYS];
};

/* answer_sample.flags */
#define ANSWER_FOREIGN 1 /* changes of its file system are not seen */
#define ANSWER_LOCKED 2	 /* somebody is changing it */
#define ANSWER_WRITERS 4 /* a regular file that is open for writing */
#define ANSWER_MOUNTED 8 /* something is mounted there */

struct answer_sample {
	uint64_t number;	/* i_ino */
	uint64_t names, inodes; /* the counters */
	uint32_t device;	/* s_dev, as the kernel has it */
	uint32_t slot;
	uint32_t flags;
	uint32_t taken; /* set last; the worker clears it */
};

/* Per processor, and those that share a place may lose some. Answers, and looks that found none or an old one. */
struct answer_stats {
	uint64_t names, names_unknown, names_stale;
	uint64_t attrs, attrs_unknown, attrs_stale;
	uint64_t absent, absent_unknown;
	uint64_t together; /* attributes with a name: no message of their own */
	uint64_t missing;  /* of `names`: because all names are known */
	uint64_t opens, opens_unknown;
	uint64_t unused[4];
};

/* Global data of the program. */
struct answer_config {
	uint64_t salt;			  /* makes versions differ from those of another program */
	uint64_t ns_device, ns_number;	  /* of the server's pid namespace */
	uint32_t devices[ANSWER_DEVICES]; /* s_dev of the source's file systems; 0 ends them */
};

/* Which set of `entries` and `attrs` a key is in. */
static inline uint64_t answer_mix(uint64_t hash, uint64_t word)
{
	return (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
}

static inline uint32_t answer_set(uint64_t hash, uint32_t sets)
{
	return (uint32_t)((hash ^ hash >> 32) & (sets - 1));
}

static inline uint64_t answer_name_hash(uint64_t parent, const uint64_t name[ANSWER_NAME_WORDS])
{
	uint64_t hash = answer_mix(0, parent);

#pragma GCC unroll 8
	for (int i = 0; i < ANSWER_NAME_WORDS; i++)
		hash = answer_mix(hash ^ hash >> 29, name[i]);
	return hash;
}

#endif
