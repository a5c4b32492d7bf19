/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A state that anybody may have written to, read as `fxfs --status` reads it. The input is a list of changes to a good
 * one: where (2 bits what, 30 bits offset), how many bytes, the bytes.
 */
#include "test/fuzz/fuzz.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "recover/handle.h"
#include "recover/journal.h"
#include "recover/node.h"
#include "recover/state.h"
#include "recover/status.h"

#define TABLE_BYTES 65536
#define NODES_LIMIT (TABLE_BYTES / sizeof(struct node)) /* more would only take longer */

static struct state good;
static char path[256];

static void remove_it(void)
{
	unlink(path);
}

/* Where a change goes; NULL: nowhere. */
static uint8_t *place(uint32_t where, size_t bytes)
{
	const struct {
		void *at;
		size_t bytes;
	} parts[] = {{good.header, sizeof(*good.header)},
		     {good.records, sizeof(struct record) * JOURNAL_RECORDS},
		     {good.handles, TABLE_BYTES},
		     {good.nodes, TABLE_BYTES}};
	uint32_t part = where >> 30, offset = (where & ((1u << 30) - 1)) % (uint32_t)parts[part].bytes;

	return bytes > parts[part].bytes - offset ? NULL : (uint8_t *)parts[part].at + offset;
}

#define CHANGES 32

struct change {
	uint8_t *at;
	uint8_t bytes, before[255];
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct change changes[CHANGES];
	unsigned n = 0;

	while (size > 5 && n < CHANGES) {
		struct change *change = &changes[n];
		uint32_t where;

		memcpy(&where, data, sizeof(where));
		change->bytes = data[4];
		data += 5;
		size -= 5;
		if (change->bytes > size)
			change->bytes = (uint8_t)size;
		change->at = place(where, change->bytes);
		if (change->at) {
			memcpy(change->before, change->at, change->bytes);
			memcpy(change->at, data, change->bytes);
			n++;
		}
		data += change->bytes;
		size -= change->bytes;
	}

	uint64_t nodes_high = good.header->nodes_high, handles_high = good.header->handles_high;

	/* what passes for good, but too long */
	if (nodes_high > NODES_LIMIT && nodes_high < NODES_MAX)
		good.header->nodes_high = NODES_LIMIT;
	if (handles_high > NODES_LIMIT && handles_high < HANDLES_MAX)
		good.header->handles_high = NODES_LIMIT;
	status_print("/", path, true);
	status_print("/", path, false);
	good.header->nodes_high = nodes_high;
	good.header->handles_high = handles_high;
	while (n--)
		memcpy(changes[n].at, changes[n].before, changes[n].bytes);
	return 0;
}

static void seed(size_t offset, const void *bytes, uint8_t n)
{
	uint8_t change[5 + 255] = {0};
	uint32_t where = (uint32_t)offset;

	memcpy(change, &where, sizeof(where));
	change[4] = n;
	memcpy(change + 5, bytes, n);
	fuzz_seed(change, 5 + (size_t)n);
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
		SEED(monitor_pid, &numbers[i], 4);
		SEED(started_realtime_ns, &numbers[i], 8);
	}
	memset(text, 0xff, sizeof(text));
	SEED(source, text, 255);
	SEED(version_text, text, 255);
	memset(text, '"', sizeof(text));
	SEED(mountpoint, text, 255);
	SEED(path, text, 255);
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
	if (!freopen("/dev/null", "w", stdout))
		err(1, "/dev/null");
	return 0;
}
