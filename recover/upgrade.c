/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `fxfs --upgrade`: asks the monitor of a mount to become this program, and waits for what comes of it. The question
 * and the answer stand in the state (header.program, header.upgrade).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "recover/atomic.h"
#include "recover/exec.h"
#include "recover/internal.h"
#include "recover/log.h"

#define ANSWER_MS 60000
#define NAP_MS 5

static int upgrade_wait(const struct state_header *header)
{
	for (int waited = 0; waited < ANSWER_MS; waited += NAP_MS) {
		switch (load_acquire(&header->upgrade)) {
		case UPGRADE_DONE:
			return EXIT_OK;
		case UPGRADE_FAILED:
			log_error("%s was not put in place; the mount goes on as it was (its log says why)",
				  header->program);
			return EXIT_SYSTEM;
		}
		nanosleep(&(struct timespec){.tv_nsec = NAP_MS * 1000000}, NULL);
	}
	log_error("the monitor does not answer");
	return EXIT_SYSTEM;
}

static int upgrade_ask(struct state *state)
{
	struct state_header *header = state->header;
	uint32_t before = load_acquire(&header->upgrade);
	char program[PATH_MAX] = "";
	int err = exec_self_path(program, sizeof(program));

	if (err) {
		log_error("cannot tell where this program is: %s", strerror(-err));
		return EXIT_SYSTEM;
	}
	if (before == UPGRADE_ASKED || before == UPGRADE_RUNNING || before == UPGRADE_BACK ||
	    !__atomic_compare_exchange_n(&header->upgrade, &before, UPGRADE_ASKED, false, __ATOMIC_SEQ_CST,
					 __ATOMIC_SEQ_CST)) {
		log_error("another upgrade is under way");
		return EXIT_SYSTEM;
	}
	memcpy(header->program, program, sizeof(program));
	if (header->monitor_pid <= 0 || kill(header->monitor_pid, SIGHUP)) {
		log_error("cannot reach the monitor %d: %s", header->monitor_pid, strerror(errno));
		store_release(&header->upgrade, UPGRADE_FAILED);
		return EXIT_SYSTEM;
	}
	return upgrade_wait(header);
}

int recover_upgrade(const char *path)
{
	struct state state;
	const char *why = "cannot be opened";
	int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	int err = fd < 0 ? -errno : state_adopt(&state, fd, &why);

	if (err) {
		log_error("cannot upgrade in place: the state %s: %s: %s", path, why, strerror(-err));
		return EXIT_SYSTEM;
	}
	return upgrade_ask(&state);
}
