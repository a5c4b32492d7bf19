/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the kernel's FUSE client decides by itself, so that no server can make it equal. Everything else
 * that differs is a bug of the file system under test: keep this short.
 */
#include "difftest.h"

#include <string.h>

static const struct {
	const char *name;
	const char *reason;
} table[EXCEPT_N] = {
	[EXCEPT_APPEND_CLEARED] = {"append-cleared", "opened with O_APPEND while another open file of it has kernel "
						     "passthrough, a file appends for good"},
	[EXCEPT_BTIME_CACHED] = {"btime-cached", "the FUSE client caches a birth time only once it asked for one, and "
						 "AT_STATX_DONT_SYNC forbids it to ask"},
	[EXCEPT_COLLAPSE] = {"collapse", "the FUSE client refuses FALLOC_FL_COLLAPSE_RANGE and INSERT_RANGE itself"},
	[EXCEPT_EPOLL] = {"epoll", "FUSE files have a poll method, so epoll_ctl takes regular files (else EPERM)"},
	[EXCEPT_FIFO_TIMES] = {"fifo-times",
			       "the kernel serves a FIFO itself and tells the server neither that it is used nor "
			       "when: its times in the source stay"},
	[EXCEPT_FSTYPE] = {"fstype", "f_type is FUSE_SUPER_MAGIC"},
	[EXCEPT_LIMIT] =
		{"limit",
		 "beyond RLIMIT_FSIZE the FUSE client refuses a fallocate before times and set-id bits change, "
		 "and a passthrough write after; the source does the reverse"},
	[EXCEPT_LOCK_PID] = {"lock-pid",
			     "F_OFD_GETLK through FUSE always says -1, and the protocol does not tell an OFD "
			     "lock (-1 to F_GETLK) from a POSIX one"},
	[EXCEPT_MAP_LOCK] = {"map-lock",
			     "with kernel passthrough a mapping holds the source's file and not the one that was "
			     "opened: locks of that go with its last descriptor"},
	[EXCEPT_MAX_OFFSET] = {"max-offset", "lseek is the FUSE client's, whose files may be larger than the source's"},
	[EXCEPT_STATX_ATTRIBUTES] = {"statx-attributes", "the FUSE protocol carries no stx_attributes"},
};

static bool skipped[EXCEPT_N] = {[0 ... EXCEPT_N - 1] = true};

bool except_has(enum except e)
{
	return skipped[e];
}

static int except_find(const char *name, size_t len)
{
	for (int i = 0; i < EXCEPT_N; i++)
		if (strlen(table[i].name) == len && !strncmp(table[i].name, name, len))
			return i;
	return -1;
}

/* A list of names separated by commas replaces the default, which is all of them; "none" is empty. */
int except_parse(const char *list)
{
	size_t len;
	int e;

	memset(skipped, 0, sizeof(skipped));
	if (!strcmp(list, "none"))
		return 0;
	for (; *list; list += len + (list[len] == ',')) {
		len = strcspn(list, ",");
		e = except_find(list, len);
		if (e < 0)
			return -1;
		skipped[e] = true;
	}
	return 0;
}

void except_print(FILE *f)
{
	for (int i = 0; i < EXCEPT_N; i++)
		fprintf(f, "  %-18s %s\n", table[i].name, table[i].reason);
}
