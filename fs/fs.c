/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The passthrough as recover/ sees it: what it hands over, and what it does when a server starts.
 */
#include "fs/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/answer.h"
#include "fs/creds.h"
#include "fs/inode.h"
#include "fs/ops.h"
#include "recover/log.h"

struct fs *fs_new(int source_fd)
{
	struct fs *fs = calloc(1, sizeof(*fs));

	if (fs)
		fs->source_fd = source_fd;
	return fs;
}

static void fs_bind(struct recover *recover)
{
	struct fs *fs = recover_private(recover);

	fs->recover = recover;
	fs->nodes = recover_nodes(recover);
	fs->handles = recover_handles(recover);
	fs->area = (void *)recover_state(recover)->area;
	pthread_mutex_init(&fs->mounts_lock, NULL);
}

static int fs_open_proc(struct fs *fs)
{
	fs->proc_fd = open("/proc/self/fd", O_PATH | O_DIRECTORY);
	if (fs->proc_fd < 0) {
		int err = -errno;

		log_error("cannot open /proc/self/fd: %s (is /proc mounted?)", strerror(-err));
		return err;
	}
	return 0;
}

/* For the log: how old an answer about the source can be, and why there is nothing better. */
static void fs_say_cache(const struct fs *fs)
{
	const char *cache = recover_state(fs->recover)->header->cache;

	if (fs->area->answer.on)
		log_info(
			"cache=bpf: the kernel asks a BPF program, which knows of each change of the source before it is made");
	else if (fs->area->watch.group >= 0)
		log_info("cache=watch: the kernel keeps names and attributes until the source says that they changed");
	else if (fs->ttl > 0)
		log_info("cache=%s: names and attributes are taken to be true for %g s", cache, fs->ttl);
	else
		log_info("cache=%s: names and attributes are asked for every time", cache);
}

/*
 * cache=bpf, where it is wanted and can be had: then nothing is kept on other grounds. 0; or -errno, where there is to be no
 * mount without it.
 */
static int fs_bpf(struct fs *fs)
{
	struct state_header *header = recover_state(fs->recover)->header;
	char why[ANSWER_WHY_BYTES] = "asked for";
	int err = fs->bpf == BPF_OFF ? -EOPNOTSUPP : answer_open(fs, why);

	if (err && fs->bpf == BPF_ON) {
		log_error("cache=bpf: cannot be had: %s", why);
		return err;
	}
	if (err) {
		log_info("cache=bpf: off: %s", why);
		return 0;
	}
	fs->watch_wanted = false;
	fs->ttl = 0;
	snprintf(header->cache, sizeof(header->cache), "bpf");
	return 0;
}

/* cache=watch or what is left of it, once the source's own file system was met. */
static void fs_watch(struct fs *fs)
{
	struct state_header *header = recover_state(fs->recover)->header;

	if (!fs->watch_wanted)
		return;
	if (fs->area->mounts[0].watched_ns) {
		recover_watch(fs->recover);
		return;
	}
	log_warning("cache=watch: off: ttl instead");
	watch_close(fs);
	snprintf(header->cache, sizeof(header->cache), "ttl");
}

static void fs_say_locks(const struct fs *fs)
{
	if (fs->locks_local)
		log_info("locks=local: nobody in the source knows of the mount's locks, nor the mount of theirs");
	if (fs->locks_local && fs->read_only)
		log_info("read-only: files are not opened in the source, what is read of them is cached");
}

static void fs_say_ids(const char *option, const struct idmap *map)
{
	if (map->n)
		log_info("%s: %u range%s; all other ids are nobody's", option, map->n, map->n > 1 ? "s" : "");
}

/* Data that goes through the server comes in pieces as large as a request takes. Without the right to it: smaller. */
static void fs_read_ahead(const struct state_header *header)
{
	char path[64], kib[16];
	int fd, length = snprintf(kib, sizeof(kib), "%u", header->max_write / 1024);

	snprintf(path, sizeof(path), "/sys/class/bdi/0:%u/read_ahead_kb", header->device_minor);
	fd = open(path, O_WRONLY);
	if (fd < 0)
		return;
	if (write(fd, kib, (size_t)length) < 0)
		log_debug("cannot read ahead %s KiB: %s", kib, strerror(errno));
	close(fd);
}

/* In the monitor: the root, so that its errors are the mount's. */
static int fs_prepare(struct recover *recover)
{
	struct fs *fs = recover_private(recover);
	int err;

	fs_bind(recover);
	err = fs_bpf(fs);
	if (err)
		return err;
	watch_open(fs);
	fs_say_locks(fs);
	fs_say_ids("uidmap", &fs->ids.uids);
	fs_say_ids("gidmap", &fs->ids.gids);
	fs->area->no_open = fs->read_only && fs->locks_local;
	fs->area->passthrough_wanted = fs->passthrough_wanted;
	err = fs_open_proc(fs);
	if (err)
		return err;
	err = inode_make_root(fs, fs->source_fd);
	if (err)
		log_error("cannot use the source: %s", strerror(-err));
	fs_watch(fs);
	fs_say_cache(fs);
	close(fs->proc_fd);
	return err;
}

/* Counts that a crash may have torn; what they count is looked at where it is used. */
static int fs_check_area(const struct fs *fs)
{
	if (fs->area->mounts_n <= MOUNTS_MAX && fs->area->lock_owners_high <= LOCK_OWNERS_MAX &&
	    fs->area->fd_slots_high <= FD_CACHE_MAX)
		return 0;
	log_error("the state cannot be followed: a count in the file system's area is out of range");
	return -EBADMSG;
}

/* The program has ended with the processes that had it, and nothing was kept on its word. */
static void fs_bpf_again(struct fs *fs)
{
	char why[ANSWER_WHY_BYTES];
	bool was_on = fs->area->answer.on, is_on;

	memset(&fs->area->answer, 0, sizeof(fs->area->answer));
	if (!was_on)
		return;
	fs->watch_wanted = false;
	is_on = answer_open(fs, why) == 0;
	snprintf(recover_state(fs->recover)->header->cache, STATE_CACHE_BYTES, "%s", is_on ? "bpf" : "ttl");
	if (!is_on)
		log_warning("cache=bpf: off: %s: ttl instead", why);
}

/* In the monitor, of a mount that somebody kept. */
static int fs_adopt(struct recover *recover, int *kept, unsigned n)
{
	struct fs *fs = recover_private(recover);
	int err;

	fs_bind(recover);
	err = fs_check_area(fs);
	if (!err)
		err = fs_open_proc(fs);
	if (err)
		return err;
	fs_bpf_again(fs);
	err = adopt_descriptors(fs, kept, n);
	fs_watch(fs);
	close(fs->proc_fd);
	return err;
}

static unsigned fs_watch_fds(struct recover *recover, int *fds)
{
	struct fs *fs = recover_private(recover);
	unsigned n;

	fs_bind(recover);
	n = watch_keep(fs, fds);
	fds[n++] = fs->area->watch.mounts;
	fds[n++] = fs->area->watch.quiet_ask[1];
	fds[n++] = inode_of(&recover_state(recover)->nodes[NODE_ROOT])->fd; /* a new monitor has no tables */
	return n;
}

static unsigned fs_keep(struct recover *recover, int *fds)
{
	fs_bind(recover);
	return watch_keep(recover_private(recover), fds);
}

/* Says what became of the passthrough, for the log and --status, and what else the first server found out. */
static void fs_passthrough(struct fs *fs)
{
	struct state_header *header = recover_state(fs->recover)->header;
	const char *text = "on";

	fs->passthrough = false;
	fs->backing = recover_init_flags(fs->recover) & FUSE_PASSTHROUGH;
	if (!fs->passthrough_wanted)
		text = "off: asked for";
	else if (!fs->backing)
		text = "off: this kernel has none (Linux 6.9)";
	else if (!passthrough_is_permitted(fs))
		text = "off: not permitted (it needs CAP_SYS_ADMIN outside of user namespaces)";
	else
		fs->passthrough = true;
	if (header->life == 1) {
		snprintf(header->passthrough, sizeof(header->passthrough), "%s", text);
		log_info("kernel passthrough of file data: %s", text);
		if (fs->area->watch.group >= 0 && !notify_has_epoch(fs->recover))
			log_info("cache=watch: names are kept for %g s: this kernel cannot drop them all (Linux 6.16)",
				 fs->ttl);
		fs_read_ahead(header);
		log_info("descriptors of inodes: at most %u are kept open", fs->fds.room);
	}
}

/* Of the first server, as that knows what the kernel takes. */
static void fs_say_idmap(const struct fs *fs)
{
	if (!fs->idmap_wanted || recover_state(fs->recover)->header->life != 1)
		return;
	if (recover_init_flags(fs->recover) & FUSE_ALLOW_IDMAP)
		log_info("idmap=on: the mount may be idmapped; who makes nothing is acted for as nobody");
	else
		log_warning("idmap=on has no effect: this kernel has no idmapped mounts of FUSE (Linux 6.12)");
}

static int fs_start(struct recover *recover)
{
	struct fs *fs = recover_private(recover);
	int err;

	fs_bind(recover);
	err = fs_check_area(fs);
	if (err)
		return err;
	fs->source_fd = inode_of(&fs->nodes->state->nodes[NODE_ROOT])->fd;
	err = fs_open_proc(fs);
	if (err)
		return err;
	creds_prepare(fs);
	fds_init(fs);
	lock_start(fs);
	fs->locks_local = !(recover_init_flags(recover) & FUSE_POSIX_LOCKS);
	answer_start(fs);
	if (fs->area->answer.on)
		fs->ttl = 0;
	fs_passthrough(fs);
	fs_say_idmap(fs);
	passthrough_recount(fs);
	return 0;
}

static void fs_start_worker(struct request *request)
{
	struct fs *fs = fs_of(request);

	creds_start(request);
	answer_start_worker(request);
	if (atomic_fetch_add(&fs->workers, 1) + 1 == recover_state(fs->recover)->header->workers)
		quiet_start(fs); /* the last: nobody waits for it */
}

static void fs_mark(struct recover *recover, void (*mark)(void *context, int fd), void *context)
{
	struct fs *fs = recover_private(recover);

	mark(context, fs->proc_fd);
	mark(context, fs->source_fd);
	mounts_mark(fs, mark, context);
	watch_mark(fs, mark, context);
	answer_mark(fs, mark, context);
	fds_mark(fs, mark, context);
	lock_mark(fs, mark, context);
}

static void fs_drop_node(void *recover, uint32_t index, struct node *node)
{
	struct fs *fs = recover_private(recover);

	lock_drop_node(fs, index);
	passthrough_drop_node(fs, node_id(index, node), inode_of(node));
	fds_drop(fs, inode_of(node));
}

static void fs_drop_handle(void *recover, struct handle *handle)
{
	passthrough_drop(recover_private(recover), handle);
}

const struct recover_fs fxfs = {
	.name = "fxfs",
	.ops = &adapter_ops,
	.area_bytes = sizeof(struct fs_area),
	.init_flags = FUSE_SUBMOUNTS,
	.prepare = fs_prepare,
	.adopt = fs_adopt,
	.keep = fs_keep,
	.start = fs_start,
	.start_worker = fs_start_worker,
	.mark = fs_mark,
	.drop_node = fs_drop_node,
	.drop_handle = fs_drop_handle,
	.keep_node = answer_keeps,
	.numbers = answer_numbers,
	.alias = watch_alias,
	.watch = watch_run,
	.watch_fds = fs_watch_fds,
	.raw = adapter_raw,
	.interrupt = lock_interrupt,
	.server_may = &fs_server_may,
	.watcher_may = &fs_watcher_may,
};
