/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the processes of a mount may still do once they serve: which capabilities they have, and which system calls the
 * kernel takes from them. A system call that is in no table raises SIGSYS: a death like any other, charged to the request
 * that the thread carries out.
 *
 * To add a system call: a line in the table of who makes it (contain.c: recover/ itself; else the file system's).
 */
#ifndef RECOVER_CONTAIN_H
#define RECOVER_CONTAIN_H

#include <stdint.h>
#include <sys/syscall.h>

struct recover;

enum contain { CONTAIN_AUTO, CONTAIN_OFF };

/* Allowed if the low 32 bits of the argument have this value under the mask; mask 0: always. */
struct contain_call {
	uint32_t number, argument, mask, value;
};

#define CONTAIN_CALL(name)           \
	{                            \
		.number = SYS_##name \
	}
#define CONTAIN_CALL_IF(name, i, m, v)                                           \
	{                                                                        \
		.number = SYS_##name, .argument = (i), .mask = (m), .value = (v) \
	}

/* What one kind of process may do. All zero: nothing. */
struct contain_set {
	const struct contain_call *calls;
	unsigned calls_n;
	uint64_t capabilities; /* bits, by number: capabilities(7) */
};

#define CONTAIN_CAP(cap) (UINT64_C(1) << (cap))

/*
 * From here on this thread, and those it starts, make the system calls of these sets (NULL: none) alone, and gain no privilege by
 * execve(2). 0 or -errno.
 */
int contain_calls(const struct contain_set *const sets[], unsigned n);

/* This thread keeps no other capabilities than these, of those it has. 0 or -errno. */
int contain_capabilities(uint64_t kept);

/* Each says in the state, and the first server of a mount in the log, what could not be had. */
void contain_monitor(struct recover *recover);
void contain_server(struct recover *recover);
void contain_watcher(struct recover *recover);

#endif
