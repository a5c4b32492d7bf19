/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a new server does before it serves: settles what the dead one left half done, in an order in which
 * each step bears another death:
 *
 *	steps of nodes in progress -> grants in progress -> records without a reply give back what they granted ->
 *	handles half closed -> FORGETs in the buffers -> descriptors that nobody names -> (RESEND, then claims and the
 *	collection)
 *
 * The dead server was reaped before, so nothing of it runs any more.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "recover/atomic.h"
#include "recover/crash.h"
#include "recover/internal.h"
#include "recover/log.h"

/* The slot of the thread that recovers. */
static struct worker_slot *recovery_slot(struct recover *recover)
{
	return &recover->state.slots[STATE_WORKERS_MAX];
}

static void settle_steps(struct recover *recover)
{
	for (unsigned i = 0; i < STATE_SLOTS; i++)
		node_finish_step(&recover->nodes, &recover->state.slots[i]);
}

static void settle_grants(struct recover *recover)
{
	for (unsigned i = 0; i < recover->state.header->records_high; i++)
		if (recover->state.records[i].phase == RECORD_BEGUN)
			node_finish_grant(&recover->nodes, &recover->state.records[i]);
}

static void settle_records(struct recover *recover)
{
	for (unsigned i = 0; i < recover->state.header->records_high; i++) {
		struct record *record = &recover->state.records[i];

		if (record->phase != RECORD_BEGUN)
			continue;
		node_revoke(&recover->nodes, recovery_slot(recover), record);
		handle_revoke(&recover->handles, record);
	}
}

static void settle_handles(struct recover *recover)
{
	for (uint64_t i = 1; i <= recover->state.header->handles_high; i++) {
		struct handle *handle = &recover->state.handles[i];

		if (handle->state == HANDLE_CLOSING)
			handle_close(&recover->handles, handle);
	}
}

/* Taken from the kernel by a dying worker and never sent again: only our buffer still has it. */
static void settle_forgets(struct recover *recover)
{
	for (unsigned i = 0; i < recover->workers_n; i++) {
		struct worker *worker = &recover->workers[i];
		struct fuse_in_header *in = (void *)worker->in;

		if (in->len && (in->opcode == FUSE_FORGET || in->opcode == FUSE_BATCH_FORGET) &&
		    in->len <= recover->state.header->max_write &&
		    request_valid(in, in->len, recover_init_flags(recover))) {
			forget_apply(recover, in, worker->slot);
			add_relaxed(&recover->state.header->counters.forgets_recovered, 1);
		}
		store_release(&in->len, 0);
		worker->slot->busy = 0;
		worker->slot->calling = 0;
	}
}

#define NUMBERS_FEW 32768

/* A set of descriptor numbers: an ordinary limit of open files needs no allocation. */
struct numbers {
	uint64_t few[NUMBERS_FEW / 64];
	uint64_t *bits; /* of their own once they are more */
	unsigned room;
	unsigned high;
};

static void numbers_add(void *context, int fd)
{
	struct numbers *numbers = context;
	unsigned n = (unsigned)fd;

	if (fd < 0)
		return;
	if (n >= numbers->room) {
		unsigned room = (n + NUMBERS_FEW) & ~(NUMBERS_FEW - 1u);
		uint64_t *bits = realloc(numbers->bits == numbers->few ? NULL : numbers->bits, room / 8);

		if (!bits)
			bug("no memory to tell which descriptors are in use");
		if (numbers->bits == numbers->few)
			memcpy(bits, numbers->few, sizeof(numbers->few));
		memset((uint8_t *)bits + numbers->room / 8, 0, (room - numbers->room) / 8);
		numbers->bits = bits;
		numbers->room = room;
	}
	numbers->bits[n / 64] |= UINT64_C(1) << n % 64;
	if (n > numbers->high)
		numbers->high = n;
}

static void mark_own(struct recover *recover, struct numbers *numbers)
{
	const struct state_header *header = recover->state.header;

	for (int fd = 0; fd <= 2; fd++)
		numbers_add(numbers, fd);
	numbers_add(numbers, recover->state.fd);
	for (int i = 0; i < STATE_WORKERS_MAX; i++)
		numbers_add(numbers, header->device[i]);
	for (int i = 0; i < KEEP_N; i++)
		numbers_add(numbers, header->keep[i]);
	for (uint64_t i = 1; i <= header->handles_high; i++)
		if (recover->state.handles[i].state == HANDLE_OPEN)
			numbers_add(numbers, recover->state.handles[i].fd);
	for (unsigned i = 0; i < header->records_high; i++) {
		const struct record *record = &recover->state.records[i];

		for (uint32_t s = 0; record->phase != RECORD_FREE && s < record->nsteps && s < JOURNAL_STEPS; s++)
			numbers_add(numbers, journal_step_fd(record, s));
	}
}

/* Descriptors that were opened but not yet written down: all numbers between those that somebody names. */
static void settle_descriptors(struct recover *recover)
{
	struct numbers numbers = {.bits = numbers.few, .room = NUMBERS_FEW};
	unsigned from = 0;

	mark_own(recover, &numbers);
	if (recover->fs->mark)
		recover->fs->mark(recover, numbers_add, &numbers);
	for (unsigned n = 0; n <= numbers.high; n++) {
		if (!(numbers.bits[n / 64] & UINT64_C(1) << n % 64))
			continue;
		if (n > from)
			syscall(SYS_close_range, from, n - 1, 0);
		from = n + 1;
	}
	syscall(SYS_close_range, from, ~0u, 0);
	if (numbers.bits != numbers.few)
		free(numbers.bits);
}

void recovery_settle(struct recover *recover)
{
	settle_steps(recover);
	crash_point(steps_settled);
	settle_grants(recover);
	crash_point(grants_settled);
	settle_records(recover);
	crash_point(records_settled);
	settle_handles(recover);
	crash_point(handles_settled);
	settle_forgets(recover);
	crash_point(forgets_settled);
	settle_descriptors(recover);
	crash_point(descriptors_settled);
}

void recovery_claim(struct recover *recover, uint64_t unique)
{
	struct record *record = journal_find(&recover->journal, unique);

	if (record)
		store_relaxed(&record->life, recover->state.header->life);
}

/* Its request was answered or has gone: what its reply granted stays, what its steps opened for nobody does not. */
static void collect_record(struct recover *recover, struct record *record)
{
	if (record->phase == RECORD_BEGUN)
		journal_close_fds(record);
	journal_end(&recover->journal, record);
}

void recovery_collect(struct recover *recover)
{
	for (unsigned i = 0; i < load_acquire(&recover->state.header->records_high); i++) {
		struct record *record = &recover->state.records[i];

		if (load_acquire(&record->phase) != RECORD_FREE &&
		    load_relaxed(&record->life) != recover->state.header->life)
			collect_record(recover, record);
	}
}

/* FUSE_NOTIFY_RESEND (protocol 7.40, kernel 6.9) on the mount's device: bit 63 marks what comes again. */
int recovery_resend(struct recover *recover)
{
	struct fuse_out_header header = {.len = sizeof(header), .error = FUSE_NOTIFY_RESEND};

	if (write(recover->state.header->device[0], &header, sizeof(header)) < 0)
		return -errno;
	return 0;
}
