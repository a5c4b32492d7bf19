/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Looks for the fewest steps that still show a difference. Operations depend on (seed, step) alone, so any
 * steps may be left out: drop ever smaller pieces, and keep dropped what the difference does not need.
 */
#include "difftest.h"

#include <stdlib.h>
#include <string.h>

#define TRIES_MAX 3000
#define PRINT_MAX 100

static const struct finding *wanted;
static unsigned tries;

static const struct op_def *def_of(uint64_t seed, unsigned step)
{
	static struct op op;

	op_generate(&op, seed, step);
	return op.def;
}

/* The same kind of difference; where it shows as the result of a step, of the same operation. */
static bool still_differs(const bool *only, unsigned n, struct finding *f)
{
	tries++;
	epoch_run(f, wanted->seed, (struct selection){only, n}, 0);
	if (!f->found || strcmp(f->where, wanted->where))
		return false;
	return strcmp(f->where, "result") || def_of(f->seed, f->step) == def_of(wanted->seed, wanted->step);
}

static unsigned drop_piece(bool *only, unsigned n, unsigned from, unsigned len, struct finding *best)
{
	static struct finding f;
	bool *trial = malloc(n);
	unsigned dropped = 0;

	memcpy(trial, only, n);
	for (unsigned i = from; i < n && len; i++)
		if (trial[i]) {
			trial[i] = false;
			len--;
			dropped++;
		}
	if (dropped && still_differs(trial, n, &f)) {
		*best = f;
		memcpy(only, trial, n);
	} else {
		dropped = 0;
	}
	free(trial);
	return dropped;
}

static unsigned next_kept(const bool *only, unsigned n, unsigned from, unsigned skip)
{
	for (; from < n; from++)
		if (only[from] && skip-- == 0)
			break;
	return from;
}

static void pieces_drop(bool *only, unsigned n, struct finding *best)
{
	unsigned at, piece;

	for (piece = n / 2 + 1; piece && tries < TRIES_MAX; piece /= 2)
		for (at = next_kept(only, n, 0, 0); at < n && tries < TRIES_MAX;)
			if (drop_piece(only, n, at, piece, best))
				at = next_kept(only, n, at, 0);
			else
				at = next_kept(only, n, at, piece);
}

static void kept_print(const bool *only, unsigned n, const struct finding *best)
{
	static struct op op;
	static char text[4096];
	unsigned printed = 0;

	printf("\nminimised (%u tries), difference in %s:\n", tries, best->where);
	for (unsigned i = 0; i < n; i++) {
		if (!only[i] || printed++ > PRINT_MAX)
			continue;
		op_generate(&op, best->seed, i);
		op_describe(&op, text, sizeof(text));
		printf("  %s\n", text);
	}
	printf("%s", best->report.text);
	fflush(stdout);
}

void finding_minimise(const struct finding *found)
{
	static struct finding best;
	unsigned n = found->step + 1;
	bool *only = malloc(n);

	/* where only the trees differed, look after each step which one did it */
	if (!strcmp(found->where, "trees"))
		config.check_every = 1;
	wanted = found;
	memset(only, true, n);
	if (!still_differs(NULL, n, &best))
		printf("\nnot minimised: the difference does not come again\n");
	else {
		n = best.step + 1;
		pieces_drop(only, n, &best);
		kept_print(only, n, &best);
	}
	free(only);
}
