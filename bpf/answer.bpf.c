/* SPDX-License-Identifier: LGPL-2.1-or-later OR GPL-2.0-only */
/*
 * Answers look-ups of one mount inside the kernel, from the tables of answer.h, and raises the counters there. The module
 * fxfuse calls the first three functions (kernel/module/bpf.c says how), LSM hooks the others. Those are of type LSM and not
 * fentry, because a program of that type is called each time; the others are left out where one was interrupted on the same
 * processor by a task that calls it too.
 */
#include "bpf/answer.h"

#include <linux/bpf.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

/* A hook takes what it is given. */
#pragma clang diagnostic ignored "-Wunused-parameter"

#define FMODE_WRITE 2
#define DCACHE_MOUNTED 0x10000
#define RWSEM_WRITER_LOCKED 1
#define S_IFMT 0170000
#define S_IFREG 0100000

/* What is used of the kernel's; libbpf finds where it is. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct rw_semaphore {
	struct {
		long counter;
	} count;
};

struct super_block {
	unsigned int s_dev;
};

struct inode {
	unsigned short i_mode;
	struct super_block *i_sb;
	unsigned long i_ino;
	struct rw_semaphore i_rwsem;
	struct {
		int counter;
	} i_writecount;
};

struct dentry {
	unsigned int d_flags;
	struct dentry *d_parent;
	struct inode *d_inode;
};

struct path {
	struct dentry *dentry;
};

struct file {
	unsigned int f_mode;
	struct inode *f_inode;
};

struct renamedata {
	struct dentry *old_dentry;
	struct dentry *new_dentry;
};

struct fxfuse_query {
	uint64_t nodeid;
	uint64_t name[ANSWER_NAME_WORDS];
	uint32_t xattr;
};

/* All of it is copied. */
struct fuse_attr {
	uint64_t ino;
};

struct mnt_idmap;
struct iattr;
struct posix_acl;

#pragma clang attribute pop

struct fxfuse_ops {
	int (*lookup)(struct fxfuse_query *query);
	int (*getattr)(struct fxfuse_query *query);
	int (*getxattr)(struct fxfuse_query *query);
	int (*open)(struct fxfuse_query *query);
	uint64_t cookie;
};

extern int fxfuse_answer_name(struct fxfuse_query *query, uint64_t nodeid) __ksym;
extern int fxfuse_answer_attr(struct fxfuse_query *query, const struct fuse_attr *attr, uint64_t version) __ksym;
extern int fxfuse_answer_open(struct fxfuse_query *query, int backing_id) __ksym;
extern int fxfuse_answer_absent(struct fxfuse_query *query) __ksym;

#define TABLE(map, value_type, n)                  \
	struct {                                   \
		__uint(type, BPF_MAP_TYPE_ARRAY);  \
		__uint(map_flags, BPF_F_MMAPABLE); \
		__uint(max_entries, n);            \
		__type(key, uint32_t);             \
		__type(value, value_type);         \
	} map SEC(".maps")

TABLE(names, uint64_t, ANSWER_SLOTS);
TABLE(inodes, uint64_t, ANSWER_SLOTS);
TABLE(entries, struct answer_entries, ANSWER_SETS);
TABLE(wholes, struct answer_wholes, ANSWER_SETS / ANSWER_PER_WHOLE);
TABLE(attrs, struct answer_attrs, ANSWER_SETS);
TABLE(opens, struct answer_opens, ANSWER_SETS);
TABLE(samples, struct answer_sample, ANSWER_SAMPLES);
TABLE(stats, struct answer_stats, ANSWER_STATS);

/* Thread id -> its place in samples. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ANSWER_SAMPLES);
	__type(key, uint32_t);
	__type(value, uint32_t);
} workers SEC(".maps");

struct answer_config config;
const volatile uint32_t sets = ANSWER_SETS;

/* --- answers ------------------------------------------------------------------------------------------------ */

/* Between two loads that must not change places: other processors than x86 may. */
static __always_inline uint64_t seq_read(uint64_t *seq)
{
#ifdef __TARGET_ARCH_x86
	uint64_t value = *(volatile uint64_t *)seq;

	barrier();
	return value;
#else
	return __sync_fetch_and_add(seq, 0);
#endif
}

static __always_inline uint64_t seq_read_again(uint64_t *seq)
{
	barrier();
	return seq_read(seq);
}

static __always_inline int counter_is(void *map, uint64_t at, uint64_t counter)
{
	uint32_t slot = (uint32_t)at;
	uint64_t *now = bpf_map_lookup_elem(map, &slot);

	return now && *(volatile uint64_t *)now == counter;
}

static __always_inline struct answer_stats *stats_mine(void)
{
	uint32_t mine = bpf_get_smp_processor_id() & (ANSWER_STATS - 1);

	return bpf_map_lookup_elem(&stats, &mine);
}

/* The node's entry as it is in `found`; false: there is none that is true. */
static __always_inline int attr_find(uint64_t node, struct answer_attr *found, struct answer_stats *counts)
{
	uint32_t set = answer_set(answer_mix(0, node), sets);
	struct answer_attrs *in = bpf_map_lookup_elem(&attrs, &set);

	if (!in)
		return 0;
	for (int i = 0; i < ANSWER_WAYS; i++) {
		struct answer_attr *attr = &in->way[i];
		uint64_t seq = seq_read(&attr->seq);

		if (seq & 1 || attr->node != node)
			continue;
		*found = *attr;
		if (seq_read_again(&attr->seq) != seq || found->node != node)
			continue;
		if (counter_is(&inodes, found->slot, found->counter))
			return 1;
		counts->attrs_stale++;
		return 0;
	}
	counts->attrs_unknown++;
	return 0;
}

static __always_inline int attr_answer(struct fxfuse_query *query, uint64_t node, struct answer_stats *counts)
{
	struct answer_attr found;

	if (!attr_find(node, &found, counts))
		return 0;
	fxfuse_answer_attr(query, (const struct fuse_attr *)found.attr, found.counter ^ config.salt);
	return 1;
}

static __always_inline int name_is(const uint64_t *a, const uint64_t *b)
{
	uint64_t differs = 0;

#pragma unroll
	for (int i = 0; i < ANSWER_NAME_WORDS; i++)
		differs |= a[i] ^ b[i];
	return !differs;
}

/* The mark that all names of the directory are known, and `seq` of it; NULL: there is none. */
static __always_inline struct answer_whole *whole_find(uint64_t node, uint64_t *seq)
{
	uint32_t set = answer_set(answer_mix(0, node), sets / ANSWER_PER_WHOLE);
	struct answer_wholes *in = bpf_map_lookup_elem(&wholes, &set);

	if (!in)
		return NULL;
	for (int i = 0; i < ANSWER_WAYS; i++) {
		struct answer_whole *whole = &in->way[i];

		*seq = seq_read(&whole->seq);
		if (*seq & 1 || whole->node != node || !whole->ready)
			continue;
		return counter_is(&names, whole->slot, whole->counter) ? whole : NULL;
	}
	return NULL;
}

SEC("struct_ops/lookup")
int BPF_PROG(lookup, struct fxfuse_query *query)
{
	uint64_t name[ANSWER_NAME_WORDS], parent = query->nodeid;
	struct answer_stats *counts = stats_mine();
	struct answer_entries *in;
	struct answer_whole *whole;
	uint64_t whole_seq = 0;
	uint32_t set, torn = 0;

#pragma unroll
	for (int i = 0; i < ANSWER_NAME_WORDS; i++)
		name[i] = query->name[i];
	set = answer_set(answer_name_hash(parent, name), sets);
	in = bpf_map_lookup_elem(&entries, &set);
	if (!in || !counts)
		return 0;
	whole = whole_find(parent, &whole_seq);
	for (int i = 0; i < ANSWER_WAYS; i++) {
		struct answer_entry *entry = &in->way[i];
		uint64_t node, counter, slot, seq = seq_read(&entry->seq);

		torn |= seq & 1;
		if (seq & 1 || entry->parent != parent || !name_is(entry->name, name))
			continue;
		node = entry->node;
		slot = entry->slot;
		counter = entry->counter;
		if (seq_read_again(&entry->seq) != seq || node == ANSWER_ASK) {
			torn = 1;
			continue;
		}
		if (!counter_is(&names, slot, counter)) {
			counts->names_stale++;
			return 0;
		}
		counts->names++;
		fxfuse_answer_name(query, node);
		if (node && attr_answer(query, node, counts))
			counts->together++;
		return 0;
	}
	if (whole && !torn && seq_read_again(&whole->seq) == whole_seq &&
	    counter_is(&names, whole->slot, whole->counter)) {
		counts->names++;
		counts->missing++;
		fxfuse_answer_name(query, 0);
		return 0;
	}
	counts->names_unknown++;
	return 0;
}

SEC("struct_ops/getattr")
int BPF_PROG(getattr, struct fxfuse_query *query)
{
	struct answer_stats *counts = stats_mine();

	if (counts && attr_answer(query, query->nodeid, counts))
		counts->attrs++;
	return 0;
}

SEC("struct_ops/getxattr")
int BPF_PROG(getxattr, struct fxfuse_query *query)
{
	struct answer_stats *counts = stats_mine();
	struct answer_attr found;

	if (!counts || !attr_find(query->nodeid, &found, counts))
		return 0;
	if (!(found.absent & query->xattr)) {
		counts->absent_unknown++;
		return 0;
	}
	counts->absent++;
	fxfuse_answer_absent(query);
	return 0;
}

SEC("struct_ops/open")
int BPF_PROG(open, struct fxfuse_query *query)
{
	uint64_t node = query->nodeid;
	uint32_t set = answer_set(answer_mix(0, node), sets);
	struct answer_opens *in = bpf_map_lookup_elem(&opens, &set);
	struct answer_stats *counts = stats_mine();

	if (!in || !counts)
		return 0;
	for (int i = 0; i < ANSWER_WAYS; i++) {
		struct answer_open *entry = &in->way[i];
		uint64_t seq = seq_read(&entry->seq), id = entry->backing_id;

		if (seq & 1 || entry->node != node || seq_read_again(&entry->seq) != seq)
			continue;
		counts->opens++;
		fxfuse_answer_open(query, (int)id);
		return 0;
	}
	counts->opens_unknown++;
	return 0;
}

SEC(".struct_ops.link")
struct fxfuse_ops ops = {
	.lookup = (void *)lookup,
	.getattr = (void *)getattr,
	.getxattr = (void *)getxattr,
	.open = (void *)open,
};

/* --- changes ------------------------------------------------------------------------------------------------ */

static __always_inline int is_source(const struct inode *inode)
{
	uint32_t device = inode->i_sb->s_dev;

	for (int i = 0; i < ANSWER_DEVICES; i++) {
		uint32_t known = *(volatile uint32_t *)&config.devices[i];

		if (known == device)
			return 1;
		if (!known)
			return 0;
	}
	return 0;
}

static __always_inline uint32_t inode_slot(const struct inode *inode)
{
	return (uint32_t)(answer_mix(0, inode->i_ino) >> 40) & (ANSWER_SLOTS - 1);
}

static __always_inline void raise(void *map, uint32_t slot)
{
	uint64_t *counter = bpf_map_lookup_elem(map, &slot);

	if (counter)
		__sync_fetch_and_add(counter, 1);
}

/* The inode itself. */
static __always_inline int inode_changes(const struct inode *inode)
{
	if (inode && is_source(inode))
		raise(&inodes, inode_slot(inode));
	return 0;
}

/* A name in the directory, and with it the directory itself. */
static __always_inline int name_changes(const struct inode *directory)
{
	if (is_source(directory)) {
		raise(&names, inode_slot(directory));
		raise(&inodes, inode_slot(directory));
	}
	return 0;
}

SEC("lsm/inode_create")
int BPF_PROG(on_create, struct inode *directory, struct dentry *dentry)
{
	return name_changes(directory);
}

SEC("lsm/inode_mkdir")
int BPF_PROG(on_mkdir, struct inode *directory, struct dentry *dentry)
{
	return name_changes(directory);
}

SEC("lsm/inode_mknod")
int BPF_PROG(on_mknod, struct inode *directory, struct dentry *dentry)
{
	return name_changes(directory);
}

SEC("lsm/inode_symlink")
int BPF_PROG(on_symlink, struct inode *directory, struct dentry *dentry)
{
	return name_changes(directory);
}

SEC("lsm/inode_link")
int BPF_PROG(on_link, struct dentry *old_dentry, struct inode *directory)
{
	inode_changes(old_dentry->d_inode);
	return name_changes(directory);
}

SEC("lsm/inode_unlink")
int BPF_PROG(on_unlink, struct inode *directory, struct dentry *dentry)
{
	inode_changes(dentry->d_inode);
	return name_changes(directory);
}

SEC("lsm/inode_rmdir")
int BPF_PROG(on_rmdir, struct inode *directory, struct dentry *dentry)
{
	inode_changes(dentry->d_inode);
	return name_changes(directory);
}

SEC("lsm/inode_rename")
int BPF_PROG(on_rename, struct inode *old_directory, struct dentry *old_dentry, struct inode *new_directory,
	     struct dentry *new_dentry)
{
	inode_changes(old_dentry->d_inode);
	inode_changes(new_dentry->d_inode);
	name_changes(old_directory);
	return name_changes(new_directory);
}

SEC("lsm/inode_setattr")
int BPF_PROG(on_setattr, struct mnt_idmap *idmap, struct dentry *dentry)
{
	return inode_changes(dentry->d_inode);
}

SEC("lsm/inode_setxattr")
int BPF_PROG(on_setxattr, struct mnt_idmap *idmap, struct dentry *dentry)
{
	return inode_changes(dentry->d_inode);
}

SEC("lsm/inode_removexattr")
int BPF_PROG(on_removexattr, struct mnt_idmap *idmap, struct dentry *dentry)
{
	return inode_changes(dentry->d_inode);
}

SEC("lsm/inode_set_acl")
int BPF_PROG(on_set_acl, struct mnt_idmap *idmap, struct dentry *dentry)
{
	return inode_changes(dentry->d_inode);
}

SEC("lsm/inode_remove_acl")
int BPF_PROG(on_remove_acl, struct mnt_idmap *idmap, struct dentry *dentry)
{
	return inode_changes(dentry->d_inode);
}

/* i_writecount has been raised. */
SEC("lsm/file_open")
int BPF_PROG(on_open, struct file *file)
{
	return file->f_mode & FMODE_WRITE ? inode_changes(file->f_inode) : 0;
}

/* Of the inodes that vfs_link() and vfs_rename() lock only after their hook. */
SEC("fexit/vfs_link")
int BPF_PROG(after_link, struct dentry *old_dentry)
{
	return inode_changes(old_dentry->d_inode);
}

SEC("fexit/vfs_rename")
int BPF_PROG(after_rename, struct renamedata *rename)
{
	inode_changes(rename->old_dentry->d_inode);
	return inode_changes(rename->new_dentry->d_inode);
}

/* Reading a file changes its time of access. */
SEC("fexit/inode_update_time")
int BPF_PROG(after_update_time, struct inode *inode)
{
	return inode_changes(inode);
}

/* Subvolumes of btrfs come and go without a hook; others' names as well, once more. */
SEC("fentry/d_instantiate_new")
int BPF_PROG(on_instantiate, struct dentry *dentry)
{
	return name_changes(dentry->d_parent->d_inode);
}

SEC("fentry/d_delete")
int BPF_PROG(on_delete, struct dentry *dentry)
{
	return name_changes(dentry->d_parent->d_inode);
}

/* DCACHE_MOUNTED may not be set yet: what is stored until it is has a counter from before. */
SEC("fexit/d_set_mounted")
int BPF_PROG(after_mount, struct dentry *dentry)
{
	return name_changes(dentry->d_parent->d_inode);
}

/* --- samples ------------------------------------------------------------------------------------------------ */

/* A counter, and after it whatever is read after it. */
static __always_inline uint64_t counter_read(void *map, uint32_t slot)
{
	uint64_t *counter = bpf_map_lookup_elem(map, &slot);

	return counter ? __sync_fetch_and_add(counter, 0) : 0;
}

/* A worker asks for the attributes of an inode: before they are read. */
SEC("lsm/inode_getattr")
int BPF_PROG(on_getattr, const struct path *path)
{
	const struct dentry *dentry = path->dentry;
	const struct inode *inode = dentry->d_inode;
	struct answer_sample *sample;
	struct bpf_pidns_info id;
	uint32_t *place, flags = 0;

	if (bpf_get_ns_current_pid_tgid(config.ns_device, config.ns_number, &id, sizeof(id)))
		return 0;
	place = bpf_map_lookup_elem(&workers, &id.pid);
	sample = place ? bpf_map_lookup_elem(&samples, place) : NULL;
	if (!sample || !inode)
		return 0;
	sample->number = inode->i_ino;
	sample->device = inode->i_sb->s_dev;
	sample->slot = inode_slot(inode);
	if (!is_source(inode))
		flags |= ANSWER_FOREIGN;
	sample->names = counter_read(&names, sample->slot);
	sample->inodes = counter_read(&inodes, sample->slot);
	if (inode->i_rwsem.count.counter & RWSEM_WRITER_LOCKED)
		flags |= ANSWER_LOCKED;
	if ((inode->i_mode & S_IFMT) == S_IFREG && inode->i_writecount.counter > 0)
		flags |= ANSWER_WRITERS;
	if (dentry->d_flags & DCACHE_MOUNTED)
		flags |= ANSWER_MOUNTED;
	sample->flags = flags;
	sample->taken = 1;
	return 0;
}

char license_text[] SEC("license") = "Dual BSD/GPL";
