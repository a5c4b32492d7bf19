// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * killer [-n KILLS] [-v server|monitor|both] FXFS MOUNTPOINT MIN_MS MAX_MS [SIGNAL...]: every MIN to MAX milliseconds
 * sends a process of that mount a signal, SIGKILL or one of those named by number, at random. Ends after KILLS of them,
 * at TERM or INT, and prints how often a process died of it, how often one took longer than a second to die,
 * how many of them were servers, and how many monitors. With -n, the same line every two seconds.
 *
 * The server is hit in any phase, but not more than three times before it is ready: a server that never is is given
 * up by design. Where the monitor may be hit too, one dies only while the other is alive and the mount serves.
 */
#include "victim.h"

#define HARMLESS_NS INT64_C(30000000000) /* a mount whose processes are gone, or never serve */

enum victims { SERVER = 1, MONITOR = 2, BOTH = 3 };

static volatile sig_atomic_t stop;
static struct victim_mount mount;
static enum victims victims = SERVER;
static long servers, monitors, slow;
static unsigned unready; /* servers in a row that were hit before they were ready */

static void on_signal(int signo)
{
	(void)signo;
	stop = 1;
}

static void report(void)
{
	printf("kills %ld slow %ld servers %ld monitors %ld\n", servers + monitors, slow, servers, monitors);
	fflush(stdout);
}

/* Signals it and waits for its death. */
static bool hit(int pidfd, int signo)
{
	int64_t before = now_ns();

	if (!victim_signal(pidfd, signo))
		return false;
	if (!victim_await_death(pidfd))
		warnx("still alive a minute after signal %d", signo);
	slow += now_ns() - before > 1000000000;
	return true;
}

static bool serves(void)
{
	return __atomic_load_n(&mount.header->phase, __ATOMIC_ACQUIRE) == STATE_SERVING;
}

/* Two processes, and a server that can take the place of its monitor: for a moment there is but one. */
static bool complete(int monitor, int server)
{
	return mount.header->monitor_pid != mount.header->server_pid && victim_alive(monitor) && victim_alive(server) &&
	       serves();
}

static bool may_hit_server(int monitor, int server)
{
	if (victims != SERVER)
		return complete(monitor, server);
	unready = serves() ? 0 : unready + 1;
	return unready <= 3;
}

/* True if somebody died. */
static bool strike(int signo)
{
	int monitor = victim_pidfd(&mount, mount.header->monitor_pid);
	int server = victim_pidfd(&mount, mount.header->server_pid);
	long before = servers + monitors;

	if ((victims == BOTH ? random() % 2 : victims == MONITOR) && monitor >= 0) {
		if (complete(monitor, server) && hit(monitor, signo))
			monitors++;
	} else if (victims & SERVER && server >= 0) {
		if (may_hit_server(monitor, server) && hit(server, signo))
			servers++;
	}
	if (monitor >= 0)
		close(monitor);
	if (server >= 0)
		close(server);
	return servers + monitors > before;
}

static enum victims victims_named(const char *name)
{
	if (strcmp(name, "server") == 0)
		return SERVER;
	if (strcmp(name, "monitor") == 0)
		return MONITOR;
	if (strcmp(name, "both") == 0)
		return BOTH;
	errx(2, "-v: server, monitor or both");
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_signal};
	long min, max, wanted = 0;
	int64_t said = now_ns(), last = now_ns();
	int option;

	while ((option = getopt(argc, argv, "+n:v:")) != -1) {
		if (option == 'n')
			wanted = atol(optarg);
		else if (option == 'v')
			victims = victims_named(optarg);
		else
			return 2;
	}
	argv += optind - 1;
	argc -= optind - 1;
	if (argc < 5)
		errx(2, "usage: killer [-n KILLS] [-v server|monitor|both] FXFS MOUNTPOINT MIN_MS MAX_MS [SIGNAL...]");
	min = strtol(argv[3], NULL, 10);
	max = strtol(argv[4], NULL, 10);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	srandom((unsigned)(now_ns() ^ getpid()));
	victim_open(&mount, argv[1], argv[2]);

	while (!stop && (!wanted || servers + monitors < wanted)) {
		usleep((useconds_t)(min * 1000 + random() % ((max - min) * 1000 + 1)));
		if (!stop && strike(argc > 5 ? atoi(argv[5 + random() % (argc - 5)]) : SIGKILL))
			last = now_ns();
		if (now_ns() - last > HARMLESS_NS + max * 1000000)
			errx(1, "nobody to kill for %d s, after %ld kills", (int)(HARMLESS_NS / 1000000000),
			     servers + monitors);
		if (wanted && now_ns() - said > 2000000000) {
			said = now_ns();
			report();
		}
	}
	report();
	return 0;
}
