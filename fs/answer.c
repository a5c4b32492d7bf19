/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fills the tables of bpf/answer.h, and sees to it that what is in them can be given out.
 *
 * Nodes. The kernel's references are counted by LOOKUP and FORGET as ever, and those that the program gives out are not
 * counted by anybody: an inode that it made the kernel come to holds none. So a node that has been in attrs[] (INODE_GIVEN)
 * may be known to the kernel although its nlookup is 0. It stays in the table then as long as its entry in attrs[] is
 * true; the program gives out no node that has none. When that is over the entry is taken out, and then the kernel is asked
 * whether it has an inode of it (FXFUSE_DEV_IOC_KNOWN; kernel/module/bpf.c has the other half of this). Only if not the node
 * is freed. That is decided where nlookup becomes 0 and, for those that stayed, again and again: each entry that is stored
 * has the next nodes of the table looked at, so that those that stay are never more than a few times those that are
 * used. None of it has to be written down: the flag is set before the entry is written, and a server that finds it set
 * decides anew.
 */
#include "fs/answer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "bpf/device.h"
#include "bpf/load.h"
#include "fs/answer_table.h"
#include "fs/inode.h"
#include "recover/atomic.h"
#include "recover/log.h"

#define SWEEP 4

static _Atomic bool devices_full;

static bool answer_is_on(const struct fs *fs)
{
	return fs->area->answer.on && answer_tables.config;
}

/* --- in the monitor ----------------------------------------------------------------------------------------- */

/* Sees the hooks at work: where BPF is none of the security modules in use they are attached, and never called. */
static bool hooks_work(struct fs *fs)
{
	volatile struct answer_sample *sample = &answer_tables.samples[STATE_SLOTS];
	struct statx stx;

	sample->taken = 0;
	if (answer_add_worker(fs->area->answer.fds[ANSWER_FD_WORKERS], gettid(), STATE_SLOTS) ||
	    statx(fs->source_fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, 0, &stx))
		return false;
	answer_clear_workers(fs->area->answer.fds[ANSWER_FD_WORKERS]);
	return sample->taken;
}

static void config_fill(struct answer_config *config, uint64_t cookie)
{
	struct stat st;

	config->salt = cookie;
	if (stat("/proc/self/ns/pid", &st))
		return;
	config->ns_device = (uint64_t)major(st.st_dev) << 20 | minor(st.st_dev);
	config->ns_number = st.st_ino;
}

/*
 * The program ends with the last of its descriptors. A death on the way leaves some that nobody names: recovery closes those.
 */
static void answer_close(struct fs *fs)
{
	struct fs_answer *answer = &fs->area->answer;
	int32_t fds[ANSWER_FDS];

	memcpy(fds, answer->fds, sizeof(fds));
	store_release(&answer->on, 0);
	for (int i = 0; i < ANSWER_FDS; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	memset(answer, 0, sizeof(*answer));
	memset(&answer_tables, 0, sizeof(answer_tables));
}

int answer_open(struct fs *fs, char why[ANSWER_WHY_BYTES])
{
	struct fs_answer *answer = &fs->area->answer;
	const char *what = "getrandom";
	int err = 0;

	memset(answer, 0, sizeof(*answer));
	answer->sets = fs->bpf_entries / ANSWER_WAYS;
	if (strcmp(recover_state(fs->recover)->header->device_path, "/dev/fxfuse") != 0) {
		snprintf(why, ANSWER_WHY_BYTES, "the mount is not one of the kernel module fxfuse");
		return -EOPNOTSUPP;
	}
	if (getrandom(&answer->cookie, sizeof(answer->cookie), 0) != sizeof(answer->cookie))
		err = -errno;
	if (!err)
		err = answer_load(answer->cookie, answer->sets, answer->fds, &what);
	if (err) {
		snprintf(why, ANSWER_WHY_BYTES, "%s: %s", what, strerror(-err));
		memset(answer, 0, sizeof(*answer));
		return err;
	}
	err = answer_map(answer->fds, answer->sets, &answer_tables);
	if (!err) {
		config_fill(answer_tables.config, answer->cookie);
		err = hooks_work(fs) ? 0 : -EOPNOTSUPP;
	}
	if (err) {
		snprintf(why, ANSWER_WHY_BYTES, "%s",
			 err == -EOPNOTSUPP ? "BPF is none of the kernel's security modules (lsm=)" : strerror(-err));
		answer_close(fs);
		return err;
	}
	answer->stats_id = answer_map_id(answer->fds[ANSWER_FD_STATS]);
	answer->on = 1;
	fs->area->answered = 1;
	return 0;
}

void answer_mark(struct fs *fs, void (*mark)(void *context, int fd), void *context)
{
	for (int i = 0; fs->area->answer.on && i < ANSWER_FDS; i++)
		mark(context, fs->area->answer.fds[i]);
}

/* --- in the server ------------------------------------------------------------------------------------------ */

/* The state may be torn: numbers of it that lead somewhere are checked. */
static int answer_take(struct fs *fs)
{
	struct fs_answer *answer = &fs->area->answer;
	const struct state_header *header = recover_state(fs->recover)->header;
	uint64_t cookie = answer->cookie;
	int err;

	if (!answer->sets || answer->sets & (answer->sets - 1))
		return -EBADMSG;
	err = answer_map(answer->fds, answer->sets, &answer_tables);
	if (err)
		return err;
	answer_clear_workers(answer->fds[ANSWER_FD_WORKERS]);
	table_start(fs, header->life);
	return ioctl(header->device[0], (int)FXFUSE_DEV_IOC_ATTACH, &cookie) ? -errno : 0;
}

void answer_start(struct fs *fs)
{
	int err;

	if (!fs->area->answer.on)
		return;
	err = answer_take(fs);
	if (!err)
		return;
	/* what cannot be written to the tables cannot be withdrawn either */
	log_warning("cache=bpf: off: the tables of the last server cannot be used: %s: ttl instead", strerror(-err));
	answer_close(fs);
	snprintf(recover_state(fs->recover)->header->cache, STATE_CACHE_BYTES, "ttl");
}

void answer_start_worker(struct request *rq)
{
	struct fs *fs = fs_of(rq);
	uint32_t place = (uint32_t)(rq->slot - recover_state(rq->recover)->slots);

	if (answer_is_on(fs) && answer_add_worker(fs->area->answer.fds[ANSWER_FD_WORKERS], gettid(), place))
		log_warning("cache=bpf: a thread stores no answers: %s", strerror(errno));
}

/* --- samples ------------------------------------------------------------------------------------------------ */

static struct answer_sample *sample_mine(const struct request *rq)
{
	return &answer_tables.samples[rq->slot - recover_state(rq->recover)->slots];
}

/* From now on changes of this file system are seen; what began before, by who holds a lock, a sample shows. */
static void device_add(struct fs *fs, uint32_t device, int fd)
{
	uint32_t *devices = answer_tables.config->devices;
	struct statfs st;
	int i = 0;

	if (devices_full || fd < 0 || fstatfs(fd, &st) || watch_is_shared(&st))
		return;
	pthread_mutex_lock(&fs->mounts_lock);
	while (i < ANSWER_DEVICES && devices[i] && devices[i] != device)
		i++;
	if (i == ANSWER_DEVICES)
		devices_full = true;
	else
		__atomic_store_n(&devices[i], device, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&fs->mounts_lock);
}

/* What the program saw at the thread's last statx(2). */
static bool sample_take(const struct request *rq, struct answer_sample *sample)
{
	struct answer_sample *mine = sample_mine(rq);

	if (!__atomic_load_n(&mine->taken, __ATOMIC_ACQUIRE))
		return false;
	*sample = *mine;
	__atomic_store_n(&mine->taken, 0, __ATOMIC_RELEASE);
	return true;
}

void answer_begin(struct request *rq, int fd, struct answer_look *look)
{
	struct fs *fs = fs_of(rq);
	struct statx stx;

	look->sampled = false;
	if (!answer_is_on(fs) || statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, 0, &stx))
		return;
	look->sampled = sample_take(rq, &look->directory);
	if (look->sampled && look->directory.flags & ANSWER_FOREIGN)
		device_add(fs, look->directory.device, fd);
}

/* One whose descriptor is the only way to it would keep that open. */
static bool may_stay(uint32_t index, const struct inode *inode)
{
	return index == NODE_ROOT || (inode->handle_bytes && !(load_relaxed(&inode->flags) & INODE_HELD));
}

static void attr_store(struct request *rq, const struct answer_sample *sample, uint64_t nodeid, const struct stat *st)
{
	struct fs *fs = fs_of(rq);
	uint32_t index;
	struct node *node = node_find(fs->nodes, nodeid, &index);
	struct inode *inode = node ? inode_of(node) : NULL;

	if (!inode || sample->flags || sample->number != node->key.number || !may_stay(index, inode))
		return;
	if (!(load_relaxed(&inode->flags) & INODE_GIVEN))
		inode_flags_add(inode, INODE_GIVEN);
	table_put_attr(fs, sample, nodeid, st);
}

void answer_store_attr(struct request *rq, uint64_t nodeid, const struct stat *st)
{
	struct answer_sample sample;

	if (answer_is_on(fs_of(rq)) && sample_take(rq, &sample))
		attr_store(rq, &sample, nodeid, st);
}

void answer_store(struct request *rq, const struct answer_look *look, uint64_t parent, const char *name,
		  const struct fuse_entry_param *entry)
{
	struct answer_sample sample;

	if (!look->sampled || !sample_take(rq, &sample))
		return;
	if (sample.flags & (ANSWER_FOREIGN | ANSWER_MOUNTED) || sample.device != look->directory.device)
		return;
	attr_store(rq, &sample, entry->ino, &entry->attr);
	table_put_name(fs_of(rq), &look->directory, parent, name, entry->ino);
	nodes_sweep(fs_of(rq)->nodes, rq->slot, SWEEP);
}

void answer_store_missing(struct request *rq, const struct answer_look *look, int fd, uint64_t parent, const char *name)
{
	if (!look->sampled)
		return;
	table_put_name(fs_of(rq), &look->directory, parent, name, 0);
	whole_missed(rq, &look->directory, fd, parent);
}

uint32_t answer_begin_xattr(struct request *rq, int fd, const char *name, struct answer_look *look)
{
	static const struct {
		const char *name;
		uint32_t which;
	} known[] = {
		{"security.capability", ANSWER_CAPABILITY},
		{"system.posix_acl_access", ANSWER_ACL_ACCESS},
		{"system.posix_acl_default", ANSWER_ACL_DEFAULT},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(known[i].name, name) == 0) {
			answer_begin(rq, fd, look);
			return look->sampled && !look->directory.flags ? known[i].which : 0;
		}
	return 0;
}

void answer_store_absent(struct request *rq, const struct answer_look *look, uint64_t nodeid, uint32_t which)
{
	table_put_absent(fs_of(rq), &look->directory, nodeid, which);
}

/* --- open files --------------------------------------------------------------------------------------------- */

static bool kernel_has_open(struct fs *fs, uint64_t nodeid)
{
	return ioctl(recover_state(fs->recover)->header->device[0], (int)FXFUSE_DEV_IOC_OPEN, &nodeid) > 0;
}

/*
 * The file of another node makes room, unless it is still open by BPF, or has become another meanwhile. It is withdrawn first,
 * then the kernel is asked: the module's half of this is in kernel/module/bpf.c.
 */
static bool open_evict(struct fs *fs, struct answer_open *entry)
{
	uint64_t nodeid = load_relaxed(&entry->node);
	uint32_t index;
	struct node *node = node_find(fs->nodes, nodeid, &index);
	pthread_mutex_t *stripe;
	uint32_t id;
	bool evicted;

	if (!node)
		return table_withdraw_open(fs, nodeid), true;
	stripe = node_lock(fs->nodes, node);
	id = table_withdraw_open(fs, nodeid);
	evicted = !id || !kernel_has_open(fs, nodeid);
	if (!evicted)
		table_put_open(fs, nodeid, id);
	else if (node_id(index, node) == nodeid)
		passthrough_close_unused(fs, inode_of(node));
	pthread_mutex_unlock(stripe);
	return evicted;
}

bool answer_has_open(struct fs *fs, uint64_t nodeid)
{
	if (!fs->area->answered)
		return false;
	return (answer_is_on(fs) && table_has_open(fs, nodeid)) || kernel_has_open(fs, nodeid);
}

void answer_drop_open(struct fs *fs, uint64_t nodeid)
{
	if (answer_is_on(fs))
		table_withdraw_open(fs, nodeid);
}

void answer_store_open(struct request *rq, uint64_t nodeid, int32_t backing_id)
{
	struct fs *fs = fs_of(rq);
	struct answer_open *entry;
	pthread_mutex_t *stripe;
	uint32_t index;
	struct node *node = node_find(fs->nodes, nodeid, &index);

	if (!answer_is_on(fs) || !node || !may_stay(index, inode_of(node)) || table_has_open(fs, nodeid))
		return;
	entry = table_full_open(fs, nodeid);
	if (entry && !open_evict(fs, entry))
		return;
	stripe = node_lock(fs->nodes, node);
	if (inode_of(node)->backing_id == backing_id && !table_has_open(fs, nodeid))
		table_put_open(fs, nodeid, (uint32_t)backing_id);
	pthread_mutex_unlock(stripe);
}

/* --- nodes -------------------------------------------------------------------------------------------------- */

bool answer_keeps(void *recover, uint32_t index, struct node *node)
{
	struct fs *fs = recover_private(recover);
	uint64_t nodeid = node_id(index, node);

	if (!(load_relaxed(&inode_of(node)->flags) & INODE_GIVEN))
		return false;
	/* The kernel has the barrier between withdrawing and asking. */
	if (answer_is_on(fs) && table_keeps_attr(fs, nodeid))
		return true;
	return ioctl(recover_state(recover)->header->device[0], (int)FXFUSE_DEV_IOC_KNOWN, &nodeid) > 0;
}

/* --- for people --------------------------------------------------------------------------------------------- */

unsigned answer_numbers(const struct state *state, struct recover_number *numbers)
{
	const struct fs_answer *answer = &((const struct fs_area *)state->area)->answer;
	struct answer_stats stats;

	if (!answer->on || answer_read_stats(answer->stats_id, &stats))
		return 0;
	const struct recover_number all[] = {
		{"bpf_entries", "answers that BPF has", false, load_relaxed(&answer->entries)},
		{"bpf_hits", "answers that BPF gave", true,
		 stats.names + stats.attrs + stats.absent + stats.together + stats.opens},
		{"bpf_misses", "questions that BPF had no answer to", true,
		 stats.names_unknown + stats.attrs_unknown + stats.absent_unknown + stats.opens_unknown},
		{"bpf_stale", "questions that BPF had only an old answer to", true,
		 stats.names_stale + stats.attrs_stale},
		{"bpf_evictions", "answers that made room for others", true, load_relaxed(&answer->evictions)},
		/* of a file that is opened: OPEN, FLUSH and RELEASE */
		{"bpf_saved", "requests that were not sent", true,
		 stats.names + stats.attrs + stats.absent + 3 * stats.opens},
	};

	memcpy(numbers, all, sizeof(all));
	return sizeof(all) / sizeof(all[0]);
}
