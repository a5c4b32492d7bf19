/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cache=watch: what is changed directly in the source is taken out of the kernel's caches of the mount.
 *
 * The file systems at and below SOURCE are marked in one fanotify(7) group. The watcher reads its events, finds the nodes by
 * the file handles in them, and has the kernel expire names and drop attributes. In return the server lets the kernel
 * keep both without a limit. What makes that true:
 *
 *  - A file system is marked before an unlimited time-out is given to anything of it, and none is given to a request that
 *    was read before (watch_sees()).
 *  - Name not known to the kernel: a look-up holds the directory's lock until its answer is in place, and the
 *    notification waits for that. Name known: it may be asked again just now, without the lock, and be given the answer
 *    from before the change. So an expired name is expired once more, later: AGAIN_MS.
 *  - Attributes: the kernel drops an answer to a question that is older than the notification. Where it does not know
 *    the node, which may be about to come to it with attributes from before, it is told again; the same where the node is
 *    not in the table yet and some request is being carried out.
 *  - What is mounted on a directory, or taken off it, has the directory's name expired (mountinfo.c).
 *  - What the server does itself the kernel knows from its answers, unless the server dies before it answers and whoever
 *    asked dies too: such events are kept for a while, and count if the server died in it.
 *
 * A death of the watcher loses nothing: events are read into memory that outlives it, which was zero, and is made zero
 * when they are dealt with; those to be sent again stand there as well. To send one twice does no harm. (A read(2) that a
 * death interrupts puts whole events there: the memory is resident, it was written just before.)
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fanotify.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "fs/inode.h"
#include "fs/mountinfo.h"
#include "recover/atomic.h"
#include "recover/fnv.h"
#include "recover/log.h"

/* <linux/magic.h> has not all */
#define GFS2_SUPER_MAGIC 0x01161970
#define LUSTRE_SUPER_MAGIC 0x0bd00bd0

#define WATCH_NAMES (FAN_CREATE | FAN_DELETE | FAN_MOVED_FROM | FAN_MOVED_TO)
#define WATCH_DATA (FAN_MODIFY | FAN_CLOSE_WRITE)
#define WATCH_MASK (WATCH_NAMES | WATCH_DATA | FAN_ATTRIB | FAN_ONDIR)
#define WATCH_GROUP (FAN_CLASS_NOTIF | FAN_NONBLOCK | FAN_REPORT_DFID_NAME_TARGET)

#define AGAIN_MS 20
#define AGAIN_TIMES 3 /* at least; more while requests from before the event are being carried out */
#define AGAIN_TIMES_MOST 10
#define AGAIN_SLOWER 2
#define AGAIN_LONGEST_MS 2000

/*
 * While events keep coming, how many times as long as it took to deal with them the watcher lets them gather. Of what the
 * server does itself there is nothing to tell: being woken by each would only slow it down.
 */
#define NAP_TIMES 2
#define NAP_LONGEST_NS 1000000
#define NAP_SHORTEST_NS 30000
#define NAP_OWN_NS 2000000

#define RESIDENT_BYTES 4096

/* A file of which so many reads in a row, within this time, had an event of a write is written all the time. */
#define LOUD_READS 4
#define LOUD_NS 50000000
#define LOUD_N 8

/* As it is read: the kernel puts events at multiples of 4. */
struct event {
	struct fanotify_event_metadata head;
} __attribute__((packed, aligned(4)));

/* An event that is to be sent once more. */
struct again {
	uint32_t bytes; /* with the event behind it */
	uint32_t state; /* enum again_state */
	uint64_t due_ns;
	uint64_t read_ns;
	uint32_t life;
	uint16_t times;
	uint16_t own; /* of the server that was alive then: only if that died */
	uint8_t event[];
};

enum again_state { AGAIN_WAITING, AGAIN_DONE };

/* A file that was written lately. */
struct loud {
	uint64_t node, since_ns, read;
	unsigned reads;
};

struct watch {
	struct fs *fs;
	struct recover *recover;
	struct fs_watch *area;
	struct state_header *header;
	struct mountinfo mountinfo;
	bool unsure;  /* of the event at hand: it should be sent again */
	bool foreign; /* somebody else's event was among those read last */
	uint64_t reads;
	struct loud loud[LOUD_N];
};

/* What an event is about; NULL and 0: not told. */
struct subject {
	const struct fanotify_event_info_fid *directory, *inode;
	const char *name;
};

/* --- in the monitor and the server ------------------------------------------------------------------------ */

static void watch_none(struct fs_watch *watch)
{
	watch->group = watch->ask[0] = watch->ask[1] = watch->quiet_ask[0] = watch->quiet_ask[1] = watch->mounts = -1;
}

void watch_open(struct fs *fs)
{
	struct fs_watch *watch = &fs->area->watch;
	unsigned flags = WATCH_GROUP;

	watch_none(watch);
	if (!fs->watch_wanted)
		return;
#ifndef FXFS_CRASH_POINTS /* tests have it overflow */
	flags |= FAN_UNLIMITED_QUEUE;
#endif
	watch->group = (int32_t)syscall(SYS_fanotify_init, flags, 0);
	if (watch->group < 0) {
		log_warning("cache=watch: cannot watch anything: %s", strerror(errno));
		return;
	}
	watch->mounts = mountinfo_open();
	if (watch->mounts < 0 || pipe2(watch->ask, O_NONBLOCK) || pipe2(watch->quiet_ask, O_NONBLOCK)) {
		log_warning("cache=watch: cannot read the table of mounts, or make pipes: %s", strerror(errno));
		watch_close(fs);
	}
}

void watch_close(struct fs *fs)
{
	struct fs_watch *watch = &fs->area->watch;

	const int fds[] = {watch->group,	watch->ask[0],	     watch->ask[1],
			   watch->quiet_ask[0], watch->quiet_ask[1], watch->mounts};

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	watch_none(watch);
}

unsigned watch_keep(struct fs *fs, int *fds)
{
	const struct fs_watch *watch = &fs->area->watch;

	if (watch->group < 0)
		return 0;
	fds[0] = watch->group;
	fds[1] = watch->ask[0];
	fds[2] = watch->ask[1];
	return 3;
}

/* Is it what /proc/self/fd says of it? */
static bool fd_is(int fd, const char *what)
{
	char path[32], link[64] = "";

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return readlink(path, link, sizeof(link) - 1) > 0 && strncmp(link, what, strlen(what)) == 0;
}

static void watch_take(struct fs_watch *watch, int *fd)
{
	int end = fcntl(*fd, F_GETFL) & O_ACCMODE;
	int32_t *to = fd_is(*fd, "anon_inode:[fanotify]") ? &watch->group
		      : fd_is(*fd, "pipe:")		  ? &watch->ask[end != O_RDONLY]
							  : NULL;

	if (!to || *to >= 0)
		return;
	*to = *fd;
	*fd = -1;
}

void watch_adopt(struct fs *fs, int *kept, unsigned n)
{
	struct fs_watch *watch = &fs->area->watch;

	watch_none(watch);
	for (unsigned i = 0; i < n; i++)
		watch_take(watch, &kept[i]);
	watch->mounts = mountinfo_open();
	if (fs->watch_wanted && watch->group >= 0 && watch->ask[0] >= 0 && watch->ask[1] >= 0 && watch->mounts >= 0 &&
	    pipe2(watch->quiet_ask, O_NONBLOCK) == 0)
		return;
	watch_close(fs);
	watch_open(fs);
	memset(watch->events, 0, sizeof(watch->events));
	watch->first = watch->end;
	watch->asked[0] = 0;
	store_release(&watch->ask_lost, 1);
}

void watch_mark(struct fs *fs, void (*mark)(void *context, int fd), void *context)
{
	mark(context, fs->area->watch.group);
	mark(context, fs->area->watch.ask[0]);
	mark(context, fs->area->watch.ask[1]);
	mark(context, fs->area->watch.quiet_ask[0]);
	mark(context, fs->area->watch.quiet_ask[1]);
	mark(context, fs->area->watch.mounts);
}

bool watch_is_shared(const struct statfs *st)
{
	static const unsigned long types[] = {NFS_SUPER_MAGIC,	 SMB_SUPER_MAGIC,  SMB2_SUPER_MAGIC,  CIFS_SUPER_MAGIC,
					      CEPH_SUPER_MAGIC,	 AFS_SUPER_MAGIC,  AFS_FS_MAGIC,      V9FS_MAGIC,
					      CODA_SUPER_MAGIC,	 FUSE_SUPER_MAGIC, OCFS2_SUPER_MAGIC, GFS2_SUPER_MAGIC,
					      LUSTRE_SUPER_MAGIC};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if ((uint32_t)st->f_type == (uint32_t)types[i])
			return true;
	return false;
}

static const char *mount_watch(struct fs *fs, struct fs_mount *mount)
{
	struct statfs st;

	if (mount->fd < 0)
		return "it gives no file handles";
	if (fstatfs(mount->fd, &st))
		return strerror(errno);
	if (watch_is_shared(&st))
		return "others than this machine may change it";
	memcpy(mount->fsid, &st.f_fsid, sizeof(mount->fsid));
	if (syscall(SYS_fanotify_mark, fs->area->watch.group, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, WATCH_MASK, mount->fd,
		    NULL))
		return strerror(errno);
	return NULL;
}

/* Death before the last store: it is marked once more. */
void watch_mount(struct fs *fs, struct fs_mount *mount)
{
	const char *why;

	if (fs->area->watch.group < 0)
		return;
	why = mount_watch(fs, mount);
	if (why)
		log_warning(
			"the file system with st_dev %#llx is not watched: %s: its names and attributes are kept for "
			"%g s",
			(unsigned long long)mount->device, why, fs->ttl);
	else
		store_release(&mount->watched_ns, clock_ns());
}

bool watch_sees(const struct request *rq, const struct inode *inode)
{
	uint64_t since = load_acquire(&fs_of(rq)->area->mounts[inode->mount].watched_ns);

	return since && since < rq->slot->since_ns && inode->handle_bytes &&
	       !(load_relaxed(&inode->flags) & (INODE_SUBMOUNT | INODE_MAPPED));
}

bool watch_sees_names(const struct request *rq, const struct inode *inode)
{
	return watch_sees(rq, inode) && notify_has_epoch(rq->recover);
}

void watch_ask(struct fs *fs, uint64_t nodeid)
{
	struct fs_watch *watch = &fs->area->watch;

	if (watch->group >= 0 && write(watch->ask[1], &nodeid, sizeof(nodeid)) < 0)
		store_release(&watch->ask_lost, 1);
}

static uint32_t handle_alias(int32_t type, const uint8_t *bytes, unsigned n)
{
	uint64_t hash = fnv(FNV_BEGIN ^ (uint32_t)type, bytes, n);

	hash ^= hash >> 32;
	return (uint32_t)hash ? (uint32_t)hash : 1;
}

uint32_t watch_alias(const struct node *node)
{
	const struct inode *inode = (const void *)node->data;

	if (!inode->handle_bytes || inode->handle_bytes > INODE_HANDLE_BYTES)
		return 0;
	return handle_alias(inode->handle_type, inode->handle, inode->handle_bytes);
}

/* --- in the watcher --------------------------------------------------------------------------------------- */

/* A file handle, and the file system that it is of. */
struct wanted {
	const struct fs_area *area;
	const void *fsid;
	const struct file_handle *handle;
};

static const struct file_handle *fid_handle(const struct fanotify_event_info_fid *fid)
{
	return (const void *)fid->handle;
}

static bool node_is(const void *context, const struct node *node)
{
	const struct wanted *wanted = context;
	const struct file_handle *handle = wanted->handle;
	const struct inode *inode = (const void *)node->data;
	const struct fs_mount *mount = &wanted->area->mounts[inode->mount % MOUNTS_MAX];

	return inode->handle_bytes == handle->handle_bytes && inode->handle_type == handle->handle_type &&
	       memcmp(inode->handle, handle->f_handle, handle->handle_bytes) == 0 && load_acquire(&mount->watched_ns) &&
	       memcmp(mount->fsid, wanted->fsid, sizeof(mount->fsid)) == 0;
}

static uint64_t watch_find(struct watch *watch, const void *fsid, const struct file_handle *handle)
{
	const struct wanted wanted = {watch->fs->area, fsid, handle};
	uint32_t index;

	if (handle->handle_bytes > INODE_HANDLE_BYTES)
		return 0;
	return node_find_alias(recover_state(watch->recover),
			       handle_alias(handle->handle_type, handle->f_handle, handle->handle_bytes), node_is,
			       &wanted, &index);
}

/* Is a request being carried out that was read before `ns`? One that a dead server had read may come again. */
static bool request_from_before(const struct watch *watch, uint64_t ns)
{
	const struct worker_slot *slots = recover_state(watch->recover)->slots;

	if (load_acquire(&watch->header->phase) != STATE_SERVING)
		return true;
	for (uint32_t i = 0; i < watch->header->workers; i++)
		if (load_acquire(&slots[i].busy) && load_relaxed(&slots[i].since_ns) < ns)
			return true;
	return false;
}

/* A pipe that is full, or a server that is dead: it is asked again. */
static void loud_count(struct watch *watch, uint64_t node)
{
	struct loud *loud = &watch->loud[node % LOUD_N];
	uint64_t now = clock_ns();

	if (loud->node != node || now - loud->since_ns > LOUD_NS)
		*loud = (struct loud){.node = node, .since_ns = now};
	if (loud->read == watch->reads)
		return;
	loud->read = watch->reads;
	if (++loud->reads == LOUD_READS && write(watch->area->quiet_ask[1], &node, sizeof(node)) < 0)
		log_debug("a file that is written all the time stays so: %s", strerror(errno));
}

/* Attributes, and from `offset` on the pages. */
static void send_inode(struct watch *watch, const struct fanotify_event_info_fid *fid, int64_t offset, uint64_t mask)
{
	uint64_t node = watch_find(watch, &fid->fsid, fid_handle(fid));

	if (node && mask & FAN_MODIFY)
		loud_count(watch, node);
	if (node)
		watch->unsure |= notify_inval_inode(watch->recover, node, offset, 0) == -ENOENT;
	else
		watch->unsure |= request_from_before(watch, UINT64_MAX);
}

static void send_name(struct watch *watch, const struct fanotify_event_info_fid *directory, const char *name)
{
	uint64_t parent = watch_find(watch, &directory->fsid, fid_handle(directory));

	if (parent)
		watch->unsure |= notify_expire_entry(watch->recover, parent, name) == 0;
}

static void send_mountpoint(void *context, const struct mountinfo_directory *directory, const char *name)
{
	struct watch *watch = context;
	uint64_t parent = watch_find(watch, directory->fsid, &directory->handle);

	if (parent)
		notify_expire_entry(watch->recover, parent, name);
}

static void mounts_look(struct watch *watch)
{
	mountinfo_look(&watch->mountinfo, watch->area->mounts,
		       inode_of(&recover_state(watch->recover)->nodes[NODE_ROOT])->fd, send_mountpoint, watch);
}

/* All that the kernel knows. */
static void send_everything(struct watch *watch)
{
	struct state *state = recover_state(watch->recover);

	if (notify_has_epoch(watch->recover))
		notify_inc_epoch(watch->recover);
	for (uint64_t i = NODE_ROOT; i <= load_acquire(&state->header->nodes_high); i++)
		if (load_acquire(&state->nodes[i].state) == NODE_USED)
			notify_inval_inode(watch->recover, node_id((uint32_t)i, &state->nodes[i]), 0, 0);
	watch->unsure = true;
}

/* The end of a handle with a name behind it, if it and a name that ends are within the record. */
static const char *fid_name(const struct fanotify_event_info_fid *fid)
{
	const char *end = (const char *)fid + fid->hdr.len, *name;

	name = (const char *)fid_handle(fid)->f_handle + fid_handle(fid)->handle_bytes;
	return name < end && memchr(name, 0, (size_t)(end - name)) ? name : "";
}

static void subject_take(struct subject *subject, const struct fanotify_event_info_fid *fid)
{
	switch (fid->hdr.info_type) {
	case FAN_EVENT_INFO_TYPE_FID:
		subject->inode = fid;
		break;
	case FAN_EVENT_INFO_TYPE_DFID_NAME:
		subject->directory = fid;
		subject->name = fid_name(fid);
		if (strcmp(subject->name, ".") == 0 || !*subject->name) /* the directory itself */
			subject->inode = fid;
		break;
	case FAN_EVENT_INFO_TYPE_DFID:
		subject->inode = fid;
		break;
	}
}

static void subject_read(const struct event *event, struct subject *subject)
{
	const uint8_t *at = (const uint8_t *)event + event->head.metadata_len,
		      *end = (const uint8_t *)event + event->head.event_len;

	memset(subject, 0, sizeof(*subject));
	while (at + sizeof(struct fanotify_event_info_fid) + sizeof(struct file_handle) <= end) {
		const struct fanotify_event_info_fid *fid = (const void *)at;

		if (fid->hdr.len < sizeof(*fid) + sizeof(struct file_handle) || fid->hdr.len > end - at ||
		    fid_handle(fid)->handle_bytes > fid->hdr.len - sizeof(*fid) - sizeof(struct file_handle))
			return;
		subject_take(subject, fid);
		at += fid->hdr.len;
	}
}

static void event_send(struct watch *watch, const struct event *event)
{
	struct subject subject;

	watch->unsure = false;
	if (event->head.mask & FAN_Q_OVERFLOW) {
		send_everything(watch);
		return;
	}
	subject_read(event, &subject);
	if (event->head.mask & WATCH_NAMES && subject.directory) {
		send_name(watch, subject.directory, subject.name);
		send_inode(watch, subject.directory, 0, 0); /* its times, and what is kept of its listing */
	}
	if (subject.inode)
		send_inode(watch, subject.inode, event->head.mask & WATCH_DATA ? 0 : -1, event->head.mask);
	if (event->head.mask & FAN_CLOSE_WRITE) /* closing may change what the file takes on the disk, a moment later */
		watch->unsure = true;
}

/* --- events to be sent again: a ring of records, none of which goes over its end ------------------------------ */

/* NULL: it is not what we have written. */
static struct again *again_at(const struct watch *watch, uint64_t at)
{
	struct again *again = (void *)(watch->area->again + at % WATCH_AGAIN);
	uint64_t left = WATCH_AGAIN - at % WATCH_AGAIN;

	if (at % 8 || again->bytes < 8 || again->bytes % 8 || again->bytes > left ||
	    again->bytes > watch->area->end - at)
		return NULL;
	if (again->state == AGAIN_WAITING &&
	    (again->bytes < sizeof(*again) + sizeof(struct event) ||
	     ((const struct event *)again->event)->head.event_len > again->bytes - sizeof(*again)))
		return NULL;
	return again;
}

static void again_send(struct watch *watch, struct again *again)
{
	uint32_t life = load_acquire(&watch->header->life);
	uint64_t pause = AGAIN_MS;

	if (again->own && again->life == life && load_acquire(&watch->header->phase) == STATE_SERVING) {
		store_release(&again->state, AGAIN_DONE);
		return;
	}
	event_send(watch, (const void *)again->event);
	again->times++;
	if (again->times >= AGAIN_TIMES && again->life == life && !request_from_before(watch, again->read_ns)) {
		store_release(&again->state, AGAIN_DONE);
		return;
	}
	if (again->times >= AGAIN_TIMES_MOST)
		store_release(&again->state, AGAIN_DONE);
	for (unsigned i = 0; i < again->times && pause < AGAIN_LONGEST_MS; i++)
		pause *= AGAIN_SLOWER;
	again->life = life;
	again->due_ns = clock_ns() + (pause < AGAIN_LONGEST_MS ? pause : AGAIN_LONGEST_MS) * 1000000;
}

/* Sends what is due; returns when the next is, 0: there is none. */
static uint64_t again_look(struct watch *watch, uint64_t now)
{
	uint64_t next = 0, at = watch->area->first;

	while (at < watch->area->end) {
		struct again *again = again_at(watch, at);

		if (!again) {
			log_error("the watcher lost count of what it was about to do: all is dropped");
			store_release(&watch->area->first, watch->area->end);
			send_everything(watch);
			return 0;
		}
		if (again->state == AGAIN_WAITING && again->due_ns <= now)
			again_send(watch, again);
		if (again->state == AGAIN_WAITING && (!next || again->due_ns < next))
			next = again->due_ns;
		at += again->bytes;
		if (again->state == AGAIN_DONE && watch->area->first + again->bytes == at)
			store_release(&watch->area->first, at);
	}
	return next;
}

/* Room for so many bytes in one piece: the oldest are sent now, for the last time. */
static struct again *again_room(struct watch *watch, uint32_t bytes)
{
	struct fs_watch *area = watch->area;
	struct again *again;

	for (;;) {
		uint64_t left = WATCH_AGAIN - area->end % WATCH_AGAIN;

		if (area->end + (left < bytes ? left + bytes : bytes) <= area->first + WATCH_AGAIN) {
			again = (void *)(area->again + area->end % WATCH_AGAIN);
			if (left >= bytes)
				return again;
			again->bytes = (uint32_t)left;
			again->state = AGAIN_DONE;
			store_release(&area->end, area->end + left);
			continue;
		}
		again = again_at(watch, area->first);
		if (!again)
			return NULL;
		if (again->state == AGAIN_WAITING && !again->own)
			event_send(watch, (const void *)again->event);
		store_release(&area->first, area->first + again->bytes);
	}
}

/* A death before the last store: the event is in area->events still. */
static void again_add(struct watch *watch, const struct event *event, bool own)
{
	uint32_t bytes = (uint32_t)(sizeof(struct again) + event->head.event_len + 7) & ~7u;
	struct again *again = again_room(watch, bytes);

	if (!again)
		return;
	*again = (struct again){.bytes = bytes,
				.state = AGAIN_WAITING,
				.read_ns = clock_ns(),
				.life = load_acquire(&watch->header->life),
				.own = own};
	again->due_ns = again->read_ns + AGAIN_MS * UINT64_C(1000000);
	memcpy(again->event, event, event->head.event_len);
	store_release(&watch->area->end, watch->area->end + bytes);
}

/* --- reading ---------------------------------------------------------------------------------------------- */

static void event_take(struct watch *watch, const struct event *event)
{
	add_relaxed(&watch->header->counters.watch_events, 1);
	if (event->head.mask & FAN_Q_OVERFLOW) {
		add_relaxed(&watch->header->counters.watch_overflows, 1);
		log_warning("changes of the source came faster than they could be told: all that is cached is dropped");
	}
	if (event->head.pid && event->head.pid == load_acquire(&watch->header->server_pid)) {
		if (request_from_before(watch, UINT64_MAX))
			again_add(watch, event, true);
		return;
	}
	watch->foreign = true;
	event_send(watch, event);
	if (watch->unsure)
		again_add(watch, event, false);
}

/* What stands in area->events, which ends with zeroes. */
static void events_take(struct watch *watch)
{
	uint8_t *at = watch->area->events, *end = at + sizeof(watch->area->events);

	while (at + sizeof(struct event) <= end) {
		const struct event *event = (const void *)at;

		if (event->head.event_len < sizeof(*event) || event->head.event_len > end - at ||
		    event->head.metadata_len < sizeof(*event) || event->head.metadata_len > event->head.event_len)
			break;
		event_take(watch, event);
		at += event->head.event_len;
	}
	memset(watch->area->events, 0, (size_t)((at < end && *at ? end : at) - watch->area->events));
}

/* How many bytes there were. */
static ssize_t events_read(struct watch *watch)
{
	ssize_t got;

	for (size_t i = 0; i < sizeof(watch->area->events); i += RESIDENT_BYTES)
		store_relaxed(&watch->area->events[i], 0);
	watch->foreign = false;
	watch->reads++;
	got = read(watch->area->group, watch->area->events, sizeof(watch->area->events));
	if (got > 0)
		events_take(watch);
	return got;
}

static void asked_take(struct watch *watch)
{
	for (unsigned i = 0; i < WATCH_ASKED && watch->area->asked[i]; i++) {
		notify_inval_inode(watch->recover, watch->area->asked[i], -1, 0);
		store_release(&watch->area->asked[i], 0);
	}
	if (!load_acquire(&watch->area->ask_lost))
		return;
	store_release(&watch->area->ask_lost, 0);
	send_everything(watch);
}

static void watch_nap(const struct watch *watch, uint64_t worked_ns)
{
	uint64_t nap = worked_ns * NAP_TIMES;

	if (!watch->foreign)
		nanosleep(&(struct timespec){.tv_nsec = NAP_OWN_NS}, NULL);
	else if (nap > NAP_SHORTEST_NS)
		nanosleep(&(struct timespec){.tv_nsec = (long)(nap < NAP_LONGEST_NS ? nap : NAP_LONGEST_NS)}, NULL);
}

void watch_run(struct recover *recover)
{
	struct fs *fs = recover_private(recover);
	struct watch watch = {.fs = fs, .recover = recover, .header = recover_state(recover)->header};
	uint64_t next = 0, start;

	fs->recover = recover;
	fs->area = (void *)recover_state(recover)->area;
	watch.area = &fs->area->watch;
	asked_take(&watch);
	events_take(&watch);
	mounts_look(&watch);
	for (;;) {
		struct pollfd fds[] = {{.fd = watch.area->group, .events = POLLIN},
				       {.fd = watch.area->ask[0], .events = POLLIN},
				       {.fd = watch.area->mounts, .events = POLLPRI}};
		uint64_t now = clock_ns();
		int wait = next == 0 ? -1 : next <= now ? 0 : (int)((next - now) / 1000000 + 1);

		poll(fds, 3, wait);
		start = clock_ns();
		if (fds[1].revents && read(watch.area->ask[0], watch.area->asked, sizeof(watch.area->asked)) > 0)
			asked_take(&watch);
		if (fds[2].revents)
			mounts_look(&watch);
		if (fds[0].revents)
			events_read(&watch);
		next = again_look(&watch, clock_ns());
		if (fds[0].revents)
			watch_nap(&watch, clock_ns() - start);
	}
}
