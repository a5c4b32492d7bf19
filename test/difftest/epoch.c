/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One epoch: empty trees, new actors, the steps, and the comparisons after each.
 *
 *	A/difftest/g/g/.../g/base      operations start in base; GUARD_DEPTH times g above it catch the
 *	B/difftest/g/g/.../g/base      paths and symlinks that climb
 */
#include "difftest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TOP "difftest"
#define GUARD_DEPTH 24
#define TIMED_EVERY 200 /* of this many steps one is timed: it costs a tick */
#define SOURCE_EVERY 16
#define REPAIR_EVERY 256

struct epoch {
	int top[SIDE_N];
	int base[SIDE_N];
	int source; /* the base in the source of side B, or -1 */
	struct actor actor[ACTOR_N];
};

/* Opens the base below a side's root, making the way to it when asked to. */
static int base_open(const char *root, bool make)
{
	int fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC), next;

	for (int i = 0; i < GUARD_DEPTH + 2 && fd >= 0; i++) {
		const char *name = i == 0 ? TOP : i <= GUARD_DEPTH ? "g" : "base";

		if (make && mkdirat(fd, name, 0755))
			perror(name);
		next = openat(fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		close(fd);
		fd = next;
	}
	return fd;
}

static int root_wipe(const char *root)
{
	int fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC), err;

	if (fd < 0)
		return -errno;
	err = tree_wipe(fd, TOP);
	close(fd);
	return err;
}

static int side_open(struct epoch *e, int i)
{
	char path[PATH_MAX + 10];
	int err = root_wipe(config.path[i]);

	if (err) {
		fprintf(stderr, "difftest: cannot remove %s/%s: %s\n", config.path[i], TOP, strerror(-err));
		return err;
	}
	e->base[i] = base_open(config.path[i], true);
	snprintf(path, sizeof(path), "%s/%s", config.path[i], TOP);
	e->top[i] = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (e->base[i] < 0 || e->top[i] < 0) {
		fprintf(stderr, "difftest: cannot make the directories in %s: %s\n", config.path[i], strerror(errno));
		return -EIO;
	}
	return 0;
}

static int epoch_open(struct epoch *e, uint64_t seed)
{
	int err = 0;

	*e = (struct epoch){.source = -1};
	shared->seed = seed;
	shared->phase_actor = -1;
	shared->progress++;
	for (int i = 0; i < SIDE_N && !err; i++)
		err = side_open(e, i);
	if (!err && config.source)
		e->source = base_open(config.source, false);
	for (int i = 0; i < ACTOR_N && !err; i++)
		err = actor_start(&e->actor[i], i, e->base);
	return err;
}

static void epoch_close(struct epoch *e)
{
	for (int i = 0; i < ACTOR_N; i++)
		actor_stop(&e->actor[i]);
	for (int i = 0; i < SIDE_N; i++) {
		close(e->top[i]);
		close(e->base[i]);
	}
	if (e->source >= 0)
		close(e->source);
}

/* Gives the base a mode in which something can happen, of those that matter: sticky, setgid, shared. */
static void base_repair(struct epoch *e, uint64_t seed, unsigned step)
{
	struct rng r;
	mode_t mode;
	gid_t group;

	rng_init(&r, seed, ~(uint64_t)step);
	mode = RNG_PICK(&r, 0777, 0777, 01777, 02777, 03777, 02775);
	group = RNG_PICK(&r, 0, SHARED_GROUP);
	if (mode == 02775)
		group = SHARED_GROUP;
	for (int i = 0; i < SIDE_N; i++)
		if (fchownat(e->base[i], "", 0, group, AT_EMPTY_PATH) || fchdir(e->base[i]) || chmod(".", mode))
			perror("difftest: repairing the base");
}

/* Where the paths of an operation start: the base, or the actor's working directory. */
static void start_open(const struct epoch *e, const struct op *op, int dir[SIDE_N])
{
	char proc[64];
	int fd;

	for (int i = 0; i < SIDE_N; i++) {
		fd = shared->actor_cwd[op->actor][i];
		dir[i] = e->base[i];
		if (!op->at_cwd || fd < 0)
			continue;
		snprintf(proc, sizeof(proc), "/proc/%d/fd/%d", e->actor[op->actor].pid, fd);
		dir[i] = open(proc, O_PATH | O_DIRECTORY | O_CLOEXEC);
	}
}

static void start_close(const struct epoch *e, const int dir[SIDE_N])
{
	for (int i = 0; i < SIDE_N; i++)
		if (dir[i] != e->base[i])
			close(dir[i]);
}

static void compare_outcome(struct finding *f)
{
	char *text = f->report.text;
	size_t size = sizeof(f->report.text);
	FILE *out;

	if (outcome_equal(&shared->outcome[SIDE_A], &shared->outcome[SIDE_B]))
		return;
	f->report.differs = true;
	out = fmemopen(text, size, "w");
	outcome_print(out, "A", &shared->outcome[SIDE_A]);
	outcome_print(out, "B", &shared->outcome[SIDE_B]);
	fclose(out);
}

static void compare_paths(struct finding *f, const struct op *op, const int dir[SIDE_N])
{
	static char parent[PATH_SPACE];

	for (int i = 0; i < 2; i++) {
		if (!op_has_path(op, i))
			continue;
		compare_entry(&f->report, dir, op->path[i], true);
		if (path_parent(op->path[i], parent))
			compare_entry(&f->report, dir, parent, false);
	}
}

/* Notes what has been found so far, under the name of the comparison that found it. */
static bool finding_is(struct finding *f, const char *where)
{
	if (!f->report.differs || f->found)
		return f->found;
	f->found = true;
	f->where = where;
	return true;
}

static void step_compare(struct epoch *e, struct finding *f, const struct op *op, const int dir[SIDE_N], struct rng *r)
{
	compare_outcome(f);
	if (finding_is(f, "result") || op->def->flags & OP_READS)
		return;
	/* looking refreshes the caches of a mount: sometimes leave them as they are */
	if (rng_one_in(r, 4))
		return;
	compare_paths(f, op, dir);
	if (finding_is(f, "state"))
		return;
	if (e->source >= 0 && !op->at_cwd && op_has_path(op, 0) && rng_one_in(r, SOURCE_EVERY))
		source_compare(&f->report, dir[SIDE_B], e->source, op->path[0]);
	finding_is(f, "source");
}

static void step_run(struct epoch *e, struct finding *f, const struct op *op)
{
	static struct times_probe probe;
	int dir[SIDE_N];
	struct rng r;

	rng_init(&r, op->seed, op->step);
	start_open(e, op, dir);
	probe.n = 0;
	if (rng_one_in(&r, TIMED_EVERY) && !(op->def->flags & (OP_READS | OP_NO_TIMES)))
		times_before(&probe, op);
	shared->phase_actor = op->actor;
	if (actor_step(&e->actor[op->actor], op->step)) {
		fprintf(stderr, "difftest: actor %d died\n", op->actor);
		f->environment = true;
	}
	shared->phase_actor = -1;
	if (!f->environment) {
		step_compare(e, f, op, dir, &r);
		if (!f->found)
			times_after(&probe, dir, &f->report);
		finding_is(f, "times");
	}
	start_close(e, dir);
}

static void epoch_steps(struct epoch *e, struct finding *f, struct selection sel, time_t deadline)
{
	static struct op op;
	unsigned unchecked = 0;

	for (unsigned step = 0; step < sel.n && !f->found && !f->environment; step++) {
		if (step % REPAIR_EVERY == 0)
			base_repair(e, f->seed, step);
		shared->steps_done++;
		if (sel.only && !sel.only[step])
			continue;
		op_generate(&op, f->seed, step);
		if (op_is_skipped(&op))
			continue;
		f->step = shared->step = step;
		step_run(e, f, &op);
		shared->progress++;
		if (!f->found && ++unchecked >= config.check_every) {
			tree_compare(&f->report, e->top);
			unchecked = 0;
			finding_is(f, "trees");
		}
		if (deadline && step % 64 == 0 && time(NULL) >= deadline)
			break;
	}
	if (!f->found && !f->environment)
		tree_compare(&f->report, e->top);
	finding_is(f, "trees");
}

void epoch_run(struct finding *f, uint64_t seed, struct selection sel, time_t deadline)
{
	static struct epoch e;

	*f = (struct finding){.seed = seed};
	if (epoch_open(&e, seed))
		f->environment = true;
	else
		epoch_steps(&e, f, sel, deadline);
	epoch_close(&e);
}

void epochs_clean(void)
{
	for (int i = 0; i < SIDE_N; i++)
		root_wipe(config.path[i]);
}
