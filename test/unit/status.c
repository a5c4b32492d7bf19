/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What `fxfs --status` prints, of whatever names; read back by the smallest reader of JSON. */
#include "test/unit/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "recover/handle.h"
#include "recover/journal.h"
#include "recover/node.h"
#include "recover/recover.h"
#include "recover/state.h"
#include "recover/status.h"

static char directory[200], path[256];
static char output[65536];

static unsigned two_numbers(const struct state *from, struct recover_number *numbers)
{
	numbers[0] = (struct recover_number){"answers", "answers given", true, from->header->life};
	numbers[1] = (struct recover_number){"room", "room left", false, 7};
	return 2;
}

static const struct recover_fs its_fs = {.numbers = two_numbers};

/* Runs status_print() with its standard output, or with its errors, in `output`; its code. */
static int print(bool json, int stream)
{
	char name[256];
	int code, saved, fd;
	ssize_t got;

	snprintf(name, sizeof(name), "%s/output", directory);
	fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
	fflush(stdout);
	saved = dup(stream);
	dup2(fd, stream);
	code = status_print(&its_fs, "/mnt", path, json);
	fflush(stdout);
	dup2(saved, stream);
	close(saved);
	got = pread(fd, output, sizeof(output) - 1, 0);
	output[got > 0 ? got : 0] = 0;
	close(fd);
	unlink(name);
	return code;
}

/* --- a reader: one object of texts and whole numbers ---------------------------------------------------------- */

static const unsigned char *at;

static void space(void)
{
	while (*at == ' ' || *at == '\n')
		at++;
}

static bool expect(char c)
{
	space();
	return *at++ == (unsigned char)c;
}

/* The next character of UTF-8 (RFC 3629), or -1. */
static long character(void)
{
	static const struct {
		unsigned char mask, lead;
		long least;
	} length[] = {{0x80, 0x00, 0}, {0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};

	for (size_t more = 0; more < COUNT(length); more++)
		if ((*at & length[more].mask) == length[more].lead) {
			long value = *at++ & (unsigned char)~length[more].mask;

			for (size_t i = 0; i < more; i++) {
				if ((*at & 0xc0) != 0x80)
					return -1;
				value = value << 6 | (*at++ & 0x3f);
			}
			if (value < length[more].least || value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
				return -1;
			return value;
		}
	return -1;
}

/* Reads a text back into bytes: \udc80 to \udcff stand for the bytes 0x80 to 0xff that are no UTF-8. */
static bool text(char *to)
{
	if (!expect('"'))
		return false;
	while (*at != '"') {
		const unsigned char *from = at;

		if (*at < 0x20)
			return false;
		if (*at == '\\') {
			unsigned value;

			at += 2;
			if (at[-1] == '"' || at[-1] == '\\') {
				*to++ = (char)at[-1];
			} else if (at[-1] == 'u' && sscanf((const char *)at, "%4x", &value) == 1) {
				*to++ = (char)value;
				at += 4;
			} else {
				return false;
			}
			continue;
		}
		if (character() < 0)
			return false;
		memcpy(to, from, (size_t)(at - from));
		to += at - from;
	}
	at++;
	*to = 0;
	return true;
}

/* The value of `wanted`, also of numbers; false if `output` as a whole is not JSON. */
static bool find(const char *wanted, char *value)
{
	static char key[PATH_MAX], found[4 * PATH_MAX];
	bool seen = false;

	at = (const unsigned char *)output;
	if (!expect('{'))
		return false;
	do {
		if (!text(key) || !expect(':'))
			return false;
		space();
		if (*at == '"') {
			if (!text(found))
				return false;
		} else {
			size_t digits = strspn((const char *)at, "0123456789");

			if (!digits)
				return false;
			memcpy(found, at, digits);
			found[digits] = 0;
			at += digits;
		}
		if (strcmp(key, wanted) == 0) {
			strcpy(value, found);
			seen = true;
		}
		space();
	} while (*at++ == ',');
	at--;
	return expect('}') && strcmp((const char *)at, "\n") == 0 && seen;
}

/* --- tests --------------------------------------------------------------------------------------------------- */

static char value[4 * PATH_MAX];

static void shows(const char *key, const char *wanted)
{
	if (!CHECK(find(key, value) && strcmp(value, wanted) == 0))
		printf("# %s is \"%.60s\", wanted \"%.60s\"\n", key, value, wanted);
}

static bool make(struct state *state)
{
	unlink(path);
	if (state_create(state, path, 4096))
		return false;
	state->header->monitor_pid = getpid();
	strcpy(state->header->source, "/source");
	strcpy(state->header->mountpoint, "/mnt");
	strcpy(state->header->cache, "ttl");
	return true;
}

static void the_state_is_told_in_json(void)
{
	struct state state;

	REQUIRE(make(&state));
	state.header->phase = STATE_SERVING;
	state.header->server_pid = 4712;
	state.header->restarts = 3;
	state.header->workers = 4;
	state.header->counters.requests = UINT64_MAX;
	CHECK_EQUAL(print(true, 1), 0);
	shows("source", "/source");
	shows("mountpoint", "/mnt");
	shows("phase", "serving");
	shows("server_pid", "4712");
	shows("restarts", "3");
	shows("workers", "4");
	shows("requests", "18446744073709551615");
	shows("inodes", "0");
	shows("handles", "0");
	shows("in_flight", "0");
	shows("state", path);
	state_close(&state);
}

static void what_is_in_use_is_counted(void)
{
	const uint8_t data[NODE_DATA_BYTES] = {0};
	struct node_key key = {1, 1, 1};
	struct handles handles;
	struct journal journal;
	struct record *record;
	struct nodes nodes;
	struct state state;
	uint32_t index;
	uint64_t id;
	bool made;

	REQUIRE(make(&state));
	journal_init(&journal, &state);
	nodes_init(&nodes, &state, &journal);
	handles_init(&handles, &state);
	REQUIRE(nodes_make_root(&nodes, &key, data) == 0);
	record = journal_claim(&journal);
	journal_begin(&journal, record, 1, 1);
	state.header->life = 5;
	key.number = 2;
	REQUIRE(node_grant_new(&nodes, record, &key, data, &index, &made) == 0);
	REQUIRE(node_grant(&nodes, record, &key, &index) == 0);
	REQUIRE(handle_open(&handles, record, -1, 1, 0, &id) == 0);
	CHECK_EQUAL(print(true, 1), 0);
	shows("inodes", "1");
	shows("nlookup", "2");
	shows("handles", "1");
	shows("in_flight", "1");
	shows("kept_inodes", "0");
	shows("answers", "5");
	shows("room", "7");
	state_close(&state);
}

static void strange_names_come_through(void)
{
	static const char *const names[] = {
		"/with \"quotes\" and \\backslash\\",
		"/tab\tnewline\nescape\x1b[31m and \x01\x1f\x7f",
		"/\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\xb1",   /* UTF-8 of two, three and four bytes */
		"/\xff\xfe",				   /* none */
		"/\xc3",				   /* cut off */
		"/\xe2\x82",				   /* cut off */
		"/\xe2\x82(",				   /* cut off */
		"/\x80\xbf",				   /* no beginning */
		"/\xc0\xaf \xe0\x80\xaf \xf0\x80\x80\xaf", /* longer than they need be */
		"/\xed\xa0\x80",			   /* half of a pair */
		"/\xf4\x90\x80\x80 \xf8\x88\x80\x80\x80",  /* beyond the last character */
	};

	for (size_t i = 0; i < COUNT(names); i++) {
		struct state state;

		REQUIRE(make(&state));
		strcpy(state.header->source, names[i]);
		CHECK_EQUAL(print(true, 1), 0);
		shows("source", names[i]);
		state_close(&state);
	}
}

static void the_longest_names_come_through(void)
{
	struct state state;

	REQUIRE(make(&state));
	memset(state.header->source, 1, PATH_MAX - 1);
	memset(state.header->mountpoint, 0xff, PATH_MAX - 1);
	CHECK_EQUAL(print(true, 1), 0);
	shows("source", state.header->source);
	shows("mountpoint", state.header->mountpoint);
	state_close(&state);
}

static void people_get_a_line_each(void)
{
	struct state state;

	REQUIRE(make(&state));
	CHECK_EQUAL(print(false, 1), 0);
	CHECK(strstr(output, "source         /source\n") == output);
	CHECK(strstr(output, "\nrestarts       0\n"));
	state_close(&state);
}

static void a_mount_without_monitor_gets_another(void)
{
	struct state state;

	REQUIRE(make(&state));
	state.header->phase = STATE_SERVING;
	state.header->monitor_pid = 0x7ffffff0; /* beyond PID_MAX_LIMIT */
	CHECK_EQUAL(print(true, 1), 0);
	shows("phase", "recovering");
	state_close(&state);
}

static void a_mount_that_nobody_has_is_dead(void)
{
	struct state state;

	REQUIRE(make(&state));
	state.header->phase = STATE_SERVING;
	CHECK_EQUAL(print(true, 1), 0);
	shows("phase", "serving");
	state_close(&state);
	CHECK_EQUAL(print(true, 1), 0); /* its monitor's number is that of a process that lives */
	shows("phase", "dead");
}

static void a_state_is_held_by_whoever_has_it_open(void)
{
	struct state state, seen;
	const char *why;
	int copy;

	REQUIRE(make(&state));
	copy = dup(state.fd); /* as in another process with the same table of open files */
	REQUIRE(state_open(&seen, path, &why) == 0);
	CHECK(state_held(&seen));
	CHECK(state_held(&seen));
	state_close(&state);
	CHECK(state_held(&seen));
	close(copy);
	CHECK(!state_held(&seen));
	CHECK(!state_held(&seen));
	state_close(&seen);
}

static void errors_say_why(void)
{
	struct state state;

	REQUIRE(make(&state));
	state.header->magic = 0;
	CHECK_EQUAL(print(true, 2), 2);
	CHECK(strstr(output, "not a state of fxfs"));
	state_close(&state);
	unlink(path);
	CHECK_EQUAL(print(true, 2), 2);
	CHECK(strstr(output, strerror(ENOENT)));
}

static void a_directory_that_is_no_mount_is_an_error(void)
{
	const char *names[] = {directory, "", "/nonexistent", "/proc/self"};

	for (size_t i = 0; i < COUNT(names); i++) {
		int quiet = dup(2), null = open("/dev/null", O_WRONLY);

		dup2(null, 2);
		CHECK_EQUAL(status_print(&its_fs, names[i], NULL, true), 1);
		dup2(quiet, 2);
		close(null);
		close(quiet);
	}
}

int main(void)
{
	static const struct check checks[] = {
		{"the state is told in JSON", the_state_is_told_in_json},
		{"what is in use is counted", what_is_in_use_is_counted},
		{"strange names come through", strange_names_come_through},
		{"the longest names come through", the_longest_names_come_through},
		{"people get a line each", people_get_a_line_each},
		{"a mount without a monitor gets another", a_mount_without_monitor_gets_another},
		{"a mount that nobody has is dead", a_mount_that_nobody_has_is_dead},
		{"a state is held by whoever has it open", a_state_is_held_by_whoever_has_it_open},
		{"errors say why", errors_say_why},
		{"a directory that is no mount is an error", a_directory_that_is_no_mount_is_an_error},
	};
	int result;

	check_directory(directory, sizeof(directory));
	snprintf(path, sizeof(path), "%s/state", directory);
	result = check_run(checks, COUNT(checks));
	unlink(path);
	rmdir(directory);
	return result;
}
