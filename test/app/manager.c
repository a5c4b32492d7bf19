// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * manager SOCKET COMMAND [ARGUMENT...]: does what systemd does for a service with a file descriptor store (sd_notify(3),
 * sd_listen_fds(3)), where systemd is not there to do it. Commands come from standard input, one per line:
 *
 *	start   starts COMMAND with what is kept; it is not waited for
 *	count   answers with how many descriptors are kept
 *
 * Each line that the service sends is printed.
 */
#include <err.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FDS 253
#define NAME_BYTES 256

static int kept[FDS];
static char names[FDS][NAME_BYTES];
static unsigned kept_n;

static union {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(sizeof(int) * FDS)];
} control;

static void forget(const char *name)
{
	unsigned n = 0;

	for (unsigned i = 0; i < kept_n; i++) {
		if (strcmp(names[i], name) == 0) {
			close(kept[i]);
			continue;
		}
		kept[n] = kept[i];
		memmove(names[n++], names[i], NAME_BYTES);
	}
	kept_n = n;
}

static void take(int socket_fd)
{
	char text[4096], name[NAME_BYTES] = "stored", *line, *save;
	struct iovec iov = {text, sizeof(text) - 1};
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	ssize_t got = recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC);
	struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
	unsigned n = rights ? (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;
	int removes = 0;

	if (got < 0)
		err(1, "recvmsg");
	text[got] = 0;
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		puts(line);
		sscanf(line, "FDNAME=%255s", name);
		removes |= strcmp(line, "FDSTOREREMOVE=1") == 0;
	}
	if (removes)
		forget(name);
	for (unsigned i = 0; i < n && kept_n < FDS; i++) {
		memcpy(&kept[kept_n], CMSG_DATA(rights) + i * sizeof(int), sizeof(int));
		memcpy(names[kept_n++], name, sizeof(name));
	}
}

/* In the child: what is kept becomes 3, 4, ... */
static void give(void)
{
	static char list[FDS * NAME_BYTES];
	char number[16];
	int high[FDS];

	for (unsigned i = 0; i < kept_n; i++) {
		high[i] = fcntl(kept[i], F_DUPFD_CLOEXEC, 3 + FDS);
		sprintf(list + strlen(list), "%s%s", i ? ":" : "", names[i]);
	}
	for (unsigned i = 0; i < kept_n; i++)
		dup2(high[i], 3 + i);
	sprintf(number, "%u", kept_n);
	setenv("LISTEN_FDS", number, 1);
	setenv("LISTEN_FDNAMES", list, 1);
	sprintf(number, "%d", getpid());
	setenv("LISTEN_PID", number, 1);
}

static void start(const char *path, char **command)
{
	if (fork())
		return;
	setenv("NOTIFY_SOCKET", path, 1);
	if (kept_n)
		give();
	execvp(command[0], command);
	err(127, "%s", command[0]);
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char line[64];

	if (argc < 3)
		errx(2, "usage: manager SOCKET COMMAND [ARGUMENT...]");
	signal(SIGCHLD, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	setvbuf(stdin, NULL, _IONBF, 0);
	strncpy(address.sun_path, argv[1], sizeof(address.sun_path) - 1);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)))
		err(1, "%s", argv[1]);
	for (;;) {
		struct pollfd fds[] = {{.fd = 0, .events = POLLIN}, {.fd = fd, .events = POLLIN}};

		poll(fds, 2, -1);
		if (fds[1].revents)
			take(fd);
		if (!fds[0].revents)
			continue;
		if (!fgets(line, sizeof(line), stdin))
			return 0;
		if (strcmp(line, "start\n") == 0)
			start(argv[1], argv + 2);
		else
			printf("count %u\n", kept_n);
	}
}
