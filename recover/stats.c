/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recover/stats.h"

#include "recover/atomic.h"

uint64_t stats_bucket_end(unsigned bucket)
{
	return UINT64_C(4000) << 2 * bucket;
}

void stats_request(struct request_stats *stats, uint32_t opcode, uint64_t ns)
{
	uint32_t kind = opcode < STATS_OPCODES ? opcode : 0;
	unsigned bucket = 0;

	while (bucket < STATS_BUCKETS - 1 && ns > stats_bucket_end(bucket))
		bucket++;
	store_relaxed(&stats->times[kind][bucket], stats->times[kind][bucket] + 1);
	store_relaxed(&stats->ns[kind], stats->ns[kind] + ns);
}

/* Of several deaths before a server is ready the first one begins the pause. */
void stats_died(struct recovery_stats *stats, uint64_t now_ns, int signal_number)
{
	unsigned cause = signal_number > 0 && signal_number < STATS_SIGNALS ? (unsigned)signal_number : 0;

	store_relaxed(&stats->deaths[cause], stats->deaths[cause] + 1);
	if (!stats->died_ns)
		store_relaxed(&stats->died_ns, now_ns);
}

void stats_taken_over(struct recovery_stats *stats, uint64_t now_ns, bool upgrade)
{
	if (!upgrade)
		store_relaxed(&stats->monitor_deaths, stats->monitor_deaths + 1);
	if (!stats->died_ns)
		store_relaxed(&stats->died_ns, now_ns);
}

void stats_ready(struct recovery_stats *stats, uint64_t now_ns)
{
	uint64_t ns = now_ns - stats->died_ns;

	if (!stats->died_ns)
		return;
	store_relaxed(&stats->died_ns, 0);
	store_relaxed(&stats->times, stats->times + 1);
	store_relaxed(&stats->ns, stats->ns + ns);
	if (ns > stats->longest_ns)
		store_relaxed(&stats->longest_ns, ns);
}
