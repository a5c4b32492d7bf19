/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libfuse's part: parsing requests and encoding replies. One session per worker, made and initialised in the
 * monitor and inherited by each server. And the one place where replies leave: session_reply().
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "recover/atomic.h"
#include "recover/crash.h"
#include "recover/internal.h"
#include "recover/log.h"

static size_t iov_bytes(const struct iovec *iov, int n)
{
	size_t bytes = 0;

	for (int i = 0; i < n; i++)
		bytes += iov[i].iov_len;
	return bytes;
}

static void iov_flatten(uint8_t *to, const struct iovec *iov, int n)
{
	for (int i = 0; i < n; i++) {
		memcpy(to, iov[i].iov_base, iov[i].iov_len);
		to += iov[i].iov_len;
	}
}

/* The reply is in the journal before it leaves: a death after this sends it again, it is not made again. */
static void reply_store(struct record *record, const struct iovec *iov, int n)
{
	size_t bytes = iov_bytes(iov, n);

	record->reply_bytes = 0;
	if (bytes <= sizeof(record->reply)) {
		iov_flatten(record->reply, iov, n);
		record->reply_bytes = (uint32_t)bytes;
	}
	store_release(&record->phase, RECORD_REPLY);
}

/* What the reply would have handed over comes back: it is an error, or does not arrive. */
static void session_take_back(struct worker *worker, struct record *record)
{
	if (record->ngrants || record->grant.state != GRANT_NONE)
		node_revoke(&worker->recover->nodes, worker->slot, record);
	if (record->handle)
		handle_revoke(&worker->recover->handles, record);
	journal_close_fds(record);
	crash_point(taken_back);
}

/* The kernel did not take it (the request was aborted). */
void session_undo(struct worker *worker, struct record *record)
{
	add_relaxed(&worker->recover->state.header->counters.reply_errors, 1);
	session_take_back(worker, record);
}

ssize_t session_reply(struct worker *worker, const struct iovec *iov, int n)
{
	struct record *record = worker->request.record;
	ssize_t sent;

	if (worker->swallow)
		return (ssize_t)iov_bytes(iov, n);
	if (record && ((const struct fuse_out_header *)iov[0].iov_base)->error)
		session_take_back(worker, record);
	if (record)
		reply_store(record, iov, n);
	crash_point(reply_stored);
	sent = writev(worker->device, iov, n);
	if (sent < 0 && record)
		session_undo(worker, record);
	return sent;
}

/* The kernel sends no more, and asks for no more, than the buffers hold: it reads by max_pages. */
static void init_bound(struct fuse_init_out *out, uint32_t max_write)
{
	if (out->max_write <= max_write)
		return;
	out->max_write = max_write;
	out->max_pages = (uint16_t)(max_write / (uint32_t)sysconf(_SC_PAGESIZE));
}

/* INIT: what libfuse answers, with the flags it has no name for. Kept, and sent once per mount. */
static ssize_t init_reply(struct worker *worker, const struct iovec *iov, int n)
{
	struct state_header *header = worker->recover->state.header;
	const struct fuse_init_in *in = (const void *)(header->init_in + sizeof(struct fuse_in_header));
	struct fuse_init_out *out = (void *)(header->init_out + sizeof(struct fuse_out_header));
	uint64_t offered = in->flags | (uint64_t)in->flags2 << 32;
	uint64_t wanted = (worker->recover->fs->init_flags | worker->recover->options->init_flags) & offered;

	if (iov_bytes(iov, n) > sizeof(header->init_out))
		return errno = EMSGSIZE, -1;
	iov_flatten(header->init_out, iov, n);
	header->init_out_bytes = (uint32_t)iov_bytes(iov, n);
	if (header->init_out_bytes >= sizeof(struct fuse_out_header) + sizeof(*out)) {
		out->flags |= (uint32_t)wanted;
		out->flags2 |= (uint32_t)(wanted >> 32);
		init_bound(out, header->max_write);
	}
	return write(worker->device, header->init_out, header->init_out_bytes);
}

static ssize_t custom_writev(int fd, struct iovec *iov, int n, void *userdata)
{
	struct worker *worker = userdata;

	(void)fd; /* always worker->device: process_buf replies on the session's own descriptor */
	if (!worker->swallow && !worker->recover->state.header->init_out_bytes)
		return init_reply(worker, iov, n);
	return session_reply(worker, iov, n);
}

/* libfuse demands it and never calls it: workers read for themselves. */
static ssize_t custom_read(int fd, void *buffer, size_t bytes, void *userdata)
{
	(void)fd, (void)buffer, (void)bytes, (void)userdata;
	return errno = ENOSYS, -1;
}

static int session_open(struct worker *worker)
{
	static const struct fuse_custom_io io = {.writev = custom_writev, .read = custom_read};
	char *arguments[] = {(char *)worker->recover->fs->name, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(1, arguments);
	const struct recover_fs *fs = worker->recover->fs;

	worker->session = fuse_session_new(&args, fs->ops, sizeof(*fs->ops), worker);
	fuse_opt_free_args(&args);
	if (!worker->session)
		return -ENOMEM;
	return fuse_session_custom_io(worker->session, &io, sizeof(io), worker->device);
}

/* Lets a session process the recorded INIT. */
static int session_play_init(struct worker *worker, bool swallow)
{
	struct state_header *header = worker->recover->state.header;
	uint8_t copy[STATE_INIT_BYTES] __attribute__((aligned(8)));
	struct fuse_buf buffer = {.mem = copy, .size = header->init_in_bytes};

	memcpy(copy, header->init_in, sizeof(copy)); /* libfuse may write into it */
	worker->swallow = swallow;
	fuse_session_process_buf(worker->session, &buffer);
	worker->swallow = false;
	return fuse_session_exited(worker->session) ? -EPROTO : 0;
}

static int session_read_init(struct worker *worker)
{
	struct state_header *header = worker->recover->state.header;
	ssize_t got;

	do
		got = read(worker->device, worker->in, worker->recover->state.header->max_write + REQUEST_HEADROOM);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	if ((size_t)got > sizeof(header->init_in) || (size_t)got < sizeof(struct fuse_in_header) ||
	    ((struct fuse_in_header *)worker->in)->opcode != FUSE_INIT)
		return -EPROTO;
	memcpy(header->init_in, worker->in, (size_t)got);
	header->init_in_bytes = (uint32_t)got;
	if (!(((const struct fuse_init_in *)(header->init_in + sizeof(struct fuse_in_header)))->flags2 &
	      FUSE_HAS_RESEND >> 32)) {
		log_error("this kernel cannot send the requests of a dead server again: Linux 6.9 or later is needed");
		return -EOPNOTSUPP;
	}
	return 0;
}

int session_clone(int device)
{
	uint32_t of = (uint32_t)device;
	int fd = mount_reopen(device);

	if (fd < 0)
		return fd;
	if (ioctl(fd, FUSE_DEV_IOC_CLONE, &of)) {
		int err = -errno;

		close(fd);
		return err;
	}
	return fd;
}

/* The device of a worker: the mount's own, or a clone of it. */
static int session_device(struct recover *recover, unsigned i)
{
	int device = i ? session_clone(recover->state.header->device[0]) : recover->state.header->device[0];

	if (device < 0) {
		if (i == 1)
			log_warning("cannot clone %s: %s: all workers share one", recover->state.header->device_path,
				    strerror(-device));
		device = dup(recover->state.header->device[0]);
	}
	return device < 0 ? -errno : device;
}

static int session_open_worker(struct recover *recover, unsigned i, int device)
{
	struct worker *worker = &recover->workers[i];

	worker->recover = recover;
	worker->slot = &recover->state.slots[i];
	worker->device = device;
	return device < 0 ? device : session_open(worker);
}

/*
 * Reads and answers INIT on worker 0's device, gives every other worker a clone of it and a session that believes
 * to have answered the same INIT. 0 or -errno.
 */
int session_open_all(struct recover *recover)
{
	struct state_header *header = recover->state.header;
	int err = 0;

	for (unsigned i = 0; i < recover->workers_n && !err; i++) {
		struct worker *worker = &recover->workers[i];

		header->device[i] = session_device(recover, i);
		err = session_open_worker(recover, i, header->device[i]);
		if (!err && i == 0)
			err = session_read_init(worker);
		if (!err)
			err = session_play_init(worker, i != 0);
	}
	return err;
}

/* The same sessions in another program: each believes to have answered the INIT in the state. */
int session_open_again(struct recover *recover)
{
	int err = 0;

	for (unsigned i = 0; i < recover->workers_n && !err; i++) {
		err = session_open_worker(recover, i, recover->state.header->device[i]);
		if (!err)
			err = session_play_init(&recover->workers[i], true);
	}
	return err;
}

void session_dispatch(struct worker *worker, size_t bytes)
{
	struct fuse_buf buffer = {.mem = worker->in, .size = bytes};

	fuse_session_process_buf(worker->session, &buffer);
}
