/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which of the mount's processes the kernel kills when memory runs out: rather the server, whose death costs
 * milliseconds, than the monitor. Compared with everybody else on the machine both weigh what they use.
 */
#ifndef RECOVER_OOM_H
#define RECOVER_OOM_H

/* In thousandths of the memory that there is: more than monitor and server differ by. */
#define OOM_SERVER 20

/* /proc/self/oom_score_adj, 0 where it cannot be read. */
int oom_score_read(void);

/* Sets it; a value that is not permitted changes nothing. */
void oom_score_write(int adjustment);

/*
 * Locks the program's text and data in memory, some 500 KB. Otherwise reclaim takes the text of whoever waits, and the
 * monitor needs memory to bury the server that dies to make some: both wait until the kernel takes it away, after two
 * seconds (mm/oom_kill.c, OOM_REAPER_DELAY). 0, -errno of mlock(2): the limit on locked memory.
 */
int oom_lock_program(void);

#endif
