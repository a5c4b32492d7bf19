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

#endif
