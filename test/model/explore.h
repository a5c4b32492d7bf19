/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Visits every state that a model can get into, each once, the nearest first: so what is found to be wrong is shown by
 * one of the shortest ways that lead there.
 */
#ifndef MODEL_EXPLORE_H
#define MODEL_EXPLORE_H

#include <stdbool.h>
#include <stddef.h>

struct world; /* the model's, of `bytes` bytes, without padding that differs */

struct model {
	size_t bytes;
	const struct world *first;
	unsigned actions; /* numbered from 0 */
	/* Makes an action; false: it cannot be made here. `text`, if there, gets what it is, in words. */
	bool (*act)(struct world *world, unsigned action, const char **text);
	/* NULL, or what is wrong with this state. `end`: it has no successor. */
	const char *(*wrong)(const struct world *world, bool end);
	/* Actions of the environment: a state that has no others is an end. */
	bool (*outside)(unsigned action);
	/* One line about an action and what it led to. */
	void (*show)(const struct world *world, unsigned action, const char *text);
};

struct result {
	const char *wrong; /* NULL: nothing */
	size_t states;
};

/* With `show` the way to what is wrong is printed, as TAP comments. Out of memory ends the program. */
struct result explore(const struct model *model, bool show);

#endif
