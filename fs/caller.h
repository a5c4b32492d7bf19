/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What proc(5) tells of the thread that made a request and waits for its answer.
 */
#ifndef FS_CALLER_H
#define FS_CALLER_H

#include "fs/fs.h"

#define CALLER_ARGUMENTS 2

struct caller_call {
	long number; /* of the system call */
	unsigned long arguments[CALLER_ARGUMENTS];
};

/* The system call that the caller waits in. False where we may not see it. */
bool caller_call(const struct request *rq, struct caller_call *call);

#endif
