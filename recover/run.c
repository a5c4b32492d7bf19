/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From options to a mount that is served: a fresh one, or one that an earlier program left to this one (exec.c). Both
 * end in the monitor's loop.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "recover/adopt.h"
#include "recover/atomic.h"
#include "recover/exec.h"
#include "recover/handover.h"
#include "recover/init.h"
#include "recover/internal.h"
#include "recover/log.h"
#include "recover/metrics.h"
#include "recover/monitor.h"
#include "recover/oom.h"
#include "recover/place.h"

static unsigned workers_choose(unsigned asked)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	if (asked)
		return asked;
	/* one per core reads (readers.h), the others are for when a slow disk holds those */
	return cores < 3 ? 4 : cores > 14 ? 16 : (unsigned)cores + 2;
}

static int witness_choose(struct recover *recover)
{
	enum witness wanted = recover->options->witness;
	int err = wanted == WITNESS_EVIDENCE ? -EPERM : witness_probe();

	if (err && wanted == WITNESS_REGISTERS) {
		log_error("-o witness=registers: cannot trace a process: %s", strerror(-err));
		return err;
	}
	if (err && wanted == WITNESS_AUTO)
		log_warning("cannot trace a process (%s): interrupted system calls are judged by evidence",
			    strerror(-err));
	recover->state.header->witness = err ? WITNESS_EVIDENCE : WITNESS_REGISTERS;
	return 0;
}

static void keep(struct recover *recover, enum state_keep what, int fd)
{
	recover->state.header->keep[what] = fd;
}

static void wake_choose(struct recover *recover)
{
	const struct wake_machine machine = {.device = "/dev/cpu_dma_latency",
					     .idle_state = "/sys/devices/system/cpu/cpu0/cpuidle/state0/name",
					     .cores = sysconf(_SC_NPROCESSORS_ONLN)};

	wake_prepare(recover, &machine);
}

/* For people, and for whoever starts fxfs when nobody of us is left. */
static void source_describe(struct recover *recover)
{
	recover->state.header->source_device = recover->options->source_device;
	recover->state.header->source_number = recover->options->source_number;
}

/* What monitor and server tell each other by. */
static int events_create(struct recover *recover)
{
	recover->ready_fd = eventfd(0, EFD_NONBLOCK);
	recover->go_fd = eventfd(0, EFD_NONBLOCK);
	if (recover->ready_fd < 0 || recover->go_fd < 0)
		return -errno;
	keep(recover, KEEP_READY, recover->ready_fd);
	keep(recover, KEEP_GO, recover->go_fd);
	return 0;
}

/* What the kernel and the machine allow, and the tables that a file system needs before there is a server. */
static int prepare_tables(struct recover *recover)
{
	int err = witness_choose(recover);

	if (err)
		return err;
	wake_choose(recover);
	journal_init(&recover->journal, &recover->state);
	nodes_init(&recover->nodes, &recover->state, &recover->journal);
	recover->nodes.alias = recover->fs->alias;
	return 0;
}

/* Returns an exit code. */
static int run_prepare(struct recover *recover)
{
	int err;

	/* first: what follows may say something */
	keep(recover, KEEP_LOG, log_connect(&recover->state.header->detached));
	keep(recover, KEEP_NOTIFY, recover->options->notify_fd);
	place_describe(recover);
	source_describe(recover);
	recover->state.header->oom_score_adj = oom_score_read();
	if (mount_open_device(recover))
		return EXIT_MOUNT;
	err = prepare_tables(recover);
	if (!err)
		err = recover->fs->prepare(recover);
	if (err)
		return EXIT_SYSTEM;
	err = buffers_create(recover);
	if (err) {
		log_error("cannot make request buffers: %s", strerror(-err));
		return EXIT_SYSTEM;
	}
	keep(recover, KEEP_BUFFERS, recover->buffers_fd);
	return events_create(recover) ? EXIT_SYSTEM : 0;
}

static int run_mount(struct recover *recover)
{
	int err = mount_attach(recover);

	if (err)
		return EXIT_MOUNT;
	err = session_open_all(recover);
	if (err) {
		log_error("cannot open the session with the kernel: %s", strerror(-err));
		mount_detach(recover, true);
		return EXIT_MOUNT;
	}
	place_name(recover);
	keep(recover, KEEP_CONNECTION, mount_connection_open(recover));
	return 0;
}

/* Until the mount ends. */
static int run_on(struct recover *recover, enum monitor_state first)
{
	int code;

	handover_open(recover);
	code = monitor_run(recover, first);
	handover_forget(recover);
	metrics_remove(recover);
	return code;
}

static int run_mounted(struct recover *recover)
{
	int code;

	if (metrics_create(recover))
		return EXIT_SYSTEM;
	code = run_mount(recover);
	if (code)
		return metrics_remove(recover), code;
	return run_on(recover, MONITOR_STARTING);
}

static struct recover *recover_new(const struct recover_fs *fs, const struct recover_options *options, void *private)
{
	struct recover *recover = calloc(1, sizeof(*recover));

	if (!recover)
		return NULL;
	recover->fs = fs;
	recover->options = options;
	recover->private = private;
	return recover;
}

/* In this program, from here on. */
static int run_here(struct recover *recover)
{
	struct state_header *header = recover->state.header;

	header->monitor_pid = getpid();
	snprintf(header->version_text, sizeof(header->version_text), "%s", recover->options->version);
	return exec_prepare(recover, recover->options->arguments) ? EXIT_SYSTEM : 0;
}

/* As run_prepare(), for a mount that exists and whose state says what it is. */
static int held_prepare(struct recover *recover)
{
	struct state_header *header = recover->state.header;
	struct held *held = recover->options->held;
	int err;

	store_release(&header->detached, 0);
	keep(recover, KEEP_LOG, log_connect(&header->detached));
	keep(recover, KEEP_NOTIFY, recover->options->notify_fd);
	header->counters.handovers++;
	header->oom_score_adj = oom_score_read();
	snprintf(header->cache, sizeof(header->cache), "%s", recover->options->cache);
	stats_taken_over(&header->recovery, clock_ns(), false);
	err = prepare_tables(recover);
	if (err)
		return err;
	handles_init(&recover->handles, &recover->state);
	err = recover->fs->adopt ? recover->fs->adopt(recover, held->fds, held->n) : 0;
	while (held->n)
		if (held->fds[--held->n] >= 0)
			close(held->fds[held->n]);
	if (!err)
		err = events_create(recover);
	if (!err)
		err = buffers_attach(recover);
	if (!err)
		err = session_open_again(recover);
	return err;
}

/* What was kept of a mount whose processes are gone. */
static int run_held(struct recover *recover)
{
	const struct recover_options *options = recover->options;
	int code, err;

	if (adopt_take(recover, options->held))
		return EXIT_MOUNT;
	recover->workers_n = recover->state.header->workers;
	recover->unannounced = true;
	contain_monitor(recover);
	err = init_start(recover);
	code = err ? EXIT_SYSTEM : run_here(recover);
	if (!err)
		err = code ? -ENOMEM : held_prepare(recover);
	if (err)
		log_error("cannot take over %s: %s", options->mountpoint, strerror(-err));
	if (err || metrics_create(recover))
		return EXIT_SYSTEM;
	place_adopt(recover);
	keep(recover, KEEP_CONNECTION, mount_connection_open(recover));
	log_info("%s on %s: taken over from who kept it, requests in flight are carried out", options->source,
		 options->mountpoint);
	code = run_on(recover, MONITOR_RESTARTING);
	place_remove(&recover->state);
	return code;
}

int recover_run(const struct recover_fs *fs, const struct recover_options *options, void *private)
{
	struct recover *recover = recover_new(fs, options, private);
	int err, code;

	if (!recover)
		return EXIT_SYSTEM;
	if (options->held && options->held->n)
		return run_held(recover);
	recover->workers_n = workers_choose(options->workers);
	if (place_make(recover))
		return EXIT_MOUNT;
	contain_monitor(recover);
	err = init_start(recover);
	if (err)
		log_error("cannot start the monitor: %s", strerror(-err));
	code = err ? EXIT_SYSTEM : run_here(recover);
	if (!code)
		code = run_prepare(recover);
	if (!code)
		code = run_mounted(recover);
	place_remove(&recover->state);
	return code;
}

/* The mount as the program before us knew it. */
static int adopt(struct recover *recover, struct recover_options *options)
{
	struct state_header *header = recover->state.header;
	int err;

	stats_taken_over(&header->recovery, clock_ns(),
			 header->upgrade == UPGRADE_RUNNING || header->upgrade == UPGRADE_BACK);
	recover->workers_n = header->workers;
	options->mountpoint = header->mountpoint;
	options->source = header->source;
	if (header->keep[KEEP_LOG] >= 0)
		close(header->keep[KEEP_LOG]);
	keep(recover, KEEP_LOG, log_connect(&header->detached));
	recover->ready_fd = header->keep[KEEP_READY];
	recover->go_fd = header->keep[KEEP_GO];
	recover->buffers_fd = header->keep[KEEP_BUFFERS];
	journal_init(&recover->journal, &recover->state);
	oom_score_write(header->oom_score_adj);
	contain_monitor(recover);
	if (run_here(recover))
		return -ENOMEM;
	err = buffers_attach(recover);
	if (!err)
		err = session_open_again(recover);
	if (!err)
		err = witness_choose(recover);
	wake_adopt(recover);
	return err;
}

/* What became of an upgrade, where the program is the old one again. */
static void upgrade_failed(struct recover *recover)
{
	struct state_header *header = recover->state.header;

	if (header->upgrade != UPGRADE_BACK)
		return;
	log_error("%s did not come up: the program before it goes on", header->program);
	store_release(&header->upgrade, UPGRADE_FAILED);
}

int recover_adopt(const struct recover_fs *fs, struct recover_options *options, void *private, int state_fd)
{
	struct recover *recover = recover_new(fs, options, private);
	const char *why;
	int err, code;

	if (!recover)
		return EXIT_SYSTEM;
	err = state_adopt(&recover->state, state_fd, &why);
	if (err) {
		log_error("cannot take over: the state is %s", why);
		return EXIT_SYSTEM;
	}
	err = adopt(recover, options);
	if (err) {
		log_error("cannot take over %s: %s", recover->state.header->mountpoint, strerror(-err));
		monitor_roll_back(recover);
		return EXIT_SYSTEM;
	}
	upgrade_failed(recover);
	log_info("%s on %s: taken over", options->source, options->mountpoint);
	code = run_on(recover, MONITOR_RESTARTING);
	place_remove(&recover->state);
	return code;
}

/* All that taking over does but for what it would change. */
int recover_check(const struct recover_fs *fs, void *private, int state_fd)
{
	static const struct recover_options none = {.source = "", .mountpoint = ""};
	struct recover *recover = recover_new(fs, &none, private);
	const char *why = "not readable";
	int err = recover ? state_adopt(&recover->state, state_fd, &why) : -ENOMEM;

	if (!err && recover->state.header->area_bytes != fs->area_bytes) {
		why = "one of another file system";
		err = -EPROTO;
	}
	if (!err) {
		why = "one that sessions cannot be made of";
		recover->workers_n = recover->state.header->workers;
		recover->buffers_fd = recover->state.header->keep[KEEP_BUFFERS];
		err = buffers_attach(recover);
	}
	if (!err)
		err = session_open_again(recover);
	if (err)
		log_error("cannot take over: the state is %s (%s)", why, strerror(-err));
	else
		store_release(&recover->state.header->checked, (int32_t)getpid());
	return err ? EXIT_SYSTEM : EXIT_OK;
}
