/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A BPF program answers LOOKUP, GETATTR and GETXATTR where they would be sent.
 *
 * It is a struct_ops (struct fxfuse_ops), which is registered under a number that its owner has chosen; a connection asks
 * for it by that number (FXFUSE_DEV_IOC_ATTACH), and no other is disturbed. Its operations are given a query, a copy, and
 * answer through the kfuncs below, which copy as well: the program writes nothing of the kernel's, and what it answers is
 * checked as a server's reply is. They may be called in RCU mode, with rcu_read_lock() held: programs that sleep are
 * refused.
 *
 * References. The server does not see a look-up that is answered here, so it is not counted: an inode that is made by
 * one has nlookup 0, and no FORGET is sent for it. The server keeps its nodes as long as their nodeids can be given out,
 * and asks before it frees one whether there is an inode of it (FXFUSE_DEV_IOC_KNOWN). First it withdraws the answer,
 * then it asks; here the inode is hashed first, and then the program is asked once more: one of the two sees the other.
 *
 * Open files. A file that is opened here has a backing id that the server holds for its inode, and no handle of the server
 * (fh 0): neither FLUSH nor RELEASE is sent for it. Whoever wants a lock needs a handle, and the server is asked for one then.
 * Such files are counted in their inode: the server withdraws the id, asks whether there are any (FXFUSE_DEV_IOC_OPEN), and
 * only then may close it. Here the file is counted first, and then the program is asked: one of the two sees the other.
 *
 * Lifetimes. A pointer in the connection is all there is. It is set under fuse_mutex, and cleared under it by the end of the
 * registration or of the connection, whichever comes first; BPF keeps the operations for an RCU grace period after
 * unreg(), and the module while there is a map of them.
 */
#include "fuse_i.h"
#include "bpf.h"

#include <linux/bpf.h>
#include <linux/bpf_verifier.h>
#include <linux/btf.h>
#include <linux/btf_ids.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/xattr.h>

#define FXFUSE_BPF_NAME_BYTES 56 /* longer names are the server's */

/* Of fxfuse_query.xattr */
#define FXFUSE_XATTR_CAPABILITY 1
#define FXFUSE_XATTR_ACL_ACCESS 2
#define FXFUSE_XATTR_ACL_DEFAULT 4

/* What a program is asked. The name is filled up with zeroes. */
struct fxfuse_query {
	u64 nodeid; /* of the directory, for a name */
	u64 name[FXFUSE_BPF_NAME_BYTES / sizeof(u64)];
	u32 xattr;
};

struct fxfuse_ops {
	/* fxfuse_answer_name(), and fxfuse_answer_attr() where it can */
	int (*lookup)(struct fxfuse_query *query);
	/* fxfuse_answer_attr() */
	int (*getattr)(struct fxfuse_query *query);
	/* fxfuse_answer_absent() */
	int (*getxattr)(struct fxfuse_query *query);
	/* fxfuse_answer_open() */
	int (*open)(struct fxfuse_query *query);
	u64 cookie;
};

/* Those that can be attached; under fuse_mutex. */
struct fxfuse_registered {
	struct list_head entry;
	struct fxfuse_ops *ops;
};

static LIST_HEAD(fxfuse_registered);

/* A query and its answer, on the stack of who asks. */
struct fxfuse_call {
	struct fxfuse_query query;
	bool has_name, has_attr, absent;
	u64 nodeid; /* 0: there is no such name */
	u64 version;
	struct fuse_attr attr;
	s32 backing_id; /* 0: none */
};

static bool query_name(struct fxfuse_query *query, u64 nodeid, const unsigned char *name, unsigned int len)
{
	if (len > sizeof(query->name))
		return false;
	query->nodeid = nodeid;
	memcpy(query->name, name, len);
	return true;
}

enum { ASK_LOOKUP, ASK_GETATTR, ASK_GETXATTR, ASK_OPEN };

static void fxfuse_ask(struct fuse_conn *fc, struct fxfuse_call *call, int what)
{
	struct fxfuse_ops *ops;
	int (*op)(struct fxfuse_query * query) = NULL;

	rcu_read_lock();
	ops = rcu_dereference(fc->bpf_ops);
	if (ops)
		op = what == ASK_LOOKUP	    ? ops->lookup
		     : what == ASK_GETATTR  ? ops->getattr
		     : what == ASK_GETXATTR ? ops->getxattr
					    : ops->open;
	if (op)
		op(&call->query);
	rcu_read_unlock();
	/* The checks of fuse_lookup_name() and fuse_do_getattr() */
	if (call->has_attr && (fuse_invalid_attr(&call->attr) || call->attr.flags))
		call->has_attr = false;
}

static inline bool fxfuse_has_ops(struct fuse_conn *fc)
{
	return rcu_access_pointer(fc->bpf_ops);
}

bool fxfuse_bpf_attached(struct super_block *sb)
{
	return fxfuse_has_ops(get_fuse_conn_super(sb));
}

/* What is known of ACLs is from before the last change: see struct fuse_inode. */
static void acl_forget_old(struct inode *inode, u64 version)
{
	struct fuse_inode *fi = get_fuse_inode(inode);

	if (READ_ONCE(fi->bpf_version) == version)
		return;
	WRITE_ONCE(fi->bpf_version, version);
	forget_all_cached_acls(inode);
}

bool fxfuse_bpf_dentry_valid(struct dentry *entry, struct inode *inode)
{
	struct fuse_conn *fc = get_fuse_conn_super(entry->d_sb);
	struct fxfuse_call call = {};
	struct inode *dir;
	bool asked;

	if (!fxfuse_has_ops(fc) || (inode && IS_AUTOMOUNT(inode)))
		return false;
	/* RCU mode: name and parent may be changing */
	rcu_read_lock();
	spin_lock(&entry->d_lock);
	dir = d_inode_rcu(entry->d_parent);
	asked = dir && query_name(&call.query, get_node_id(dir), entry->d_name.name, entry->d_name.len);
	spin_unlock(&entry->d_lock);
	rcu_read_unlock();
	if (!asked)
		return false;
	fxfuse_ask(fc, &call, ASK_LOOKUP);
	if (!call.has_name || call.nodeid != (inode ? get_node_id(inode) : 0))
		return false;
	/* Without attributes ACLs may be old: the server's answer has them forgotten */
	if (inode && call.has_attr)
		acl_forget_old(inode, call.version);
	return !inode || call.has_attr;
}

/* The inode that the answer names, uncounted; NULL: the server is asked. */
static struct inode *call_inode(struct super_block *sb, struct fxfuse_call *call, u64 attr_version, u64 evict_ctr)
{
	struct fuse_inode *fi;
	struct inode *inode;
	u64 nlookup;

	inode = fuse_iget(sb, call->nodeid, 0, &call->attr, 0, attr_version, evict_ctr);
	if (!inode)
		return NULL;
	fi = get_fuse_inode(inode);
	spin_lock(&fi->lock);
	nlookup = --fi->nlookup;
	spin_unlock(&fi->lock);
	acl_forget_old(inode, call->version);
	if (!nlookup) {
		struct fxfuse_call again = {.query = call->query};

		smp_mb(); /* hashed, then asked: see above */
		fxfuse_ask(get_fuse_conn_super(sb), &again, ASK_LOOKUP);
		if (!again.has_name || !again.has_attr || again.nodeid != call->nodeid) {
			iput(inode);
			return NULL;
		}
	}
	return inode;
}

int fxfuse_bpf_lookup_name(struct super_block *sb, u64 nodeid, const struct qstr *name, struct fuse_entry_out *outarg,
			   struct inode **inode)
{
	struct fuse_conn *fc = get_fuse_conn_super(sb);
	u64 attr_version = fuse_get_attr_version(fc);
	u64 evict_ctr = fuse_get_evict_ctr(fc);
	struct fxfuse_call call = {};

	if (!fxfuse_has_ops(fc) || !query_name(&call.query, nodeid, name->name, name->len))
		return FXFUSE_BPF_ASK;
	fxfuse_ask(fc, &call, ASK_LOOKUP);
	if (!call.has_name)
		return FXFUSE_BPF_ASK;
	if (!call.nodeid)
		return -ENOENT;
	if (call.nodeid == FUSE_ROOT_ID || !call.has_attr)
		return FXFUSE_BPF_ASK;
	*inode = call_inode(sb, &call, attr_version, evict_ctr);
	if (!*inode)
		return FXFUSE_BPF_ASK;
	memset(outarg, 0, sizeof(*outarg));
	outarg->nodeid = call.nodeid;
	outarg->attr = call.attr;
	return 0;
}

static bool ask_attr(struct inode *inode, struct fxfuse_call *call)
{
	struct fuse_conn *fc = get_fuse_conn(inode);

	if (!fxfuse_has_ops(fc))
		return false;
	call->query.nodeid = get_node_id(inode);
	fxfuse_ask(fc, call, ASK_GETATTR);
	return call->has_attr && !inode_wrong_type(inode, call->attr.mode);
}

bool fxfuse_bpf_getattr(struct inode *inode, struct fuse_attr *attr)
{
	u64 attr_version = fuse_get_attr_version(get_fuse_conn(inode));
	struct fxfuse_call call = {};

	if (!ask_attr(inode, &call))
		return false;
	acl_forget_old(inode, call.version);
	fuse_change_attributes(inode, &call.attr, NULL, 0, attr_version);
	*attr = call.attr;
	return true;
}

bool fxfuse_bpf_perm_getattr(struct inode *inode, int mask)
{
	struct user_namespace *ns = get_fuse_conn(inode)->user_ns;
	struct fxfuse_call call = {};
	struct fuse_attr attr;

	if (!(mask & MAY_NOT_BLOCK))
		return fxfuse_bpf_getattr(inode, &attr);
	return ask_attr(inode, &call) && READ_ONCE(get_fuse_inode(inode)->bpf_version) == call.version &&
	       ((inode->i_mode ^ call.attr.mode) & 07777) == 0 && uid_eq(inode->i_uid, make_kuid(ns, call.attr.uid)) &&
	       gid_eq(inode->i_gid, make_kgid(ns, call.attr.gid));
}

bool fxfuse_bpf_xattr_absent(struct inode *inode, const char *name)
{
	struct fuse_conn *fc = get_fuse_conn(inode);
	struct fxfuse_call call = {};

	if (!fxfuse_has_ops(fc))
		return false;
	if (!strcmp(name, XATTR_NAME_CAPS))
		call.query.xattr = FXFUSE_XATTR_CAPABILITY;
	else if (!strcmp(name, XATTR_NAME_POSIX_ACL_ACCESS))
		call.query.xattr = FXFUSE_XATTR_ACL_ACCESS;
	else if (!strcmp(name, XATTR_NAME_POSIX_ACL_DEFAULT))
		call.query.xattr = FXFUSE_XATTR_ACL_DEFAULT;
	else
		return false;
	call.query.nodeid = get_node_id(inode);
	fxfuse_ask(fc, &call, ASK_GETXATTR);
	return call.absent;
}

bool fxfuse_bpf_open(struct inode *inode, struct file *file)
{
	struct fuse_conn *fc = get_fuse_conn(inode);
	struct fuse_inode *fi = get_fuse_inode(inode);
	struct fxfuse_call call = {};
	struct fuse_file *ff = NULL;

	if (!fxfuse_has_ops(fc) || fc->no_open || !S_ISREG(inode->i_mode) ||
	    (file->f_flags & (O_ACCMODE | O_TRUNC | O_DIRECT | O_APPEND | O_NOATIME)))
		return false;
	atomic_inc(&fi->bpf_opens);
	smp_mb__after_atomic(); /* counted, then asked: see above */
	call.query.nodeid = get_node_id(inode);
	fxfuse_ask(fc, &call, ASK_OPEN);
	if (call.backing_id > 0)
		ff = fuse_file_alloc(get_fuse_mount(inode), true);
	if (!ff) {
		atomic_dec(&fi->bpf_opens);
		return false;
	}
	ff->nodeid = get_node_id(inode);
	ff->open_flags = FOPEN_PASSTHROUGH;
	ff->args->open_outarg.backing_id = call.backing_id;
	ff->bpf_inode = fi;
	ff->bpf_opened = true;
	file->private_data = ff;
	return true;
}

u64 fxfuse_bpf_version(struct inode *inode)
{
	struct fxfuse_call call = {};

	return ask_attr(inode, &call) ? call.version : 0;
}

bool fxfuse_bpf_opendir(struct inode *inode, struct file *file, u64 *version)
{
	struct fuse_inode *fi = get_fuse_inode(inode);
	struct fuse_file *ff = NULL;
	bool same;

	*version = fxfuse_bpf_version(inode);
	if (!*version)
		return false;
	spin_lock(&fi->rdc.lock);
	same = fi->rdc.cached && fi->rdc.bpf_version == *version;
	spin_unlock(&fi->rdc.lock);
	if (same)
		ff = fuse_file_alloc(get_fuse_mount(inode), false); /* nothing is released */
	if (!ff)
		return false;
	ff->nodeid = get_node_id(inode);
	ff->open_flags = FOPEN_CACHE_DIR | FOPEN_KEEP_CACHE;
	ff->readdir.bpf_version = *version;
	file->private_data = ff;
	return true;
}

void fxfuse_bpf_closed(struct fuse_file *ff)
{
	if (ff->bpf_inode)
		atomic_dec(&ff->bpf_inode->bpf_opens);
}

int fxfuse_bpf_open_at_server(struct inode *inode, struct file *file)
{
	struct fuse_inode *fi = get_fuse_inode(inode);
	struct fuse_file *ff = file->private_data;
	struct fuse_open_in in = {.flags = file->f_flags & ~(O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC)};
	struct fuse_open_out out;
	FUSE_ARGS(args);
	int err = 0;

	if (!READ_ONCE(ff->bpf_inode))
		return 0;
	args.opcode = FUSE_OPEN;
	args.nodeid = ff->nodeid;
	args.in_numargs = 1;
	args.in_args[0].size = sizeof(in);
	args.in_args[0].value = &in;
	args.out_numargs = 1;
	args.out_args[0].size = sizeof(out);
	args.out_args[0].value = &out;
	mutex_lock(&fi->mutex);
	if (ff->bpf_opened)
		err = fuse_simple_request(ff->fm, &args);
	if (!err && ff->bpf_opened) {
		ff->fh = out.fh; /* from now on RELEASE is sent */
		ff->bpf_opened = false;
	}
	mutex_unlock(&fi->mutex);
	return err;
}

static int inode_has_nodeid(struct inode *inode, void *nodeid)
{
	return get_node_id(inode) == *(u64 *)nodeid;
}

/* Whether there is, in any mount of the connection, an inode with this nodeid and, if `opened`, files that BPF opened. */
static long fxfuse_bpf_has(struct fuse_conn *fc, u64 nodeid, bool opened)
{
	struct fuse_mount *fm;
	struct inode *inode;
	bool has = false;

	/* The server must not wait for whoever unmounts, who may wait for it */
	if (!down_read_trylock(&fc->killsb))
		return 1;
	smp_mb(); /* withdrawn, then asked: see above */
	/* One that is being freed is known to nobody any more */
	rcu_read_lock();
	list_for_each_entry(fm, &fc->mounts, fc_entry)
	{
		inode = fm->sb ? find_inode_rcu(fm->sb, nodeid, inode_has_nodeid, &nodeid) : NULL;
		if (inode && (!opened || atomic_read(&get_fuse_inode(inode)->bpf_opens)))
			has = true;
	}
	rcu_read_unlock();
	up_read(&fc->killsb);
	return has;
}

__bpf_kfunc_start_defs();

/* The name leads to the node; 0: there is no such name. */
__bpf_kfunc int fxfuse_answer_name(struct fxfuse_query *query, u64 nodeid)
{
	struct fxfuse_call *call = container_of(query, struct fxfuse_call, query);

	call->nodeid = nodeid;
	call->has_name = true;
	return 0;
}

/* `version` is another after each change of the node, of its ACLs too. */
__bpf_kfunc int fxfuse_answer_attr(struct fxfuse_query *query, const struct fuse_attr *attr, u64 version)
{
	struct fxfuse_call *call = container_of(query, struct fxfuse_call, query);

	call->attr = *attr;
	call->version = version;
	call->has_attr = true;
	return 0;
}

/* The node's file may be opened by this backing id, for reading. */
__bpf_kfunc int fxfuse_answer_open(struct fxfuse_query *query, s32 backing_id)
{
	struct fxfuse_call *call = container_of(query, struct fxfuse_call, query);

	call->backing_id = backing_id;
	return 0;
}

/* The node has no such extended attribute. */
__bpf_kfunc int fxfuse_answer_absent(struct fxfuse_query *query)
{
	struct fxfuse_call *call = container_of(query, struct fxfuse_call, query);

	call->absent = true;
	return 0;
}

__bpf_kfunc_end_defs();

#ifndef KF_TRUSTED_ARGS
#define KF_TRUSTED_ARGS 0 /* all are, since Linux 7.0 */
#endif

BTF_KFUNCS_START(fxfuse_kfuncs)
BTF_ID_FLAGS(func, fxfuse_answer_name, KF_TRUSTED_ARGS)
BTF_ID_FLAGS(func, fxfuse_answer_attr, KF_TRUSTED_ARGS)
BTF_ID_FLAGS(func, fxfuse_answer_absent, KF_TRUSTED_ARGS)
BTF_ID_FLAGS(func, fxfuse_answer_open, KF_TRUSTED_ARGS)
BTF_KFUNCS_END(fxfuse_kfuncs)

static const struct btf_kfunc_id_set fxfuse_kfunc_set = {
	.owner = THIS_MODULE,
	.set = &fxfuse_kfuncs,
};

static bool fxfuse_ops_is_valid_access(int off, int size, enum bpf_access_type type, const struct bpf_prog *prog,
				       struct bpf_insn_access_aux *info)
{
	return bpf_tracing_btf_ctx_access(off, size, type, prog, info);
}

static const struct bpf_verifier_ops fxfuse_verifier_ops = {
	.get_func_proto = bpf_base_func_proto,
	.is_valid_access = fxfuse_ops_is_valid_access,
};

static int fxfuse_ops_init(struct btf *btf)
{
	return 0;
}

static int fxfuse_ops_check_member(const struct btf_type *t, const struct btf_member *member,
				   const struct bpf_prog *prog)
{
	return prog->sleepable ? -EINVAL : 0;
}

static int fxfuse_ops_init_member(const struct btf_type *t, const struct btf_member *member, void *kdata,
				  const void *udata)
{
	const struct fxfuse_ops *from = udata;
	struct fxfuse_ops *to = kdata;

	if (__btf_member_bit_offset(t, member) != offsetof(struct fxfuse_ops, cookie) * 8)
		return 0;
	to->cookie = from->cookie;
	return 1;
}

static struct fxfuse_registered *registered_find(u64 cookie)
{
	struct fxfuse_registered *found;

	list_for_each_entry(found, &fxfuse_registered, entry) if (found->ops->cookie == cookie) return found;
	return NULL;
}

static int fxfuse_ops_reg(void *kdata, struct bpf_link *link)
{
	struct fxfuse_registered *new = kmalloc(sizeof(*new), GFP_KERNEL);
	int err = 0;

	if (!new)
		return -ENOMEM;
	new->ops = kdata;
	mutex_lock(&fuse_mutex);
	if (registered_find(new->ops->cookie))
		err = -EEXIST;
	else
		list_add(&new->entry, &fxfuse_registered);
	mutex_unlock(&fuse_mutex);
	if (err)
		kfree(new);
	return err;
}

static void fxfuse_ops_unreg(void *kdata, struct bpf_link *link)
{
	struct fxfuse_ops *ops = kdata;
	struct fxfuse_registered *old;
	struct fuse_conn *fc;

	mutex_lock(&fuse_mutex);
	old = registered_find(ops->cookie);
	list_del(&old->entry);
	list_for_each_entry(fc, &fuse_conn_list, entry) if (rcu_access_pointer(fc->bpf_ops) == ops)
		fxfuse_bpf_detach(fc);
	mutex_unlock(&fuse_mutex);
	kfree(old);
}

/* One that has ended is in the list no more, and must be given nothing. */
static bool conn_is_listed(struct fuse_conn *wanted)
{
	struct fuse_conn *fc;

	list_for_each_entry(fc, &fuse_conn_list, entry) if (fc == wanted) return true;
	return false;
}

static long fxfuse_bpf_attach(struct fuse_conn *fc, u64 cookie)
{
	struct fxfuse_registered *found;
	struct fxfuse_ops *has;
	long err = -ENOENT;

	mutex_lock(&fuse_mutex);
	found = registered_find(cookie);
	has = rcu_dereference_protected(fc->bpf_ops, lockdep_is_held(&fuse_mutex));
	if (found && conn_is_listed(fc))
		err = has && has != found->ops ? -EBUSY : 0;
	if (!err)
		rcu_assign_pointer(fc->bpf_ops, found->ops);
	mutex_unlock(&fuse_mutex);
	return err;
}

long fxfuse_bpf_ioctl(struct fuse_conn *fc, unsigned int cmd, u64 __user *argp)
{
	u64 argument;

	if (get_user(argument, argp))
		return -EFAULT;
	return cmd == FXFUSE_DEV_IOC_ATTACH ? fxfuse_bpf_attach(fc, argument)
					    : fxfuse_bpf_has(fc, argument, cmd == FXFUSE_DEV_IOC_OPEN);
}

void fxfuse_bpf_detach(struct fuse_conn *fc)
{
	RCU_INIT_POINTER(fc->bpf_ops, NULL);
}

static int fxfuse_ops_stub(struct fxfuse_query *query)
{
	return 0;
}

static struct fxfuse_ops fxfuse_ops_stubs = {
	.lookup = fxfuse_ops_stub,
	.getattr = fxfuse_ops_stub,
	.getxattr = fxfuse_ops_stub,
	.open = fxfuse_ops_stub,
};

static struct bpf_struct_ops bpf_fxfuse_ops = {
	.verifier_ops = &fxfuse_verifier_ops,
	.init = fxfuse_ops_init,
	.check_member = fxfuse_ops_check_member,
	.init_member = fxfuse_ops_init_member,
	.reg = fxfuse_ops_reg,
	.unreg = fxfuse_ops_unreg,
	.cfi_stubs = &fxfuse_ops_stubs,
	.name = "fxfuse_ops",
	.owner = THIS_MODULE,
};

int fxfuse_bpf_init(void)
{
	int err = register_btf_kfunc_id_set(BPF_PROG_TYPE_STRUCT_OPS, &fxfuse_kfunc_set);

	return err ?: register_bpf_struct_ops(&bpf_fxfuse_ops, fxfuse_ops);
}
