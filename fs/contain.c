/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the passthrough needs besides what recover/ does itself: recover/contain.h.
 */
#include <linux/bpf.h>
#include <linux/capability.h>
#include <fuse_kernel.h>
#include <sys/ioctl.h>

#include "bpf/device.h"
#include "fs/inode.h"
#include "fs/ops.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct contain_call server_calls[] = {
	CONTAIN_CALL(open_by_handle_at),
	CONTAIN_CALL(name_to_handle_at),
	CONTAIN_CALL(setfsuid),
	CONTAIN_CALL(setfsgid),
	CONTAIN_CALL(setgroups),
	CONTAIN_CALL(capget),
	CONTAIN_CALL(capset),
	CONTAIN_CALL_IF(ioctl, 1, ~0u, FUSE_DEV_IOC_BACKING_OPEN),
	CONTAIN_CALL_IF(ioctl, 1, ~0u, FUSE_DEV_IOC_BACKING_CLOSE),
	CONTAIN_CALL_IF(ioctl, 1, ~0u, (uint32_t)FXFUSE_DEV_IOC_KNOWN),
	CONTAIN_CALL_IF(ioctl, 1, ~0u, (uint32_t)FXFUSE_DEV_IOC_ATTACH),
	CONTAIN_CALL_IF(ioctl, 1, ~0u, (uint32_t)FXFUSE_DEV_IOC_OPEN),
	/* tables, and no programs */
	CONTAIN_CALL_IF(bpf, 0, ~0u, BPF_MAP_UPDATE_ELEM),
	CONTAIN_CALL_IF(bpf, 0, ~0u, BPF_MAP_DELETE_ELEM),
	CONTAIN_CALL_IF(bpf, 0, ~0u, BPF_MAP_GET_NEXT_KEY),
	CONTAIN_CALL_IF(bpf, 0, ~0u, BPF_OBJ_GET_INFO_BY_FD),
	CONTAIN_CALL_IF(ioctl, 1, ~0u, FS_GETFLAGS),
	CONTAIN_CALL_IF(ioctl, 1, ~0u, FS_SETFLAGS),
	CONTAIN_CALL_IF(ioctl, 1, ~0u, FS_GETVERSION),
	CONTAIN_CALL_IF(ioctl, 1, ~0u, FS_SETVERSION),
	CONTAIN_CALL_IF(ioctl, 1, ~0u, FS_FSGETXATTR),
	CONTAIN_CALL_IF(ioctl, 1, ~0u, FS_FSSETXATTR),
	CONTAIN_CALL(getdents64),
	CONTAIN_CALL(pwrite64),
	CONTAIN_CALL(pwritev2),
	CONTAIN_CALL(copy_file_range),
	CONTAIN_CALL(getxattr),
	CONTAIN_CALL(setxattr),
	CONTAIN_CALL(listxattr),
	CONTAIN_CALL(removexattr),
	CONTAIN_CALL(mkdirat),
	CONTAIN_CALL(mknodat),
	CONTAIN_CALL(symlinkat),
	CONTAIN_CALL(linkat),
	CONTAIN_CALL(unlinkat),
	CONTAIN_CALL(renameat2),
	CONTAIN_CALL(utimensat),
	CONTAIN_CALL(truncate),
	CONTAIN_CALL(fchmodat),
	CONTAIN_CALL(fchown),
	CONTAIN_CALL(fchownat),
#ifdef SYS_chown
	CONTAIN_CALL(chown),
	CONTAIN_CALL(lchown),
#endif
	CONTAIN_CALL(fsync),
	CONTAIN_CALL(fdatasync),
	CONTAIN_CALL(syncfs),
	CONTAIN_CALL(statfs),
	CONTAIN_CALL(fstatfs),
	CONTAIN_CALL(flock),
	CONTAIN_CALL(dup),
	CONTAIN_CALL(fanotify_mark),
};

/*
 * The kernel has checked what the caller may do (default_permissions); what the server does for him the source checks
 * again, against these.
 */
const struct contain_set fs_server_may = {
	.calls = server_calls,
	.calls_n = COUNT(server_calls),
	.capabilities =
		/* files of anybody, in his name: ids, set-id bits, device nodes, attributes such as immutable */
	CONTAIN_CAP(CAP_CHOWN) | CONTAIN_CAP(CAP_DAC_OVERRIDE) | CONTAIN_CAP(CAP_FOWNER) | CONTAIN_CAP(CAP_FSETID) |
	CONTAIN_CAP(CAP_SETUID) | CONTAIN_CAP(CAP_SETGID) | CONTAIN_CAP(CAP_MKNOD) | CONTAIN_CAP(CAP_LINUX_IMMUTABLE) |
	/* open_by_handle_at(2) */
	CONTAIN_CAP(CAP_DAC_READ_SEARCH) |
	/* backing ids, fanotify, xattrs: trusted.*, and security.* of capabilities and labels */
	CONTAIN_CAP(CAP_SYS_ADMIN) | CONTAIN_CAP(CAP_SETFCAP) | CONTAIN_CAP(CAP_MAC_ADMIN) |
	CONTAIN_CAP(CAP_MAC_OVERRIDE) |
	/* what is reserved for root, quotas */
	CONTAIN_CAP(CAP_SYS_RESOURCE) |
	/* /proc/PID/syscall of the caller (caller.c) */
	CONTAIN_CAP(CAP_SYS_PTRACE),
};

/* It reads the table of mounts through an open descriptor, and asks for handles of directories in it. */
static const struct contain_call watcher_calls[] = {
#ifdef SYS_readlink
	CONTAIN_CALL(readlink),
#endif
	CONTAIN_CALL(readlinkat), CONTAIN_CALL(name_to_handle_at),
	CONTAIN_CALL(statfs),	  CONTAIN_CALL(readv),
	CONTAIN_CALL(lseek),	  CONTAIN_CALL(fcntl),
};

const struct contain_set fs_watcher_may = {
	.calls = watcher_calls,
	.calls_n = COUNT(watcher_calls),
	.capabilities = CONTAIN_CAP(CAP_DAC_READ_SEARCH),
};
