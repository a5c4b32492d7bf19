/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Work that may hang, with a time limit. A process that waits for a FUSE server cannot always be killed, so the work is
 * done in a child that nobody waits for longer than the limit.
 */
#ifndef RECOVER_LIMIT_H
#define RECOVER_LIMIT_H

#include <limits.h>
#include <stdint.h>

#define OUTCOME_TEXT (2 * PATH_MAX)

/* What came of it: an exit code and one line for people. */
struct outcome {
	int code;
	char text[OUTCOME_TEXT];
};

/* Says something else than an outcome before; returns `code`. Control characters in names become "?": it stays one line. */
__attribute__((format(printf, 3, 4))) int outcome_set(struct outcome *outcome, int code, const char *format, ...);

/* The work: runs in the child, where nothing is open but /dev/null, and says what came of it. */
typedef void limit_work(const void *argument, struct outcome *outcome);

/* 0; -ETIMEDOUT: it hangs, and `outcome` is as it was; or -errno. */
int limit_run(limit_work *work, const void *argument, int64_t limit_ms, struct outcome *outcome);

#endif
