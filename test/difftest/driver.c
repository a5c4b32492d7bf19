/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The driver: one epoch after the other until the steps or the time are used up, or a difference is found
 * and told.
 */
#include "difftest.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

void steps_print(FILE *out, uint64_t seed, unsigned last, unsigned count)
{
	static struct op op;
	static char text[4096];
	unsigned first = last + 1 > count ? last + 1 - count : 0;

	fprintf(out, "the last steps:\n");
	for (unsigned step = first; step <= last; step++) {
		op_generate(&op, seed, step);
		if (op_is_skipped(&op))
			continue;
		op_describe(&op, text, sizeof(text));
		fprintf(out, "  %s\n", text);
	}
}

void replay_print(uint64_t seed, unsigned step)
{
	printf("replay: difftest --seed %llu --steps %u --check-every %u", (unsigned long long)seed, step + 1,
	       config.check_every);
	if (config.source)
		printf(" --other-side %s", config.source);
	if (config.skip)
		printf(" --skip %s", config.skip);
	printf(" %s %s\n", config.path[SIDE_A], config.path[SIDE_B]);
}

void finding_print(const struct finding *f)
{
	static struct op op;
	static char text[4096];

	op_generate(&op, f->seed, f->step);
	op_describe(&op, text, sizeof(text));
	printf("\ndifftest: DIFFERENCE in %s, seed %llu, step %u, after %llu steps\n  %s\n%s", f->where,
	       (unsigned long long)f->seed, f->step, (unsigned long long)shared->steps_done, text, f->report.text);
	steps_print(stdout, f->seed, f->step, 20);
	replay_print(f->seed, f->step);
	fflush(stdout);
}

static void driver_init(void)
{
	struct rlimit files;

	/* the comparison of trees keeps a descriptor per level open */
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	signal(SIGPIPE, SIG_IGN);
	umask(0);
}

static uint64_t epoch_length(void)
{
	uint64_t left = config.steps - shared->steps_done;

	return config.steps && left < EPOCH_STEPS ? left : EPOCH_STEPS;
}

static int epochs_run(time_t deadline)
{
	static struct finding f;
	uint64_t seed = config.seed;

	while ((!config.steps || shared->steps_done < config.steps) && (!deadline || time(NULL) < deadline)) {
		epoch_run(&f, seed++, (struct selection){.n = epoch_length()}, deadline);
		if (f.environment)
			return EXIT_ENVIRONMENT;
		if (!f.found)
			continue;
		finding_print(&f);
		if (config.minimise)
			finding_minimise(&f);
		return EXIT_DIFFERENT;
	}
	epochs_clean();
	return EXIT_SAME;
}

int driver_main(void)
{
	time_t deadline = config.seconds ? time(NULL) + (time_t)config.seconds : 0;
	int ret;

	driver_init();
	ret = epochs_run(deadline);
	if (ret != EXIT_SAME)
		return ret;
	if (config.source)
		printf("difftest: the source showed attributes late %u times\n", source_late);
	printf("difftest: seed %llu: %llu steps, 0 differences\n", (unsigned long long)config.seed,
	       (unsigned long long)shared->steps_done);
	return EXIT_SAME;
}
