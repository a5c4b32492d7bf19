/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From (seed, step) to an operation, and from an operation to words.
 */
#include "difftest.h"

#include <fcntl.h>
#include <string.h>

static const struct op_def *const groups[] = {name_ops,	 open_ops, io_ops,   space_ops, attr_ops,
					      xattr_ops, dir_ops,  lock_ops, map_ops,	exec_ops};

static unsigned total_weight(void)
{
	static unsigned total;

	if (!total)
		for (size_t g = 0; g < ARRAY_SIZE(groups); g++)
			for (const struct op_def *def = groups[g]; def->name; def++)
				total += def->weight;
	return total;
}

static const struct op_def *def_pick(struct rng *r)
{
	unsigned left = rng_below(r, total_weight());

	for (size_t g = 0; g < ARRAY_SIZE(groups); g++)
		for (const struct op_def *def = groups[g]; def->name; def++) {
			if (left < def->weight)
				return def;
			left -= def->weight;
		}
	__builtin_unreachable();
}

static int actor_pick(struct rng *r)
{
	static const unsigned char actors[] = {ACTOR_ROOT,  ACTOR_ROOT,	 ACTOR_ROOT,  ACTOR_USER1, ACTOR_USER1,
					       ACTOR_USER1, ACTOR_USER1, ACTOR_USER2, ACTOR_USER2, ACTOR_USER2};

	return actors[rng_below(r, ARRAY_SIZE(actors))];
}

void op_generate(struct op *op, uint64_t seed, unsigned step)
{
	struct rng r;

	rng_init(&r, seed, step);
	op->step = step;
	op->def = def_pick(&r);
	op->actor = op->def->flags & OP_ROOT ? ACTOR_ROOT : actor_pick(&r);
	op->at_cwd = rng_one_in(&r, 20);
	op->seed = rng_next(&r);
	op->path[0][0] = op->path[1][0] = '\0';
	op->slot[0] = rng_below(&r, SLOT_N);
	op->slot[1] = rng_below(&r, SLOT_N);
	memset(op->arg, 0, sizeof(op->arg));
	if (op->def->make)
		op->def->make(op, &r);
}

bool op_has_path(const struct op *op, int which)
{
	return strchr(op->def->spec, which ? 'q' : 'p') != NULL;
}

/* Quotes a name; one that is very long is cut in the middle, with its length. */
char *name_quote(const char *name, char *buf, size_t size)
{
	size_t len = strlen(name), n = 0;

	n += snprintf(buf, size, "\"");
	for (size_t i = 0; i < len && n + 40 < size; i++) {
		unsigned char c = name[i];

		if (len > 300 && i == 40) {
			n += snprintf(buf + n, size - n, "...[%zu bytes]...", len);
			i = len - 40;
		}
		if (c < ' ' || c > '~' || c == '"' || c == '\\')
			n += snprintf(buf + n, size - n, "\\x%02x", c);
		else
			buf[n++] = c;
	}
	snprintf(buf + n, size - n, "\"");
	return buf;
}

static void open_flags_print(char *text, size_t size, long flags)
{
	static const struct {
		int flag;
		const char *name;
	} names[] = {
		{O_CREAT, "O_CREAT"},	  {O_EXCL, "O_EXCL"},		{O_TRUNC, "O_TRUNC"},
		{O_APPEND, "O_APPEND"},	  {O_NONBLOCK, "O_NONBLOCK"},	{O_SYNC, "O_SYNC"},
		{O_TMPFILE, "O_TMPFILE"}, {O_DIRECTORY, "O_DIRECTORY"}, {O_NOFOLLOW, "O_NOFOLLOW"},
		{O_DIRECT, "O_DIRECT"},	  {O_NOATIME, "O_NOATIME"},	{O_PATH, "O_PATH"},
		{O_CLOEXEC, "O_CLOEXEC"}, {O_DSYNC, "O_DSYNC"},
	};
	static const char *const access[] = {"O_RDONLY", "O_WRONLY", "O_RDWR", "3"};
	size_t n = snprintf(text, size, "%s", access[flags & O_ACCMODE]);

	flags &= ~O_ACCMODE;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if ((flags & names[i].flag) != names[i].flag)
			continue;
		n += snprintf(text + n, size - n, "|%s", names[i].name);
		flags &= ~names[i].flag;
	}
	if (flags)
		snprintf(text + n, size - n, "|%#lx", flags);
}

static void arg_describe(const struct op *op, char letter, int *next_arg, char *text, size_t size)
{
	switch (letter) {
	case 'p':
	case 'P':
		name_quote(op->path[0], text, size);
		break;
	case 'q':
	case 'Q':
		name_quote(op->path[1], text, size);
		break;
	case 's':
		snprintf(text, size, "fd%d", op->slot[0]);
		break;
	case 't':
		snprintf(text, size, "fd%d", op->slot[1]);
		break;
	case 'f':
		open_flags_print(text, size, op->arg[(*next_arg)++]);
		break;
	case 'o':
		snprintf(text, size, "0%lo", op->arg[(*next_arg)++]);
		break;
	case 'x':
		snprintf(text, size, "%#lx", op->arg[(*next_arg)++]);
		break;
	default:
		snprintf(text, size, "%ld", op->arg[(*next_arg)++]);
	}
}

static const char *const actor_names[ACTOR_N] = {"root", "60001", "60002"};

static bool list_has(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (; *list; list += strcspn(list, ","), list += *list == ',')
		if (!strncmp(list, name, len) && (list[len] == ',' || !list[len]))
			return true;
	return false;
}

bool op_is_skipped(const struct op *op)
{
	return config.skip && (list_has(config.skip, op->def->name) || list_has(config.skip, actor_names[op->actor]));
}

void op_describe(const struct op *op, char *text, size_t size)
{
	int next_arg = 0;
	char arg[1600];
	size_t n;

	n = snprintf(text, size, "%5u %-5s %s%s(", op->step, actor_names[op->actor], op->at_cwd ? "[cwd] " : "",
		     op->def->name);
	for (const char *c = op->def->spec; *c && n < size; c++) {
		arg_describe(op, *c, &next_arg, arg, sizeof(arg));
		n += snprintf(text + n, size - n, "%s%s", c == op->def->spec ? "" : ", ", arg);
	}
	if (n < size)
		snprintf(text + n, size - n, ")");
}

void op_list_print(FILE *f)
{
	for (size_t g = 0; g < ARRAY_SIZE(groups); g++)
		for (const struct op_def *def = groups[g]; def->name; def++)
			fprintf(f, "  %-16s %4u in %u\n", def->name, def->weight, total_weight());
}
