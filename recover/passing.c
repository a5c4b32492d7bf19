/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sendmsg(2) and recvmsg(2) with SCM_RIGHTS. What arrives beyond what was asked for is closed, never lost. */
#include "recover/passing.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(sizeof(int) * PASSING_FDS)];
};

socklen_t passing_address(struct sockaddr_un *address, const char *path)
{
	size_t length = strlen(path);

	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	if (length == 0 || length >= sizeof(address->sun_path))
		return 0;
	memcpy(address->sun_path, path, length);
	if (*path != '@')
		return sizeof(*address);
	address->sun_path[0] = 0;
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
}

int passing_send(int socket_fd, const struct sockaddr_un *to, socklen_t to_bytes, const char *text, const int *fds,
		 unsigned n)
{
	struct iovec iov = {.iov_base = (void *)text, .iov_len = strlen(text)};
	struct msghdr message = {.msg_name = (void *)to, .msg_namelen = to_bytes, .msg_iov = &iov, .msg_iovlen = 1};
	union control control;

	if (n > PASSING_FDS)
		return -E2BIG;
	if (n) {
		memset(&control, 0, sizeof(control));
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * n);
		control.header = (struct cmsghdr){
			.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int) * n)};
		memcpy(CMSG_DATA(&control.header), fds, sizeof(int) * n);
	}
	return sendmsg(socket_fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-compare" /* in CMSG_NXTHDR of musl, which clang sees */

/* All descriptors of a message; those beyond `room` are closed. False: there were such. */
static bool fds_take(struct msghdr *message, int *fds, unsigned room, unsigned *n)
{
	bool fit = true;

	*n = 0;
	for (struct cmsghdr *at = CMSG_FIRSTHDR(message); at; at = CMSG_NXTHDR(message, at)) {
		unsigned got = (unsigned)((at->cmsg_len - CMSG_LEN(0)) / sizeof(int));

		if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS)
			continue;
		for (unsigned i = 0; i < got; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(at) + i * sizeof(int), sizeof(fd));
			if (*n < room) {
				fds[(*n)++] = fd;
			} else {
				close(fd);
				fit = false;
			}
		}
	}
	return fit;
}

#pragma GCC diagnostic pop

int passing_receive(int socket_fd, char *text, size_t size, int *fds, unsigned room, unsigned *n)
{
	union control control;
	struct iovec iov = {.iov_base = text, .iov_len = size - 1};
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	ssize_t got = recvmsg(socket_fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	bool fit;

	*n = 0;
	if (got < 0)
		return -errno;
	text[got] = 0;
	fit = fds_take(&message, fds, room, n);
	if (fit && !(message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
		return (int)got;
	while (*n)
		close(fds[--*n]);
	return -E2BIG;
}

bool passing_ended(const int *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct pollfd at = {.fd = fds[i]};

		if (poll(&at, 1, 0) == 1 && at.revents & POLLERR)
			return true;
	}
	return false;
}
