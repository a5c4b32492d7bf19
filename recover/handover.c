/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The monitor's side of a hand-over, and the question at a start whether something was kept. What was kept is looked at
 * in adopt.c.
 */
#include "recover/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "recover/adopt.h"
#include "recover/atomic.h"
#include "recover/fnv.h"
#include "recover/internal.h"
#include "recover/log.h"
#include "recover/passing.h"

#define ANSWER_MS 2000 /* for the holder, where somebody waits for it anyway */
#define RETRY_MS 1000
#define MESSAGE_BYTES 256

/* What a mount is called there: who starts fxfs with the same SOURCE and MOUNTPOINT finds it. */
static void held_name(char name[HELD_NAME_BYTES], uint64_t device, uint64_t number, const char *mountpoint)
{
	const uint64_t words[] = {device, number};
	uint64_t digest = fnv(fnv(FNV_BEGIN, words, sizeof(words)), mountpoint, strlen(mountpoint));

	snprintf(name, HELD_NAME_BYTES, "fxfs-%016llx", (unsigned long long)digest);
}

static void name_of(const struct recover *recover, char name[HELD_NAME_BYTES])
{
	const struct state_header *header = recover->state.header;

	held_name(name, header->source_device, header->source_number, header->mountpoint);
}

/* --- systemd ---------------------------------------------------------------------------------------------- */

static int manager_send(const char *text, const int *fds, unsigned n)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address;
	socklen_t size = path ? passing_address(&address, path) : 0;
	int fd, err;

	if (!size)
		return -EOPNOTSUPP;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	err = passing_send(fd, &address, size, text, fds, n);
	close(fd);
	return err;
}

void handover_tell(const char *what)
{
	int err = manager_send(what, NULL, 0);

	if (err && err != -EOPNOTSUPP)
		log_warning("cannot tell the service manager: %s", strerror(-err));
}

/* Of LISTEN_FDNAMES the i-th; false: there is none. */
static bool listen_name(const char *names, unsigned i, char name[HELD_NAME_BYTES])
{
	size_t length;

	for (; names && i; i--) {
		names = strchr(names, ':');
		names = names ? names + 1 : NULL;
	}
	length = names ? strcspn(names, ":") : 0;
	if (!length || length >= HELD_NAME_BYTES)
		return false;
	memcpy(name, names, length);
	name[length] = 0;
	return true;
}

/* sd_listen_fds(3): what the service manager kept for us. What is of another mount is closed. */
static void held_of_manager(struct held *held)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS"), *names = getenv("LISTEN_FDNAMES");
	unsigned n = pid && fds && atoi(pid) == getpid() ? (unsigned)atoi(fds) : 0;
	char name[HELD_NAME_BYTES];

	for (unsigned i = 0; i < n && n < INT16_MAX; i++) {
		int fd = 3 + (int)i;

		if (fcntl(fd, F_GETFD) < 0)
			break;
		if (held->n < HELD_FDS && listen_name(names, i, name) && strcmp(name, held->name) == 0)
			held->fds[held->n++] = fd;
		else if (!names || strstr(names, "fxfs-"))
			close(fd);
	}
	held->by_manager = held->n > 0;
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
}

/* --- the holder ------------------------------------------------------------------------------------------- */

static int holder_connect(const char *path)
{
	struct sockaddr_un address;
	socklen_t size = passing_address(&address, path);
	int fd, err;

	if (!size)
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0); /* the next program closes it by its number */
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&address, size) == 0)
		return fd;
	err = -errno;
	close(fd);
	return err;
}

static bool holder_answers(int fd, int wait_ms)
{
	struct pollfd at = {.fd = fd, .events = POLLIN};

	return poll(&at, 1, wait_ms) == 1;
}

static void held_of_holder(struct held *held, const char *path)
{
	char text[MESSAGE_BYTES];
	int fd = holder_connect(path), err = fd < 0 ? fd : 0;

	snprintf(text, sizeof(text), "FDSTOREGET=1\nFDNAME=%s", held->name);
	if (!err)
		err = passing_send(fd, NULL, 0, text, NULL, 0);
	if (!err && !holder_answers(fd, ANSWER_MS))
		err = -ETIMEDOUT;
	if (!err)
		err = passing_receive(fd, text, sizeof(text), held->fds, HELD_FDS, &held->n);
	if (err == 0)
		err = -ECONNRESET;
	if (err < 0)
		log_warning("cannot ask the holder at %s: %s", path, strerror(-err));
	if (fd >= 0)
		close(fd);
}

static void forget_there(const char *name, const char *holder, bool manager)
{
	char text[MESSAGE_BYTES];
	int fd;

	snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%s", name);
	if (manager)
		manager_send(text, NULL, 0);
	fd = holder ? holder_connect(holder) : -1;
	if (fd < 0)
		return;
	if (passing_send(fd, NULL, 0, text, NULL, 0) == 0)
		holder_answers(fd, ANSWER_MS);
	close(fd);
}

void recover_find_held(struct held *held, const char *holder, const struct stat *source, const char *mountpoint)
{
	held->n = 0;
	held_name(held->name, source->st_dev, source->st_ino, mountpoint);
	held_of_manager(held);
	if (!held->n && holder)
		held_of_holder(held, holder);
	if (!held->n || !passing_ended(held->fds, held->n))
		return;
	log_warning("what was kept of the mount on %s has ended: it is mounted anew", mountpoint);
	forget_there(held->name, holder, held->by_manager);
	adopt_forget(held);
}

/* --- the monitor ------------------------------------------------------------------------------------------ */

static void text_set(struct recover *recover, const char *text)
{
	snprintf(recover->state.header->hold_text, sizeof(recover->state.header->hold_text), "%.127s", text);
}

/* All that is kept; `state` is opened for it. How many, or -errno. */
static int kept(struct recover *recover, int fds[HELD_FDS])
{
	const struct state_header *header = recover->state.header;
	unsigned n = 0;

	fds[n] = mount_reopen(recover->state.fd);
	if (fds[n++] < 0)
		return fds[0];
	fds[n++] = recover->buffers_fd;
	for (unsigned i = 0; i < recover->workers_n; i++)
		fds[n++] = header->device[i];
	if (recover->fs->keep)
		n += recover->fs->keep(recover, fds + n);
	return (int)n;
}

static int store(struct recover *recover, bool manager)
{
	char name[HELD_NAME_BYTES], text[MESSAGE_BYTES];
	int fds[HELD_FDS], n = kept(recover, fds), err;

	if (n < 0)
		return n;
	name_of(recover, name);
	/* FDPOLL=0: else the manager is woken at each request of the mount */
	snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s%s", name, manager ? "\nFDPOLL=0" : "");
	err = manager ? manager_send(text, fds, (unsigned)n)
		      : passing_send(recover->state.header->keep[KEEP_HOLD], NULL, 0, text, fds, (unsigned)n);
	close(fds[0]);
	return err;
}

static void holder_close(struct recover *recover)
{
	int fd = recover->state.header->keep[KEEP_HOLD];

	store_release(&recover->state.header->keep[KEEP_HOLD], -1);
	if (fd >= 0)
		close(fd);
}

/* Once per loss: what is said of it stays in --status. */
static void holder_lost(struct recover *recover, int err)
{
	const char *path = recover->options->hold;
	char text[128];

	holder_close(recover);
	recover->hold_next_ms = clock_ms() + RETRY_MS;
	if (recover->hold_lost)
		return;
	recover->hold_lost = true;
	snprintf(text, sizeof(text), "no: the holder is not there: %.60s", strerror(-err));
	text_set(recover, text);
	log_warning("the holder at %s does not keep this mount (%s): the death of monitor and server at once ends it",
		    path, strerror(-err));
}

static void holder_connect_again(struct recover *recover)
{
	int fd = holder_connect(recover->options->hold), err;

	recover->hold_next_ms = 0;
	if (fd < 0) {
		holder_lost(recover, fd);
		return;
	}
	store_release(&recover->state.header->keep[KEEP_HOLD], fd);
	err = store(recover, false);
	if (err)
		holder_lost(recover, err);
}

/* What the holder says of what it was given. */
static void holder_read(struct recover *recover)
{
	char text[MESSAGE_BYTES];
	unsigned count, n, number;
	int got = passing_receive(recover->state.header->keep[KEEP_HOLD], text, sizeof(text), NULL, 0, &n);

	if (got == -EAGAIN || got == -EINTR)
		return;
	if (got <= 0) {
		holder_lost(recover, got ? got : -ECONNRESET);
	} else if (sscanf(text, "FDSTORE=%u", &count) == 1) {
		recover->hold_lost = false;
		snprintf(text, sizeof(text), "yes: %u descriptors, by the holder", count);
		text_set(recover, text);
		log_info("kept by the holder at %s: %u descriptors", recover->options->hold, count);
	} else if (sscanf(text, "ERRNO=%u", &number) == 1) {
		holder_lost(recover, -(int)number);
	}
}

static void open_holder(struct recover *recover)
{
	holder_close(recover); /* of the program before this one */
	holder_connect_again(recover);
	if (recover->state.header->keep[KEEP_HOLD] < 0)
		return;
	if (holder_answers(recover->state.header->keep[KEEP_HOLD], ANSWER_MS))
		holder_read(recover);
	else
		holder_lost(recover, -ETIMEDOUT);
}

/* Once per mount: what it has it hands over to each start. */
static void open_manager(struct recover *recover)
{
	struct state_header *header = recover->state.header;
	int err = header->held_by_manager ? 0 : store(recover, true);

	if (err) {
		text_set(recover, "no: the service manager does not take it");
		log_warning("the service manager does not take descriptors: %s", strerror(-err));
		return;
	}
	if (!header->held_by_manager)
		log_info(
			"given to the service manager to keep (FileDescriptorStoreMax= of the unit says how many it does)");
	header->held_by_manager = 1;
	text_set(recover, "yes: by the service manager, if its unit allows it");
}

bool recover_is_offered(void)
{
	const char *room = getenv("FDSTORE");

	return room && atoi(room) > 0;
}

static bool is_asked_for(const struct recover *recover)
{
	return recover->options->hold || recover->options->hold_manager || recover->state.header->held_by_manager ||
	       recover_is_offered();
}

bool recover_is_kept(const struct recover *recover)
{
	return is_asked_for(recover) && !mount_is_passed(recover);
}

void handover_open(struct recover *recover)
{
	if (!is_asked_for(recover)) {
		text_set(recover, "no: not asked for");
		return;
	}
	if (mount_is_passed(recover)) {
		text_set(recover, "no: mounted by somebody else");
		log_warning("nobody keeps this mount when all of its processes die: it was mounted by somebody else");
		return;
	}
	store_release(&recover->state.header->evidence, 1);
	log_info(
		"evidence is taken of each call that changes something: a start after a hand-over has no other witness");
	if (recover->options->hold)
		open_holder(recover);
	else
		open_manager(recover);
}

int64_t handover_next_ms(const struct recover *recover)
{
	return recover->hold_next_ms;
}

void handover_look(struct recover *recover, int64_t now_ms, short revents)
{
	if (revents)
		holder_read(recover);
	if (recover->hold_next_ms && now_ms >= recover->hold_next_ms)
		holder_connect_again(recover);
}

void handover_forget(struct recover *recover)
{
	char name[HELD_NAME_BYTES];

	if (!recover->options->hold && !recover->state.header->held_by_manager)
		return;
	name_of(recover, name);
	forget_there(name, recover->options->hold, recover->state.header->held_by_manager);
}
