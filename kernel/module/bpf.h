/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Look-ups that a BPF program answers, so that no request is sent: the calls that the patch puts into fs/fuse. None of
 * them sleeps but fxfuse_bpf_lookup_name() and fxfuse_bpf_getattr(); where nothing is attached to the connection they
 * cost one load.
 */
#ifndef FXFUSE_BPF_H
#define FXFUSE_BPF_H

#include <linux/types.h>

struct dentry;
struct file;
struct fuse_attr;
struct fuse_conn;
struct fuse_entry_out;
struct fuse_file;
struct inode;
struct qstr;
struct super_block;

#define FXFUSE_BPF_ASK 1 /* no answer: the server is asked */

#define FXFUSE_DEV_IOC_KNOWN _IOW(FUSE_DEV_IOC_MAGIC, 96, __u64)
#define FXFUSE_DEV_IOC_ATTACH _IOW(FUSE_DEV_IOC_MAGIC, 97, __u64)
#define FXFUSE_DEV_IOC_OPEN _IOW(FUSE_DEV_IOC_MAGIC, 98, __u64)

/* As fuse_lookup_name(), or FXFUSE_BPF_ASK. */
int fxfuse_bpf_lookup_name(struct super_block *sb, u64 nodeid, const struct qstr *name, struct fuse_entry_out *outarg,
			   struct inode **inode);

/* Does the name still lead to this inode, NULL: is it still missing? */
bool fxfuse_bpf_dentry_valid(struct dentry *entry, struct inode *inode);

/* May a dentry whose time is up stay, because it is asked about each time? */
bool fxfuse_bpf_attached(struct super_block *sb);

/* Brings the inode up to date. */
bool fxfuse_bpf_getattr(struct inode *inode, struct fuse_attr *attr);

/* The same for what permissions need; changes nothing with MAY_NOT_BLOCK. */
bool fxfuse_bpf_perm_getattr(struct inode *inode, int mask);

bool fxfuse_bpf_xattr_absent(struct inode *inode, const char *name);

/* Under fuse_mutex: the connection ends. */
void fxfuse_bpf_detach(struct fuse_conn *fc);

/* As fuse_do_open() of a regular file; false: the server is asked. */
bool fxfuse_bpf_open(struct inode *inode, struct file *file);

/* The same of a directory whose listing is cached, and still what it is. `version`: fxfuse_bpf_version(), of before. */
bool fxfuse_bpf_opendir(struct inode *inode, struct file *file, u64 *version);

/* Another after each change of the inode, and of a name in it; 0: not known. */
u64 fxfuse_bpf_version(struct inode *inode);

/* The last reference to the file is gone. */
void fxfuse_bpf_closed(struct fuse_file *ff);

/* What follows needs a handle of the server. 0, also where it has one, or -errno. */
int fxfuse_bpf_open_at_server(struct inode *inode, struct file *file);

/*
 * KNOWN: is there an inode with this nodeid? OPEN: are there files of it that BPF opened? 1, 0 or -errno. ATTACH: has the
 * connection ask the program that is registered under this number.
 */
long fxfuse_bpf_ioctl(struct fuse_conn *fc, unsigned int cmd, u64 __user *argp);

int fxfuse_bpf_init(void);

#endif
