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
 * Counting bears a death because it is done anew from the handles when a server starts (passthrough_recount): a
 * handle says that it is counted before it is (HANDLE_PASSTHROUGH, HANDLE_SERVED), and until it is freed.
 *
 * A death right after BACKING_OPEN whose request never comes again leaves an id until the mount ends.
 *
 * Set-id bits: the kernel writes to the source's file with the credentials of BACKING_OPEN, which leave them alone. Before
 * a write that must clear them it asks us to, as for every write, with an empty SETATTR (attr.c).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

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

static int32_t backing_open(struct request *rq, int fd)
{
	struct fuse_backing_map map = {.fd = fd};

	creds_write(rq, fd, false);
	return (int32_t)request_call(rq, SYS_ioctl, device_of(fs_of(rq)), (long)FUSE_DEV_IOC_BACKING_OPEN, (long)&map,
				     0, 0, 0);
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
	if (inode->served_opens)
		return -EBUSY;
	if (inode->backing_id > 0)
		return inode->backing_id;
	if (handle->flags & (O_APPEND | O_DIRECT))
		return -EBUSY;
	id = backing_open(rq, handle->fd);
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
 * The backing id for an open file, counted; 0: this file system has none; -EBUSY: this file goes through the server
 * and must not be cached, because the next of its open files may have one.
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
	return id > 0 ? id : mount->passthrough == 2 ? 0 : -EBUSY;
}

void passthrough_drop(struct fs *fs, struct handle *handle)
{
	struct node *node = &fs->nodes->state->nodes[handle->node];
	struct inode *inode = inode_of(node);
	pthread_mutex_t *stripe;
	uint32_t *opens;
	int32_t id;

	if (!(handle->flags & (HANDLE_PASSTHROUGH | HANDLE_SERVED)))
		return;
	stripe = node_lock(fs->nodes, node);
	opens = handle->flags & HANDLE_PASSTHROUGH ? &inode->backing_opens : &inode->served_opens;
	store_release(&handle->flags, handle->flags & ~(HANDLE_PASSTHROUGH | HANDLE_SERVED));
	if (*opens)
		store_release(opens, *opens - 1);
	id = inode->backing_id;
	if (!inode->backing_opens && id > 0) {
		store_release(&inode->backing_id, 0);
		crash_point(backing_dropped);
		backing_close(fs, id);
	}
	pthread_mutex_unlock(stripe);
}

/* The last reference to the inode goes: no file of it is open any more, whatever the count says. */
void passthrough_drop_node(struct fs *fs, struct inode *inode)
{
	int32_t id = inode->backing_id;

	if (id > 0) {
		store_release(&inode->backing_id, 0);
		backing_close(fs, id);
	}
}

/* In a new server: the counts are those of the handles that the dead one left open or half closed. */
void passthrough_recount(struct fs *fs)
{
	struct state *state = fs->nodes->state;

	for (int pass = 0; pass < 2; pass++)
		for (uint64_t i = 1; i <= state->header->handles_high; i++) {
			struct handle *handle = &state->handles[i];
			struct inode *inode;

			if (handle->state != HANDLE_OPEN && handle->state != HANDLE_CLOSING)
				continue;
			if (handle->node == 0 || handle->node > state->header->nodes_high)
				continue;
			inode = inode_of(&state->nodes[handle->node]);
			if (pass == 0)
				inode->backing_opens = inode->served_opens = 0;
			else if (handle->flags & HANDLE_PASSTHROUGH)
				inode->backing_opens++;
			else if (handle->flags & HANDLE_SERVED)
				inode->served_opens++;
		}
}
