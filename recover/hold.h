/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `fxfs --hold SOCKET`: keeps descriptors of mounts for as long as their processes are gone, where there is no systemd
 * to do it. One per node.
 *
 * Over a unix socket (SOCK_SEQPACKET) it takes the words of systemd's file descriptor store, sd_notify(3), and answers
 * each message with one:
 *
 *	FDSTORE=1\nFDNAME=N        and descriptors: these are N from now on      FDSTORE=count
 *	FDSTOREREMOVE=1\nFDNAME=N  forgets N                                     FDSTOREREMOVE=1
 *	FDSTOREGET=1\nFDNAME=N     gives N's back, and keeps them                LISTEN_FDS=count, and descriptors
 *	                           what it does not do                           ERRNO=number
 *
 * An entry is replaced as a whole, never in parts. What a descriptor is of it does not know; one of which poll(2) says
 * POLLERR is of a connection that has ended, and its entry goes (systemd does the same).
 */
#ifndef RECOVER_HOLD_H
#define RECOVER_HOLD_H

#define HOLD_MOUNTS 256
#define HOLD_FDS 128 /* of one of them */
#define HOLD_CLIENTS 320
#define HOLD_NAME_BYTES 64
#define HOLD_MESSAGE_BYTES 512

/*
 * Holds until SIGTERM or SIGINT; `ready_fd`: a byte is written when it listens, -1: nobody waits. Returns an exit code of
 * mount(8), and says why.
 */
int hold_run(const char *path, int ready_fd);

#endif
