/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The table of open files. Free handles are found as free nodes are (node.c): remembered by the server that freed
 * them, searched for a little after a death.
 */
#include "recover/handle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "recover/atomic.h"
#include "recover/crash.h"
#include "recover/journal.h"

#define HANDLE_SCAN 64

void handles_init(struct handles *handles, struct state *state)
{
	memset(handles, 0, sizeof(*handles));
	handles->state = state;
	handles->scan = 1;
	pthread_mutex_init(&handles->lock, NULL);
}

static uint32_t handle_scan(struct handles *handles)
{
	const struct state_header *header = handles->state->header;

	if (load_relaxed(&header->handles_used) >= header->handles_high)
		return 0;
	for (int i = 0; i < HANDLE_SCAN; i++) {
		uint32_t index = handles->scan;

		handles->scan = index >= header->handles_high ? 1 : index + 1;
		if (index <= header->handles_high && load_acquire(&handles->state->handles[index].state) == HANDLE_FREE)
			return index;
	}
	return 0;
}

static uint32_t handle_fresh(struct handles *handles)
{
	struct state_header *header = handles->state->header;
	uint64_t index = header->handles_high + 1;

	if (index >= HANDLES_MAX)
		return 0;
	if (state_grow(handles->state, handles->state->handles_offset, &header->handles_bytes,
		       (index + 1) * sizeof(struct handle)))
		return 0;
	store_release(&header->handles_high, index);
	return (uint32_t)index;
}

static uint64_t handle_id(uint32_t index, const struct handle *handle)
{
	return index | (uint64_t)handle->generation << 32;
}

int handle_open(struct handles *handles, struct record *record, int fd, uint32_t node, uint32_t flags, uint64_t *id)
{
	struct handle *handle = NULL;
	uint32_t index;

	pthread_mutex_lock(&handles->lock);
	index = handles->free_n ? handles->free[--handles->free_n] : handle_scan(handles);
	if (!index)
		index = handle_fresh(handles);
	if (index) {
		handle = &handles->state->handles[index];
		handle->generation++;
		*id = handle_id(index, handle);
		store_release(&record->handle, *id); /* before the handle changes: recovery finds it */
		crash_point(handle_promised);
		store_release(&handle->state, HANDLE_OPENING);
		crash_point(handle_opening);
		add_relaxed(&handles->state->header->handles_used, 1);
	}
	pthread_mutex_unlock(&handles->lock);
	if (!handle)
		return -ENFILE;
	handle->node = node;
	handle->flags = flags;
	handle->lock = 0;
	handle->position = 0;
	handle->fd = fd;
	store_release(&handle->state, HANDLE_OPEN);
	crash_point(handle_open);
	return 0;
}

struct handle *handle_find(struct handles *handles, uint64_t id)
{
	uint64_t index = id & UINT32_MAX;
	struct handle *handle;

	if (index == 0 || index > load_acquire(&handles->state->header->handles_high))
		return NULL;
	handle = &handles->state->handles[index];
	if (load_acquire(&handle->state) != HANDLE_OPEN || handle->generation != id >> 32)
		return NULL;
	return handle;
}

static void handle_free(struct handles *handles, struct handle *handle)
{
	uint32_t index = (uint32_t)(handle - handles->state->handles);

	/* free and listed at once: a scan in between would give it to somebody, and the list to somebody else */
	pthread_mutex_lock(&handles->lock);
	store_release(&handle->state, HANDLE_FREE);
	add_relaxed(&handles->state->header->handles_used, -1);
	if (handles->free_n == handles->free_room) {
		uint32_t room = handles->free_room ? handles->free_room * 2 : 256;
		uint32_t *more = realloc(handles->free, room * sizeof(*more));

		if (more) {
			handles->free = more;
			handles->free_room = room;
		}
	}
	if (handles->free_n < handles->free_room)
		handles->free[handles->free_n++] = index;
	pthread_mutex_unlock(&handles->lock);
}

void handle_close(struct handles *handles, struct handle *handle)
{
	int fd = handle->fd;

	store_release(&handle->state, HANDLE_CLOSING);
	crash_point(handle_closing);
	if (handles->drop)
		handles->drop(handles->context, handle);
	crash_point(handle_dropped);
	store_release(&handle->fd, -1); /* death after: an orphan, closed by recovery */
	crash_point(handle_orphaned);
	if (fd >= 0)
		close(fd);
	crash_point(handle_closed);
	handle_free(handles, handle);
}

void handle_revoke(struct handles *handles, struct record *record)
{
	uint64_t index = record->handle & UINT32_MAX;
	struct handle *handle;

	if (!index || index > load_acquire(&handles->state->header->handles_high))
		return;
	handle = &handles->state->handles[index];
	if (handle->generation == record->handle >> 32 && handle->state != HANDLE_FREE) {
		int fd = handle->state == HANDLE_OPENING ? -1 : handle->fd;

		if (handle->state != HANDLE_OPENING && handles->drop)
			handles->drop(handles->context, handle);
		store_release(&handle->fd, -1); /* before it is closed: its number could be another's then */
		if (fd >= 0 && !journal_owns_fd(record, fd))
			close(fd);
		handle_free(handles, handle);
	}
	store_release(&record->handle, 0);
}

uint32_t handles_count(const struct state *state)
{
	uint32_t n = 0;

	for (uint64_t i = 1; i <= state->header->handles_high; i++)
		n += load_relaxed(&state->handles[i].state) != HANDLE_FREE;
	return n;
}
