/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The hold of /dev/cpu_dma_latency. The device is opened once, and what is written to it counts while it is open
 * (the kernel's Documentation/power/pm_qos_interface.rst): so no descriptor comes and goes, none can be orphaned, and
 * the end of the last process drops the hold.
 */
#include "recover/wake.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "recover/internal.h"
#include "recover/log.h"

static const char *const names[WAKE_N] = {[WAKE_AUTO] = "auto", [WAKE_PLAIN] = "plain", [WAKE_HOLD] = "hold"};

const char *wake_name(enum wake wake)
{
	return names[wake < WAKE_N ? wake : WAKE_AUTO];
}

/* The longest time, in microseconds, that the cores may take to wake up. */
static int latency_write(int device, int32_t microseconds)
{
	ssize_t put = write(device, &microseconds, sizeof(microseconds));

	return put < 0 ? -errno : put == sizeof(microseconds) ? 0 : -EIO;
}

static int latency_limit(const struct recover *recover)
{
	return latency_write(recover->state.header->keep[KEEP_WAKE], 0);
}

static int latency_free(const struct recover *recover)
{
	return latency_write(recover->state.header->keep[KEEP_WAKE], INT32_MAX);
}

const char *wake_useless(const struct wake_machine *machine)
{
	char name[32] = "";
	FILE *file;

	if (machine->cores < 2)
		return "there is one core, and it is awake";
	file = fopen(machine->idle_state, "re");
	if (!file)
		return "this kernel has no idle driver that could poll";
	if (!fgets(name, sizeof(name), file))
		name[0] = 0;
	fclose(file);
	return strcmp(name, "POLL\n") == 0 ? NULL : "the idle driver of this kernel cannot poll";
}

/* Both descriptors are the mount's for as long as it lives. 0 or -errno. */
static int wake_open(struct recover *recover, const char *device)
{
	struct state_header *header = recover->state.header;
	int fd = open(device, O_WRONLY), err = fd < 0 ? -errno : latency_write(fd, INT32_MAX);

	if (!err) {
		recover->wake_event_fd = eventfd(0, EFD_NONBLOCK);
		err = recover->wake_event_fd < 0 ? -errno : 0;
	}
	if (err) {
		if (fd >= 0)
			close(fd);
		return err;
	}
	header->keep[KEEP_WAKE] = fd;
	header->keep[KEEP_WAKE_EVENT] = recover->wake_event_fd;
	header->wake = WAKE_READY;
	return 0;
}

static void wake_say(struct recover *recover, const char *what, const char *why)
{
	struct state_header *header = recover->state.header;

	snprintf(header->wake_text, sizeof(header->wake_text), "%s: %s", what, why);
}

void wake_prepare(struct recover *recover, const struct wake_machine *machine)
{
	enum wake wanted = recover->options->wake;
	const char *useless = wanted == WAKE_PLAIN ? NULL : wake_useless(machine);
	char why[96];
	int err;

	recover->wake_event_fd = -1;
	if (wanted == WAKE_PLAIN || (wanted == WAKE_AUTO && useless)) {
		wake_say(recover, "plain", wanted == WAKE_PLAIN ? "asked for" : useless);
		return;
	}
	err = wake_open(recover, machine->device);
	if (!err) {
		wake_say(recover, useless ? "hold, to no effect" : "hold",
			 useless ? useless : "cores stay awake while requests come fast");
		if (useless)
			log_warning("-o wake=hold has no effect here: %s", useless);
		return;
	}
	snprintf(why, sizeof(why), "cannot use %.40s: %s", machine->device, strerror(-err));
	wake_say(recover, "plain", why);
	if (wanted == WAKE_HOLD)
		log_warning("-o wake=hold is not possible, the server is woken as usual: %s", why);
}

void wake_drop(struct recover *recover)
{
	struct state_header *header = recover->state.header;

	if (header->wake != WAKE_OFF)
		store_release(&header->wake, latency_free(recover) ? WAKE_OFF : WAKE_READY);
}

void wake_adopt(struct recover *recover)
{
	recover->wake_event_fd = recover->state.header->keep[KEEP_WAKE_EVENT];
	wake_drop(recover);
}

void wake_count(struct recover *recover, uint64_t requests, uint64_t now_ns)
{
	uint32_t *phase = &recover->state.header->wake, ready = WAKE_READY;
	uint64_t before;

	if (requests % WAKE_REQUESTS)
		return;
	before = atomic_exchange_explicit(&recover->wake_since_ns, now_ns, memory_order_relaxed);
	if (now_ns - before > WAKE_NS || load_relaxed(phase) != WAKE_READY)
		return;
	/* a death between the two: the monitor, which is told of that as well, finds WAKE_ASKED */
	if (__atomic_compare_exchange_n(phase, &ready, WAKE_ASKED, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED) &&
	    write(recover->wake_event_fd, &(uint64_t){1}, sizeof(uint64_t)) < 0)
		log_warning("cannot ask the monitor to keep the cores awake: %s", strerror(errno));
}

static void hold_take(struct recover *recover, struct wake_look *look, int64_t now_ms)
{
	struct state_header *header = recover->state.header;

	if (latency_limit(recover)) {
		store_release(&header->wake, WAKE_OFF);
		return;
	}
	header->counters.holds++;
	look->next_ms = now_ms + WAKE_LOOK_MS;
	look->requests = load_relaxed(&header->counters.requests);
	store_release(&header->wake, WAKE_HELD);
}

static void hold_keep(struct recover *recover, struct wake_look *look, int64_t now_ms)
{
	struct state_header *header = recover->state.header;
	uint64_t requests = load_relaxed(&header->counters.requests);

	if (now_ms < look->next_ms)
		return;
	look->next_ms = now_ms + WAKE_LOOK_MS;
	if (requests - look->requests < WAKE_KEEP) {
		look->next_ms = 0;
		store_release(&header->wake, latency_free(recover) ? WAKE_OFF : WAKE_READY);
	}
	look->requests = requests;
}

void wake_look(struct recover *recover, struct wake_look *look, int64_t now_ms)
{
	uint64_t count;

	switch ((enum wake_phase)load_acquire(&recover->state.header->wake)) {
	case WAKE_OFF:
		return;
	case WAKE_READY:
		break;
	case WAKE_ASKED:
		hold_take(recover, look, now_ms);
		break;
	case WAKE_HELD:
		hold_keep(recover, look, now_ms);
	}
	if (read(recover->wake_event_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		log_debug("cannot read what the server asks for: %s", strerror(errno));
}
