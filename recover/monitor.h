/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The monitor's states and events; the table over both is in monitor.c, and a unit test asks for every pair. */
#ifndef RECOVER_MONITOR_H
#define RECOVER_MONITOR_H

#include <stdbool.h>

enum monitor_state {
	MONITOR_STARTING, /* the first server is not ready yet */
	MONITOR_SERVING,
	MONITOR_RESTARTING, /* a server died, the next one is not ready yet */
	MONITOR_WAITING,    /* no server: a pause before the next */
	MONITOR_BROKEN,	    /* no server comes up: each request is answered with EIO */
	MONITOR_UPGRADING,  /* the server ends, another program takes over */
	MONITOR_STOPPING,   /* unmounted; the server goes on until the last file is closed */
	MONITOR_ENDED,
	MONITOR_STATE_N
};

enum monitor_event {
	EVENT_READY, /* the server says that it serves */
	EVENT_DIED,
	EVENT_UNMOUNTED, /* the server ended because the connection did */
	EVENT_STOP,	 /* SIGTERM, SIGINT */
	EVENT_TIMER,
	EVENT_UPGRADE, /* SIGHUP */
	EVENT_CHECKED, /* the program that was asked for says that it can take over */
	MONITOR_EVENT_N
};

struct recover;

/* Starts a server, serves until the mount is gone; returns an exit code of mount(8). */
int monitor_run(struct recover *recover, enum monitor_state state);

/* Becomes the program before an upgrade that failed; returns where there is none. */
void monitor_roll_back(struct recover *recover);

/* Is there an action for the pair? */
bool monitor_handles(enum monitor_state state, enum monitor_event event);

#endif
