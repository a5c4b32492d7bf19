/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* When the cores are kept awake, and when no longer: with a file in place of the device, and a clock that the test has. */
#include "test/unit/check.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test/unit/fixture.h"

static char directory[200], device[256], idle_state[256];

static void file_write(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	if (!file || fputs(text, file) < 0 || fclose(file))
		err(1, "%s", path);
}

/* A mount with this option on a machine whose idle driver has this first state (NULL: there is no driver). */
static struct recover *mount_new(enum wake wake, const char *first_state, long cores, const char *device_path)
{
	static struct recover_options options;
	const struct wake_machine machine = {.device = device_path, .idle_state = idle_state, .cores = cores};
	struct recover *recover = fixture_new();

	options.wake = wake;
	recover->options = &options;
	file_write(device, "");
	unlink(idle_state);
	if (first_state)
		file_write(idle_state, first_state);
	wake_prepare(recover, &machine);
	return recover;
}

static void mount_free(struct recover *recover)
{
	if (recover->wake_event_fd >= 0) {
		close(recover->state.header->keep[KEEP_WAKE]);
		close(recover->wake_event_fd);
	}
	fixture_free(recover);
}

static struct recover *mount_that_holds(void)
{
	return mount_new(WAKE_HOLD, "POLL\n", 2, device);
}

/* The last thing that was written to the device, -1: nothing. */
static int32_t limit(void)
{
	int32_t value = -1;
	int fd = open(device, O_RDONLY);

	if (lseek(fd, -(off_t)sizeof(value), SEEK_END) >= 0 && read(fd, &value, sizeof(value)) != sizeof(value))
		value = -2;
	close(fd);
	return value;
}

/* The server counts so many requests, this far apart from each other, and from those before. */
static void requests_come(struct recover *recover, unsigned n, uint64_t apart_us)
{
	static uint64_t now_ns = UINT64_C(1000000000000);

	for (unsigned i = 0; i < n; i++) {
		now_ns += apart_us * 1000;
		wake_count(recover, ++recover->state.header->counters.requests, now_ns);
	}
}

static bool was_told(const struct recover *recover)
{
	struct pollfd event = {.fd = recover->wake_event_fd, .events = POLLIN};

	return poll(&event, 1, 0) == 1;
}

/* --- what is in force --------------------------------------------------------------------------------------- */

static void check_choice(enum wake wake, const char *first_state, long cores, const char *path, const char *text)
{
	struct recover *recover = mount_new(wake, first_state, cores, path);
	bool held = strncmp(text, "hold", 4) == 0;

	if (!CHECK(strncmp(recover->state.header->wake_text, text, strlen(text)) == 0))
		printf("# %s, not %s\n", recover->state.header->wake_text, text);
	CHECK_EQUAL(recover->state.header->wake, held ? WAKE_READY : WAKE_OFF);
	CHECK_EQUAL(recover->state.header->keep[KEEP_WAKE] >= 0, held);
	CHECK_EQUAL(recover->wake_event_fd >= 0, held);
	CHECK_EQUAL(limit(), held ? INT32_MAX : -1);
	mount_free(recover);
}

static void auto_holds_where_that_helps(void)
{
	check_choice(WAKE_AUTO, "POLL\n", 2, device, "hold: ");
	check_choice(WAKE_AUTO, "POLL\n", 1, device, "plain: there is one core");
	check_choice(WAKE_AUTO, "C1\n", 2, device, "plain: the idle driver of this kernel cannot poll");
	check_choice(WAKE_AUTO, "", 2, device, "plain: the idle driver of this kernel cannot poll");
	check_choice(WAKE_AUTO, NULL, 2, device, "plain: this kernel has no idle driver");
	check_choice(WAKE_AUTO, "POLL\n", 2, "/dev/missing", "plain: cannot use /dev/missing: No such file");
	check_choice(WAKE_AUTO, "POLL\n", 2, "/dev/full", "plain: cannot use /dev/full: No space");
}

static void plain_opens_nothing(void)
{
	check_choice(WAKE_PLAIN, "POLL\n", 2, device, "plain: asked for");
}

static void hold_holds_where_it_can(void)
{
	check_choice(WAKE_HOLD, "POLL\n", 2, device, "hold: ");
	check_choice(WAKE_HOLD, NULL, 2, device, "hold, to no effect: this kernel has no idle driver");
	check_choice(WAKE_HOLD, "POLL\n", 2, "/dev/missing", "plain: cannot use /dev/missing: No such file");
}

/* --- the server --------------------------------------------------------------------------------------------- */

static void requests_that_come_fast_ask(void)
{
	struct recover *recover = mount_that_holds();

	requests_come(recover, WAKE_REQUESTS, 100);
	CHECK_EQUAL(recover->state.header->wake, WAKE_READY); /* the first of all: since when is not known */
	requests_come(recover, WAKE_REQUESTS - 1, 1000);
	CHECK_EQUAL(recover->state.header->wake, WAKE_READY);
	CHECK(!was_told(recover));
	requests_come(recover, 1, 1000);
	CHECK_EQUAL(recover->state.header->wake, WAKE_ASKED);
	CHECK(was_told(recover));
	mount_free(recover);
}

static void requests_that_come_slowly_do_not(void)
{
	struct recover *recover = mount_that_holds();

	requests_come(recover, 100 * WAKE_REQUESTS, WAKE_NS / 1000 / WAKE_REQUESTS + 1);
	CHECK_EQUAL(recover->state.header->wake, WAKE_READY);
	requests_come(recover, WAKE_REQUESTS, WAKE_NS / 1000 / WAKE_REQUESTS);
	CHECK_EQUAL(recover->state.header->wake, WAKE_ASKED);
	mount_free(recover);
}

static void the_monitor_is_told_once(void)
{
	struct recover *recover = mount_that_holds();
	uint64_t count;

	requests_come(recover, 10 * WAKE_REQUESTS, 10);
	CHECK_EQUAL(read(recover->wake_event_fd, &count, sizeof(count)), sizeof(count));
	CHECK_EQUAL(count, 1);
	recover->state.header->wake = WAKE_HELD;
	requests_come(recover, 10 * WAKE_REQUESTS, 10);
	CHECK(!was_told(recover));
	mount_free(recover);
}

static void nobody_asks_where_there_is_no_hold(void)
{
	struct recover *recover = mount_new(WAKE_PLAIN, "POLL\n", 2, device);

	requests_come(recover, 10 * WAKE_REQUESTS, 10);
	CHECK_EQUAL(recover->state.header->wake, WAKE_OFF);
	mount_free(recover);
}

/* --- the monitor -------------------------------------------------------------------------------------------- */

/* A mount whose monitor took the hold at time 1000. */
static struct recover *mount_held(struct wake_look *look)
{
	struct recover *recover = mount_that_holds();

	*look = (struct wake_look){0};
	requests_come(recover, 2 * WAKE_REQUESTS, 10);
	wake_look(recover, look, 1000);
	CHECK_EQUAL(limit(), 0);
	CHECK_EQUAL(recover->state.header->wake, WAKE_HELD);
	CHECK_EQUAL(recover->state.header->counters.holds, 1);
	CHECK_EQUAL(look->next_ms, 1000 + WAKE_LOOK_MS);
	CHECK(!was_told(recover));
	return recover;
}

static void the_hold_stays_while_requests_come(void)
{
	struct wake_look look;
	struct recover *recover = mount_held(&look);
	int64_t now = 1000;

	for (unsigned i = 0; i < 20; i++) {
		requests_come(recover, WAKE_KEEP, 1250);
		wake_look(recover, &look, now + WAKE_LOOK_MS - 1); /* woken for something else: not yet time */
		now += WAKE_LOOK_MS;
		CHECK_EQUAL(look.next_ms, now);
		wake_look(recover, &look, now);
		CHECK_EQUAL(limit(), 0);
		CHECK_EQUAL(look.next_ms, now + WAKE_LOOK_MS);
	}
	CHECK_EQUAL(recover->state.header->counters.holds, 1);
	mount_free(recover);
}

static void the_hold_falls_when_fewer_come(void)
{
	struct wake_look look;
	struct recover *recover = mount_held(&look);

	requests_come(recover, WAKE_KEEP - 1, 10);
	wake_look(recover, &look, 1000 + WAKE_LOOK_MS);
	CHECK_EQUAL(limit(), INT32_MAX);
	CHECK_EQUAL(recover->state.header->wake, WAKE_READY);
	CHECK_EQUAL(look.next_ms, 0); /* it need not wake up again */
	requests_come(recover, 2 * WAKE_REQUESTS, 10);
	wake_look(recover, &look, 2000);
	CHECK_EQUAL(limit(), 0);
	CHECK_EQUAL(recover->state.header->counters.holds, 2);
	mount_free(recover);
}

/* After its store and before it told the monitor, which wakes up because of the death. */
static void a_server_may_die_while_it_asks(void)
{
	struct wake_look look = {0};
	struct recover *recover = mount_that_holds();

	recover->state.header->wake = WAKE_ASKED;
	wake_look(recover, &look, 1000);
	CHECK_EQUAL(limit(), 0);
	wake_look(recover, &look, 1000 + WAKE_LOOK_MS);
	CHECK_EQUAL(limit(), INT32_MAX);
	CHECK_EQUAL(recover->state.header->wake, WAKE_READY);
	mount_free(recover);
}

static void another_monitor_lets_go(void)
{
	static const enum wake_phase phases[] = {WAKE_READY, WAKE_ASKED, WAKE_HELD};

	for (size_t i = 0; i < COUNT(phases); i++) {
		struct wake_look look;
		struct recover *recover = mount_held(&look);
		int event = recover->wake_event_fd;

		recover->state.header->wake = phases[i];
		recover->wake_event_fd = -1; /* its memory is fresh */
		wake_adopt(recover);
		CHECK_EQUAL(recover->wake_event_fd, event);
		CHECK_EQUAL(limit(), INT32_MAX);
		CHECK_EQUAL(recover->state.header->wake, WAKE_READY);
		mount_free(recover);
	}
}

static void a_device_that_refuses_ends_it(void)
{
	struct wake_look look = {0};
	struct recover *recover = mount_that_holds();
	int full = open("/dev/full", O_WRONLY);

	dup2(full, recover->state.header->keep[KEEP_WAKE]);
	close(full);
	requests_come(recover, 2 * WAKE_REQUESTS, 10);
	wake_look(recover, &look, 1000);
	CHECK_EQUAL(recover->state.header->wake, WAKE_OFF);
	CHECK_EQUAL(look.next_ms, 0);
	mount_free(recover);
}

static void options_have_names(void)
{
	CHECK(strcmp(wake_name(WAKE_AUTO), "auto") == 0);
	CHECK(strcmp(wake_name(WAKE_PLAIN), "plain") == 0);
	CHECK(strcmp(wake_name(WAKE_HOLD), "hold") == 0);
}

static const struct check checks[] = {
	{"the options have their names", options_have_names},
	{"auto holds where that helps", auto_holds_where_that_helps},
	{"plain opens nothing", plain_opens_nothing},
	{"hold holds where it can", hold_holds_where_it_can},
	{"requests that come fast ask for the hold", requests_that_come_fast_ask},
	{"requests that come slowly do not", requests_that_come_slowly_do_not},
	{"the monitor is told once", the_monitor_is_told_once},
	{"nobody asks where there is no hold", nobody_asks_where_there_is_no_hold},
	{"the hold stays while requests come", the_hold_stays_while_requests_come},
	{"the hold falls when fewer come", the_hold_falls_when_fewer_come},
	{"a server may die while it asks", a_server_may_die_while_it_asks},
	{"another monitor lets go", another_monitor_lets_go},
	{"a device that refuses ends it", a_device_that_refuses_ends_it},
};

int main(void)
{
	int result;

	check_directory(directory, sizeof(directory));
	snprintf(device, sizeof(device), "%s/latency", directory);
	snprintf(idle_state, sizeof(idle_state), "%s/name", directory);
	result = check_run(checks, COUNT(checks));
	unlink(device);
	unlink(idle_state);
	rmdir(directory);
	return result;
}
