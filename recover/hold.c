/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The holder: one thread, one table, nothing allocated after it listens. Whoever connects is of our user or root, as the
 * kernel says (SO_PEERCRED), and may still send anything: a message is bounded, what does not fit is refused as a whole.
 * A client that does not read its answers is cut off; nobody else waits for it.
 */
#include "recover/hold.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "recover/internal.h"
#include "recover/log.h"
#include "recover/passing.h"

#define SWEEP_MS 10000 /* how often it looks for what has ended */
#define BACKLOG 64
#define FDS_SPARE 32 /* for messages on their way, and clients that are refused */

struct entry {
	char name[HOLD_NAME_BYTES];
	unsigned n; /* 0: free */
	int fds[HOLD_FDS];
};

struct hold {
	const char *path;
	int listener, signals;
	unsigned fds_n, fds_most;
	int clients[HOLD_CLIENTS]; /* -1: free */
	struct entry entries[HOLD_MOUNTS];
};

/* What a message asks for. */
struct message {
	bool store, remove, get;
	char name[HOLD_NAME_BYTES];
};

static unsigned entries_count(const struct hold *hold)
{
	unsigned n = 0;

	for (unsigned i = 0; i < HOLD_MOUNTS; i++)
		n += hold->entries[i].n != 0;
	return n;
}

static void say(const struct hold *hold, const struct entry *entry, const char *what)
{
	log_info("%s %s: %u mounts, %u descriptors are kept", entry->name, what, entries_count(hold), hold->fds_n);
}

static struct entry *entry_find(struct hold *hold, const char *name)
{
	for (unsigned i = 0; i < HOLD_MOUNTS; i++)
		if (hold->entries[i].n && strcmp(hold->entries[i].name, name) == 0)
			return &hold->entries[i];
	return NULL;
}

static struct entry *entry_free(struct hold *hold)
{
	for (unsigned i = 0; i < HOLD_MOUNTS; i++)
		if (!hold->entries[i].n)
			return &hold->entries[i];
	return NULL;
}

static void entry_drop(struct hold *hold, struct entry *entry)
{
	hold->fds_n -= entry->n;
	while (entry->n)
		close(entry->fds[--entry->n]);
}

/*
 * Looks, and never waits for them: the kernel wakes whoever polls /dev/fuse at each request of the mount. So a mount that
 * ends while nobody serves it goes a moment later.
 */
static void sweep(struct hold *hold)
{
	for (unsigned i = 0; i < HOLD_MOUNTS; i++) {
		struct entry *entry = &hold->entries[i];

		if (!entry->n || !passing_ended(entry->fds, entry->n))
			continue;
		entry_drop(hold, entry);
		say(hold, entry, "has ended");
	}
}

static bool name_take(struct message *message, const char *name)
{
	size_t length = strlen(name);

	for (size_t i = 0; i < length; i++)
		if (name[i] <= ' ' || name[i] >= 0x7f || name[i] == ':')
			return false;
	if (length == 0 || length >= sizeof(message->name))
		return false;
	memcpy(message->name, name, length + 1);
	return true;
}

/* Lines that mean nothing here (READY=1) are left alone. */
static bool message_parse(struct message *message, char *text)
{
	char *save, *line;

	memset(message, 0, sizeof(*message));
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		message->store |= strcmp(line, "FDSTORE=1") == 0;
		message->remove |= strcmp(line, "FDSTOREREMOVE=1") == 0;
		message->get |= strcmp(line, "FDSTOREGET=1") == 0;
		if (strncmp(line, "FDNAME=", 7) == 0 && !name_take(message, line + 7))
			return false;
	}
	return message->name[0] && message->store + message->remove + message->get == 1;
}

static int store(struct hold *hold, const struct message *message, const int *fds, unsigned n)
{
	struct entry *entry = entry_find(hold, message->name);
	unsigned before = entry ? entry->n : 0;

	if (n == 0 || n > HOLD_FDS)
		return -EINVAL;
	if (hold->fds_n - before + n > hold->fds_most)
		return -ENFILE;
	if (!entry)
		entry = entry_free(hold);
	if (!entry)
		return -ENOSPC;
	entry_drop(hold, entry);
	memcpy(entry->name, message->name, sizeof(entry->name));
	memcpy(entry->fds, fds, n * sizeof(*fds));
	entry->n = n;
	hold->fds_n += n;
	say(hold, entry, "is kept");
	return 0;
}

static int drop(struct hold *hold, const struct message *message)
{
	struct entry *entry = entry_find(hold, message->name);

	if (!entry)
		return -ENOENT;
	entry_drop(hold, entry);
	say(hold, entry, "is forgotten");
	return 0;
}

/* Carries out a message and answers it. False: the client is cut off. Descriptors that are not kept are closed. */
static bool client_serve(struct hold *hold, int client, char *text, const int *fds, unsigned n)
{
	const struct entry *give = NULL;
	struct message message;
	char answer[64];
	int err = message_parse(&message, text) ? 0 : -EINVAL;

	if (!err && message.store)
		err = store(hold, &message, fds, n);
	if (!err && message.remove)
		err = drop(hold, &message);
	if (!err && message.get) {
		give = entry_find(hold, message.name);
		err = give ? 0 : -ENOENT;
	}
	if (err || !message.store)
		for (unsigned i = 0; i < n; i++)
			close(fds[i]);
	if (err && err != -ENOENT)
		log_warning("a message is refused: %s", strerror(-err));
	if (err)
		snprintf(answer, sizeof(answer), "ERRNO=%d", -err);
	else if (give)
		snprintf(answer, sizeof(answer), "LISTEN_FDS=%u", give->n);
	else
		snprintf(answer, sizeof(answer), message.store ? "FDSTORE=%u" : "FDSTOREREMOVE=1", n);
	return passing_send(client, NULL, 0, answer, give ? give->fds : NULL, give ? give->n : 0) == 0;
}

static bool client_read(struct hold *hold, int client)
{
	char text[HOLD_MESSAGE_BYTES];
	int fds[PASSING_FDS];
	unsigned n;
	int got = passing_receive(client, text, sizeof(text), fds, PASSING_FDS, &n);

	if (got == -EAGAIN || got == -EINTR)
		return true;
	if (got == -E2BIG)
		log_warning("a message is refused: it is too long");
	if (got <= 0)
		return false;
	sweep(hold);
	return client_serve(hold, client, text, fds, n);
}

static bool client_allowed(int client)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	if (getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &size))
		return false;
	if (peer.uid == geteuid() || peer.uid == 0)
		return true;
	log_warning("user %u is refused", (unsigned)peer.uid);
	return false;
}

static void client_accept(struct hold *hold)
{
	int client = accept4(hold->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	unsigned i = 0;

	if (client < 0)
		return;
	while (i < HOLD_CLIENTS && hold->clients[i] >= 0)
		i++;
	if (i == HOLD_CLIENTS)
		log_warning("a client is refused: there are %d", HOLD_CLIENTS);
	if (i == HOLD_CLIENTS || !client_allowed(client))
		close(client);
	else
		hold->clients[i] = client;
}

static void clients_look(struct hold *hold, const struct pollfd *fds)
{
	for (unsigned i = 0; i < HOLD_CLIENTS; i++) {
		if (hold->clients[i] < 0 || !fds[i].revents || client_read(hold, hold->clients[i]))
			continue;
		close(hold->clients[i]);
		hold->clients[i] = -1;
	}
}

static void hold_loop(struct hold *hold)
{
	static struct pollfd fds[HOLD_CLIENTS + 2];
	struct signalfd_siginfo info;

	for (;;) {
		for (unsigned i = 0; i < HOLD_CLIENTS; i++)
			fds[i] = (struct pollfd){.fd = hold->clients[i], .events = POLLIN};
		fds[HOLD_CLIENTS] = (struct pollfd){.fd = hold->listener, .events = POLLIN};
		fds[HOLD_CLIENTS + 1] = (struct pollfd){.fd = hold->signals, .events = POLLIN};
		if (poll(fds, HOLD_CLIENTS + 2, hold->fds_n ? SWEEP_MS : -1) == 0)
			sweep(hold);
		if (fds[HOLD_CLIENTS + 1].revents && read(hold->signals, &info, sizeof(info)) > 0)
			return;
		clients_look(hold, fds);
		if (fds[HOLD_CLIENTS].revents)
			client_accept(hold);
	}
}

/* A socket that nobody listens at any more goes. 0 or -errno. */
static int path_make_free(const struct sockaddr_un *address, socklen_t size)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), err = 0;
	struct stat st;

	if (fd < 0)
		return -errno;
	if (lstat(address->sun_path, &st) == 0) {
		err = S_ISSOCK(st.st_mode) ? 0 : -EEXIST;
		if (!err && (connect(fd, (const struct sockaddr *)address, size) == 0 || errno == EAGAIN))
			err = -EADDRINUSE;
		if (!err && unlink(address->sun_path))
			err = -errno;
	}
	close(fd);
	return err;
}

static int hold_listen(struct hold *hold)
{
	struct sockaddr_un address;
	socklen_t size = passing_address(&address, hold->path);
	mode_t mask;
	int err;

	if (!size || *hold->path != '/')
		return size ? -EINVAL : -ENAMETOOLONG;
	err = path_make_free(&address, size);
	if (err)
		return err;
	hold->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (hold->listener < 0)
		return -errno;
	mask = umask(0177);
	err = bind(hold->listener, (const struct sockaddr *)&address, size) ? -errno : 0;
	umask(mask);
	if (!err && listen(hold->listener, BACKLOG))
		err = -errno;
	return err;
}

static int hold_signals(struct hold *hold)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_SETMASK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	hold->signals = signalfd(-1, &set, SFD_CLOEXEC);
	return hold->signals < 0 ? -errno : 0;
}

static unsigned fds_most(void)
{
	const unsigned wanted = HOLD_MOUNTS * HOLD_FDS, reserved = HOLD_CLIENTS + PASSING_FDS + FDS_SPARE;
	struct rlimit limit = {1024, 1024};

	getrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur <= reserved)
		return 0;
	return limit.rlim_cur - reserved < wanted ? (unsigned)(limit.rlim_cur - reserved) : wanted;
}

int hold_run(const char *path, int ready_fd)
{
	struct hold *hold = calloc(1, sizeof(*hold));
	int err = hold ? 0 : -ENOMEM;

	if (!err) {
		hold->path = path;
		hold->fds_most = fds_most();
		memset(hold->clients, 0xff, sizeof(hold->clients));
		err = hold_listen(hold);
	}
	if (!err)
		err = hold_signals(hold);
	if (err) {
		log_error("cannot hold at %s: %s", path,
			  err == -EADDRINUSE ? "another holder listens there" : strerror(-err));
		free(hold);
		return EXIT_SYSTEM;
	}
	log_info("holding at %s: up to %d mounts, %u descriptors", path, HOLD_MOUNTS, hold->fds_most);
	if (ready_fd >= 0 && write(ready_fd, "", 1) < 0)
		log_debug("nobody waits any more");
	hold_loop(hold);
	log_info("ends: %u mounts, %u descriptors were kept", entries_count(hold), hold->fds_n);
	unlink(path);
	free(hold);
	return EXIT_OK;
}
