/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Credentials of a thread: by raw system calls, because the C library's change all threads of a process.
 */
#include "fs/creds.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "recover/log.h"

#define NO_GROUP ((gid_t)-1)
#define CAP_BIT(cap) (UINT32_C(1) << (cap))

_Static_assert(CAP_FSETID < 32 && CAP_SYS_RESOURCE < 32, "one word of the capability sets is changed");

static void caps_set(struct fs_thread *thread, uint32_t off)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	if (thread->caps_off == off)
		return;
	for (unsigned i = 0; i < 2; i++) {
		data[i].effective = data[i].permitted = thread->caps_permitted[i];
		data[i].inheritable = thread->caps_inheritable[i];
	}
	data[0].effective &= ~off;
	if (syscall(SYS_capset, &header, data))
		log_error("cannot change capabilities: %s", strerror(errno));
	else
		thread->caps_off = off;
}

/* None is ever given up: what the thread starts with it may take again. */
static void caps_start(struct fs_thread *thread)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}};

	if (syscall(SYS_capget, &header, data))
		bug("cannot tell the capabilities: %s", strerror(errno));
	for (unsigned i = 0; i < 2; i++) {
		thread->caps_permitted[i] = data[i].permitted;
		thread->caps_inheritable[i] = data[i].inheritable;
	}
}

/* proc_ns.h: PROC_USER_INIT_INO */
static bool in_user_namespace(void)
{
	struct stat st;

	return stat("/proc/self/ns/user", &st) == 0 && st.st_ino != 0xeffffffd;
}

void creds_prepare(struct fs *fs)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}};
	const uint32_t needed = CAP_BIT(CAP_SETUID) | CAP_BIT(CAP_SETGID);

	fs->acts = syscall(SYS_capget, &header, data) == 0 && (data[0].effective & needed) == needed;
	fs->foreign = in_user_namespace();
	if (!fs->acts && recover_state(fs->recover)->header->life == 1)
		log_warning("requests act as user %u, whoever made them: no CAP_SETUID and CAP_SETGID", geteuid());
	/* setfsuid(2) then leaves capabilities alone */
	if (geteuid() == 0 && prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP) &&
	    recover_state(fs->recover)->header->life == 1)
		log_warning("cannot keep capabilities while acting as the caller (%s): requests act as uid 0 does not",
			    strerror(errno));
}

void creds_start(struct request *rq)
{
	struct fs_thread *thread = fs_thread(rq);

	/* the rest is zero, and others look at the pins already */
	thread->uid = geteuid();
	thread->gid = getegid();
	caps_start(thread);
	syscall(SYS_setgroups, 0, NULL);
	if (fchdir(fs_of(rq)->proc_fd))
		bug("cannot enter /proc/self/fd: %s", strerror(errno));
}

/* Who the caller is in the source: nobody, where he has no id there, and where the kernel does not tell (idmap=on). */
static uint32_t source_uid(const struct request *rq)
{
	uint32_t uid = idmap_source(&fs_of(rq)->ids.uids, rq->in->uid);

	return uid == IDMAP_NONE ? IDMAP_OVERFLOW : uid;
}

static uint32_t source_gid(const struct request *rq)
{
	uint32_t gid = idmap_source(&fs_of(rq)->ids.gids, rq->in->gid);

	return gid == IDMAP_NONE ? IDMAP_OVERFLOW : gid;
}

/* An id that this user namespace lacks cannot be had, and that is not said: it is the server's own then, not the last one. */
static uint32_t id_set(const struct fs *fs, long call, uint32_t id, uint32_t own)
{
	syscall(call, id);
	if (!fs->foreign || (uint32_t)syscall(call, -1) == id)
		return id;
	syscall(call, own);
	return own;
}

static void creds_ids(struct request *rq)
{
	struct fs_thread *thread = fs_thread(rq);
	const struct fs *fs = fs_of(rq);
	uint32_t uid = source_uid(rq), gid = source_gid(rq);

	if (fs->acts && thread->gid != gid)
		thread->gid = id_set(fs, SYS_setfsgid, gid, getegid());
	if (fs->acts && thread->uid != uid)
		thread->uid = id_set(fs, SYS_setfsuid, uid, geteuid());
}

/* Does it act as the caller, as far as it acts as callers at all? */
static bool creds_are(const struct request *rq)
{
	const struct fs_thread *thread = fs_thread(rq);

	return !fs_of(rq)->acts || (thread->uid == source_uid(rq) && thread->gid == source_gid(rq));
}

/* Of its supplementary groups only the caller's own process can tell. */
bool creds_caller_in_group(const struct request *rq, gid_t gid)
{
	char path[40], line[4096];
	bool found = gid != NO_GROUP && rq->in->gid == gid;
	FILE *status;

	if (found)
		return true;

	snprintf(path, sizeof(path), "/proc/%u/status", rq->in->pid);
	status = fopen(path, "r");
	while (status && fgets(line, sizeof(line), status)) {
		char *at = line + 7, *end;

		if (strncmp(line, "Groups:", 7) != 0)
			continue;
		for (unsigned long group = strtoul(at, &end, 10); end != at && !found;
		     at = end, group = strtoul(at, &end, 10))
			found = group == gid;
		break;
	}
	if (status)
		fclose(status);
	return found;
}

static bool creds_has_group(const struct request *rq, gid_t source)
{
	gid_t gid = idmap_mount(&fs_of(rq)->ids.gids, source);

	return gid != IDMAP_NONE && gid != rq->in->gid && creds_caller_in_group(rq, gid);
}

/* The thread becomes a member of those groups of the source, out of `wanted`, that the caller is a member of. */
static void creds_groups(struct request *rq, const gid_t wanted[FS_GROUPS])
{
	struct fs_thread *thread = fs_thread(rq);
	gid_t groups[FS_GROUPS] = {0};
	unsigned n = 0;

	for (unsigned i = 0; i < FS_GROUPS; i++)
		if (wanted[i] != NO_GROUP && creds_has_group(rq, wanted[i]))
			groups[n++] = wanted[i];
	if (n == thread->groups_n && !memcmp(groups, thread->groups, n * sizeof(gid_t)))
		return;
	syscall(SYS_setgroups, n, groups);
	memcpy(thread->groups, groups, n * sizeof(gid_t));
	thread->groups_n = n;
}

/* What is reserved for root is for who is root on both sides. */
static void creds_act(struct request *rq, bool kill)
{
	bool root = rq->in->uid == 0 && source_uid(rq) == 0;

	creds_ids(rq);
	caps_set(fs_thread(rq), (root ? 0 : CAP_BIT(CAP_SYS_RESOURCE)) | (kill ? CAP_BIT(CAP_FSETID) : 0));
}

/* Members of the file's group keep a set-group-id bit without group execution. */
static void creds_change(struct request *rq, int fd, bool kill, gid_t owner)
{
	gid_t groups[FS_GROUPS] = {NO_GROUP, NO_GROUP};
	struct stat st;

	creds_act(rq, kill);
	if (!kill)
		return;
	if (fd >= 0 && fstatat(fd, "", &st, AT_EMPTY_PATH) == 0 && (st.st_mode & (S_ISGID | S_IXGRP)) == S_ISGID) {
		groups[0] = st.st_gid;
		groups[1] = owner;
	}
	creds_groups(rq, groups);
}

void creds_write(struct request *rq, int fd, bool kill)
{
	creds_change(rq, fd, kill, NO_GROUP);
}

void creds_chown(struct request *rq, int fd, gid_t owner)
{
	creds_change(rq, fd, rq->in->uid != 0, owner);
}

void creds_caller(struct request *rq)
{
	creds_write(rq, -1, false);
}

int creds_make(struct request *rq)
{
	const struct idmaps *ids = &fs_of(rq)->ids;

	creds_caller(rq);
	/* FUSE_ALLOW_IDMAP: no inode is made, and the kernel has checked the caller's ids */
	if (rq->in->uid == IDMAP_NONE)
		return 0;
	if (idmap_source(&ids->uids, rq->in->uid) == IDMAP_NONE || idmap_source(&ids->gids, rq->in->gid) == IDMAP_NONE)
		return -EOVERFLOW;
	return creds_are(rq) ? 0 : -EOVERFLOW;
}

int creds_create(struct request *rq, uint32_t mask)
{
	struct fs_thread *thread = fs_thread(rq);
	int err = creds_make(rq);

	if (!err && thread->umask != mask) {
		umask(mask);
		thread->umask = mask;
	}
	return err;
}
