/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Containment: no_new_privs, capabilities, seccomp(2).
 *
 * The monitor gives up capabilities only: it mounts, traces, and executes the next program, whose calls nobody knows yet,
 * and a filter stays through execve(2). The server gives up the rest before it follows anything that others wrote:
 * the state of the dead server, then requests. All of its threads come from the one that does, but for the guardian, which
 * becomes the monitor where that dies, and waits in sigwaitinfo(2) until then.
 *
 * It is a fence against a server that is made to do something else by what it reads. One whose memory somebody writes
 * at will has the guardian's too.
 *
 * A filter costs a little per system call. The kernel (5.11) looks calls that are allowed whatever their arguments up
 * in a bitmap and does not run it. So those that depend on an argument come first, the file system's before ours: an ioctl
 * with each open file of a passthrough.
 */
#include "recover/contain.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "recover/internal.h"
#include "recover/log.h"

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define ALWAYS_INSTRUCTIONS 2
#define IF_INSTRUCTIONS 6
#define FILTER_MAX 1024

/* In each process: its memory, waiting, the log, dying. */
static const struct contain_call common_calls[] = {
	CONTAIN_CALL(writev),
	CONTAIN_CALL(read),
	CONTAIN_CALL(write),
#ifdef SYS_poll
	CONTAIN_CALL(poll),
	CONTAIN_CALL(access),
#endif
	CONTAIN_CALL(ppoll),
	CONTAIN_CALL(nanosleep),
	CONTAIN_CALL(clock_nanosleep),
	CONTAIN_CALL(clock_gettime), /* where the vDSO does not know the clock */
	CONTAIN_CALL(futex),
	CONTAIN_CALL(sched_yield),
	CONTAIN_CALL(getpid),
	CONTAIN_CALL(gettid),
	/* malloc(3) wants a random number in each thread, and on some machines the node it runs on */
	CONTAIN_CALL(getrandom),
	CONTAIN_CALL(getcpu),
	CONTAIN_CALL(faccessat),
	CONTAIN_CALL(brk),
	/* no code but what is in the program */
	CONTAIN_CALL_IF(mmap, 2, PROT_EXEC, 0),
	CONTAIN_CALL_IF(mprotect, 2, PROT_EXEC, 0),
	CONTAIN_CALL(munmap),
	CONTAIN_CALL(mremap),
	CONTAIN_CALL(madvise),
	CONTAIN_CALL(rt_sigprocmask),
	CONTAIN_CALL(rt_sigreturn),
	CONTAIN_CALL(restart_syscall),
	CONTAIN_CALL_IF(tkill, 1, ~0u, SIGABRT),
	CONTAIN_CALL(exit),
	CONTAIN_CALL(exit_group),
	CONTAIN_CALL(sendto),
	CONTAIN_CALL(connect),
};

static const struct contain_set common_set = {.calls = common_calls, .calls_n = COUNT(common_calls)};

/* In each server besides: of recover/, and of the C library. The watcher needs nothing more of ours. */
static const struct contain_call server_calls[] = {
	CONTAIN_CALL(close),
	CONTAIN_CALL(fcntl),
	CONTAIN_CALL(fstat),
	CONTAIN_CALL(newfstatat),
	CONTAIN_CALL(statx),
	CONTAIN_CALL(openat),
	CONTAIN_CALL(pread64),
	CONTAIN_CALL(fgetxattr),
	CONTAIN_CALL(lseek),
#ifdef SYS_open
	CONTAIN_CALL(open),
	CONTAIN_CALL(stat),
	CONTAIN_CALL(lstat),
	CONTAIN_CALL(readlink),
#endif
	CONTAIN_CALL(readlinkat),
	CONTAIN_CALL(readv), /* stdio */
	CONTAIN_CALL(sched_getaffinity),
	CONTAIN_CALL(getppid),
	CONTAIN_CALL(geteuid),
	CONTAIN_CALL(getegid),
	CONTAIN_CALL(mlock),
	CONTAIN_CALL(fallocate),
	CONTAIN_CALL(ftruncate),
	CONTAIN_CALL(close_range),
	CONTAIN_CALL(fchdir),
	CONTAIN_CALL(umask),
	CONTAIN_CALL_IF(unshare, 0, ~0u, CLONE_FS),
	/* threads, and no processes */
	CONTAIN_CALL_IF(clone, 0, CLONE_THREAD, CLONE_THREAD),
	CONTAIN_CALL(set_robust_list),
	CONTAIN_CALL(sigaltstack),
	/* dying of a fault */
	CONTAIN_CALL_IF(tkill, 1, ~0u, SIGSEGV),
	CONTAIN_CALL_IF(tkill, 1, ~0u, SIGBUS),
	CONTAIN_CALL_IF(tkill, 1, ~0u, SIGFPE),
	CONTAIN_CALL_IF(tkill, 1, ~0u, SIGILL),
	CONTAIN_CALL_IF(tkill, 1, ~0u, SIGSYS),
#ifdef FXFS_CRASH_POINTS
	CONTAIN_CALL_IF(tkill, 1, ~0u, SIGKILL),
#endif
};

/* Buffers are locked in memory by each worker. */
static const struct contain_set server_set = {
	.calls = server_calls, .calls_n = COUNT(server_calls), .capabilities = CONTAIN_CAP(CAP_IPC_LOCK)};

/*
 * Beside what the server has, which a monitor must have too, or it could not start one, nor trace it. A program that is put
 * in its place later can have no others.
 */
#define MONITOR_CAPABILITIES                                                                                           \
	(CONTAIN_CAP(CAP_SYS_ADMIN) | CONTAIN_CAP(CAP_SYS_PTRACE) | CONTAIN_CAP(CAP_SYS_RESOURCE) |                    \
	 CONTAIN_CAP(CAP_SETPCAP) | CONTAIN_CAP(CAP_IPC_LOCK) | CONTAIN_CAP(CAP_DAC_OVERRIDE) |                        \
	 CONTAIN_CAP(CAP_DAC_READ_SEARCH) | CONTAIN_CAP(CAP_FOWNER) | CONTAIN_CAP(CAP_CHOWN) | CONTAIN_CAP(CAP_KILL) | \
	 CONTAIN_CAP(CAP_SETUID) | CONTAIN_CAP(CAP_SETGID))

struct filter {
	struct sock_filter code[FILTER_MAX];
	unsigned short n;
};

static void emit(struct filter *filter, uint16_t code, uint8_t jump_true, uint8_t jump_false, uint32_t k)
{
	filter->code[filter->n++] = (struct sock_filter)BPF_JUMP(code, k, jump_true, jump_false);
}

static void emit_load(struct filter *filter, size_t offset)
{
	emit(filter, BPF_LD | BPF_W | BPF_ABS, 0, 0, (uint32_t)offset);
}

/* Little endian: the low half of an argument comes first. */
static void emit_call(struct filter *filter, const struct contain_call *call)
{
	emit(filter, BPF_JMP | BPF_JEQ | BPF_K, 0, (call->mask ? IF_INSTRUCTIONS : ALWAYS_INSTRUCTIONS) - 1,
	     call->number);
	if (call->mask) {
		emit_load(filter, offsetof(struct seccomp_data, args) + 8 * call->argument);
		emit(filter, BPF_ALU | BPF_AND | BPF_K, 0, 0, call->mask);
		emit(filter, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, call->value);
	}
	emit(filter, BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW);
	if (call->mask)
		emit_load(filter, offsetof(struct seccomp_data, nr));
}

/* The calls of a set that are allowed always, or those that are allowed by an argument. */
static int emit_calls(struct filter *filter, const struct contain_set *set, bool always)
{
	for (unsigned i = 0; set && i < set->calls_n; i++) {
		if (!set->calls[i].mask != always)
			continue;
		if (filter->n + IF_INSTRUCTIONS + 1 > FILTER_MAX)
			return -E2BIG;
		emit_call(filter, &set->calls[i]);
	}
	return 0;
}

/* Numbers of another architecture (int 0x80) mean something else: there is no death that explains that. */
static int filter_make(struct filter *filter, const struct contain_set *const sets[], unsigned n)
{
	int err = 0;

	filter->n = 0;
	emit_load(filter, offsetof(struct seccomp_data, arch));
	emit(filter, BPF_JMP | BPF_JEQ | BPF_K, 1, 0, ARCHITECTURE);
	emit(filter, BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS);
	emit_load(filter, offsetof(struct seccomp_data, nr));
	for (unsigned set = n; set-- > 0 && !err;)
		err = emit_calls(filter, sets[set], false);
	for (unsigned set = 0; set < n && !err; set++)
		err = emit_calls(filter, sets[set], true);
	emit(filter, BPF_RET | BPF_K, 0, 0, SECCOMP_RET_TRAP);
	return err;
}

int contain_calls(const struct contain_set *const sets[], unsigned n)
{
	struct filter filter;
	struct sock_fprog program = {.filter = filter.code};
	int err = filter_make(&filter, sets, n);

	if (err)
		return err;
	program.len = filter.n;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		return -errno;
	return 0;
}

int contain_capabilities(uint64_t kept)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data))
		return -errno;
	/* for who looks: with no_new_privs an execve(2) gives nothing back. Without CAP_SETPCAP the set stays */
	for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (!(kept & CONTAIN_CAP(cap)) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
			break;
	for (unsigned i = 0; i < 2; i++) {
		data[i].permitted &= (uint32_t)(kept >> 32 * i);
		data[i].effective &= data[i].permitted;
		data[i].inheritable = 0;
	}
	return syscall(SYS_capset, &header, data) ? -errno : 0;
}

static uint64_t capabilities_of(const struct contain_set *set)
{
	return set ? set->capabilities : 0;
}

/* Of the first server of a program: others find the same. */
static void contain_tell(struct recover *recover, const char *format, int err)
{
	struct state_header *header = recover->state.header;

	snprintf(header->contain_text, sizeof(header->contain_text), format, strerror(-err));
}

void contain_monitor(struct recover *recover)
{
	int err;

	contain_tell(recover, recover->options->contain == CONTAIN_OFF ? "off: asked for" : "on", 0);
	if (recover->options->contain == CONTAIN_OFF)
		return;
	err = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ? -errno : 0;
	if (!err)
		err = contain_capabilities(MONITOR_CAPABILITIES | capabilities_of(recover->fs->server_may) |
					   server_set.capabilities | capabilities_of(recover->fs->watcher_may));
	if (err)
		contain_tell(recover, "in part: the monitor keeps its capabilities: %s", err);
}

/* One that is contained in part serves as well as one that is not contained: it says so. */
static void contain_process(struct recover *recover, const struct contain_set *ours, const struct contain_set *theirs)
{
	const struct contain_set *const sets[] = {&common_set, ours, theirs};
	int err;

	if (recover->options->contain == CONTAIN_OFF)
		return;
	err = contain_capabilities(capabilities_of(ours) | capabilities_of(theirs));
	if (err)
		contain_tell(recover, "in part: capabilities are kept: %s", err);
#ifdef FXFS_SANITIZE
	contain_tell(recover, "in part: system calls are not filtered: a sanitizer makes its own", 0);
	(void)sets;
#else
	err = contain_calls(sets, COUNT(sets));
	if (err)
		contain_tell(recover, "in part: system calls are not filtered: %s", err);
#endif
}

void contain_server(struct recover *recover)
{
	contain_process(recover, &server_set, recover->fs->server_may);
}

void contain_watcher(struct recover *recover)
{
	contain_process(recover, NULL, recover->fs->watcher_may);
}
