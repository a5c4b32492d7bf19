/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cache=bpf: answers that a BPF program gives inside the kernel (bpf/answer.h says what they are and why they are true). The
 * server fills the tables with what it has just told the kernel.
 */
#ifndef FS_ANSWER_H
#define FS_ANSWER_H

#include <sys/stat.h>

#include "bpf/answer.h"
#include "fs/fs.h"

enum { BPF_AUTO, BPF_ON, BPF_OFF };

#define ANSWER_WHY_BYTES 160

/* A directory that is looked into, as it was before. */
struct answer_look {
	bool sampled;
	struct answer_sample directory;
};

/* In the monitor: loads the program. 0; or -errno, and `why` it cannot be had. */
int answer_open(struct fs *fs, char why[ANSWER_WHY_BYTES]);
void answer_mark(struct fs *fs, void (*mark)(void *context, int fd), void *context);

/* In each server, and in each of its workers. */
void answer_start(struct fs *fs);
void answer_start_worker(struct request *rq);

/* Before something is looked up in the directory, which is open as `fd`. */
void answer_begin(struct request *rq, int fd, struct answer_look *look);
/* The thread's last statx(2) was of what is in `entry`; what `name` leads to. */
void answer_store(struct request *rq, const struct answer_look *look, uint64_t parent, const char *name,
		  const struct fuse_entry_param *entry);
/* The directory is open as `fd`. */
void answer_store_missing(struct request *rq, const struct answer_look *look, int fd, uint64_t parent,
			  const char *name);
/* The thread's last statx(2) or fstatat(2) gave `st` of the node. */
void answer_store_attr(struct request *rq, uint64_t nodeid, const struct stat *st);
/* The node, open as `fd`, is about to be asked for the xattr; 0: one that is not remembered. */
uint32_t answer_begin_xattr(struct request *rq, int fd, const char *name, struct answer_look *look);
void answer_store_absent(struct request *rq, const struct answer_look *look, uint64_t nodeid, uint32_t which);

/*
 * The kernel may open the node's file itself from now on, by the backing id, which is kept until it is withdrawn. The request
 * has the file open, and holds no lock.
 */
void answer_store_open(struct request *rq, uint64_t nodeid, int32_t backing_id);
/* May it, or has it a file of it open that it opened? */
bool answer_has_open(struct fs *fs, uint64_t nodeid);
/* It does not know the node any more. */
void answer_drop_open(struct fs *fs, uint64_t nodeid);

/* nlookup of the node is 0: must it stay, because the kernel may still come to it? recover_fs.keep_node() */
bool answer_keeps(void *recover, uint32_t index, struct node *node);

/* recover_fs.numbers() */
unsigned answer_numbers(const struct state *state, struct recover_number *numbers);

#endif
