/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Creates, checks and maps the state file. Knows its sections and sizes, not what a record means.
 */
#include "recover/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "recover/atomic.h"
#include "recover/fnv.h"
#include "recover/handle.h"
#include "recover/journal.h"
#include "recover/node.h"

_Static_assert(sizeof(struct state_header) <= STATE_HEADER_BYTES, "the header outgrew its section");

#define STATE_PAGE UINT64_C(4096)

static uint64_t page_up(uint64_t bytes)
{
	return (bytes + STATE_PAGE - 1) & ~(STATE_PAGE - 1);
}

/* Another size of anything is another layout: such a state is refused, not guessed at. */
static uint32_t state_layout_word(uint64_t area_bytes)
{
	const uint64_t sizes[] = {
		STATE_VERSION,
		STATE_HEADER_COMMON,
		sizeof(struct worker_slot),
		STATE_SLOTS,
		sizeof(struct request_stats),
		sizeof(struct record),
		JOURNAL_RECORDS,
		GRANT_AREAS,
		GRANTS_PER_AREA,
		sizeof(struct handle),
		HANDLES_MAX,
		sizeof(struct node),
		NODES_MAX,
		NODE_HEADS,
		ALIAS_HEADS,
		ALIAS_GROUPS,
		area_bytes,
	};
	uint64_t word = fnv(FNV_BEGIN, sizes, sizeof(sizes));

	return (uint32_t)(word ^ word >> 32);
}

/* Where each section stands in a mapping at `base`. */
static void state_place(struct state *state, uintptr_t base, uint64_t area_bytes)
{
	uint64_t at = 0;

	state->header = (void *)base;
	at += STATE_HEADER_BYTES;
	state->slots = (void *)(base + at);
	at += page_up(sizeof(struct worker_slot) * STATE_SLOTS);
	state->stats = (void *)(base + at);
	at += page_up(sizeof(struct request_stats) * STATE_SLOTS);
	state->records = (void *)(base + at);
	at += page_up(sizeof(struct record) * JOURNAL_RECORDS);
	state->grants = (void *)(base + at);
	at += page_up(sizeof(uint32_t) * GRANT_AREAS * GRANTS_PER_AREA);
	state->area = (void *)(base + at);
	at += page_up(area_bytes);
	state->heads = (void *)(base + at);
	at += page_up(sizeof(uint32_t) * (uint64_t)NODE_HEADS);
	state->aliases = (void *)(base + at);
	at += page_up(sizeof(uint32_t) * (uint64_t)ALIAS_HEADS);
	state->unlinked = (void *)(base + at);
	at += page_up(sizeof(uint64_t) * ALIAS_GROUPS);
	state->handles_offset = at;
	state->handles = (void *)(base + at);
	at += page_up(sizeof(struct handle) * (uint64_t)HANDLES_MAX);
	state->nodes_offset = at;
	state->nodes = (void *)(base + at);
	at += page_up(sizeof(struct node) * (uint64_t)NODES_MAX);
	state->bytes = at;
}

static int state_map(struct state *state, uint64_t area_bytes, int protection)
{
	uint8_t *base;

	state_place(state, 0, area_bytes);
	base = mmap(NULL, state->bytes, protection, MAP_SHARED | MAP_NORESERVE, state->fd, 0);
	if (base == MAP_FAILED)
		return -errno;
	state_place(state, (uintptr_t)base, area_bytes);
	return 0;
}

static int state_file_create(const char *path)
{
	int fd;

	if (path)
		fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
	else
		fd = memfd_create("fxfs-state", 0);
	if (fd >= 0 && !path)
		fchmod(fd, 0600);
	return fd < 0 ? -errno : fd;
}

static int state_allocate(struct state *state, uint64_t area_bytes)
{
	struct state sizes;
	int err;

	state_place(&sizes, 0, area_bytes);
	if (ftruncate(state->fd, (off_t)sizes.bytes))
		return -errno;
	/* posix_fallocate() reports its error; a file system without fallocate is refused by it as well */
	err = posix_fallocate(state->fd, 0, (off_t)sizes.handles_offset);
	return -err;
}

/* Before there is anything to read in it: who looks for a state that nobody holds finds none that is being made. */
static int state_lock(const struct state *state)
{
	return flock(state->fd, LOCK_EX) ? -errno : 0;
}

bool state_held(const struct state *state)
{
	if (flock(state->fd, LOCK_SH | LOCK_NB))
		return errno == EWOULDBLOCK;
	flock(state->fd, LOCK_UN);
	return false;
}

int state_keep_in_memory(const struct state *state)
{
	size_t bytes = (size_t)((uintptr_t)state->grants - (uintptr_t)state->header);

	return mlock2(state->header, bytes, MLOCK_ONFAULT) ? -errno : 0;
}

int state_create(struct state *state, const char *path, uint64_t area_bytes)
{
	struct state_header *header;
	int err;

	memset(state, 0, sizeof(*state));
	state->fd = state_file_create(path);
	if (state->fd < 0)
		return state->fd;
	state->writable = true;
	err = state_lock(state);
	if (!err)
		err = state_allocate(state, area_bytes);
	if (!err)
		err = state_map(state, area_bytes, PROT_READ | PROT_WRITE);
	if (err) {
		close(state->fd);
		if (path)
			unlink(path);
		return err;
	}
	header = state->header;
	header->version = STATE_VERSION;
	header->layout = state_layout_word(area_bytes);
	header->bytes = state->bytes;
	header->area_bytes = area_bytes;
	for (int i = 0; i < KEEP_N; i++)
		header->keep[i] = -1;
	for (int i = 0; i < STATE_WORKERS_MAX; i++)
		header->device[i] = -1;
	if (path)
		snprintf(header->path, sizeof(header->path), "%s", path);
	store_release(&header->magic, STATE_MAGIC);
	return 0;
}

static int state_check_file(int fd, const char **why)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	*why = "not a regular file";
	if (!S_ISREG(st.st_mode))
		return -EBADMSG;
	*why = "owned by somebody else";
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return -EPERM;
	*why = "accessible to others than its owner";
	if (st.st_mode & 077)
		return -EPERM;
	*why = "too short for a state";
	if (st.st_size < STATE_HEADER_BYTES)
		return -EBADMSG;
	return 0;
}

static int state_check_header(const struct state_header *header, uint64_t file_bytes, const char **why)
{
	struct state sizes;

	*why = "not a state of fxfs";
	if (header->magic != STATE_MAGIC)
		return -EBADMSG;
	*why = "a state of another version of fxfs";
	if (header->version != STATE_VERSION)
		return -EPROTO;
	*why = "a state with another layout";
	if (header->area_bytes > UINT32_MAX || header->layout != state_layout_word(header->area_bytes))
		return -EPROTO;
	*why = "torn: its size is not what its header says";
	state_place(&sizes, 0, header->area_bytes);
	if (header->bytes != sizes.bytes || file_bytes != sizes.bytes)
		return -EBADMSG;
	return state_check_numbers(header, why);
}

int state_check_numbers(const struct state_header *header, const char **why)
{
	*why = "torn: a number in its header is out of range";
	if (header->nodes_high >= NODES_MAX || header->handles_high >= HANDLES_MAX ||
	    header->records_high > JOURNAL_RECORDS || header->workers > STATE_WORKERS_MAX ||
	    header->phase >= STATE_PHASE_N || header->init_in_bytes > STATE_INIT_BYTES ||
	    header->init_out_bytes > STATE_INIT_BYTES ||
	    header->nodes_bytes > sizeof(struct node) * (uint64_t)NODES_MAX ||
	    (header->nodes_high && (header->nodes_high + 1) * sizeof(struct node) > header->nodes_bytes) ||
	    header->handles_bytes > sizeof(struct handle) * (uint64_t)HANDLES_MAX ||
	    (header->handles_high && (header->handles_high + 1) * sizeof(struct handle) > header->handles_bytes))
		return -EBADMSG;
	*why = "torn: a text in its header has no end";
	if (!memchr(header->source, 0, sizeof(header->source)) ||
	    !memchr(header->mountpoint, 0, sizeof(header->mountpoint)) ||
	    !memchr(header->path, 0, sizeof(header->path)) || !memchr(header->program, 0, sizeof(header->program)) ||
	    !memchr(header->cache, 0, sizeof(header->cache)) ||
	    !memchr(header->device_path, 0, sizeof(header->device_path)) ||
	    !memchr(header->passthrough, 0, sizeof(header->passthrough)) ||
	    !memchr(header->wake_text, 0, sizeof(header->wake_text)) ||
	    !memchr(header->hold_text, 0, sizeof(header->hold_text)) ||
	    !memchr(header->contain_text, 0, sizeof(header->contain_text)) ||
	    !memchr(header->version_text, 0, sizeof(header->version_text)))
		return -EBADMSG;
	return 0;
}

/* Checks and maps the state that is open as state->fd. */
static int state_check(struct state *state, int protection, const char **why)
{
	struct state_header *header;
	struct stat st;
	int err = state_check_file(state->fd, why);

	if (err)
		return err;
	header = malloc(STATE_HEADER_BYTES);
	if (!header)
		return -ENOMEM;
	err = -EBADMSG;
	*why = "too short for a state";
	if (fstat(state->fd, &st) == 0 && pread(state->fd, header, STATE_HEADER_BYTES, 0) == STATE_HEADER_BYTES)
		err = state_check_header(header, (uint64_t)st.st_size, why);
	if (!err)
		err = state_map(state, header->area_bytes, protection);
	free(header);
	return err;
}

int state_open(struct state *state, const char *path, const char **why)
{
	int err;

	memset(state, 0, sizeof(*state));
	*why = "cannot be opened";
	state->fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (state->fd < 0)
		return -errno;
	err = state_check(state, PROT_READ, why);
	if (err)
		close(state->fd);
	return err;
}

int state_adopt(struct state *state, int fd, const char **why)
{
	memset(state, 0, sizeof(*state));
	state->fd = fd;
	state->writable = true;
	return state_check(state, PROT_READ | PROT_WRITE, why);
}

void state_close(struct state *state)
{
	munmap(state->header, state->bytes);
	close(state->fd);
}

void state_default_path(uint32_t device_minor, char *path, size_t size)
{
	snprintf(path, size, "/run/fxfs/%u.state", device_minor);
}

int state_grow(struct state *state, uint64_t offset, uint64_t *have, uint64_t bytes)
{
	int err;

	while (*have < bytes) {
		err = posix_fallocate(state->fd, (off_t)(offset + *have), STATE_GROW_BYTES);
		if (err)
			return -err;
		store_release(have, *have + STATE_GROW_BYTES); /* death before: allocated once more, harmless */
	}
	return 0;
}
