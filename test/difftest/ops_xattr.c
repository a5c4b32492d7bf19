/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Extended attributes, and the two that are access control lists.
 */
#include "difftest.h"

#include <endian.h>
#include <linux/capability.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <linux/xattr.h>

#define ACL_ACCESS "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"

/* How the file is named: by a path, a path whose last symlink is not followed, a descriptor. */
enum { BY_PATH, BY_LPATH, BY_FD, BY_N };

static void xattr_name_make(char *name, struct rng *r)
{
	static const char *const names[] = {
		"user.a",
		"user.a",
		"user.b",
		"user.c",
		"user.d",
		"user.e",
		"trusted.t",
		"trusted.u",
		ACL_ACCESS,
		ACL_DEFAULT,
		"security.capability",
		"security.difftest",
		"user.",
		"nosuch.name",
		"plain",
		"",
		"system.other",
		"user.\xff",
	};
	size_t len;

	strcpy(name, names[rng_below(r, ARRAY_SIZE(names))]);
	if (rng_one_in(r, 40)) {
		len = RNG_PICK(r, 200, XATTR_NAME_MAX, XATTR_NAME_MAX + 1);
		strcpy(name, "user.");
		memset(name + 5, 'x', len - 5);
		name[len] = '\0';
	}
}

static void make_setxattr(struct op *op, struct rng *r)
{
	path_make(op->path[0], r, WANT_ANY);
	xattr_name_make(op->path[1], r);
	op->arg[0] = rng_below(r, BY_N);
	op->arg[1] = rng_one_in(r, 12) ? RNG_PICK(r, 3000, 4096, 5000, 60000, XATTR_SIZE_MAX, XATTR_SIZE_MAX + 1)
				       : RNG_PICK(r, 0, 1, 10, 10, 100, 300, 1000);
	op->arg[2] = rng_one_in(r, 4) ? RNG_PICK(r, XATTR_CREATE, XATTR_REPLACE, XATTR_CREATE | XATTR_REPLACE, 64) : 0;
}

static long xattr_set(struct side *s, const struct op *op, const char *name, const void *value, size_t size, int flags)
{
	if (op->arg[0] == BY_PATH)
		return setxattr(op->path[0], name, value, size, flags);
	if (op->arg[0] == BY_LPATH)
		return lsetxattr(op->path[0], name, value, size, flags);
	return fsetxattr(s->fd[op->slot[0]], name, value, size, flags);
}

static size_t capability_fill(void *buf, uint64_t seed)
{
	struct vfs_cap_data cap = {
		.magic_etc = htole32(VFS_CAP_REVISION_2 | (seed & 1 ? VFS_CAP_FLAGS_EFFECTIVE : 0)),
		.data = {{.permitted = htole32(1 << CAP_NET_RAW | 1 << CAP_CHOWN)}},
	};

	memcpy(buf, &cap, sizeof(cap));
	return sizeof(cap);
}

static void run_setxattr(struct side *s, const struct op *op, struct outcome *o)
{
	size_t size = op->arg[1];

	data_fill(actor_data, size, op->seed);
	if (!strcmp(op->path[1], "security.capability"))
		size = capability_fill(actor_data, op->seed);
	outcome_set(o, xattr_set(s, op, op->path[1], actor_data, size, op->arg[2]));
}

static void make_getxattr(struct op *op, struct rng *r)
{
	path_make(op->path[0], r, WANT_ANY);
	xattr_name_make(op->path[1], r);
	op->arg[0] = rng_below(r, BY_N);
	op->arg[1] = RNG_PICK(r, 0, 1, 50, 65536, 65536, 65536, 100000);
}

static void run_getxattr(struct side *s, const struct op *op, struct outcome *o)
{
	const char *name = op->path[1];
	size_t size = op->arg[1];

	if (op->arg[0] == BY_PATH)
		outcome_set(o, getxattr(op->path[0], name, actor_data, size));
	else if (op->arg[0] == BY_LPATH)
		outcome_set(o, lgetxattr(op->path[0], name, actor_data, size));
	else
		outcome_set(o, fgetxattr(s->fd[op->slot[0]], name, actor_data, size));
	if (o->ret > 0 && size)
		outcome_add_data(o, actor_data, o->ret);
}

static void make_listxattr(struct op *op, struct rng *r)
{
	path_make(op->path[0], r, WANT_ANY);
	op->arg[0] = rng_below(r, BY_N);
	op->arg[1] = RNG_PICK(r, 0, 1, 20, 65536, 65536, 65536);
}

/* The list is not in any order: the sum of the hashes of its names says whether it is the same. */
static void run_listxattr(struct side *s, const struct op *op, struct outcome *o)
{
	char *list = (char *)actor_data;
	uint64_t sum = 0;

	if (op->arg[0] == BY_PATH)
		outcome_set(o, listxattr(op->path[0], list, op->arg[1]));
	else if (op->arg[0] == BY_LPATH)
		outcome_set(o, llistxattr(op->path[0], list, op->arg[1]));
	else
		outcome_set(o, flistxattr(s->fd[op->slot[0]], list, op->arg[1]));
	if (o->ret <= 0 || !op->arg[1])
		return;
	for (char *name = list; name < list + o->ret; name += strlen(name) + 1)
		sum += data_hash(name, strlen(name));
	outcome_add(o, " names:%016llx", (unsigned long long)sum);
}

static void make_removexattr(struct op *op, struct rng *r)
{
	path_make(op->path[0], r, WANT_ANY);
	xattr_name_make(op->path[1], r);
	op->arg[0] = rng_below(r, BY_N);
}

static void run_removexattr(struct side *s, const struct op *op, struct outcome *o)
{
	const char *name = op->path[1];

	if (op->arg[0] == BY_PATH)
		outcome_set(o, removexattr(op->path[0], name));
	else if (op->arg[0] == BY_LPATH)
		outcome_set(o, lremovexattr(op->path[0], name));
	else
		outcome_set(o, fremovexattr(s->fd[op->slot[0]], name));
}

/* ---- access control lists ---- */

struct acl {
	struct posix_acl_xattr_header header;
	struct posix_acl_xattr_entry entry[8];
};

static void acl_add(struct acl *acl, int *n, unsigned tag, unsigned perm, unsigned id)
{
	acl->entry[(*n)++] = (struct posix_acl_xattr_entry){htole16(tag), htole16(perm), htole32(id)};
}

/* A valid list, but once in a while without the mask that named entries require. */
static size_t acl_fill(struct acl *acl, uint64_t seed)
{
	struct rng r = {seed};
	bool user1 = rng_one_in(&r, 2), user2 = rng_one_in(&r, 3), group = rng_one_in(&r, 2),
	     group1 = rng_one_in(&r, 4);
	bool named = user1 || user2 || group || group1;
	int n = 0;

	acl->header.a_version = htole32(POSIX_ACL_XATTR_VERSION);
	acl_add(acl, &n, ACL_USER_OBJ, rng_below(&r, 8) | 4, ACL_UNDEFINED_ID);
	if (user1)
		acl_add(acl, &n, ACL_USER, rng_below(&r, 8), USER1);
	if (user2)
		acl_add(acl, &n, ACL_USER, rng_below(&r, 8), USER2);
	acl_add(acl, &n, ACL_GROUP_OBJ, rng_below(&r, 8), ACL_UNDEFINED_ID);
	if (group1)
		acl_add(acl, &n, ACL_GROUP, rng_below(&r, 8), USER1);
	if (group)
		acl_add(acl, &n, ACL_GROUP, rng_below(&r, 8), SHARED_GROUP);
	if (named ? !rng_one_in(&r, 40) : rng_one_in(&r, 4))
		acl_add(acl, &n, ACL_MASK, rng_below(&r, 3) ? 7 : rng_below(&r, 8), ACL_UNDEFINED_ID);
	acl_add(acl, &n, ACL_OTHER, rng_below(&r, 8), ACL_UNDEFINED_ID);
	return sizeof(acl->header) + n * sizeof(acl->entry[0]);
}

static void make_setacl(struct op *op, struct rng *r)
{
	bool dir = rng_one_in(r, 2);

	path_make(op->path[0], r, dir ? WANT_DIR : WANT_FILE);
	strcpy(op->path[1], dir && !rng_one_in(r, 3) ? ACL_DEFAULT : ACL_ACCESS);
	op->arg[0] = RNG_PICK(r, BY_PATH, BY_PATH, BY_PATH, BY_LPATH, BY_FD);
}

static void run_setacl(struct side *s, const struct op *op, struct outcome *o)
{
	struct acl acl;
	size_t size = acl_fill(&acl, op->seed);

	outcome_set(o, xattr_set(s, op, op->path[1], &acl, size, 0));
}

const struct op_def xattr_ops[] = {
	{"setxattr", "pQsddx", 30, 0, make_setxattr, run_setxattr},
	{"getxattr", "pQsdd", 16, OP_READS, make_getxattr, run_getxattr},
	{"listxattr", "psdd", 12, OP_READS, make_listxattr, run_listxattr},
	{"removexattr", "pQsd", 14, 0, make_removexattr, run_removexattr},
	{"setacl", "pQsd", 24, 0, make_setacl, run_setacl},
	{0},
};
