// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * outage FXFS MOUNTPOINT FILE KILLS: kills the server of a mount with SIGKILL, KILLS times, while one thread asks for the
 * attributes of FILE (mount with cache=none: each is a request). Prints a line for each kill, in microseconds: from the
 * signal to the first reply of the next server, the longest pause between two replies, and to the server's death.
 *
 * It waits half a second between kills: what is measured is one recovery and not the one before.
 */
#include <pthread.h>

#include "victim.h"

#define REPLIES 65536
#define PAUSE_NS 300000000
#define REPLY_MAX_NS INT64_C(60000000000)

static const char *file;
static volatile bool stop;
static int64_t replies[REPLIES]; /* when they came, the last ones */
static volatile uint64_t replies_n;

static void *ask(void *unused)
{
	struct stat st;

	(void)unused;
	while (!stop) {
		if (stat(file, &st))
			err(1, "%s", file);
		replies[replies_n % REPLIES] = now_ns();
		__atomic_add_fetch(&replies_n, 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

/* The longest time between two replies from the one before reply `from` on. */
static int64_t longest_pause(uint64_t from, uint64_t to)
{
	int64_t longest = 0;

	if (to - from > REPLIES - 1024)
		from = to - (REPLIES - 1024);
	for (uint64_t i = from + 1; i < to; i++)
		if (replies[i % REPLIES] - replies[(i - 1) % REPLIES] > longest)
			longest = replies[i % REPLIES] - replies[(i - 1) % REPLIES];
	return longest;
}

static void await_reply_after(int64_t when)
{
	for (;;) {
		uint64_t n = __atomic_load_n(&replies_n, __ATOMIC_ACQUIRE);

		if (n && replies[(n - 1) % REPLIES] > when)
			return;
		if (now_ns() - when > REPLY_MAX_NS)
			errx(1, "no reply for a minute");
		usleep(100);
	}
}

static void strike(struct victim_mount *mount)
{
	int server = victim_pidfd(mount, mount->header->server_pid);
	uint64_t first = __atomic_load_n(&replies_n, __ATOMIC_ACQUIRE), i;
	int64_t before = now_ns(), dead;

	if (server < 0 || !victim_signal(server, SIGKILL))
		errx(1, "there is no server to kill");
	if (!victim_await_death(server))
		errx(1, "the server does not die");
	dead = now_ns();
	close(server);
	await_reply_after(dead);
	usleep(20000);
	for (i = first; replies[i % REPLIES] <= dead; i++)
		;
	printf("%lld %lld %lld\n", (long long)(replies[i % REPLIES] - before) / 1000,
	       (long long)longest_pause(first ? first - 1 : 0, replies_n) / 1000, (long long)(dead - before) / 1000);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	struct victim_mount mount;
	pthread_t asker;

	if (argc != 5)
		errx(2, "usage: outage FXFS MOUNTPOINT FILE KILLS");
	file = argv[3];
	victim_open(&mount, argv[1], argv[2]);
	pthread_create(&asker, NULL, ask, NULL);
	for (long kills = atol(argv[4]); kills; kills--) {
		usleep(PAUSE_NS / 1000);
		await_reply_after(now_ns());
		strike(&mount);
	}
	stop = true;
	pthread_join(asker, NULL);
	return 0;
}
