/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The thread of a server that looks after the monitor. */
#ifndef RECOVER_GUARDIAN_H
#define RECOVER_GUARDIAN_H

#include <signal.h>

struct recover;

/* Sent to a server when its monitor dies; blocked in all its threads. */
#define GUARDIAN_SIGNAL SIGUSR1

void guardian_start(struct recover *recover);

#endif
