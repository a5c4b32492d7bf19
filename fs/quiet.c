/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files that are written all the time. fanotify(7) allocates an event for each write(2) to a file system that is marked,
 * which takes longer than a small write itself. Of a file that is open with passthrough only the attributes hang on it:
 * its pages are the source's. So writes to it are ignored for as long as they go on, and its attributes are not kept.
 *
 * The watcher finds these files (watch.c). A thread of the server does the rest, because it takes descriptors, and a server
 * that recovers closes those of others that it does not know.
 *
 *  - To begin: the file is listed (no answer allows to keep its attributes any more), its writes are ignored, what is kept
 *    is dropped. A change before the last is told by that.
 *  - To end: its writes are told again, the time is stored (nor does an answer to what was asked before), it leaves the list,
 *    what is kept is dropped.
 *
 * A death between any two: the next server ends all that are listed.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/fanotify.h>
#include <unistd.h>

#include "fs/inode.h"
#include "recover/atomic.h"
#include "recover/log.h"

#define LOOK_MS 50
#define IGNORE (FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORED_SURV_MODIFY)

/* What the thread knows of one that is listed; the inode's node may be another's by the time it ends. */
struct quiet {
	uint64_t nodeid; /* 0: none */
	struct inode inode;
	int64_t written_ns; /* mtime at the last look */
};

static struct quiet quiets[QUIET_MAX];

bool quiet_is(const struct request *rq, const struct inode *inode)
{
	const struct fs_watch *watch = &fs_of(rq)->area->watch;
	const struct node *nodes = fs_of(rq)->nodes->state->nodes;

	if (load_acquire(&watch->quiet_ended_ns) >= rq->slot->since_ns)
		return true;
	for (unsigned i = 0; i < load_acquire(&watch->quiet_high) && i < QUIET_MAX; i++) {
		uint32_t index = load_acquire(&watch->quiet[i]);

		if (index && index < NODES_MAX && (const void *)nodes[index].data == inode)
			return true;
	}
	return false;
}

static int quiet_mark(struct fs *fs, unsigned flags, int fd)
{
	char name[PROC_NAME_BYTES];

	return fanotify_mark(fs->area->watch.group, flags | IGNORE, FAN_MODIFY, fs->proc_fd, proc_name(name, fd));
}

static int64_t written_ns(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? 0 : (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
}

/* What mount_open() wants of an inode; the rest of it has other locks. */
static struct inode way_to(const struct inode *inode)
{
	struct inode way = {
		.mount = inode->mount, .handle_bytes = inode->handle_bytes, .handle_type = inode->handle_type};

	memcpy(way.handle, inode->handle, sizeof(way.handle));
	return way;
}

/* The way to the inode, if writes to it may be ignored: nothing of it is cached but by passthrough. */
static bool may_be_quiet(struct fs *fs, uint64_t nodeid, struct inode *way, uint32_t *index)
{
	struct node *node = node_find(fs->nodes, nodeid, index);
	const struct inode *inode;
	pthread_mutex_t *stripe;
	bool may;

	if (!node)
		return false;
	inode = inode_of(node);
	stripe = node_lock(fs->nodes, node);
	*way = way_to(inode);
	may = node_find(fs->nodes, nodeid, index) == node && inode->backing_opens && !inode->served_opens &&
	      inode->type == S_IFREG && !(load_relaxed(&inode->flags) & INODE_HELD);
	pthread_mutex_unlock(stripe);
	return may;
}

static bool is_listed(uint64_t nodeid)
{
	for (unsigned i = 0; i < QUIET_MAX; i++)
		if (quiets[i].nodeid == nodeid)
			return true;
	return false;
}

static void quiet_leave(struct fs *fs, unsigned n)
{
	struct fs_watch *watch = &fs->area->watch;

	store_release(&watch->quiet_ended_ns, clock_ns());
	store_release(&watch->quiet[n], 0);
	watch_ask(fs, quiets[n].nodeid);
	quiets[n].nodeid = 0;
}

/* All ignored marks go; what else is listed is told again for as long as it is. */
static void quiet_flush(struct fs *fs)
{
	if (fanotify_mark(fs->area->watch.group, FAN_MARK_FLUSH, 0, AT_FDCWD, NULL))
		log_error("cache=watch: cannot hear of all writes again: %s", strerror(errno));
}

static void quiet_begin(struct fs *fs, uint64_t nodeid)
{
	struct fs_watch *watch = &fs->area->watch;
	struct inode inode;
	uint32_t index;
	unsigned n = 0;
	int fd;

	while (n < QUIET_MAX && quiets[n].nodeid)
		n++;
	if (n == QUIET_MAX || is_listed(nodeid) || !may_be_quiet(fs, nodeid, &inode, &index))
		return;
	fd = mount_open(fs, &inode, O_PATH);
	if (fd < 0)
		return;
	quiets[n] = (struct quiet){.nodeid = nodeid, .inode = inode, .written_ns = written_ns(fd)};
	store_release(&watch->quiet[n], index);
	if (n >= watch->quiet_high)
		store_release(&watch->quiet_high, n + 1);
	if (quiet_mark(fs, FAN_MARK_ADD, fd))
		quiet_leave(fs, n);
	else
		watch_ask(fs, nodeid);
	close(fd);
}

/* Ends it unless it was written since the last look and is still open. */
static void quiet_look(struct fs *fs, unsigned n)
{
	struct quiet *quiet = &quiets[n];
	int fd = mount_open(fs, &quiet->inode, O_PATH);
	int64_t written = fd < 0 ? 0 : written_ns(fd);
	struct inode now;
	uint32_t index;

	if (written == quiet->written_ns || !may_be_quiet(fs, quiet->nodeid, &now, &index)) {
		if (fd >= 0 && quiet_mark(fs, FAN_MARK_REMOVE, fd)) /* none: the inode is gone, and the mark with it */
			quiet_flush(fs);
		quiet_leave(fs, n);
	}
	quiet->written_ns = written;
	if (fd >= 0)
		close(fd);
}

/* Of the server before. */
static void quiet_end_all(struct fs *fs)
{
	struct fs_watch *watch = &fs->area->watch;
	struct state *state = fs->nodes->state;

	if (!watch->quiet_high)
		return;
	quiet_flush(fs);
	for (unsigned i = 0; i < QUIET_MAX; i++) {
		uint32_t index = watch->quiet[i];

		if (!index || index >= NODES_MAX)
			continue;
		quiets[i].nodeid = node_id(index, &state->nodes[index]);
		quiet_leave(fs, i);
	}
}

static void *quiet_main(void *context)
{
	struct fs *fs = context;
	struct pollfd asked = {.fd = fs->area->watch.quiet_ask[0], .events = POLLIN};
	uint64_t nodeid, look_ns = 0;

	quiet_end_all(fs);
	for (;;) {
		bool any = false;

		for (unsigned i = 0; i < QUIET_MAX; i++)
			any |= quiets[i].nodeid != 0;
		poll(&asked, 1, any ? LOOK_MS : -1);
		if (read(asked.fd, &nodeid, sizeof(nodeid)) == sizeof(nodeid))
			quiet_begin(fs, nodeid);
		if (clock_ns() - look_ns < LOOK_MS * UINT64_C(1000000))
			continue;
		look_ns = clock_ns();
		for (unsigned i = 0; i < QUIET_MAX; i++)
			if (quiets[i].nodeid)
				quiet_look(fs, i);
	}
	return NULL;
}

void quiet_start(struct fs *fs)
{
	pthread_t thread;
	int err;

	if (fs->area->watch.group < 0)
		return;
	err = recover_start_thread(&thread, quiet_main, fs);
	if (err)
		log_error("cannot start a thread: %s: files that are written all the time make an event for each write",
			  strerror(err));
}
