/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A look costs two small files for each thread that is late, and one for the queue of requests.
 */
#include "recover/watchdog.h"

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "recover/atomic.h"
#include "recover/internal.h"
#include "recover/log.h"

#define LOOKS 4	       /* in the time that a request may take */
#define START_MS 10000 /* that a server may always take to be ready, unless it is stopped */

void watchdog_init(struct watchdog *watchdog, unsigned seconds)
{
	memset(watchdog, 0, sizeof(*watchdog));
	watchdog->seconds = seconds;
	watchdog->last_ms = clock_ms();
}

void watchdog_started(struct watchdog *watchdog)
{
	watchdog->started_ms = clock_ms();
}

void watchdog_ready(struct watchdog *watchdog)
{
	watchdog->started_ms = 0;
}

int64_t watchdog_interval(const struct watchdog *watchdog)
{
	return watchdog->seconds ? (int64_t)watchdog->seconds * 1000 / LOOKS : -1;
}

static bool file_read(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, text, size - 1);

	if (fd >= 0)
		close(fd);
	text[got > 0 ? got : 0] = 0;
	return got > 0;
}

/* State and system time of a thread: proc(5), /proc/PID/stat, fields 3 and 15. */
static bool thread_read(pid_t pid, pid_t tid, char *state, unsigned long long *kernel_ticks)
{
	char path[64], text[512], *at;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
	if (!file_read(path, text, sizeof(text)))
		return false;
	at = strrchr(text, ')'); /* the name before it may contain anything */
	return at && sscanf(at, ") %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %llu", state, kernel_ticks) == 2;
}

/*
 * Does a sleeping thread wait for the kernel, or for something of the server's own? proc(5), /proc/PID/task/TID/syscall;
 * where we may not read it we believe in the kernel.
 */
static bool thread_waits_for_kernel(pid_t pid, pid_t tid)
{
	static const long own[] = {SYS_futex, SYS_nanosleep, SYS_clock_nanosleep, SYS_rt_sigsuspend,
#ifdef SYS_pause
				   SYS_pause
#endif
	};
	char path[64], text[256];
	long number;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", pid, tid);
	if (!file_read(path, text, sizeof(text)) || sscanf(text, "%ld", &number) != 1)
		return strncmp(text, "running", 7) != 0;
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		if (number == own[i])
			return false;
	return true;
}

/* Stopped, by whomever: not the request's fault. */
static bool is_stopped(char state)
{
	return state == 'T' || state == 't';
}

/* Has the thread had its time and done nothing in the kernel since the last look? `state`: as proc(5) has it. */
static bool thread_hangs(struct watchdog *watchdog, struct watched *watched, const struct worker_slot *slot, pid_t pid,
			 char *state)
{
	uint64_t limit = watchdog->seconds * UINT64_C(1000000000);
	uint64_t now = (uint64_t)clock_ms() * 1000000;
	unsigned long long ticks;
	bool seen;

	if (!load_acquire(&slot->busy) || now < slot->since_ns + limit || !thread_read(pid, slot->tid, state, &ticks) ||
	    *state == 'D' || (*state == 'S' && thread_waits_for_kernel(pid, slot->tid)))
		return false;
	seen = watched->unique == slot->unique && watched->kernel_ticks == ticks;
	*watched = (struct watched){slot->unique, ticks};
	return seen;
}

/* A server that does not come to serve. */
static bool start_hangs(const struct watchdog *watchdog, pid_t pid)
{
	int64_t limit = (int64_t)watchdog->seconds * 1000, took = clock_ms() - watchdog->started_ms;
	unsigned long long ticks;
	char state;

	if (took < limit || !thread_read(pid, pid, &state, &ticks) || state == 'D')
		return false;
	return is_stopped(state) || took >= START_MS;
}

/* The next server counts this death against the request. */
static void charge(struct recover *recover, const struct worker_slot *slot)
{
	struct record *record = journal_find(&recover->journal, slot->unique);

	if (record)
		store_release(&record->faults, record->faults + 1);
}

/* Requests that wait in the kernel, beside those that are being carried out or wait for a lock. */
static bool queue_waits(const struct recover *recover)
{
	char path[80], text[24];

	mount_connection_path(recover, "waiting", path, sizeof(path));
	return file_read(path, text, sizeof(text)) && strtoul(text, NULL, 10) > journal_in_flight(&recover->state);
}

static bool queue_hangs(struct watchdog *watchdog, const struct recover *recover)
{
	uint64_t requests = load_relaxed(&recover->state.header->counters.requests);
	bool idle = requests == watchdog->requests && queue_waits(recover);

	watchdog->requests = requests;
	if (!idle)
		watchdog->idle_since_ms = 0;
	else if (!watchdog->idle_since_ms)
		watchdog->idle_since_ms = clock_ms();
	return idle && clock_ms() - watchdog->idle_since_ms >= (int64_t)watchdog->seconds * 1000;
}

/* Does a thread hang? Says so. */
static bool threads_hang(struct watchdog *watchdog, struct recover *recover, pid_t server, bool *busy)
{
	for (unsigned i = 0; i < recover->workers_n; i++) {
		struct worker_slot *slot = &recover->state.slots[i];
		char state;

		*busy |= load_acquire(&slot->busy) != 0;
		if (!thread_hangs(watchdog, &watchdog->watched[i], slot, server, &state))
			continue;
		log_error("the server hangs: request %llu (opcode %u) has taken more than %u s",
			  (unsigned long long)slot->unique, slot->opcode, watchdog->seconds);
		if (!is_stopped(state))
			charge(recover, slot);
		return true;
	}
	return false;
}

static bool server_hangs(struct watchdog *watchdog, struct recover *recover, pid_t server)
{
	bool busy = false;

	if (watchdog->started_ms) {
		if (!start_hangs(watchdog, server))
			return false;
		log_error("the server hangs: it has not come to serve for more than %u s", watchdog->seconds);
		return true;
	}
	if (threads_hang(watchdog, recover, server, &busy))
		return true;
	if (busy || !queue_hangs(watchdog, recover))
		return false;
	log_error("the server hangs: it has taken up no request for more than %u s", watchdog->seconds);
	return true;
}

void watchdog_look(struct watchdog *watchdog, struct recover *recover, pid_t server)
{
	if (!watchdog->seconds || clock_ms() - watchdog->last_ms < watchdog_interval(watchdog))
		return;
	watchdog->last_ms = clock_ms();
	if (!server_hangs(watchdog, recover, server))
		return;
	recover->state.header->counters.hangs++;
	watchdog->idle_since_ms = 0;
	kill(server, SIGKILL);
}
