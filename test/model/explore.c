/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Breadth first. Of a visited state only a hash of 64 bits is kept, and how it was reached: with the few million states
 * of a model, two of them sharing a hash is as likely as one in a million.
 */
#include "test/model/explore.h"

#include <err.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct visited {
	uint64_t hash;
	uint32_t from; /* its predecessor's number */
	uint32_t action;
};

struct explorer {
	const struct model *model;
	struct visited *visited; /* in the order in which they were found */
	size_t visited_n, visited_room;
	uint32_t *table; /* number + 1, by hash */
	size_t table_size;
	uint8_t *queue; /* states whose successors are not known yet: a ring */
	size_t queue_first, queue_n, queue_room;
};

static void *must(void *memory)
{
	if (!memory)
		err(2, "model");
	return memory;
}

static uint64_t hash_of(const void *data, size_t bytes)
{
	const uint8_t *at = data;
	uint64_t hash = UINT64_C(0x9e3779b97f4a7c15), word;

	for (; bytes; at += sizeof(word), bytes -= sizeof(word)) { /* whole words: explore() sees to it */
		memcpy(&word, at, sizeof(word));
		hash = (hash ^ word) * UINT64_C(0xff51afd7ed558ccd);
		hash ^= hash >> 32;
	}
	return hash;
}

static void table_add(struct explorer *explorer, size_t number)
{
	size_t at = explorer->visited[number].hash & (explorer->table_size - 1);

	while (explorer->table[at])
		at = (at + 1) & (explorer->table_size - 1);
	explorer->table[at] = (uint32_t)number + 1;
}

static bool table_has(const struct explorer *explorer, uint64_t hash)
{
	size_t at = hash & (explorer->table_size - 1);

	for (; explorer->table[at]; at = (at + 1) & (explorer->table_size - 1))
		if (explorer->visited[explorer->table[at] - 1].hash == hash)
			return true;
	return false;
}

static void grow(struct explorer *explorer)
{
	explorer->visited_room *= 2;
	explorer->visited = must(realloc(explorer->visited, explorer->visited_room * sizeof(*explorer->visited)));
	free(explorer->table);
	explorer->table_size = explorer->visited_room * 2;
	explorer->table = must(calloc(explorer->table_size, sizeof(*explorer->table)));
	for (size_t i = 0; i < explorer->visited_n; i++)
		table_add(explorer, i);
}

static uint8_t *queue_at(const struct explorer *explorer, size_t i)
{
	return explorer->queue + (explorer->queue_first + i) % explorer->queue_room * explorer->model->bytes;
}

static void queue_grow(struct explorer *explorer)
{
	size_t bytes = explorer->model->bytes;
	uint8_t *queue = must(malloc(explorer->queue_room * 2 * bytes));

	for (size_t i = 0; i < explorer->queue_n; i++)
		memcpy(queue + i * bytes, queue_at(explorer, i), bytes);
	free(explorer->queue);
	explorer->queue = queue;
	explorer->queue_room *= 2;
	explorer->queue_first = 0;
}

/* A state that was reached; does nothing if it is known. */
static void reach(struct explorer *explorer, const struct world *world, uint32_t from, uint32_t action)
{
	uint64_t hash = hash_of(world, explorer->model->bytes);

	if (table_has(explorer, hash))
		return;
	if (explorer->visited_n == explorer->visited_room)
		grow(explorer);
	if (explorer->queue_n == explorer->queue_room)
		queue_grow(explorer);
	explorer->visited[explorer->visited_n] = (struct visited){hash, from, action};
	table_add(explorer, explorer->visited_n++);
	memcpy(queue_at(explorer, explorer->queue_n++), world, explorer->model->bytes);
}

/* The way to state `number`, made once more. */
static void show_way(const struct explorer *explorer, uint32_t number, struct world *world)
{
	const struct model *model = explorer->model;
	uint32_t length = 0, *way;
	const char *text;

	for (uint32_t i = number; i; i = explorer->visited[i].from)
		length++;
	way = must(calloc(length + 1, sizeof(*way)));
	for (uint32_t i = number, at = length; i; i = explorer->visited[i].from)
		way[--at] = explorer->visited[i].action;
	memcpy(world, model->first, model->bytes);
	for (uint32_t i = 0; i < length; i++) {
		model->act(world, way[i], &text);
		model->show(world, way[i], text);
	}
	free(way);
}

/* All that a state leads to; false: it is an end. */
static bool expand(struct explorer *explorer, const struct world *world, struct world *next, uint32_t number)
{
	const struct model *model = explorer->model;
	bool goes_on = false;

	for (unsigned action = 0; action < model->actions; action++) {
		memcpy(next, world, model->bytes);
		if (!model->act(next, action, NULL))
			continue;
		goes_on = goes_on || !model->outside(action);
		reach(explorer, next, number, action);
	}
	return goes_on;
}

struct result explore(const struct model *model, bool show)
{
	struct explorer explorer = {
		.model = model, .visited_room = 1 << 16, .table_size = 1 << 17, .queue_room = 1 << 12};
	struct world *world = must(malloc(model->bytes)), *next = must(malloc(model->bytes));
	struct result result = {0};

	if (model->bytes % sizeof(uint64_t))
		errx(2, "model: a state is not a number of words");
	explorer.visited = must(malloc(explorer.visited_room * sizeof(*explorer.visited)));
	explorer.table = must(calloc(explorer.table_size, sizeof(*explorer.table)));
	explorer.queue = must(malloc(explorer.queue_room * model->bytes));
	reach(&explorer, model->first, 0, 0);
	for (uint32_t number = 0; explorer.queue_n && !result.wrong; number++) {
		memcpy(world, queue_at(&explorer, 0), model->bytes);
		explorer.queue_first++;
		explorer.queue_n--;
		result.wrong = model->wrong(world, !expand(&explorer, world, next, number));
		if (result.wrong && show)
			show_way(&explorer, number, world);
	}
	result.states = explorer.visited_n;
	free(explorer.visited);
	free(explorer.table);
	free(explorer.queue);
	free(world);
	free(next);
	return result;
}
