/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Prints what the state says of a mount. The state is found through the table of mounts, which the kernel answers
 * without asking any server.
 */
#include "recover/status.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "recover/handle.h"
#include "recover/journal.h"
#include "recover/log.h"
#include "recover/mounted.h"
#include "recover/node.h"
#include "recover/place.h"
#include "recover/recover.h"
#include "recover/state.h"
#include "recover/witness.h"

enum value_kind { VALUE_TEXT, VALUE_NUMBER };

struct value {
	const char *key;
	enum value_kind kind;
	const char *text;
	uint64_t number;
};

#define TEXT(k, t) ((struct value){.key = (k), .kind = VALUE_TEXT, .text = (t)})
#define NUMBER(k, n) ((struct value){.key = (k), .kind = VALUE_NUMBER, .number = (uint64_t)(n)})

/* How many bytes the character at `text` has in UTF-8 (RFC 3629); 0: it is none. */
static int utf8_bytes(const char *text)
{
	const unsigned char *at = (const unsigned char *)text;
	int n = at[0] < 0x80 ? 1 : at[0] < 0xc2 ? 0 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : at[0] < 0xf5 ? 4 : 0;

	for (int i = 1; i < n; i++)
		if ((at[i] & 0xc0) != 0x80) /* also at the end of the text */
			return 0;
	/* longer than need be, half of a surrogate pair, beyond the last character */
	if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] >= 0xa0) || (at[0] == 0xf0 && at[1] < 0x90) ||
	    (at[0] == 0xf4 && at[1] >= 0x90))
		return 0;
	return n;
}

/* JSON is UTF-8, names need not be: a byte that is none becomes \udcXX, which others (Python, PEP 383) turn back. */
static void print_json_text(const char *text)
{
	putchar('"');
	while (*text) {
		int n = utf8_bytes(text);

		if (*text == '"' || *text == '\\')
			printf("\\%c", *text);
		else if (n == 0)
			printf("\\udc%02x", (unsigned char)*text);
		else if ((unsigned char)*text < 0x20)
			printf("\\u%04x", (unsigned char)*text);
		else
			printf("%.*s", n, text);
		text += n ? n : 1;
	}
	putchar('"');
}

static void print_json(const struct value *values, size_t n)
{
	printf("{");
	for (size_t i = 0; i < n; i++) {
		printf("%s\n  \"%s\": ", i ? "," : "", values[i].key);
		if (values[i].kind == VALUE_TEXT)
			print_json_text(values[i].text);
		else
			printf("%llu", (unsigned long long)values[i].number);
	}
	printf("\n}\n");
}

static void print_people(const struct value *values, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (values[i].kind == VALUE_TEXT)
			printf("%-14s %s\n", values[i].key, values[i].text);
		else
			printf("%-14s %llu\n", values[i].key, (unsigned long long)values[i].number);
}

static uint64_t uptime(const struct state_header *header)
{
	struct timespec now;
	uint64_t ns;

	clock_gettime(CLOCK_REALTIME, &now);
	ns = (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
	return ns > header->started_realtime_ns ? (ns - header->started_realtime_ns) / UINT64_C(1000000000) : 0;
}

static bool process_lives(int32_t pid)
{
	return pid > 0 && !(kill(pid, 0) && errno == ESRCH);
}

static const char *phase_text(const struct state *state)
{
	const struct state_header *header = state->header;
	static const char *const names[STATE_PHASE_N + 1] = {
		[STATE_STARTING] = "starting", [STATE_SERVING] = "serving", [STATE_RECOVERING] = "recovering",
		[STATE_STOPPING] = "stopping", [STATE_BROKEN] = "broken",   [STATE_PHASE_N] = "dead"};

	if (!state_held(state))
		return names[STATE_PHASE_N];
	if (!process_lives(header->monitor_pid)) /* the server takes its place */
		return names[STATE_RECOVERING];
	return names[header->phase < STATE_PHASE_N ? header->phase : STATE_STARTING];
}

static void state_print(const struct recover_fs *fs, const struct state *state, bool json)
{
	const struct state_header *header = state->header;
	const struct nodes_counted nodes = nodes_count(state);
	struct recover_number numbers[RECOVER_NUMBERS];
	unsigned n = fs->numbers ? fs->numbers(state, numbers) : 0;
	const struct value own[] = {
		TEXT("source", header->source),
		TEXT("mountpoint", header->mountpoint),
		TEXT("phase", phase_text(state)),
		NUMBER("monitor_pid", header->monitor_pid),
		NUMBER("server_pid", header->server_pid),
		NUMBER("restarts", header->restarts),
		NUMBER("longest_pause_us", header->recovery.longest_ns / 1000),
		NUMBER("uptime_s", uptime(header)),
		TEXT("cache", header->cache),
		NUMBER("watcher_pid", header->watcher_pid),
		NUMBER("watch_events", header->counters.watch_events),
		NUMBER("watch_overflows", header->counters.watch_overflows),
		TEXT("device", header->device_path),
		TEXT("passthrough", header->passthrough),
		TEXT("witness", witness_name(header->witness)),
		TEXT("wake", header->wake_text),
		TEXT("contain", header->contain_text),
		NUMBER("workers", header->workers),
		NUMBER("inodes", nodes.used),
		NUMBER("nlookup", nodes.nlookup),
		NUMBER("kept_inodes", nodes.kept),
		NUMBER("handles", handles_count(state)),
		NUMBER("in_flight", journal_in_flight(state)),
		NUMBER("requests", header->counters.requests),
		NUMBER("resent", header->counters.resent),
		NUMBER("replayed", header->counters.replayed),
		NUMBER("poisoned", header->counters.poisoned),
		NUMBER("hangs", header->counters.hangs),
		NUMBER("holds", header->counters.holds),
		NUMBER("upgrades", header->upgrades),
		TEXT("hold", header->hold_text),
		NUMBER("evidence", header->evidence || header->witness == WITNESS_EVIDENCE),
		NUMBER("handovers", header->counters.handovers),
		NUMBER("lost_handles", header->counters.lost_handles),
		NUMBER("lost_locks", header->counters.lost_locks),
		TEXT("state", header->path),
		TEXT("version", header->version_text),
	};

	struct value values[sizeof(own) / sizeof(own[0]) + RECOVER_NUMBERS];

	memcpy(values, own, sizeof(own));
	for (unsigned i = 0; i < n; i++)
		values[sizeof(own) / sizeof(own[0]) + i] = NUMBER(numbers[i].name, numbers[i].value);
	(json ? print_json : print_people)(values, sizeof(own) / sizeof(own[0]) + n);
}

int status_path(const char *mountpoint, char *path, size_t size)
{
	struct mounted mounted;

	if (mounted_find(mountpoint, &mounted) || mounted.device_major) {
		log_error("nothing that fxfs serves is mounted on %s", mountpoint);
		return 1;
	}
	place_find(mounted.device_minor, path, size);
	return 0;
}

int status_print(const struct recover_fs *fs, const char *mountpoint, const char *state_path, bool json)
{
	char path[PATH_MAX];
	struct state state;
	const char *why;
	int err;

	if (!state_path) {
		if (status_path(mountpoint, path, sizeof(path)))
			return 1;
		state_path = path;
	}
	err = state_open(&state, state_path, &why);
	if (err) {
		log_error("cannot read the state %s of %s: %s: %s", state_path, mountpoint, why, strerror(-err));
		return 2;
	}
	state_print(fs, &state, json);
	state_close(&state);
	return 0;
}
