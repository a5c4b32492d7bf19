/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One message with descriptors over a unix socket. */
#ifndef RECOVER_PASSING_H
#define RECOVER_PASSING_H

#include <stddef.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#define PASSING_FDS 253 /* SCM_MAX_FD, unix(7) */

/* The descriptors stay the caller's. Does not wait. 0 or -errno. `to`: NULL where the socket is connected. */
int passing_send(int socket_fd, const struct sockaddr_un *to, socklen_t to_bytes, const char *text, const int *fds,
		 unsigned n);

/*
 * The text, ended with a zero, and up to `room` descriptors, which are the caller's: n of them. Does not wait. The length
 * of the text, 0: the other end is closed, or -errno; -E2BIG: it did not fit, nothing of it is kept.
 */
int passing_receive(int socket_fd, char *text, size_t size, int *fds, unsigned room, unsigned *n);

/* The address of a socket at `path`; beginning with @: an abstract one. Its size, or 0: the path is too long. */
socklen_t passing_address(struct sockaddr_un *address, const char *path);

/* Is one of them the device of a connection that has ended? poll(2) says POLLERR of such. */
bool passing_ended(const int *fds, unsigned n);

#endif
