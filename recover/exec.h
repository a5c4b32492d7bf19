/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Becoming another program, or the same one anew, under a running mount: the table of open files, the process id and the
 * state stay, all memory is fresh.
 */
#ifndef RECOVER_EXEC_H
#define RECOVER_EXEC_H

struct recover;

/* Room for the arguments, at start-up: later nothing is allocated. 0 or -ENOMEM. */
int exec_prepare(struct recover *recover, char **arguments);

/* The running program, open: /proc/self/exe, also when its name has another one now. A descriptor or -errno. */
int exec_open_self(void);

/*
 * Does the program at `path` start, and take the state as it is? 0, or -errno: -ENOEXEC it does not, -ETIME it says
 * nothing. Waits for it for some seconds at most.
 */
int exec_check(struct recover *recover, const char *path);

/*
 * Becomes the program that is open as `program`. The caller is the only user of the table of open files but for other
 * threads of its own process, which end. Returns only -errno.
 */
int exec_become(struct recover *recover, int program);

#endif
