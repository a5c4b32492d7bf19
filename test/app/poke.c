// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * poke STATE arm POINT OPCODE SIGNAL AGAIN: the server of a build with crash points dies at POINT (its number in
 * `fxfs --crash-points`), 1 + AGAIN times, in requests of kind OPCODE (0: any). SIGNAL: 0 is SIGKILL of the process,
 * other numbers are faults of the thread, or see recover/crash.h.
 *
 * poke STATE layout: the state becomes one of another layout, and its own again the next time.
 *
 * poke STATE damage WHAT: as a crash might leave it that had written anywhere. To be done while no server runs.
 */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../recover/handle.h"
#include "../../recover/journal.h"
#include "../../recover/node.h"
#include "../../recover/state.h"

static struct state_header *header;
static struct worker_slot *slots;
static struct record *records;
static uint32_t *heads;
static struct handle *handles;
static struct node *nodes;

/* The picture at the top of recover/state.h. */
static void place(uint8_t *at)
{
#define SECTION(bytes) (((bytes) + 4095) & ~UINT64_C(4095))
	header = (void *)at;
	at += STATE_HEADER_BYTES;
	slots = (void *)at;
	at += SECTION(sizeof(*slots) * STATE_SLOTS);
	at += SECTION(sizeof(struct request_stats) * STATE_SLOTS);
	records = (void *)at;
	at += SECTION(sizeof(*records) * JOURNAL_RECORDS);
	at += SECTION(sizeof(uint32_t) * GRANT_AREAS * GRANTS_PER_AREA);
	at += SECTION(header->area_bytes);
	heads = (void *)at;
	at += SECTION(sizeof(*heads) * (uint64_t)NODE_HEADS);
	at += SECTION(sizeof(uint32_t) * (uint64_t)ALIAS_HEADS);
	at += SECTION(sizeof(uint64_t) * (uint64_t)ALIAS_GROUPS);
	handles = (void *)at;
	at += SECTION(sizeof(*handles) * (uint64_t)HANDLES_MAX);
	nodes = (void *)at;
}

/* One that the journal does not use; it becomes one in flight. */
static struct record *record_begun(void)
{
	struct record *record = &records[JOURNAL_RECORDS - 1];

	header->records_high = JOURNAL_RECORDS;
	memset(record, 0, sizeof(*record));
	record->phase = RECORD_BEGUN;
	record->unique = 123456;
	return record;
}

/* The first handle that is open. */
static struct handle *handle_any(void)
{
	for (uint64_t i = 1; i <= header->handles_high; i++)
		if (handles[i].state == HANDLE_OPEN)
			return &handles[i];
	errx(1, "no handle is open");
}

static void damage_chains(uint32_t (*next)(uint32_t index))
{
	for (uint32_t i = NODE_ROOT; i <= header->nodes_high; i++)
		if (nodes[i].state == NODE_USED)
			nodes[i].next = next(i);
}

static uint32_t itself(uint32_t index)
{
	return index;
}

static uint32_t nowhere(uint32_t index)
{
	return UINT32_MAX - index;
}

static void damage(const char *what)
{
	struct record *record = record_begun();

	if (strcmp(what, "record") == 0) {
		memset(record, 0xa5, sizeof(*record));
	} else if (strcmp(what, "steps") == 0) {
		record->nsteps = UINT32_MAX;
	} else if (strcmp(what, "area") == 0) {
		record->area = UINT32_MAX;
	} else if (strcmp(what, "ngrants") == 0) {
		record->ngrants = UINT32_MAX;
	} else if (strcmp(what, "granted") == 0) {
		record->ngrants = 1;
		record->granted[0] = UINT32_MAX;
	} else if (strcmp(what, "grant") == 0) {
		record->grant.state = GRANT_NEW;
		record->grant.node = UINT32_MAX;
	} else if (strcmp(what, "reply") == 0) {
		record->phase = RECORD_REPLY;
		record->reply_bytes = 1 << 20;
	} else if (strcmp(what, "descriptor") == 0) {
		record->nsteps = 1;
		record->steps[0] = (struct step){.state = STEP_DONE, .number = SYS_openat, .result = header->device[0]};
	} else if (strcmp(what, "thread") == 0) {
		slots[0].step = (struct node_step){.kind = NODE_STEP_REVOKE, .node = UINT32_MAX, .record = UINT32_MAX};
	} else if (strcmp(what, "handle") == 0) {
		memset(handle_any(), 0xa5, sizeof(struct handle));
	} else if (strcmp(what, "handle-descriptor") == 0) {
		handle_any()->fd = header->device[0];
	} else if (strcmp(what, "devices") == 0) {
		memset(header->device, 0xff, sizeof(header->device));
	} else if (strcmp(what, "workers") == 0) {
		header->workers = header->max_write = UINT32_MAX;
	} else if (strcmp(what, "circle") == 0) {
		damage_chains(itself);
	} else if (strcmp(what, "chain") == 0) {
		damage_chains(nowhere);
	} else if (strcmp(what, "heads") == 0) {
		memset(heads, 0xff, sizeof(*heads) * (uint64_t)NODE_HEADS);
	} else if (strcmp(what, "header") == 0) {
		header->nodes_high = header->handles_high = UINT64_MAX;
	} else {
		errx(1, "damage %s?", what);
	}
}

int main(int argc, char **argv)
{
	struct stat st;
	uint8_t *at;
	int fd;

	if (argc < 3)
		errx(1, "usage: poke STATE arm|layout|damage ...");
	fd = open(argv[1], O_RDWR);
	if (fd < 0 || fstat(fd, &st))
		err(1, "%s", argv[1]);
	at = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (at == MAP_FAILED)
		err(1, "%s", argv[1]);
	place(at);
	if (strcmp(argv[2], "arm") == 0 && argc == 7) {
		header->crash = (struct crash_arm){.opcode = (uint32_t)atoi(argv[4]),
						   .passes = 1,
						   .signal = (uint32_t)atoi(argv[5]),
						   .again = (uint32_t)atoi(argv[6])};
		__atomic_store_n(&header->crash.point, (uint32_t)atoi(argv[3]), __ATOMIC_SEQ_CST);
	} else if (strcmp(argv[2], "layout") == 0) {
		header->layout = ~header->layout;
	} else if (strcmp(argv[2], "damage") == 0 && argc == 4) {
		damage(argv[3]);
	} else {
		errx(1, "usage: poke STATE arm|layout|damage ...");
	}
	return 0;
}
