/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The caller of a request, for the few that are carried out in one way or another by what the kernel does not send along.
 */
#include "fs/caller.h"

#include <stdio.h>

bool caller_call(const struct request *rq, struct caller_call *call)
{
	char path[40], line[256] = "";
	FILE *syscall_file;

	snprintf(path, sizeof(path), "/proc/%u/syscall", rq->in->pid);
	syscall_file = fopen(path, "r");
	if (!syscall_file)
		return false;
	if (!fgets(line, sizeof(line), syscall_file))
		line[0] = 0;
	fclose(syscall_file);
	/* the number is decimal, or -1 or "running" where the thread is in none; arguments are 0x... */
	return sscanf(line, "%ld %lx %lx", &call->number, &call->arguments[0], &call->arguments[1]) == 3 &&
	       call->number >= 0;
}
