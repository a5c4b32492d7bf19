// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * killer FXFS MOUNTPOINT MIN_MS MAX_MS [SIGNAL...]: every MIN to MAX milliseconds sends the server of that mount a
 * signal, SIGKILL or one of those named by number, at random. Ends at TERM or INT and prints how often a
 * server died of it, and how often one took longer than a second to die.
 *
 * The server's pid is asked of `FXFS --status MOUNTPOINT --json` each time. The kill goes through a pidfd, and only to
 * a child of the mount's monitor: a pid that was reused in between is never hit.
 */
#include <err.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t stop;

static void on_signal(int signo)
{
	(void)signo;
	stop = 1;
}

/* Runs `fxfs --status mountpoint --json`. The length of what it printed, or -1 if it failed. */
static ssize_t status_read(char *fxfs, char *mountpoint, char *text, size_t size)
{
	int ends[2], result;
	size_t used = 0;
	ssize_t n;
	pid_t pid;

	if (pipe(ends) < 0)
		err(1, "pipe");
	pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (pid == 0) {
		dup2(ends[1], 1);
		execl(fxfs, fxfs, "--status", mountpoint, "--json", (char *)NULL);
		_exit(127);
	}
	close(ends[1]);
	while (used < size - 1 && (n = read(ends[0], text + used, size - 1 - used)) > 0)
		used += n;
	close(ends[0]);
	text[used] = 0;
	if (waitpid(pid, &result, 0) != pid || result != 0)
		return -1;
	return used;
}

/* The number that follows `"key":`, or 0. */
static long json_number(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	return at ? strtol(at + strlen(key), NULL, 10) : 0;
}

/* The parent of `pid`, or 0. */
static long parent_of(long pid)
{
	char path[64], line[512], *end;
	long parent = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	/* The name, in parentheses, may contain anything. */
	if (fgets(line, sizeof(line), f) && (end = strrchr(line, ')')))
		sscanf(end, ") %*c %ld", &parent);
	fclose(f);
	return parent;
}

/* Milliseconds from the signal to the death of the server, or -1: no server was hit. */
static long kill_server(char *fxfs, char *mountpoint, int signo)
{
	struct timespec before, after;
	struct pollfd wait = {.events = POLLIN};
	char text[16384];
	long pid, monitor;

	if (status_read(fxfs, mountpoint, text, sizeof(text)) < 0)
		return -1;
	pid = json_number(text, "\"server_pid\":");
	monitor = json_number(text, "\"monitor_pid\":");
	if (pid <= 1 || monitor <= 1)
		return -1;
	wait.fd = syscall(SYS_pidfd_open, pid, 0);
	if (wait.fd < 0)
		return -1;
	clock_gettime(CLOCK_MONOTONIC, &before);
	if (parent_of(pid) != monitor || syscall(SYS_pidfd_send_signal, wait.fd, signo, NULL, 0) < 0) {
		close(wait.fd);
		return -1;
	}
	while (poll(&wait, 1, 60000) < 0 && !stop)
		;
	clock_gettime(CLOCK_MONOTONIC, &after);
	close(wait.fd);
	return (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_signal};
	long min, max, kills = 0, slow = 0;
	struct timespec now;

	if (argc < 5)
		errx(2, "usage: killer FXFS MOUNTPOINT MIN_MS MAX_MS [SIGNAL...]");
	min = strtol(argv[3], NULL, 10);
	max = strtol(argv[4], NULL, 10);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	clock_gettime(CLOCK_REALTIME, &now);
	srandom(now.tv_nsec ^ getpid());

	while (!stop) {
		int signo = argc > 5 ? atoi(argv[5 + random() % (argc - 5)]) : SIGKILL;
		long took;

		usleep((min * 1000) + random() % ((max - min) * 1000 + 1));
		if (stop)
			break;
		took = kill_server(argv[1], argv[2], signo);
		kills += took >= 0;
		slow += took > 1000;
	}
	printf("kills %ld slow %ld\n", kills, slow);
	return 0;
}
