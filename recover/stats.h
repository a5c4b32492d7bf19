/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How often, and how long: what metrics.c tells. In the state, so that it goes on with the next server. */
#ifndef RECOVER_STATS_H
#define RECOVER_STATS_H

#include <stdbool.h>
#include <stdint.h>

#define STATS_OPCODES 64 /* of the protocol; what is beyond counts as 0 */
#define STATS_BUCKETS 12 /* from 4 us on, each four times as long as the one before; the last has no end */
#define STATS_SIGNALS 65

/* Of one thread of the server, which alone writes it: requests by kind and by how long they took. */
struct request_stats {
	uint64_t times[STATS_OPCODES][STATS_BUCKETS];
	uint64_t ns[STATS_OPCODES];
};

/* Of the monitor. */
struct recovery_stats {
	uint64_t died_ns; /* CLOCK_MONOTONIC, since when nobody serves; 0: somebody does */
	uint64_t times;
	uint64_t ns; /* from a death to the next server's being ready, in all */
	uint64_t longest_ns;
	uint64_t deaths[STATS_SIGNALS]; /* of servers, by signal; 0: it ended by itself */
	uint64_t monitor_deaths;	/* after which the server took its place */
};

void stats_request(struct request_stats *stats, uint32_t opcode, uint64_t ns);

/* The end of a bucket but the last, in nanoseconds. */
uint64_t stats_bucket_end(unsigned bucket);

void stats_died(struct recovery_stats *stats, uint64_t now_ns, int signal_number);
/* Another program begins; but for an upgrade: the monitor died. */
void stats_taken_over(struct recovery_stats *stats, uint64_t now_ns, bool upgrade);

void stats_ready(struct recovery_stats *stats, uint64_t now_ns);

#endif
