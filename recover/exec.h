/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Becoming another program, or the same one anew, under a running mount: the table of open files, the process id and the
 * state stay, all memory is fresh.
 */
#ifndef RECOVER_EXEC_H
#define RECOVER_EXEC_H

#include <stddef.h>
#include <sys/types.h>

struct recover;

/* Room for the arguments, at start-up: later nothing is allocated. 0 or -ENOMEM. */
int exec_prepare(struct recover *recover, char **arguments);

/* The running program, open: /proc/self/exe, also when its name has another one now. A descriptor or -errno. */
int exec_open_self(void);

/* The name that the running program had when it started: what is installed there now may be another. 0 or -errno. */
int exec_self_path(char *path, size_t size);

/*
 * Starts a child that asks the program at `path` whether it would take the state as it is: header.checked is the child
 * then, and its exit code 0. Its process id or -errno.
 */
pid_t exec_check_start(struct recover *recover, const char *path);

/*
 * Becomes the program that is open as `program`. The caller is the only user of the table of open files but for other
 * threads of its own process, which end. Returns only -errno.
 */
int exec_become(struct recover *recover, int program);

#endif
