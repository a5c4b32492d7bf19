/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is counted, and what is told of it. */
#include "test/unit/check.h"

#include <fuse_kernel.h>
#include <stdlib.h>
#include <string.h>

#include "recover/metrics.h"
#include "recover/recover.h"
#include "recover/state.h"

static struct state state;
static char text[256 << 10];

static unsigned two_numbers(const struct state *from, struct recover_number *numbers)
{
	numbers[0] = (struct recover_number){"answers", "answers given", true, from->header->life};
	numbers[1] = (struct recover_number){"room", "room left", false, 7};
	return 2;
}

static const struct recover_fs its_fs = {.numbers = two_numbers};

static bool says(const char *line)
{
	const char *at = strstr(text, line);

	return at && (at == text || at[-1] == '\n') && at[strlen(line)] == '\n';
}

static void print(size_t size)
{
	text[metrics_print(&its_fs, &state, text, size)] = 0;
}

static void a_request_is_in_the_bucket_of_its_time(void)
{
	static struct request_stats stats;

	stats_request(&stats, FUSE_LOOKUP, 0);
	stats_request(&stats, FUSE_LOOKUP, 4000);
	CHECK_EQUAL(stats.times[FUSE_LOOKUP][0], 2);
	stats_request(&stats, FUSE_LOOKUP, 4001);
	CHECK_EQUAL(stats.times[FUSE_LOOKUP][1], 1);
	CHECK_EQUAL(stats_bucket_end(1), 16000);
	stats_request(&stats, FUSE_LOOKUP, UINT64_C(1) << 50);
	CHECK_EQUAL(stats.times[FUSE_LOOKUP][STATS_BUCKETS - 1], 1);
	CHECK_EQUAL(stats.ns[FUSE_LOOKUP], 8001 + (UINT64_C(1) << 50));
	stats_request(&stats, STATS_OPCODES, 1);
	stats_request(&stats, UINT32_MAX, 1);
	CHECK_EQUAL(stats.times[0][0], 2);
}

static void a_pause_lasts_from_the_first_death_on(void)
{
	struct recovery_stats stats = {0};

	stats_ready(&stats, 5); /* nobody died */
	CHECK_EQUAL(stats.times, 0);
	stats_died(&stats, 100, 9);
	stats_died(&stats, 200, 11);
	stats_ready(&stats, 350);
	CHECK_EQUAL(stats.times, 1);
	CHECK_EQUAL(stats.longest_ns, 250);
	stats_died(&stats, 1000, 0);
	stats_ready(&stats, 1100);
	CHECK_EQUAL(stats.ns, 350);
	CHECK_EQUAL(stats.longest_ns, 250);
	CHECK_EQUAL(stats.deaths[9], 1);
	CHECK_EQUAL(stats.deaths[0], 1);
	stats_died(&stats, 2000, 1000);
	CHECK_EQUAL(stats.deaths[0], 2);
	stats_taken_over(&stats, 3000, false);
	stats_ready(&stats, 3100);
	CHECK_EQUAL(stats.longest_ns, 1100);
	CHECK_EQUAL(stats.monitor_deaths, 1);
	stats_taken_over(&stats, 4000, true);
	CHECK_EQUAL(stats.monitor_deaths, 1);
}

static void the_text_has_what_was_counted(void)
{
	strcpy(state.header->mountpoint, "/a\"b\\c");
	strcpy(state.header->cache, "watch");
	state.header->life = 5;
	state.header->recovery.deaths[11] = 3;
	state.header->recovery.longest_ns = 1500000000;
	stats_request(&state.stats[0], FUSE_MKDIR, 5000);
	stats_request(&state.stats[STATE_SLOTS - 1], FUSE_MKDIR, 3000);
	print(sizeof(text));
	CHECK(says("fxfs_server_deaths_total{mountpoint=\"/a\\\"b\\\\c\",signal=\"11\"} 3"));
	CHECK(says("fxfs_longest_pause_seconds{mountpoint=\"/a\\\"b\\\\c\"} 1.500000000"));
	CHECK(says("fxfs_request_duration_seconds_bucket{mountpoint=\"/a\\\"b\\\\c\",op=\"mkdir\",le=\"0.000004\"} 1"));
	CHECK(says("fxfs_request_duration_seconds_bucket{mountpoint=\"/a\\\"b\\\\c\",op=\"mkdir\",le=\"+Inf\"} 2"));
	CHECK(says("fxfs_request_duration_seconds_count{mountpoint=\"/a\\\"b\\\\c\",op=\"mkdir\"} 2"));
	CHECK(says("fxfs_answers_total{mountpoint=\"/a\\\"b\\\\c\"} 5"));
	CHECK(says("fxfs_room{mountpoint=\"/a\\\"b\\\\c\"} 7"));
	CHECK(!strstr(text, "op=\"rmdir\""));
	CHECK(strlen(text) > 6 && strcmp(text + strlen(text) - 6, "# EOF\n") == 0);
}

/* All that there can be, under the longest name: it fits, or is cut between lines. */
static void the_longest_text_ends_with_a_line(void)
{
	memset(state.header->mountpoint, 'x', 200);
	for (unsigned i = 0; i < STATS_OPCODES; i++)
		stats_request(&state.stats[1], i, UINT64_MAX / 2);
	print(sizeof(text));
	CHECK(strcmp(text + strlen(text) - 6, "# EOF\n") == 0);
	print(1000);
	CHECK(strlen(text) < 1000);
	memset(state.header->mountpoint, '\n', sizeof(state.header->mountpoint) - 1);
	print(sizeof(text));
	CHECK(strlen(text) < sizeof(text) && !strstr(text, "\n\n"));
}

int main(void)
{
	static const struct check checks[] = {
		{"a request is in the bucket of its time", a_request_is_in_the_bucket_of_its_time},
		{"a pause lasts from the first death on", a_pause_lasts_from_the_first_death_on},
		{"the text has what was counted", the_text_has_what_was_counted},
		{"the longest text ends with a line", the_longest_text_ends_with_a_line},
	};

	if (state_create(&state, NULL, 4096))
		return 2;
	return check_run(checks, COUNT(checks));
}
