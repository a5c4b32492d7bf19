/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How a server is woken. A core with nothing to do is halted, and waking it can take longer than all else that a request
 * costs, above all in a virtual machine. While requests come fast, /dev/cpu_dma_latency is held at 0: idle cores then
 * poll, where the kernel's idle driver has such a state, and are there at once. The scheduler still sees them idle.
 *
 * The server counts requests and asks for the hold; the monitor takes it, looks now and then whether they still come,
 * and lets go. So a server that died, hangs or does not come up holds nothing. Where nothing is held nobody wakes up for
 * it.
 */
#ifndef RECOVER_WAKE_H
#define RECOVER_WAKE_H

#include <stdint.h>

struct recover;

/* What the user wants. */
enum wake { WAKE_AUTO, WAKE_PLAIN, WAKE_HOLD, WAKE_N };

const char *wake_name(enum wake wake);

/* Where the hold stands, in the state. A death, of whichever process, leaves each of them as good as it was. */
enum wake_phase {
	WAKE_OFF,   /* there is none */
	WAKE_READY, /* nothing is held */
	WAKE_ASKED, /* by a server; the monitor sees it when it next looks, and it is being told */
	WAKE_HELD
};

/* The hold is taken when WAKE_REQUESTS came within WAKE_NS, and dropped when a look finds that fewer come. */
#define WAKE_REQUESTS 8
#define WAKE_NS UINT64_C(10000000)
#define WAKE_LOOK_MS 5
#define WAKE_KEEP 4 /* requests between two looks: the same rate */

/* What the decision depends on. */
struct wake_machine {
	const char *device;	/* /dev/cpu_dma_latency */
	const char *idle_state; /* a file with the name of the idle driver's first state */
	long cores;
};

/* Why a hold would change nothing on this machine, or NULL. The device is not looked at. */
const char *wake_useless(const struct wake_machine *machine);

/* Opens the device if there is to be a hold, says in the state what is in force and why; once per mount. */
void wake_prepare(struct recover *recover, const struct wake_machine *machine);

/* The same mount, in another program: what the one before it held is let go. */
void wake_adopt(struct recover *recover);

/* Lets go of what a monitor held that is dead. */
void wake_drop(struct recover *recover);

/* In the server: this is its so manieth request, read at this time. */
void wake_count(struct recover *recover, uint64_t requests, uint64_t now_ns);

/* What the monitor remembers of its last look. */
struct wake_look {
	int64_t next_ms; /* when it looks again; 0: nothing is held */
	uint64_t requests;
};

/* In the monitor, whenever it wakes up. */
void wake_look(struct recover *recover, struct wake_look *look, int64_t now_ms);

#endif
