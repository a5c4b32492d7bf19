/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The state file: made, opened, refused. */
#include "test/unit/check.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "recover/handle.h"
#include "recover/journal.h"
#include "recover/node.h"
#include "recover/state.h"

#define AREA 5000

static char directory[200], path[256];

static bool make(void)
{
	struct state state;
	int err;

	unlink(path);
	err = state_create(&state, path, AREA);
	if (err)
		return false;
	state_close(&state);
	return true;
}

static int try_open(const char *name, const char **why)
{
	struct state state;
	int err = state_open(&state, name, why);

	if (!err)
		state_close(&state);
	return err;
}

extern struct state_header any_header; /* of which only sizes matter */

/* state_open() of a new state after `bytes` at `offset` were changed. */
static int with(size_t offset, const void *value, size_t bytes)
{
	const char *why = NULL;
	int fd, err;

	if (!make())
		return 1;
	fd = open(path, O_WRONLY);
	if (pwrite(fd, value, bytes, (off_t)offset) != (ssize_t)bytes)
		err = 1;
	else
		err = try_open(path, &why);
	close(fd);
	if (err < 0 && (!why || !*why))
		return 2; /* a refusal has its words */
	return err;
}

#define WITH(field, v)                                                               \
	({                                                                           \
		__typeof__(any_header.field) value_ = (v);                           \
		with(offsetof(struct state_header, field), &value_, sizeof(value_)); \
	})

static void a_new_state_can_be_opened(void)
{
	struct state made, opened;
	const char *why;
	struct stat st;

	REQUIRE(state_create(&made, path, AREA) == 0);
	REQUIRE(fstat(made.fd, &st) == 0);
	CHECK_EQUAL(st.st_mode, S_IFREG | 0600);
	CHECK_EQUAL(st.st_size, made.bytes);
	CHECK(made.writable);
	CHECK(strcmp(made.header->path, path) == 0);
	CHECK_EQUAL(made.header->area_bytes, AREA);
	CHECK_EQUAL(made.header->keep[KEEP_N - 1], -1);
	CHECK_EQUAL(made.header->device[STATE_WORKERS_MAX - 1], -1);
	/* what other processes see of it */
	REQUIRE(state_open(&opened, path, &why) == 0);
	CHECK(!opened.writable);
	made.header->restarts = 7;
	made.records[JOURNAL_RECORDS - 1].unique = 8;
	made.slots[STATE_SLOTS - 1].tid = 9;
	made.heads[NODE_HEADS - 1] = 10;
	made.area[AREA - 1] = 11;
	CHECK_EQUAL(opened.header->restarts, 7);
	CHECK_EQUAL(opened.records[JOURNAL_RECORDS - 1].unique, 8);
	CHECK_EQUAL(opened.slots[STATE_SLOTS - 1].tid, 9);
	CHECK_EQUAL(opened.heads[NODE_HEADS - 1], 10);
	CHECK_EQUAL(opened.area[AREA - 1], 11);
	state_close(&opened);
	state_close(&made);
}

static void sections_do_not_overlap(void)
{
	struct state state;

	REQUIRE(state_create(&state, NULL, AREA) == 0);

	const struct {
		const void *at;
		uint64_t bytes;
	} section[] = {{state.header, sizeof(*state.header)},
		       {state.slots, sizeof(*state.slots) * STATE_SLOTS},
		       {state.stats, sizeof(*state.stats) * STATE_SLOTS},
		       {state.records, sizeof(*state.records) * JOURNAL_RECORDS},
		       {state.grants, sizeof(*state.grants) * GRANT_AREAS * GRANTS_PER_AREA},
		       {state.area, AREA},
		       {state.heads, sizeof(*state.heads) * (uint64_t)NODE_HEADS},
		       {state.handles, sizeof(struct handle) * (uint64_t)HANDLES_MAX},
		       {state.nodes, sizeof(struct node) * (uint64_t)NODES_MAX},
		       {(uint8_t *)state.header + state.bytes, 0}};

	for (size_t i = 0; i + 1 < COUNT(section); i++) {
		CHECK((uintptr_t)section[i].at % 4096 == 0);
		CHECK((uintptr_t)section[i].at + section[i].bytes <= (uintptr_t)section[i + 1].at);
	}
	CHECK((uint8_t *)state.handles == (uint8_t *)state.header + state.handles_offset);
	CHECK((uint8_t *)state.nodes == (uint8_t *)state.header + state.nodes_offset);
	state_close(&state);
}

static void nothing_that_exists_is_overwritten(void)
{
	struct state state;
	struct stat st;
	int fd;

	unlink(path);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	REQUIRE(write(fd, "mine", 4) == 4);
	close(fd);
	CHECK_EQUAL(state_create(&state, path, AREA), -EEXIST);
	CHECK(stat(path, &st) == 0 && st.st_size == 4);
	unlink(path);
	REQUIRE(symlink("target", path) == 0);
	CHECK_EQUAL(state_create(&state, path, AREA), -EEXIST);
	unlink(path);
	CHECK_EQUAL(state_create(&state, "/nonexistent/state", AREA), -ENOENT);
}

static void another_version_or_layout_is_refused(void)
{
	CHECK_EQUAL(WITH(magic, STATE_MAGIC), 0);
	CHECK_EQUAL(WITH(magic, 0), -EBADMSG);
	CHECK_EQUAL(WITH(magic, STATE_MAGIC + 1), -EBADMSG);
	CHECK_EQUAL(WITH(version, STATE_VERSION + 1), -EPROTO);
	CHECK_EQUAL(WITH(layout, 1), -EPROTO);
	CHECK_EQUAL(WITH(area_bytes, AREA + 1), -EPROTO);
	CHECK_EQUAL(WITH(area_bytes, UINT64_MAX), -EPROTO);
	CHECK_EQUAL(WITH(area_bytes, UINT64_MAX - 4095), -EPROTO);
}

static void a_torn_file_is_refused(void)
{
	const char *why;
	struct stat st;

	REQUIRE(make() && stat(path, &st) == 0);
	REQUIRE(truncate(path, st.st_size - 1) == 0);
	CHECK_EQUAL(try_open(path, &why), -EBADMSG);
	REQUIRE(truncate(path, st.st_size + 1) == 0);
	CHECK_EQUAL(try_open(path, &why), -EBADMSG);
	REQUIRE(truncate(path, STATE_HEADER_BYTES) == 0);
	CHECK_EQUAL(try_open(path, &why), -EBADMSG);
	REQUIRE(truncate(path, STATE_HEADER_BYTES - 1) == 0);
	CHECK_EQUAL(try_open(path, &why), -EBADMSG);
	CHECK(strstr(why, "short"));
	REQUIRE(truncate(path, 0) == 0);
	CHECK_EQUAL(try_open(path, &why), -EBADMSG);
	REQUIRE(truncate(path, st.st_size) == 0); /* all zeros */
	CHECK_EQUAL(try_open(path, &why), -EBADMSG);
	CHECK_EQUAL(WITH(bytes, (uint64_t)st.st_size - 4096), -EBADMSG);
}

static void absurd_numbers_are_refused(void)
{
	CHECK_EQUAL(WITH(nodes_high, NODES_MAX), -EBADMSG);
	CHECK_EQUAL(WITH(nodes_high, UINT64_MAX), -EBADMSG);
	CHECK_EQUAL(WITH(nodes_high, 1), -EBADMSG); /* of none that are allocated */
	CHECK_EQUAL(WITH(handles_high, HANDLES_MAX), -EBADMSG);
	CHECK_EQUAL(WITH(handles_high, UINT64_C(1) << 59), -EBADMSG);
	CHECK_EQUAL(WITH(handles_high, 1), -EBADMSG);
	CHECK_EQUAL(WITH(nodes_bytes, sizeof(struct node) * (uint64_t)NODES_MAX), 0);
	CHECK_EQUAL(WITH(nodes_bytes, sizeof(struct node) * (uint64_t)NODES_MAX + 1), -EBADMSG);
	CHECK_EQUAL(WITH(handles_bytes, sizeof(struct handle) * (uint64_t)HANDLES_MAX + 1), -EBADMSG);
	CHECK_EQUAL(WITH(workers, STATE_WORKERS_MAX), 0);
	CHECK_EQUAL(WITH(workers, STATE_WORKERS_MAX + 1), -EBADMSG);
	CHECK_EQUAL(WITH(phase, STATE_PHASE_N), -EBADMSG);
	CHECK_EQUAL(WITH(init_in_bytes, STATE_INIT_BYTES + 1), -EBADMSG);
	CHECK_EQUAL(WITH(init_out_bytes, UINT32_MAX), -EBADMSG);
}

/* The last node in use lies in what is allocated, not right behind it. */
static void numbers_fit_the_allocated_tables(void)
{
	const uint64_t handles[] = {4, 5 * sizeof(struct handle)};
	const uint64_t nodes[] = {4, 5 * sizeof(struct node)};
	struct state state;
	const char *why;

	unlink(path);
	REQUIRE(state_create(&state, path, AREA) == 0);
	state.header->nodes_high = nodes[0];
	state.header->nodes_bytes = nodes[1];
	state.header->handles_high = handles[0];
	state.header->handles_bytes = handles[1];
	CHECK_EQUAL(try_open(path, &why), 0);
	state.header->nodes_high++;
	CHECK_EQUAL(try_open(path, &why), -EBADMSG);
	state.header->nodes_high--;
	state.header->handles_high++;
	CHECK_EQUAL(try_open(path, &why), -EBADMSG);
	state.header->handles_high = UINT64_MAX / sizeof(struct handle) + 1; /* times the size it is little again */
	CHECK_EQUAL(try_open(path, &why), -EBADMSG);
	state.header->handles_high = handles[0];
	state.header->nodes_high = UINT64_MAX / sizeof(struct node) + 1;
	CHECK_EQUAL(try_open(path, &why), -EBADMSG);
	state_close(&state);
}

static void texts_without_an_end_are_refused(void)
{
	static char text[PATH_MAX];

	memset(text, 'x', sizeof(text));
#define ENDLESS(field) with(offsetof(struct state_header, field), text, sizeof(any_header.field))
	CHECK_EQUAL(ENDLESS(source), -EBADMSG);
	CHECK_EQUAL(ENDLESS(mountpoint), -EBADMSG);
	CHECK_EQUAL(ENDLESS(path), -EBADMSG);
	CHECK_EQUAL(ENDLESS(program), -EBADMSG);
	CHECK_EQUAL(ENDLESS(cache), -EBADMSG);
	CHECK_EQUAL(ENDLESS(passthrough), -EBADMSG);
	CHECK_EQUAL(ENDLESS(device_path), -EBADMSG);
	CHECK_EQUAL(ENDLESS(version_text), -EBADMSG);
	/* one byte less is the longest that is allowed */
	CHECK_EQUAL(with(offsetof(struct state_header, source), text, PATH_MAX - 1), 0);
}

static void only_a_private_file_of_ours_is_opened(void)
{
	const char *why;
	char link[300];

	REQUIRE(make());
	REQUIRE(chmod(path, 0640) == 0);
	CHECK_EQUAL(try_open(path, &why), -EPERM);
	REQUIRE(chmod(path, 0604) == 0);
	CHECK_EQUAL(try_open(path, &why), -EPERM);
	REQUIRE(chmod(path, 0601) == 0);
	CHECK_EQUAL(try_open(path, &why), -EPERM);
	REQUIRE(chmod(path, 0400) == 0);
	CHECK_EQUAL(try_open(path, &why), 0);
	snprintf(link, sizeof(link), "%s.link", path);
	REQUIRE(symlink(path, link) == 0);
	CHECK_EQUAL(try_open(link, &why), -ELOOP);
	unlink(link);
	CHECK_EQUAL(try_open(directory, &why), -EBADMSG);
	CHECK(strstr(why, "regular"));
	CHECK_EQUAL(try_open("/dev/null", &why), -EBADMSG);
	unlink(path);
	CHECK_EQUAL(try_open(path, &why), -ENOENT);
	/* one that nobody writes to must not make us wait */
	REQUIRE(mkfifo(path, 0600) == 0);
	CHECK_EQUAL(try_open(path, &why), -EBADMSG);
	unlink(path);
}

static void a_file_of_another_user_is_refused(void)
{
	const char *why;

	if (geteuid() != 0)
		SKIP("machine lacks root");
	REQUIRE(make());
	REQUIRE(chown(path, 4711, 0) == 0);
	CHECK_EQUAL(try_open(path, &why), -EPERM);
	CHECK(strstr(why, "owned"));
	unlink(path);
}

static void tables_grow_in_steps(void)
{
	struct state state;
	uint64_t have = 0;
	struct stat st;

	REQUIRE(state_create(&state, NULL, AREA) == 0);
	CHECK_EQUAL(state_grow(&state, state.nodes_offset, &have, 1), 0);
	CHECK_EQUAL(have, STATE_GROW_BYTES);
	CHECK_EQUAL(state_grow(&state, state.nodes_offset, &have, STATE_GROW_BYTES), 0);
	CHECK_EQUAL(have, STATE_GROW_BYTES);
	CHECK_EQUAL(state_grow(&state, state.nodes_offset, &have, 3 * STATE_GROW_BYTES - 1), 0);
	CHECK_EQUAL(have, 3 * STATE_GROW_BYTES);
	fstat(state.fd, &st);
	CHECK((uint64_t)st.st_blocks * 512 >= state.handles_offset + have);
	CHECK_EQUAL(st.st_size, state.bytes);
	state_close(&state);
}

/* The last place of a table in use: nothing is written behind it. */
static void a_full_table_is_an_error(void)
{
	const uint8_t data[NODE_DATA_BYTES] = {0};
	const struct node_key key = {1, 1, 1};
	struct handles handles;
	struct journal journal;
	struct record *record;
	struct nodes nodes;
	struct state state;
	uint32_t index;
	uint64_t id;
	bool made;

	REQUIRE(state_create(&state, NULL, AREA) == 0);
	journal_init(&journal, &state);
	nodes_init(&nodes, &state, &journal);
	handles_init(&handles, &state);
	record = journal_claim(&journal);
	journal_begin(&journal, record, 1, 1);
	state.header->nodes_high = state.header->nodes_used = NODES_MAX - 1;
	state.header->nodes_bytes = sizeof(struct node) * (uint64_t)NODES_MAX;
	CHECK_EQUAL(node_grant_new(&nodes, record, &key, data, &index, &made), -ENFILE);
	CHECK(!made);
	CHECK_EQUAL(record->ngrants, 0);
	state.header->handles_high = state.header->handles_used = HANDLES_MAX - 1;
	state.header->handles_bytes = sizeof(struct handle) * (uint64_t)HANDLES_MAX;
	CHECK_EQUAL(handle_open(&handles, record, 0, 1, 0, &id), -ENFILE);
	CHECK_EQUAL(record->handle, 0);
	state_close(&state);
}

static void no_descriptor_is_kept_at_first(void)
{
	struct state state;

	REQUIRE(state_create(&state, NULL, AREA) == 0);
	for (int i = 0; i < KEEP_N; i++)
		CHECK_EQUAL(state.header->keep[i], -1);
	state_close(&state);
}

/* What a program that takes over gets: the same checks, and it may write. */
static void a_state_is_adopted_by_descriptor(void)
{
	struct state state, again;
	const char *why = "";

	REQUIRE(state_create(&state, NULL, AREA) == 0);
	REQUIRE(state_adopt(&again, state.fd, &why) == 0);
	again.header->restarts = 7;
	CHECK_EQUAL(state.header->restarts, 7);
	state.header->version++;
	CHECK_EQUAL(state_adopt(&again, state.fd, &why), -EPROTO);
	CHECK_EQUAL(state_adopt(&again, STDIN_FILENO, &why) != 0, 1);
	state_close(&state);
}

/* In a child with its own mounts: 0 if all went well, else the line that did not. */
static int fill_up(void)
{
	struct state state;
	struct nodes nodes;
	struct journal journal;
	const uint8_t data[NODE_DATA_BYTES] = {0};
	struct node_key key = {1, 1, 1};
	struct record *record;
	struct statvfs space;
	uint64_t granted = 0;
	uint32_t index;
	bool made;
	int fd, err = 0;
	static char filler[65536];

#define WANT(condition)   \
	if (!(condition)) \
	return __LINE__
	/* no room for what is allocated at first */
	WANT(mount("none", directory, "tmpfs", 0, "size=4m") == 0);
	WANT(state_create(&state, path, AREA) == -ENOSPC);
	WANT(access(path, F_OK) != 0);
	WANT(mount("none", directory, "tmpfs", MS_REMOUNT, "size=12m") == 0);
	WANT(state_create(&state, path, AREA) == 0);

	journal_init(&journal, &state);
	nodes_init(&nodes, &state, &journal);
	WANT(nodes_make_root(&nodes, &key, data) == 0);
	record = journal_claim(&journal);
	/* others fill the rest */
	WANT(chdir(directory) == 0);
	fd = open("filler", O_WRONLY | O_CREAT, 0600);
	for (int i = 0; i < 1000 && write(fd, filler, sizeof(filler)) > 0; i++)
		;
	WANT(statvfs(".", &space) == 0 && space.f_bfree == 0);
	while (!err && granted < 100000) {
		journal_begin(&journal, record, 1, 1);
		key.number++;
		err = node_grant_new(&nodes, record, &key, data, &index, &made);
		journal_end(&journal, record);
		granted += !err;
	}
	WANT(err == -ENFILE);
	/* the root is the first of what one step allocated, and number 0 is none */
	WANT(granted == STATE_GROW_BYTES / sizeof(struct node) - 2);
	/* all there is still works, and once there is room all goes on */
	WANT(state.nodes[index ? index : granted].state == NODE_USED);
	WANT(unlink("filler") == 0 && close(fd) == 0);
	journal_begin(&journal, record, 1, 1);
	WANT(node_grant_new(&nodes, record, &key, data, &index, &made) == 0);
	return 0;
}

static void a_full_file_system_is_an_error(void)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
			exit(77);
		int line;
		unlink(path);
		line = fill_up();
		if (line)
			fprintf(stderr, "# line %d\n", line);
		_exit(line ? 1 : 0);
	}
	waitpid(child, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		SKIP("machine lacks the permission to mount");
	CHECK_EQUAL(status, 0); /* 7: SIGBUS */
}

int main(void)
{
	static const struct check checks[] = {
		{"a new state can be opened", a_new_state_can_be_opened},
		{"sections do not overlap", sections_do_not_overlap},
		{"nothing that exists is overwritten", nothing_that_exists_is_overwritten},
		{"another version or layout is refused", another_version_or_layout_is_refused},
		{"a torn file is refused", a_torn_file_is_refused},
		{"absurd numbers are refused", absurd_numbers_are_refused},
		{"numbers fit the allocated tables", numbers_fit_the_allocated_tables},
		{"texts without an end are refused", texts_without_an_end_are_refused},
		{"only a private file of ours is opened", only_a_private_file_of_ours_is_opened},
		{"a file of another user is refused", a_file_of_another_user_is_refused},
		{"tables grow in steps", tables_grow_in_steps},
		{"a full table is an error", a_full_table_is_an_error},
		{"no descriptor is kept at first", no_descriptor_is_kept_at_first},
		{"a state is adopted by descriptor", a_state_is_adopted_by_descriptor},
		{"a full file system is an error and no signal", a_full_file_system_is_an_error},
	};
	int result;

	umask(022);
	check_directory(directory, sizeof(directory));
	snprintf(path, sizeof(path), "%s/state", directory);
	result = check_run(checks, COUNT(checks));
	unlink(path);
	rmdir(directory);
	return result;
}
