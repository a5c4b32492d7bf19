/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Kernel passthrough (protocol 7.40, Linux 6.9): reads, writes and mmaps of an open file go to the source's file
 * without us. The kernel wants one backing id per inode for as long as any of its open files uses one, so the id
 * belongs to the inode: taken with the first open, given back after the last close, kept through a death.
 *
 * All open files of an inode are of one kind, by backing id or through the server: the kernel takes no mixture, also
 * where a file of the second kind is mapped. The first one chooses: with O_APPEND or O_DIRECT it is the server, because
 * the kernel would go on using these when fcntl(2) has taken them back, and put data in the wrong place or refuse it.
 *
 * Counting bears a death because a new server counts anew, from the handles, what the dead one may have been counting
 * (passthrough_recount): a handle says that it is counted before it is (HANDLE_PASSTHROUGH, HANDLE_SERVED), and until it
 * is freed.
 *
 * A death right after BACKING_OPEN whose request never comes again leaves an id until the mount ends.
 *
 * Set-id bits: the kernel writes to the source's file with the credentials of BACKING_OPEN, which leave them alone. Before
 * a write that must clear them it asks us to, as for every write, with an empty SETATTR (attr.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fs/answer.h"
#include "fs/creds.h"
#include "fs/inode.h"
#include "fs/ops.h"
#include "recover/atomic.h"
#include "recover/crash.h"
#include "recover/log.h"

#define HANDLE_PASSTHROUGH 0x80000000u
#define HANDLE_SERVED 0x40000000u

static int device_of(struct fs *fs)
{
	return fs->nodes->state->header->device[0];
}

/*
 * The kernel keeps the open file that it is given, and would keep an flock(2) on it after a hand-over, when nobody could
 * give it back any more, or after the last close, where BPF goes on opening it: where that may come it is given one of its
 * own. -1: there is none. Death before it is closed: an orphan.
 */
static int backing_file(struct fs *fs, const struct handle *handle)
{
	char name[PROC_NAME_BYTES];

	return fs_is_kept(fs) || fs->area->answer.on ? openat(fs->proc_fd, proc_name(name, handle->fd),
							      (int)(handle->flags & O_ACCMODE) | O_NONBLOCK | O_NOCTTY)
						     : -1;
}

static int32_t backing_open(struct request *rq, const struct handle *handle)
{
	int own = backing_file(fs_of(rq), handle);
	struct fuse_backing_map map = {.fd = own < 0 ? handle->fd : own};
	long id;

	creds_write(rq, map.fd, false);
	id = request_call(rq, SYS_ioctl, device_of(fs_of(rq)), (long)FUSE_DEV_IOC_BACKING_OPEN, (long)&map, 0, 0, 0);
	if (own >= 0)
		close(own);
	return (int32_t)id;
}

/* Asked for a file that is none: who may not is told so first. */
bool passthrough_is_permitted(struct fs *fs)
{
	struct fuse_backing_map map = {.fd = -1};

	return ioctl(device_of(fs), FUSE_DEV_IOC_BACKING_OPEN, &map) >= 0 || errno != EPERM;
}

/* ENOENT: it was closed already, with a handle that recovery took back. Numbers are not used again soon. */
static void backing_close(struct fs *fs, int32_t id)
{
	uint32_t number = (uint32_t)id;

	if (ioctl(device_of(fs), FUSE_DEV_IOC_BACKING_CLOSE, &number) && errno != ENOENT)
		log_warning("cannot close backing id %d: %s", id, strerror(errno));
}

/*
 * The id that this request got in an earlier try is the inode's, or goes: it was closed with the handle that recovery
 * took back, or a death came before it was stored. Used again, open(2) would end with EIO or with another file.
 */
static void backing_forget_earlier(struct request *rq, const struct inode *inode)
{
	long earlier = request_take_result(rq, SYS_ioctl);

	if (earlier > 0 && earlier != inode->backing_id)
		backing_close(fs_of(rq), (int32_t)earlier);
}

/* Refused for good by this file system: stacked too deep, or not allowed to us. */
static bool mount_refuses(struct fs *fs, struct fs_mount *mount, int err)
{
	if (err != -EPERM && err != -ELOOP && err != -EOPNOTSUPP && err != -EINVAL)
		return false;
	if (!mount->passthrough) {
		snprintf(fs->nodes->state->header->passthrough, sizeof(fs->nodes->state->header->passthrough),
			 "off for st_dev %#llx: %s", (unsigned long long)mount->device, strerror(-err));
		log_warning("no kernel passthrough for files of st_dev %#llx: %s: data goes through the server",
			    (unsigned long long)mount->device, strerror(-err));
	}
	store_release(&mount->passthrough, mount->passthrough ? mount->passthrough : 2);
	return mount->passthrough == 2;
}

/* Under the stripe lock: a backing id, or why there is none. */
static int32_t backing_of(struct request *rq, struct inode *inode, const struct handle *handle)
{
	int32_t id;

	backing_forget_earlier(rq, inode);
	if (inode->served_opens || !fs_of(rq)->passthrough)
		return -EBUSY;
	if (inode->backing_id > 0)
		return inode->backing_id;
	if (handle->flags & (O_APPEND | O_DIRECT))
		return -EBUSY;
	id = backing_open(rq, handle);
	crash_point(backing_opened);
	if (id > 0)
		store_release(&inode->backing_id, id);
	crash_point(backing_stored);
	return id ? id : -EIO;
}

/* Under the stripe lock. */
static void count_open(struct inode *inode, struct handle *handle, bool backed)
{
	uint32_t *opens = backed ? &inode->backing_opens : &inode->served_opens;

	store_release(&handle->flags, handle->flags | (backed ? HANDLE_PASSTHROUGH : HANDLE_SERVED));
	crash_point(open_marked);
	store_release(opens, *opens + 1);
}

/*
 * A store through a mapping changes the source's times without an event, also after the file is closed: from now on its
 * attributes are kept for the time-out only. Again where a death may have come before the question.
 */
static void may_be_mapped(struct request *rq, uint32_t index, struct node *node)
{
	struct inode *inode = inode_of(node);

	if (load_relaxed(&inode->flags) & INODE_MAPPED && !(rq->in->unique & UNIQUE_RESEND))
		return;
	inode_flags_add(inode, INODE_MAPPED);
	watch_ask(fs_of(rq), node_id(index, node));
}

/*
 * The backing id for an open file, counted; 0: there are none, or none for this file system; -EBUSY: this file goes through
 * the server and must not be cached, because the next of its open files may have one.
 */
int32_t passthrough_attach(struct request *rq, uint32_t index, struct handle *handle)
{
	struct fs *fs = fs_of(rq);
	struct node *node = &fs->nodes->state->nodes[index];
	struct inode *inode = inode_of(node);
	struct fs_mount *mount = &fs->area->mounts[inode->mount];
	pthread_mutex_t *stripe;
	int32_t id;

	if (inode->type != S_IFREG || inode->mount >= fs->area->mounts_n || mount->passthrough == 2)
		return 0;
	stripe = node_lock(fs->nodes, node);
	id = backing_of(rq, inode, handle);
	if (id > 0 && (handle->flags & O_ACCMODE) == O_RDWR)
		may_be_mapped(rq, index, node);
	if (id > 0 || !mount_refuses(fs, mount, id))
		count_open(inode, handle, id > 0);
	pthread_mutex_unlock(stripe);
	if (id > 0)
		store_relaxed(&mount->passthrough, 1);
	return id > 0 ? id : mount->passthrough == 2 || !fs->passthrough ? 0 : -EBUSY;
}

/* By handles of the server. */
static bool backing_is_unused(const struct inode *inode)
{
	return !inode->backing_opens && !inode->served_opens && inode->backing_id > 0;
}

void passthrough_drop(struct fs *fs, struct handle *handle)
{
	struct node *node = &fs->nodes->state->nodes[handle->node];
	struct inode *inode = inode_of(node);
	pthread_mutex_t *stripe;
	uint32_t *opens;

	if (!(handle->flags & (HANDLE_PASSTHROUGH | HANDLE_SERVED)))
		return;
	stripe = node_lock(fs->nodes, node);
	opens = handle->flags & HANDLE_PASSTHROUGH ? &inode->backing_opens : &inode->served_opens;
	store_release(&handle->flags, handle->flags & ~(HANDLE_PASSTHROUGH | HANDLE_SERVED));
	if (*opens)
		store_release(opens, *opens - 1);
	if (backing_is_unused(inode) && !answer_has_open(fs, node_id(handle->node, node)))
		passthrough_close_unused(fs, inode);
	pthread_mutex_unlock(stripe);
}

void passthrough_close_unused(struct fs *fs, struct inode *inode)
{
	int32_t id = inode->backing_id;

	if (!backing_is_unused(inode))
		return;
	store_release(&inode->backing_id, 0);
	crash_point(backing_dropped);
	backing_close(fs, id);
}

/*
 * The last name of a file goes that is open through the server. A start after a hand-over could not open it again, unless
 * the kernel has it open too. Under the stripe lock. A death before the id is stored leaves it until the mount ends.
 */
void passthrough_hold(struct fs *fs, struct inode *inode)
{
	struct fuse_backing_map map = {.fd = -1};
	char name[PROC_NAME_BYTES];
	int id;

	if (!fs_is_kept(fs) || !fs->backing || !inode->served_opens || inode->backing_id > 0 || inode->fd < 0)
		return;
	map.fd = openat(fs->proc_fd, proc_name(name, inode->fd), O_RDONLY | O_NONBLOCK | O_NOCTTY);
	if (map.fd < 0)
		return;
	id = ioctl(device_of(fs), FUSE_DEV_IOC_BACKING_OPEN, &map);
	close(map.fd);
	if (id > 0)
		store_release(&inode->backing_id, id);
}

void passthrough_hold_unnamed(struct fs *fs, uint32_t index)
{
	struct node *node = &fs->nodes->state->nodes[index];
	pthread_mutex_t *stripe;

	if (!fs_is_kept(fs))
		return;
	stripe = node_lock(fs->nodes, node);
	passthrough_hold(fs, inode_of(node));
	pthread_mutex_unlock(stripe);
}

/* The last reference to the inode goes: no file of it is open any more, whatever the count says. */
void passthrough_drop_node(struct fs *fs, uint64_t nodeid, struct inode *inode)
{
	int32_t id = inode->backing_id;

	answer_drop_open(fs, nodeid);
	if (id > 0) {
		store_release(&inode->backing_id, 0);
		backing_close(fs, id);
	}
}

static bool is_counted(const struct state *state, const struct handle *handle)
{
	return (handle->state == HANDLE_OPEN || handle->state == HANDLE_CLOSING) && handle->node != 0 &&
	       handle->node <= state->header->nodes_high;
}

/* The counts of one inode, from the handles. */
static void recount(struct state *state, uint32_t node)
{
	struct inode *inode = inode_of(&state->nodes[node]);

	inode->backing_opens = inode->served_opens = 0;
	for (uint64_t i = 1; i <= state->header->handles_high; i++) {
		const struct handle *handle = &state->handles[i];

		if (handle->node != node || !is_counted(state, handle))
			continue;
		inode->backing_opens += !!(handle->flags & HANDLE_PASSTHROUGH);
		inode->served_opens += !!(handle->flags & HANDLE_SERVED);
	}
}

/* Where a death may have come between a handle's mark and its count: open for a request in flight, or half closed. */
void passthrough_recount(struct fs *fs)
{
	struct state *state = fs->nodes->state;

	for (uint32_t i = 0; i < state->header->records_high; i++) {
		const struct record *record = &state->records[i];
		uint32_t index = (uint32_t)record->handle;

		if (record->phase != RECORD_FREE && index <= state->header->handles_high &&
		    is_counted(state, &state->handles[index]))
			recount(state, state->handles[index].node);
	}
	for (uint64_t i = 1; i <= state->header->handles_high; i++)
		if (state->handles[i].state == HANDLE_CLOSING && is_counted(state, &state->handles[i]))
			recount(state, state->handles[i].node);
}
