/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Makes of kept descriptors what a server can recover from. Whoever may store may store anything, so all of it is looked
 * at: what each descriptor is, whether the state is one, of this version and layout, and of this mount. After that it is
 * the state of a dead server like any other, but for one thing: no number of a descriptor in it means anything.
 *
 * The order, and what a death after each step leaves (the holder has all of it still, and the lock falls):
 *
 *	lock               nothing was changed
 *	numbers forgotten  the next start forgets them again
 *	opened again       the same: what was opened went with the process
 *	a server starts    recovery, as after each death
 */
#include "recover/adopt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "recover/atomic.h"
#include "recover/check.h"
#include "recover/internal.h"
#include "recover/log.h"
#include "recover/place.h"

#define LOCK_MS 10000 /* for processes that are dying */
#define LOCK_NAP_MS 5

#ifndef F_GET_SEALS
#define F_GET_SEALS 1034 /* linux/fcntl.h */
#endif

/* What the descriptors are, as far as each tells by itself. */
struct parts {
	int state, buffers; /* -1: there is none */
	int devices[STATE_WORKERS_MAX];
	unsigned devices_n;
	int others[HELD_FDS_OF_FS]; /* the file system's, or nobody's */
	unsigned others_n;
};

static bool is_state(int fd)
{
	uint64_t magic = 0;

	return pread(fd, &magic, sizeof(magic), 0) == sizeof(magic) && magic == STATE_MAGIC;
}

static int part_add(struct parts *parts, int fd)
{
	struct stat st;

	if (fstat(fd, &st) || fcntl(fd, F_SETFD, 0)) /* the next program under the mount has them too */
		return -errno;
	if (S_ISCHR(st.st_mode) && parts->devices_n < STATE_WORKERS_MAX)
		parts->devices[parts->devices_n++] = fd;
	else if (S_ISREG(st.st_mode) && parts->state < 0 && is_state(fd))
		parts->state = fd;
	else if (S_ISREG(st.st_mode) && parts->buffers < 0 && fcntl(fd, F_GET_SEALS) >= 0) /* only of a memfd */
		parts->buffers = fd;
	else if (!S_ISCHR(st.st_mode) && !S_ISREG(st.st_mode) && parts->others_n < HELD_FDS_OF_FS)
		parts->others[parts->others_n++] = fd;
	else
		return -EBADMSG;
	return 0;
}

static int parts_sort(struct parts *parts, const struct held *held)
{
	int err = 0;

	*parts = (struct parts){.state = -1, .buffers = -1};
	for (unsigned i = 0; i < held->n && !err; i++)
		err = part_add(parts, held->fds[i]);
	return err;
}

void adopt_forget(struct held *held)
{
	struct parts parts;
	struct state state;
	const char *why;
	int fd;

	parts_sort(&parts, held);
	fd = parts.state < 0 ? -1 : mount_reopen(parts.state);
	if (fd >= 0 && state_adopt(&state, fd, &why) == 0) {
		if (!state_held(&state))
			place_remove(&state);
		state_close(&state);
	} else if (fd >= 0) {
		close(fd);
	}
	while (held->n)
		close(held->fds[--held->n]);
}

/* An open file of our own: what the lock of the mount is on (state_held()). */
static int lock_wait(const struct recover *recover, int fd)
{
	int64_t until_ms = clock_ms() + LOCK_MS;

	while (flock(fd, LOCK_EX | LOCK_NB)) {
		if (errno != EWOULDBLOCK)
			return -errno;
		if (clock_ms() >= until_ms) {
			log_error("%s is served already: no other fxfs can take it over", recover->options->mountpoint);
			return -EBUSY;
		}
		nanosleep(&(struct timespec){.tv_nsec = LOCK_NAP_MS * 1000000}, NULL);
	}
	return 0;
}

/* Of this mount, and with numbers that the rest may go by. NULL: it is. */
static const char *state_differs(const struct recover *recover, const struct parts *parts)
{
	const struct state_header *header = recover->state.header;
	const struct recover_options *options = recover->options;

	if (header->area_bytes != recover->fs->area_bytes)
		return "one of another file system";
	if (header->source_device != options->source_device || header->source_number != options->source_number)
		return "one of another SOURCE";
	if (strcmp(header->mountpoint, options->mountpoint) != 0)
		return "one of another MOUNTPOINT";
	if (header->workers == 0 || header->workers > STATE_WORKERS_MAX || parts->devices_n > header->workers)
		return "torn: its number of workers cannot be";
	return NULL;
}

static int devices_take(struct recover *recover, const struct parts *parts)
{
	struct state_header *header = recover->state.header;

	for (unsigned i = 0; i < header->workers; i++) {
		unsigned connection = i < parts->devices_n ? place_connection(parts->devices[i]) : 0;

		if (connection && header->device_minor && connection != header->device_minor)
			return -EBADMSG;
		header->device[i] = i < parts->devices_n ? parts->devices[i] : session_clone(parts->devices[0]);
		if (header->device[i] < 0)
			return header->device[i];
	}
	return 0;
}

/* Only a device of a connection can be cloned. */
static int devices_check(const struct parts *parts)
{
	int fd = parts->devices_n ? session_clone(parts->devices[0]) : -EBADMSG;

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

/*
 * A step that returned a descriptor becomes one that was interrupted: evidence then says whether the file was made
 * (evidence.h), and it is opened again.
 */
static void forget_steps(struct record *record)
{
	for (uint32_t i = 0; i < record->nsteps && i < JOURNAL_STEPS; i++)
		if (journal_step_fd(record, i) >= 0)
			store_release(&record->steps[i].state, STEP_STARTED);
}

static void forget_numbers(struct recover *recover)
{
	struct state_header *header = recover->state.header;

	store_release(&header->phase, STATE_RECOVERING);
	header->server_pid = header->watcher_pid = header->checked = 0;
	for (int i = 0; i < KEEP_N; i++)
		header->keep[i] = -1;
	for (int i = 0; i < STATE_WORKERS_MAX; i++)
		header->device[i] = -1;
	for (uint32_t i = 0; i < header->records_high; i++)
		if (recover->state.records[i].phase != RECORD_FREE)
			forget_steps(&recover->state.records[i]);
	for (uint64_t i = 1; i <= header->handles_high; i++)
		store_release(&recover->state.handles[i].fd, -1);
}

static int state_take(struct recover *recover, const struct parts *parts)
{
	const char *why = "not among what was kept";
	int fd = parts->state < 0 ? -EBADMSG : mount_reopen(parts->state), err;

	err = fd < 0 ? fd : lock_wait(recover, fd);
	if (err == -EBUSY)
		return err;
	if (!err)
		err = state_adopt(&recover->state, fd, &why);
	if (!err) {
		why = state_differs(recover, parts);
		err = why ? -EPROTO : 0;
	}
	if (err)
		log_error("cannot take over %s: the state that was kept is %s (%s)", recover->options->mountpoint, why,
			  strerror(-err));
	return err;
}

int adopt_take(struct recover *recover, struct held *held)
{
	struct parts parts;
	int err = parts_sort(&parts, held);

	if (!err)
		err = parts.buffers < 0 ? -EBADMSG : devices_check(&parts);
	if (err) {
		log_error("cannot take over %s: what was kept of it is not a mount's (%s)",
			  recover->options->mountpoint, strerror(-err));
		return err;
	}
	err = state_take(recover, &parts);
	if (err)
		return err;
	forget_numbers(recover);
	err = devices_take(recover, &parts);
	if (err) {
		log_error("cannot take over %s: a device that was kept is another mount's (%s)",
			  recover->options->mountpoint, strerror(-err));
		return err;
	}
	recover->buffers_fd = parts.buffers;
	recover->state.header->keep[KEEP_BUFFERS] = parts.buffers;
	close(parts.state);
	memcpy(held->fds, parts.others, sizeof(parts.others));
	held->n = parts.others_n;
	return check_state(&recover->state);
}
