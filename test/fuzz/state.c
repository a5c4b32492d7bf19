/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A state that anybody may have written to, read as `fxfs --status` reads it, and checked as a new server does it before it
 * recovers. The input is a list of changes to a good one: where (2 bits what, 30 bits offset), how many bytes, the bytes.
 */
#include "test/fuzz/fuzz.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "recover/check.h"
#include "recover/handle.h"
#include "recover/journal.h"
#include "recover/node.h"
#include "recover/recover.h"
#include "recover/state.h"
#include "recover/status.h"

#define TABLE_BYTES 65536
#define NODES_LIMIT (TABLE_BYTES / sizeof(struct node)) /* more would only take longer */
#define RECORDS 64					/* that have been in use */

static const struct recover_fs no_fs;
static struct state good;
static char path[256];
/* The parts that are changed, by the input and by what the check drops. */
static struct part {
	void *at;
	size_t bytes;
	void *before;
} parts[4];

static void remove_it(void)
{
	unlink(path);
}

static void parts_keep(void)
{
	const struct part all[] = {{good.header, STATE_HEADER_BYTES + sizeof(*good.slots) * STATE_SLOTS, NULL},
				   {good.records, sizeof(struct record) * RECORDS, NULL},
				   {good.handles, TABLE_BYTES, NULL},
				   {good.nodes, TABLE_BYTES, NULL}};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		parts[i] = all[i];
		parts[i].before = malloc(parts[i].bytes);
		if (!parts[i].before)
			errx(1, "no memory");
		memcpy(parts[i].before, parts[i].at, parts[i].bytes);
	}
}

static void parts_restore(void)
{
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		memcpy(parts[i].at, parts[i].before, parts[i].bytes);
}

/* Where a change goes; NULL: nowhere. */
static uint8_t *place(uint32_t where, size_t bytes)
{
	const struct part *part = &parts[where >> 30];
	uint32_t offset = (where & ((1u << 30) - 1)) % (uint32_t)part->bytes;

	return bytes > part->bytes - offset ? NULL : (uint8_t *)part->at + offset;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	while (size > 5) {
		uint8_t bytes = data[4] < size - 5 ? data[4] : (uint8_t)(size - 5), *at;
		uint32_t where;

		memcpy(&where, data, sizeof(where));
		at = place(where, bytes);
		if (at)
			memcpy(at, data + 5, bytes);
		data += 5 + bytes;
		size -= 5 + bytes;
	}
	/* what passes for good, but too long */
	if (good.header->nodes_high > NODES_LIMIT && good.header->nodes_high < NODES_MAX)
		good.header->nodes_high = NODES_LIMIT;
	if (good.header->handles_high > NODES_LIMIT && good.header->handles_high < HANDLES_MAX)
		good.header->handles_high = NODES_LIMIT;
	status_print(&no_fs, "/", path, true);
	status_print(&no_fs, "/", path, false);
	check_state(&good);
	parts_restore();
	return 0;
}

/* Bytes that go to `where`, in as many changes as they need. */
static void seed(size_t where, const void *bytes, size_t n)
{
	uint8_t input[4096];
	size_t used = 0;

	for (size_t done = 0; done < n;) {
		uint32_t to = (uint32_t)(where + done);
		uint8_t bytes_n = n - done < 255 ? (uint8_t)(n - done) : 255;

		memcpy(input + used, &to, sizeof(to));
		input[used + 4] = bytes_n;
		memcpy(input + used + 5, (const uint8_t *)bytes + done, bytes_n);
		used += 5u + bytes_n;
		done += bytes_n;
	}
	fuzz_seed(input, used);
}

#define PART(number) ((size_t)(number) << 30)

/* Requests in flight, and steps on nodes: what a check has most to say about. */
static void seed_flight(void)
{
	struct record record = {.unique = 5, .phase = RECORD_BEGUN, .opcode = 14, .nsteps = 2, .ngrants = 1};
	struct node_step step = {.kind = NODE_STEP_REVOKE, .node = 1};
	struct handle handle = {.state = HANDLE_OPEN, .fd = 9, .node = 1};

	record.steps[0] = (struct step){.state = STEP_DONE, .number = 257, .result = 9};
	record.steps[1].state = STEP_STARTED;
	record.granted[0] = 1;
	seed(PART(1), &record, sizeof(record));
	record.area = 1;
	record.grant.state = GRANT_RAISE;
	record.grant.node = 1;
	seed(PART(1) + sizeof(record), &record, sizeof(record));
	record.phase = RECORD_REPLY;
	record.reply_bytes = 16;
	record.reply[0] = 16;
	seed(PART(1), &record, sizeof(record));
	seed(STATE_HEADER_BYTES, &step, sizeof(step));
	seed(PART(2) + sizeof(handle), &handle, sizeof(handle));
}

static void seeds(void)
{
	static const uint64_t numbers[] = {0, 1, 1000, UINT32_MAX, UINT64_MAX};
	static char text[255];

#define SEED(field, bytes, n) seed(offsetof(struct state_header, field), bytes, n)
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		SEED(magic, &numbers[i], 8);
		SEED(bytes, &numbers[i], 8);
		SEED(area_bytes, &numbers[i], 8);
		SEED(nodes_high, &numbers[i], 8);
		SEED(handles_high, &numbers[i], 8);
		SEED(phase, &numbers[i], 4);
		SEED(workers, &numbers[i], 4);
		SEED(witness, &numbers[i], 4);
		SEED(records_high, &numbers[i], 4);
		SEED(monitor_pid, &numbers[i], 4);
		SEED(started_realtime_ns, &numbers[i], 8);
	}
	memset(text, 0xff, sizeof(text));
	SEED(source, text, 255);
	SEED(version_text, text, 255);
	memset(text, '"', sizeof(text));
	SEED(mountpoint, text, 255);
	SEED(path, text, 255);
	seed_flight();
	fuzz_seed("", 0);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const uint8_t data[NODE_DATA_BYTES] = {0};
	const struct node_key key = {0, 1, 0};
	const char *directory = getenv("FUZZ_DIRECTORY");
	struct journal journal;
	struct nodes nodes;

	fuzz_start(*argc, *argv, seeds);
	snprintf(path, sizeof(path), "%s/fxfs-fuzz.%d", directory ? directory : "/tmp", getpid());
	unlink(path);
	if (state_create(&good, path, 4096))
		errx(1, "cannot make a state");
	atexit(remove_it);
	journal_init(&journal, &good);
	nodes_init(&nodes, &good, &journal);
	if (nodes_make_root(&nodes, &key, data) ||
	    state_grow(&good, good.handles_offset, &good.header->handles_bytes, TABLE_BYTES))
		errx(1, "cannot make tables");
	good.header->records_high = RECORDS;
	parts_keep();
	if (!freopen("/dev/null", "w", stdout))
		err(1, "/dev/null");
	return 0;
}
