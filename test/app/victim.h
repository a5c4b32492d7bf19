/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * For programs that kill the processes of one mount: finds them through the state, which is mapped, so that nothing
 * is started for a kill. Root's business: nobody else may read the state.
 *
 * A process is hit through a pidfd, and only if it has the state itself open under the number that monitor and server
 * share: neither a pid that was used again nor another mount's process does.
 */
#ifndef TEST_VICTIM_H
#define TEST_VICTIM_H

#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../recover/state.h"

struct victim_mount {
	const volatile struct state_header *header;
	dev_t device; /* of the state */
	ino_t inode;
	char number[16]; /* of its descriptor in monitor and server; empty: not looked for yet */
};

static inline int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* What `FXFS --status MOUNTPOINT --json` prints; no shell is needed, which a container may lack. */
static inline FILE *victim_status(const char *fxfs, const char *mountpoint, pid_t *child)
{
	int ends[2];

	if (pipe(ends))
		err(1, "pipe");
	*child = fork();
	if (*child == 0) {
		dup2(ends[1], STDOUT_FILENO);
		close(ends[0]);
		close(ends[1]);
		execl(fxfs, fxfs, "--status", mountpoint, "--json", (char *)NULL);
		err(1, "%s", fxfs);
	}
	close(ends[1]);
	return fdopen(ends[0], "r");
}

/* The value of `"state":` there. */
static inline void victim_state_path(const char *fxfs, const char *mountpoint, char *path, size_t size)
{
	static const char key[] = "\"state\": \"";
	char line[PATH_MAX + 64];
	pid_t child;
	FILE *status = victim_status(fxfs, mountpoint, &child);
	int result;

	if (!status)
		err(1, "%s", fxfs);
	*path = 0;
	while (fgets(line, sizeof(line), status)) {
		const char *at = strstr(line, key);

		if (at)
			snprintf(path, size, "%.*s", (int)strcspn(at + strlen(key), "\""), at + strlen(key));
	}
	fclose(status);
	if (waitpid(child, &result, 0) != child || result || !*path)
		errx(1, "%s: no state", mountpoint);
}

static inline void victim_open(struct victim_mount *mount, const char *fxfs, const char *mountpoint)
{
	char path[PATH_MAX];
	struct stat st;
	int fd;

	memset(mount, 0, sizeof(*mount));
	victim_state_path(fxfs, mountpoint, path, sizeof(path));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		err(1, "%s", path);
	mount->device = st.st_dev;
	mount->inode = st.st_ino;
	mount->header = mmap(NULL, STATE_HEADER_BYTES, PROT_READ, MAP_SHARED, fd, 0);
	if (mount->header == MAP_FAILED)
		err(1, "%s", path);
	close(fd);
	if (mount->header->magic != STATE_MAGIC || mount->header->version != STATE_VERSION)
		errx(1, "%s: a state of another version", path);
}

static inline bool victim_has(const struct victim_mount *mount, pid_t pid, const char *number)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/fd/%.15s", pid, number);
	return stat(path, &st) == 0 && st.st_dev == mount->device && st.st_ino == mount->inode;
}

/* Looks through all descriptors of `pid` for the state. */
static inline bool victim_search(struct victim_mount *mount, pid_t pid)
{
	struct dirent *entry;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	mount->number[0] = 0;
	while (dir && !mount->number[0] && (entry = readdir(dir)) != NULL)
		if (entry->d_name[0] != '.' && victim_has(mount, pid, entry->d_name))
			snprintf(mount->number, sizeof(mount->number), "%.15s", entry->d_name);
	if (dir)
		closedir(dir);
	return mount->number[0];
}

static inline bool victim_alive(int pidfd)
{
	struct pollfd wait = {.fd = pidfd, .events = POLLIN};

	return pidfd >= 0 && poll(&wait, 1, 0) == 0;
}

/* A pidfd of a living process of this mount, or -1. */
static inline int victim_pidfd(struct victim_mount *mount, pid_t pid)
{
	int pidfd;

	if (pid <= 1)
		return -1;
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0)
		return -1;
	/* if it is alive after it was looked at, what was looked at is what the pidfd stands for */
	if (((mount->number[0] && victim_has(mount, pid, mount->number)) || victim_search(mount, pid)) &&
	    victim_alive(pidfd))
		return pidfd;
	close(pidfd);
	return -1;
}

static inline bool victim_signal(int pidfd, int signo)
{
	return syscall(SYS_pidfd_send_signal, pidfd, signo, NULL, 0) == 0;
}

/* Waits until it is dead, up to a minute. */
static inline bool victim_await_death(int pidfd)
{
	struct pollfd wait = {.fd = pidfd, .events = POLLIN};
	int64_t until = now_ns() + INT64_C(60000000000);

	while (now_ns() < until)
		if (poll(&wait, 1, 1000) > 0)
			return true;
	return false;
}

#endif
