/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * File locks, shared with those who lock in the source.
 *
 * flock: on the handle's own descriptor, which is one open file on both sides.
 * POSIX and OFD locks: each owner that the kernel names (a process, or an open file) has an open file of its own on
 * the inode and takes OFD locks on it. Locks of one owner then merge, split and go as its own, those of different
 * owners conflict, and they survive the server with the descriptor.
 *
 * A lock that must wait is set aside and tried again whenever one is given back through the mount, and
 * every few milliseconds for those given back in the source. A death forgets it: the kernel sends it again.
 *
 * lock_owners[]: the descriptor is open before state is stored; it is closed after state is cleared.
 *
 * Where somebody keeps the mount, the locks that are held are noted too: with the last process their open files go. A lock
 * is noted after it was taken, given back, or changed; a death of all between the two has the request sent again, which
 * then finds it as it was, or as it will be.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "fs/caller.h"
#include "fs/inode.h"
#include "fs/ops.h"
#include "recover/atomic.h"
#include "recover/crash.h"
#include "recover/log.h"

#define RETRY_NS 5000000
#define RELEASE_NAP_NS 20000
#define RELEASE_NAPS 2
#define RELEASE_NAPS_MAX 100
#define INTERRUPTED_MAX 64
#define DEADLOCK_DEPTH 10

/* A request that waits. */
struct parked_lock {
	struct parked_lock *next;
	struct parked parked;
	int fd;
	uint32_t node;
	bool flock;
	int operation; /* of flock */
	struct flock lock;
	struct handle *handle;	  /* of a flock */
	struct lock_owner *owner; /* of a lock that is no flock */
	bool process;		  /* whose owner is a process: F_SETLKW */
};

/* Requests whose interrupt came before they were set aside; lock_lock. */
static uint64_t interrupted[INTERRUPTED_MAX];
static unsigned interrupted_next;

void lock_start(struct fs *fs)
{
	pthread_mutex_init(&fs->lock_lock, NULL);
	pthread_cond_init(&fs->lock_retry, NULL);
	fs->parked_locks = NULL;
	fs->lock_thread = false;
}

void lock_mark(struct fs *fs, void (*mark)(void *context, int fd), void *context)
{
	for (unsigned i = 0; i < fs->area->lock_owners_high && i < LOCK_OWNERS_MAX; i++)
		if (fs->area->lock_owners[i].state)
			mark(context, fs->area->lock_owners[i].fd);
}

/* The functions below that end in _locked hold lock_lock. */

static struct lock_owner *owner_find_locked(struct fs *fs, uint32_t node, uint64_t owner)
{
	for (unsigned i = 0; i < fs->area->lock_owners_high; i++) {
		struct lock_owner *found = &fs->area->lock_owners[i];

		if (found->state && found->node == node && found->owner == owner)
			return found;
	}
	return NULL;
}

static struct lock_owner *owner_free_locked(struct fs *fs)
{
	unsigned i = 0;

	while (i < fs->area->lock_owners_high && fs->area->lock_owners[i].state)
		i++;
	if (i == LOCK_OWNERS_MAX)
		return NULL;
	if (i == fs->area->lock_owners_high)
		store_release(&fs->area->lock_owners_high, i + 1);
	return &fs->area->lock_owners[i];
}

static void owner_drop_locked(struct fs *fs, struct lock_owner *owner)
{
	store_release(&owner->state, 0);
	crash_point(lock_owner_dropped);
	close(owner->fd);
	while (fs->area->lock_owners_high && !fs->area->lock_owners[fs->area->lock_owners_high - 1].state)
		store_relaxed(&fs->area->lock_owners_high, fs->area->lock_owners_high - 1);
	pthread_cond_signal(&fs->lock_retry);
}

const int lock_modes[LOCK_MODES] = {O_RDWR, O_RDWR | O_APPEND, O_RDONLY, O_WRONLY, O_WRONLY | O_APPEND};

static int owner_open(struct request *rq, uint64_t node)
{
	int fd = -EACCES;

	for (unsigned i = 0; fd < 0 && i < LOCK_MODES; i++)
		fd = inode_reopen(rq, node, lock_modes[i] | O_NONBLOCK);
	return fd;
}

static struct lock_owner *owner_make_locked(struct request *rq, uint64_t node, uint64_t owner, uint64_t fh, int *err)
{
	struct lock_owner *made = owner_free_locked(fs_of(rq));

	*err = -ENOLCK;
	if (!made)
		return NULL;
	*err = owner_open(rq, node);
	if (*err < 0)
		return NULL;
	made->fd = *err;
	made->node = (uint32_t)node;
	made->owner = owner;
	made->handle = fh;
	made->ranges_n[0] = 0;
	made->copy = 0;
	crash_point(lock_owner_opened);
	store_release(&made->state, 1);
	crash_point(lock_owner_made);
	return made;
}

void lock_drop_owner(struct request *rq, uint64_t node, uint64_t owner)
{
	struct fs *fs = fs_of(rq);
	struct lock_owner *found;

	if (!load_relaxed(&fs->area->lock_owners_high))
		return;
	pthread_mutex_lock(&fs->lock_lock);
	found = owner_find_locked(fs, (uint32_t)node, owner);
	if (found)
		owner_drop_locked(fs, found);
	pthread_mutex_unlock(&fs->lock_lock);
}

/* The open file goes: with it the locks of which it is the owner (OFD). A process gave back its own when it closed. */
void lock_drop_handle(struct request *rq, uint64_t node, uint64_t fh)
{
	struct fs *fs = fs_of(rq);

	if (load_relaxed(&fs->area->lock_owners_high)) {
		pthread_mutex_lock(&fs->lock_lock);
		for (unsigned i = 0; i < fs->area->lock_owners_high; i++) {
			struct lock_owner *owner = &fs->area->lock_owners[i];

			if (owner->state && owner->node == (uint32_t)node && owner->handle == fh)
				owner_drop_locked(fs, owner);
		}
		pthread_mutex_unlock(&fs->lock_lock);
	}
	if (load_acquire(&fs->parked_locks)) /* an flock may have gone with it */
		pthread_cond_signal(&fs->lock_retry);
}

void lock_drop_node(struct fs *fs, uint32_t index)
{
	if (!load_relaxed(&fs->area->lock_owners_high))
		return;
	pthread_mutex_lock(&fs->lock_lock);
	for (unsigned i = 0; i < fs->area->lock_owners_high; i++)
		if (fs->area->lock_owners[i].state && fs->area->lock_owners[i].node == index)
			owner_drop_locked(fs, &fs->area->lock_owners[i]);
	pthread_mutex_unlock(&fs->lock_lock);
}

static int lock_try(const struct parked_lock *wanted)
{
	struct flock lock = wanted->lock;

	if (wanted->flock)
		return flock(wanted->fd, wanted->operation | LOCK_NB) ? -errno : 0;
	lock.l_pid = 0;
	return fcntl(wanted->fd, F_OFD_SETLK, &lock) ? -errno : 0;
}

/* What open file `fd` holds, as /proc/self/fdinfo says: `lock: 1: OFDLCK ADVISORY WRITE -1 08:01:99 0 EOF`. */
static uint16_t ranges_read(int fd, struct lock_range ranges[LOCK_RANGES])
{
	char path[48], line[256], type[8], end[24];
	long long start;
	uint16_t n = 0;
	FILE *info;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = fopen(path, "r");
	if (!info)
		return LOCK_RANGES_UNKNOWN;
	while (fgets(line, sizeof(line), info)) {
		if (sscanf(line, "lock: %*s %*s %*s %7s %*s %*s %lld %23s", type, &start, end) != 3)
			continue;
		if (n == LOCK_RANGES) {
			n = LOCK_RANGES_UNKNOWN;
			break;
		}
		ranges[n++] = (struct lock_range){
			.start = (uint64_t)start | (strcmp(type, "WRITE") == 0 ? LOCK_RANGE_WRITE : 0),
			.length = strcmp(end, "EOF") == 0 ? 0 : atoll(end) - start + 1,
		};
	}
	fclose(info);
	return n;
}

/* What was just taken, changed or given back. */
static void lock_note(struct fs *fs, const struct parked_lock *done)
{
	struct lock_owner *owner = done->owner;
	uint32_t other;

	if (!fs_is_kept(fs))
		return;
	if (done->flock) {
		store_release(&done->handle->lock, done->operation & LOCK_EX   ? HANDLE_LOCK_EXCLUSIVE
						   : done->operation & LOCK_SH ? HANDLE_LOCK_SHARED
									       : HANDLE_LOCK_NONE);
		return;
	}
	other = !owner->copy;
	owner->ranges_n[other] = ranges_read(owner->fd, owner->ranges[other]);
	store_release(&owner->copy, other);
}

static bool would_wait(int err)
{
	return err == -EAGAIN || err == -EACCES;
}

/* Tries all that wait, oldest first; answers those that are decided. */
static void retry_locked(struct fs *fs)
{
	struct worker_slot *slot = &fs->nodes->state->slots[STATE_WORKERS_MAX];
	struct parked_lock **link = &fs->parked_locks;

	while (*link) {
		struct parked_lock *waiting = *link;
		int err = lock_try(waiting);

		if (would_wait(err)) {
			link = &waiting->next;
			continue;
		}
		if (!err)
			lock_note(fs, waiting);
		store_release(link, waiting->next);
		parked_reply(&waiting->parked, slot, err);
		free(waiting);
	}
}

static void *retry_main(void *argument)
{
	struct fs *fs = argument;

	pthread_mutex_lock(&fs->lock_lock);
	for (;;) {
		struct timespec until;

		if (!fs->parked_locks) {
			pthread_cond_wait(&fs->lock_retry, &fs->lock_lock);
			continue;
		}
		retry_locked(fs);
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += RETRY_NS;
		if (until.tv_nsec >= 1000000000) {
			until.tv_nsec -= 1000000000;
			until.tv_sec++;
		}
		pthread_cond_timedwait(&fs->lock_retry, &fs->lock_lock, &until);
	}
	return NULL;
}

static bool was_interrupted_locked(uint64_t unique)
{
	for (unsigned i = 0; i < INTERRUPTED_MAX; i++)
		if (interrupted[i] == unique) {
			interrupted[i] = 0;
			return true;
		}
	return false;
}

/* Does open file `fd` hold a lock that begins at `start`? /proc/self/fdinfo lists them: `lock: 1: OFDLCK ...`. */
static bool fd_holds(int fd, off_t start)
{
	char path[48], line[256];
	bool holds = false;
	FILE *info;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = fopen(path, "r");
	while (info && !holds && fgets(line, sizeof(line), info)) {
		long long begins;

		holds = strncmp(line, "lock:", 5) == 0 &&
			sscanf(line, "lock: %*s %*s %*s %*s %*s %*s %lld", &begins) == 1 && begins == start;
	}
	if (info)
		fclose(info);
	return holds;
}

/* Locks of the mount's own users are OFD locks underneath, which have no process: the table knows whose they are. */
static const struct lock_owner *holder_of_locked(struct fs *fs, uint32_t node, const struct flock *lock)
{
	for (unsigned i = 0; i < fs->area->lock_owners_high; i++) {
		const struct lock_owner *owner = &fs->area->lock_owners[i];

		if (owner->state && owner->node == node && fd_holds(owner->fd, lock->l_start))
			return owner;
	}
	return NULL;
}

/* Who holds what `waiting` waits for, NULL: nobody of this mount. */
static const struct lock_owner *holds_up_locked(struct fs *fs, const struct parked_lock *waiting)
{
	struct flock lock = waiting->lock;

	lock.l_pid = 0;
	if (fcntl(waiting->fd, F_OFD_GETLK, &lock) || lock.l_type == F_UNLCK)
		return NULL;
	return holder_of_locked(fs, waiting->node, &lock);
}

/* What a process waits for; it is one that the kernel calls the same on each inode. */
static const struct parked_lock *waits_locked(const struct fs *fs, const struct lock_owner *process)
{
	const struct parked_lock *waiting = fs->parked_locks;

	while (waiting && !(waiting->process && waiting->owner->owner == process->owner))
		waiting = waiting->next;
	return waiting;
}

/* fcntl(2), EDEADLK: would processes wait for each other in a circle? The kernel looks so far too (fs/locks.c). */
static bool deadlock_locked(struct fs *fs, const struct parked_lock *wanted)
{
	const struct parked_lock *waiting = wanted;

	for (unsigned i = 0; waiting && i < DEADLOCK_DEPTH; i++) {
		const struct lock_owner *holder = holds_up_locked(fs, waiting);

		if (!holder)
			return false;
		if (holder->owner == wanted->owner->owner)
			return true;
		waiting = waits_locked(fs, holder);
	}
	return false;
}

/* Of the two calls that wait, only the process's own looks for circles. The kernel does not say which one it is. */
static bool waits_as_process(const struct request *rq)
{
	struct caller_call call;

	return caller_call(rq, &call) && call.number == SYS_fcntl && call.arguments[1] == F_SETLKW;
}

static int lock_park_locked(struct request *rq, struct parked_lock *wanted)
{
	struct fs *fs = fs_of(rq);
	struct parked_lock *waiting, **last;
	pthread_t thread;
	int err;

	if (was_interrupted_locked(rq->in->unique & ~UNIQUE_RESEND))
		return -EINTR;
	wanted->process = !wanted->flock && waits_as_process(rq);
	if (wanted->process && deadlock_locked(fs, wanted))
		return -EDEADLK;
	if (!fs->lock_thread) {
		err = recover_start_thread(&thread, retry_main, fs);
		if (err)
			return -ENOLCK;
		fs->lock_thread = true;
	}
	waiting = malloc(sizeof(*waiting));
	if (!waiting)
		return -ENOLCK;
	*waiting = *wanted;
	waiting->next = NULL;
	err = request_park(rq, &waiting->parked);
	if (err) {
		free(waiting);
		return err;
	}
	for (last = &fs->parked_locks; *last; last = &(*last)->next)
		;
	store_release(last, waiting);
	pthread_cond_signal(&fs->lock_retry);
	return -EINPROGRESS;
}

static int lock_or_park_locked(struct request *rq, struct parked_lock *wanted, bool wait)
{
	int err = lock_try(wanted);

	if (!err)
		lock_note(fs_of(rq), wanted);
	if (!err && fs_of(rq)->parked_locks) /* it may have been given back, or made smaller */
		pthread_cond_signal(&fs_of(rq)->lock_retry);
	return would_wait(err) && wait ? lock_park_locked(rq, wanted) : err;
}

static int setlk_locked(struct request *rq, uint64_t node, uint64_t fh, uint64_t owner, const struct flock *lock,
			bool wait)
{
	struct parked_lock wanted = {.node = (uint32_t)node, .lock = *lock};
	struct lock_owner *found = owner_find_locked(fs_of(rq), (uint32_t)node, owner);
	const struct handle *handle = handle_find(fs_of(rq)->handles, fh);
	int err = 0;

	if (handle && handle->lock == HANDLE_LOCK_LOST)
		return -EIO;
	wanted.lock.l_whence = SEEK_SET;
	if (!found && lock->l_type != F_UNLCK)
		found = owner_make_locked(rq, node, owner, fh, &err);
	if (!found)
		return err;
	found->pid = (uint32_t)lock->l_pid;
	wanted.fd = found->fd;
	wanted.owner = found;
	return lock_or_park_locked(rq, &wanted, wait);
}

/*
 * close(2) of an open file gives its locks back at once, but the kernel does not wait for RELEASE: one that was sent
 * before this request may be carried out after it. So a lock that is refused is tried again when those are done.
 */
static bool lock_try_again(struct request *rq, int err, bool wait, unsigned tries)
{
	if (wait || !would_wait(err) || tries == RELEASE_NAPS_MAX)
		return false;
	if (tries >= RELEASE_NAPS && !request_in_flight(rq->recover, FUSE_RELEASE))
		return false;
	nanosleep(&(struct timespec){.tv_nsec = RELEASE_NAP_NS}, NULL);
	return true;
}

int fs_setlk(struct request *rq, uint64_t node, uint64_t fh, uint64_t owner, const struct flock *lock, bool wait)
{
	struct fs *fs = fs_of(rq);
	unsigned tries = 0;
	int err;

	do {
		pthread_mutex_lock(&fs->lock_lock);
		err = setlk_locked(rq, node, fh, owner, lock, wait);
		pthread_mutex_unlock(&fs->lock_lock);
	} while (lock_try_again(rq, err, wait, tries++));
	return err;
}

int fs_flock(struct request *rq, uint64_t fh, int operation)
{
	struct fs *fs = fs_of(rq);
	struct handle *handle = handle_find(fs->handles, fh);
	struct parked_lock wanted = {.flock = true, .operation = operation & ~LOCK_NB};
	bool wait = !(operation & LOCK_NB);
	unsigned tries = 0;
	int err;

	if (!handle)
		return -EBADF;
	if (handle->lock == HANDLE_LOCK_LOST)
		return -EIO;
	wanted.handle = handle;
	wanted.fd = handle->fd;
	wanted.node = handle->node;
	do {
		pthread_mutex_lock(&fs->lock_lock);
		err = lock_or_park_locked(rq, &wanted, wait);
		pthread_mutex_unlock(&fs->lock_lock);
	} while (lock_try_again(rq, err, wait, tries++));
	return err;
}

int fs_getlk(struct request *rq, uint64_t node, uint64_t fh, uint64_t owner, struct flock *lock)
{
	struct fs *fs = fs_of(rq);
	struct handle *handle = handle_find(fs->handles, fh);
	const struct lock_owner *found, *holder = NULL;
	int fd, err;

	if (!handle)
		return -EBADF;
	lock->l_pid = 0;
	lock->l_whence = SEEK_SET;
	pthread_mutex_lock(&fs->lock_lock);
	found = owner_find_locked(fs, (uint32_t)node, owner);
	fd = found ? found->fd : handle->fd;
	err = fcntl(fd, F_OFD_GETLK, lock) ? -errno : 0;
	if (!err && lock->l_type != F_UNLCK && lock->l_pid < 0)
		holder = holder_of_locked(fs, (uint32_t)node, lock);
	if (holder)
		lock->l_pid = (pid_t)holder->pid;
	pthread_mutex_unlock(&fs->lock_lock);
	return err;
}

/* The application had a signal: its request ends with EINTR, or is told so if it is about to be set aside. */
void lock_interrupt(struct recover *recover, struct worker_slot *slot, uint64_t unique)
{
	struct fs *fs = recover_private(recover);
	struct parked_lock **link = &fs->parked_locks;

	unique &= ~UNIQUE_RESEND;
	pthread_mutex_lock(&fs->lock_lock);
	while (*link && ((*link)->parked.unique & ~UNIQUE_RESEND) != unique)
		link = &(*link)->next;
	if (*link) {
		struct parked_lock *waiting = *link;

		store_release(link, waiting->next);
		parked_reply(&waiting->parked, slot, -EINTR);
		free(waiting);
	} else {
		interrupted[interrupted_next++ % INTERRUPTED_MAX] = unique;
	}
	pthread_mutex_unlock(&fs->lock_lock);
}
