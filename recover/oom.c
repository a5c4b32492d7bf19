/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * proc(5): raising the value is always permitted, and so is lowering it again to what a privileged process had set.
 */
#include "recover/oom.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OOM_FILE "/proc/self/oom_score_adj"
#define OOM_MAX 1000

int oom_score_read(void)
{
	char text[16] = "";
	int fd = open(OOM_FILE, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = 0;
	close(fd);
	return atoi(text);
}

void oom_score_write(int adjustment)
{
	int fd = open(OOM_FILE, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	/* one that may not be changed stays */
	dprintf(fd, "%d", adjustment > OOM_MAX ? OOM_MAX : adjustment);
	close(fd);
}

/* Not mlock(3): in a sanitizer's build that does nothing and succeeds. */
int oom_lock_program(void)
{
	extern const char __executable_start[], _edata[]; /* ld(1) */

	return syscall(SYS_mlock, __executable_start, (uintptr_t)_edata - (uintptr_t)__executable_start) ? -errno : 0;
}
