// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * holdmsg SOCKET MESSAGE [PATH...]: says MESSAGE (\n stands for a line break) to a holder, with a descriptor of each PATH,
 * and prints the answer and how many descriptors came with it. Of PATH N* there are N. 3: it hung up.
 */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FDS 253

static union {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(sizeof(int) * FDS)];
} control;

static char text[1 << 20];

static void unescape(const char *from)
{
	char *to = text;

	for (; *from && to < text + sizeof(text) - 1; from++) {
		if (from[0] == '\\' && from[1] == 'n') {
			*to++ = '\n';
			from++;
		} else {
			*to++ = *from;
		}
	}
}

static unsigned open_all(char **paths, int fds[FDS])
{
	unsigned n = 0;

	for (; *paths; paths++) {
		char *path = *paths, *star = strchr(path, '*');
		unsigned times = star ? atoi(path) : 1;

		for (unsigned i = 0; i < times && n < FDS; i++) {
			fds[n] = open(star ? star + 1 : path, O_RDWR);
			if (fds[n++] < 0)
				err(2, "%s", path);
		}
	}
	return n;
}

static void say(int fd, char **paths)
{
	struct iovec iov = {text, strlen(text)};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	int fds[FDS];
	unsigned n = open_all(paths, fds);

	if (n) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * n);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int) * n);
		memcpy(CMSG_DATA(&control.header), fds, sizeof(int) * n);
	}
	if (sendmsg(fd, &message, MSG_NOSIGNAL) < 0)
		err(3, "sendmsg");
}

static void print_answer(int fd)
{
	struct iovec iov = {text, sizeof(text) - 1};
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	ssize_t got = recvmsg(fd, &message, 0);
	size_t n = 0;

	if (got <= 0)
		errx(3, "it hung up");
	text[got] = 0;
	if (CMSG_FIRSTHDR(&message))
		n = (CMSG_FIRSTHDR(&message)->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	printf("%s %zu\n", text, n);
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	if (argc < 3)
		errx(2, "usage: holdmsg SOCKET MESSAGE [PATH...]");
	strncpy(address.sun_path, argv[1], sizeof(address.sun_path) - 1);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)))
		err(3, "%s", argv[1]);
	unescape(argv[2]);
	say(fd, argv + 3);
	print_answer(fd);
	return 0;
}
