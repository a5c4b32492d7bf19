/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Whom a worker thread acts as. The kernel has checked permissions with the caller's real credentials
 * (default_permissions); what is left to the server is who owns what is made, whose quota and reserve it takes, and
 * which set-id bits a change clears. System calls are made only where something differs from the last request.
 */
#ifndef FS_CREDS_H
#define FS_CREDS_H

#include "fs/fs.h"

/* Once per server, before it has threads, and CAP_SETPCAP no more. */
void creds_prepare(struct fs *fs);

/* Once per thread. */
void creds_start(struct request *rq);

/* The caller's fsuid and fsgid; for callers other than root without CAP_SYS_RESOURCE. */
void creds_caller(struct request *rq);

/*
 * The same for what makes an inode or a name: 0, or -EOVERFLOW for a caller who has no id in the source, or in
 * the server's user namespace.
 */
int creds_make(struct request *rq);

/* The same and the caller's umask, for what makes files. */
int creds_create(struct request *rq, uint32_t umask);

/*
 * As creds_caller(); `kill`: without CAP_FSETID, so that the source clears the set-id bits of the file open as `fd`
 * (-1: of none that matters) as it would for the caller.
 */
void creds_write(struct request *rq, int fd, bool kill);

/* The same for a change of owners: to group `owner` of the source, -1: none. */
void creds_chown(struct request *rq, int fd, gid_t owner);

/* A group as the mount has it. */
bool creds_caller_in_group(const struct request *rq, gid_t gid);

#endif
