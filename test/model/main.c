/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The model: what is tried, as TAP. `model -v` also prints how each mistake comes out.
 */
#include <stdio.h>
#include <string.h>

#include "test/model/explore.h"
#include "test/model/journal.h"

#define TEXT(name, text) text,
static const char *const places[P_N] = {PLACES(TEXT)};
static const char *const mistakes[M_N] = {MISTAKES(TEXT)};

static const struct operation nothing = {"nothing", .keys = 0};
static const struct operation create_0 = {"CREATE 0", 1, 1, {0}, 1, 0, 0};
static const struct operation create_1 = {"CREATE 1", 1, 1, {1}, 1, 0, 0};
static const struct operation make_0 = {"MKDIR 0", 1, 1, {0}, 0, 0, 0};
static const struct operation make_1 = {"MKDIR 1", 1, 1, {1}, 0, 0, 0};
static const struct operation unlink_0 = {"UNLINK", 1, 0, {0}, 0, 0, 0};
static const struct operation lookup_0 = {"LOOKUP 0", 0, 1, {0}, 0, 0, 0};
static const struct operation list_01 = {"READDIRPLUS 0, 1", 0, 2, {0, 1}, 0, 0, 1};
static const struct operation fails_0 = {"CREATE 0 that fails", 1, 1, {0}, 1, 1, 0};

struct setup setup;
static bool reached[P_N], reached_twice[P_N]; /* by a server, and by one after two deaths */

#define CHOICES (NOTHING + 1)
#define ACTION_DIE (WORKERS * CHOICES)
#define ACTION_VANISH (ACTION_DIE + 1)
#define ACTIONS (ACTION_VANISH + REQUESTS)

static bool act(struct world *world, unsigned action, const char **text)
{
	unsigned p = action / CHOICES, choice = action % CHOICES;

	if (text)
		*text = action < ACTION_DIE    ? places[world->processes[p].place]
			: action == ACTION_DIE ? "THE SERVER DIES"
					       : "who waits for the request is killed";
	if (world->wrong)
		return false;
	if (action == ACTION_DIE)
		return act_die(world);
	if (action > ACTION_DIE)
		return kernel_drops(world, action - ACTION_VANISH);
	if (world->processes[p].place == P_STOPPED)
		return false;
	reached[world->processes[p].place] = true;
	if (world->deaths >= 2)
		reached_twice[world->processes[p].place] = true;
	if (world->recovering)
		return choice == 0 && act_recovery(world);
	return act_worker(world, p, choice);
}

static bool outside(unsigned action)
{
	return action >= ACTION_DIE;
}

static const char *wrong_with(const struct world *world, bool end)
{
	const char *what = world->wrong ? world->wrong : check_held(world);

	return what ? what : end ? check_end(world) : NULL;
}

static void show(const struct world *world, unsigned action, const char *text)
{
	unsigned p = action / CHOICES;

	(void)world;
	if (action < ACTION_DIE)
		printf("#   %*s%c: %s\n", (int)p * 4, "", "AB"[p], text);
	else
		printf("#   %s\n", text);
}

static void world_make(struct world *world)
{
	memset(world, 0, sizeof(*world));
	for (unsigned r = 0; r < REQUESTS; r++)
		world->message[r] = setup.operations[r] == &nothing ? K_ABSENT : K_QUEUED;
	for (unsigned p = 0; p < WORKERS; p++)
		idle(&world->processes[p]);
	if (setup.known_0 || setup.forgets_0) {
		world->nodes[1] = (struct node){NODE_USED, 1, 0, 1, 1};
		world->known[0].node = world->known[0].generation = 1;
		world->known[0].count = !setup.forgets_0;
	}
	world->message[THE_FORGET] = setup.forgets_0 ? K_QUEUED : K_ABSENT;
	world->drained = 1;
}

static struct result run(const struct setup *with, bool loud)
{
	static struct world first;
	const struct model model = {.bytes = sizeof(struct world),
				    .first = &first,
				    .actions = ACTIONS,
				    .act = act,
				    .wrong = wrong_with,
				    .outside = outside,
				    .show = show};

	setup = *with;
	world_make(&first);
	return explore(&model, loud);
}

/* What is right: nothing may be found. */
static const struct setup setups[] = {
	{{&make_0, &unlink_0}, .registers = true, .deaths = 3},
	{{&make_0, &unlink_0}, .deaths = 3},
	{{&create_0, &create_1}, .registers = true, .deaths = 3},
	{{&create_0, &make_1}, .deaths = 3},
	{{&create_0, &lookup_0}, .registers = true, .deaths = 3},
	{{&lookup_0, &lookup_0}, .registers = true, .deaths = 3},
	{{&lookup_0, &lookup_0}, .known_0 = true, .registers = true, .deaths = 3},
	{{&lookup_0, &lookup_0}, .forgets_0 = true, .registers = true, .deaths = 3},
	{{&make_1, &nothing}, .forgets_0 = true, .registers = true, .deaths = 3},
	{{&create_1, &lookup_0}, .forgets_0 = true, .deaths = 2},
	{{&list_01, &lookup_0}, .known_0 = true, .registers = true, .deaths = 3},
	{{&list_01, &lookup_0}, .forgets_0 = true, .registers = true, .deaths = 2},
	{{&fails_0, &make_1}, .registers = true, .deaths = 3},
	{{&fails_0, &lookup_0}, .known_0 = true, .deaths = 3},
	{{&make_0, &create_1}, .vanishes = true, .registers = true, .deaths = 3},
	{{&list_01, &create_0}, .vanishes = true, .deaths = 2},
};

static const struct setup wrong_setups[] = {
	{{&make_0, &nothing}, .registers = true, .deaths = 1, .mistake = M_REPLY_AFTER_WRITE},
	{{&make_0, &nothing}, .registers = true, .deaths = 1, .mistake = M_END_BEFORE_WRITE},
	{{&make_0, &nothing}, .registers = true, .deaths = 1, .mistake = M_REVOKE_REPLY},
	{{&make_0, &nothing}, .registers = true, .deaths = 1, .mistake = M_KEEP_BEGUN},
	{{&make_0, &nothing}, .deaths = 1, .mistake = M_NO_WITNESS},
	{{&make_0, &nothing}, .deaths = 1, .mistake = M_STARTED_IS_DONE},
	{{&make_0, &nothing}, .registers = true, .deaths = 1, .mistake = M_NOT_RECORDED},
	{{&make_0, &nothing}, .registers = true, .deaths = 1, .mistake = M_COLLECT_FIRST},
	{{&make_0, &make_1}, .registers = true, .deaths = 1, .mistake = M_DRAIN_ALONE},
	{{&make_0, &nothing}, .registers = true, .deaths = 1, .mistake = M_NO_COLLECT},
	{{&nothing, &nothing}, .forgets_0 = true, .deaths = 1, .mistake = M_FORGET_LOST},
	{{&lookup_0, &lookup_0}, .forgets_0 = true, .deaths = 1, .mistake = M_FORGET_AGAIN},
	{{&lookup_0, &nothing}, .forgets_0 = true, .deaths = 2, .mistake = M_NO_STEP},
	{{&lookup_0, &nothing}, .known_0 = true, .deaths = 1, .mistake = M_RAISE_UNNOTED},
	{{&lookup_0, &nothing}, .known_0 = true, .deaths = 1, .mistake = M_RAISE_LATE},
	{{&lookup_0, &lookup_0}, .known_0 = true, .deaths = 1, .mistake = M_JUDGED_LATE},
	{{&make_1, &nothing}, .forgets_0 = true, .registers = true, .deaths = 1, .mistake = M_NO_GENERATION},
	{{&make_1, &create_0}, .forgets_0 = true, .registers = true, .mistake = M_LISTED_LATE},
	{{&create_0, &nothing}, .registers = true, .deaths = 1, .mistake = M_HANDLE_UNNOTED},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* A model that does not get somewhere says nothing about it. */
static bool check_reached(unsigned n)
{
	unsigned missed = 0;

	for (unsigned place = P_IDLE; place < P_N; place++)
		if (place != P_LISTED && (!reached[place] || !reached_twice[place])) {
			printf("# never reached%s: %s\n", reached[place] ? " after two deaths" : "", places[place]);
			missed++;
		}
	printf("%sok %u - every place was reached, also after two deaths\n", missed ? "not " : "", n);
	return !missed;
}

int main(int argc, char **argv)
{
	unsigned n = 0, failed = 0;
	bool loud = argc > 1 && strcmp(argv[1], "-v") == 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("1..%zu\n", COUNT(setups) + 1 + COUNT(wrong_setups));
	for (size_t i = 0; i < COUNT(setups); i++) {
		const struct setup *with = &setups[i];
		struct result result = run(with, true);

		failed += result.wrong != NULL;
		printf("%sok %u - %s and %s%s%s, %u deaths, %s: %s%s%zu states\n", result.wrong ? "not " : "", ++n,
		       with->operations[0]->name, with->operations[1]->name, with->forgets_0 ? " and FORGET 0" : "",
		       with->vanishes ? ", which may vanish" : "", with->deaths,
		       with->registers ? "registers" : "evidence", result.wrong ? result.wrong : "",
		       result.wrong ? ", " : "", result.states);
	}
	failed += !check_reached(++n);
	for (size_t i = 0; i < COUNT(wrong_setups); i++) {
		struct result result = run(&wrong_setups[i], loud);

		failed += result.wrong == NULL;
		printf("%sok %u - found: %s: %s, %zu states\n", result.wrong ? "" : "not ", ++n,
		       mistakes[wrong_setups[i].mistake], result.wrong ? result.wrong : "nothing is wrong",
		       result.states);
	}
	return failed != 0;
}
