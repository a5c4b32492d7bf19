/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The tables of bpf/answer.h as the server writes them. */
#ifndef FS_ANSWER_TABLE_H
#define FS_ANSWER_TABLE_H

#include <sys/stat.h>

#include "bpf/answer.h"
#include "fs/fs.h"

extern struct answer_tables answer_tables; /* of this process; all NULL: it has none */

/* In each server, once it has them; `life` is another than that of any server before. */
void table_start(struct fs *fs, uint32_t life);

/*
 * What the name leads to, 0: nothing; ANSWER_ASK: something. `directory` was sampled before. False: it is not known from
 * now on that the name is there.
 */
bool table_put_name(struct fs *fs, const struct answer_sample *directory, uint64_t parent, const char *name,
		    uint64_t node);
void table_put_attr(struct fs *fs, const struct answer_sample *sample, uint64_t nodeid, const struct stat *st);
/* ANSWER_CAPABILITY and so on; where its attributes are known. */
void table_put_absent(struct fs *fs, const struct answer_sample *sample, uint64_t nodeid, uint32_t which);

/* Between the two all names of the directory are put: then others are missing, unless one made room meanwhile. NULL: no. */
struct answer_whole *table_begin_whole(struct fs *fs, const struct answer_sample *directory, uint64_t node,
				       uint64_t *seq);
void table_end_whole(struct fs *fs, struct answer_whole *whole, uint64_t seq);

/* answer_whole.c: a name was asked for in vain in this directory, which is open as `path` (O_PATH). */
void whole_missed(struct request *rq, const struct answer_sample *directory, int path, uint64_t node);

/* Once, where there is no such node yet; does nothing where there is no room. */
void table_put_open(struct fs *fs, uint64_t nodeid, uint32_t backing_id);
bool table_has_open(const struct fs *fs, uint64_t nodeid);
/* What the id was; 0: there was none. */
uint32_t table_withdraw_open(struct fs *fs, uint64_t nodeid);
/* One that would have to go, so that there is room; NULL: there is. */
struct answer_open *table_full_open(struct fs *fs, uint64_t nodeid);

/* Are its attributes known, and still true? If not they are not there when this returns. */
bool table_keeps_attr(struct fs *fs, uint64_t nodeid);

#endif
