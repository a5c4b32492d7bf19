/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What one side answered to an operation: the return value, errno, and words about everything else that
 * must be equal on both sides (data read, what the descriptor shows afterwards, ...).
 */
#include "difftest.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/sysmacros.h>

void outcome_reset(struct outcome *o)
{
	o->ret = 0;
	o->err = 0;
	o->len = 0;
	o->text[0] = '\0';
}

/* The result of the operation itself; errno is read here and nowhere else. */
void outcome_set(struct outcome *o, long ret)
{
	o->err = ret < 0 ? errno : 0;
	o->ret = ret;
}

void outcome_add(struct outcome *o, const char *fmt, ...)
{
	size_t space = sizeof(o->text) - o->len;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(o->text + o->len, space, fmt, ap);
	va_end(ap);
	if (n > 0)
		o->len += (size_t)n < space ? (size_t)n : space - 1;
}

/* The result of a further call within an operation made of several. */
void outcome_add_call(struct outcome *o, const char *what, long ret)
{
	if (ret < 0)
		outcome_add(o, " %s:%s", what, strerrorname_np(errno));
	else
		outcome_add(o, " %s:%ld", what, ret);
}

void outcome_add_data(struct outcome *o, const void *data, size_t len)
{
	outcome_add(o, " data[%zu]:%016llx", len, (unsigned long long)data_hash(data, len));
}

/* Not the times (see times.c), not the blocks (delayed allocation), not the numbers that name the file. */
void outcome_add_stat(struct outcome *o, const struct stat *st)
{
	outcome_add(o, " mode:%o nlink:%lu uid:%u gid:%u size:%lld blksize:%ld", st->st_mode,
		    (unsigned long)st->st_nlink, st->st_uid, st->st_gid, (long long)st->st_size, (long)st->st_blksize);
	if (st->st_rdev)
		outcome_add(o, " rdev:%u:%u", major(st->st_rdev), minor(st->st_rdev));
}

bool outcome_equal(const struct outcome *a, const struct outcome *b)
{
	return a->ret == b->ret && a->err == b->err && a->len == b->len && !memcmp(a->text, b->text, a->len);
}

void outcome_print(FILE *f, const char *label, const struct outcome *o)
{
	fprintf(f, "  %s: %ld", label, o->ret);
	if (o->err)
		fprintf(f, " %s", strerrorname_np(o->err) ? strerrorname_np(o->err) : "?");
	fprintf(f, "%.*s\n", (int)o->len, o->text);
}
