/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The monitor: its table, and what it does when servers live, die and cannot start. The test is the kernel: it holds
 * the other end of what the monitor takes for a /dev/fuse that somebody else has mounted (/dev/fd/N).
 */
#include "test/unit/check.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "recover/monitor.h"
#include "recover/recover.h"

#ifdef FXFS_SANITIZE
#define PATIENCE_MS 60000
#else
#define PATIENCE_MS 10000
#endif

static void every_pair_has_an_action(void)
{
	for (int state = 0; state < MONITOR_STATE_N; state++)
		for (int event = 0; event < MONITOR_EVENT_N; event++)
			if (!CHECK(monitor_handles((enum monitor_state)state, (enum monitor_event)event)))
				printf("# state %d, event %d\n", state, event);
}

/* --- a file system that does what a test needs ------------------------------------------------------------- */

enum start { STARTS, FAILS_TO_START, ENDS_AT_START };

static enum start how_it_starts;
static char directory[200], state_path[256], made_path[256];

static int tiny_prepare(struct recover *recover)
{
	const uint8_t data[NODE_DATA_BYTES] = {0};
	const struct node_key key = {0, 1, 0};

	return nodes_make_root(recover_nodes(recover), &key, data);
}

static int tiny_start(struct recover *recover)
{
	(void)recover;
	setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
	signal(SIGABRT, SIG_DFL);
	if (how_it_starts == ENDS_AT_START)
		_exit(0); /* as when the kernel says that the connection is gone */
	return how_it_starts == FAILS_TO_START ? -EIO : 0;
}

static void tiny_start_worker(struct request *request)
{
	(void)request;
}

static void tiny_mark(struct recover *recover, void (*mark)(void *context, int fd), void *context)
{
	(void)recover, (void)mark, (void)context;
}

static void tiny_drop_node(void *recover, uint32_t index, struct node *node)
{
	(void)recover, (void)index, (void)node;
}

static void tiny_drop_handle(void *recover, struct handle *handle)
{
	(void)recover, (void)handle;
}

static void tiny_interrupt(struct recover *recover, struct worker_slot *slot, uint64_t unique)
{
	(void)recover, (void)slot, (void)unique;
}

/* MKDIR makes a directory, and dies after it, once; LOOKUP hands out a node; STATFS ends the server; else 0. */
static bool tiny_raw(struct request *request)
{
	const struct node_key key = {0, 2, 0};
	const uint8_t data[NODE_DATA_BYTES] = {0};
	uint32_t index;
	bool made;
	long err;

	switch (request->in->opcode) {
	case FUSE_MKDIR:
		err = request_call(request, SYS_mkdirat, AT_FDCWD, (long)made_path, 0700, 0, 0, 0);
		if (!(request->in->unique & UNIQUE_RESEND))
			raise(SIGKILL);
		request_reply(request, (int)err, NULL, 0);
		break;
	case FUSE_LOOKUP:
		err = node_grant_new(recover_nodes(request->recover), request->record, &key, data, &index, &made);
		if (!(request->in->unique & UNIQUE_RESEND))
			raise(SIGKILL);
		request_reply(request, (int)err, NULL, 0);
		break;
	case FUSE_STATFS:
		_exit(0);
	default:
		request_reply(request, 0, NULL, 0);
	}
	return true;
}

static const struct fuse_lowlevel_ops tiny_ops;

static const struct contain_call calls[] = {CONTAIN_CALL(mkdirat), CONTAIN_CALL_IF(tkill, 1, ~0u, SIGKILL)};
static const struct contain_set server_may = {.calls = calls, .calls_n = 2};

static const struct recover_fs tiny = {.name = "tiny",
				       .ops = &tiny_ops,
				       .prepare = tiny_prepare,
				       .start = tiny_start,
				       .start_worker = tiny_start_worker,
				       .mark = tiny_mark,
				       .drop_node = tiny_drop_node,
				       .drop_handle = tiny_drop_handle,
				       .raw = tiny_raw,
				       .interrupt = tiny_interrupt,
				       .server_may = &server_may};

/* --- the kernel ---------------------------------------------------------------------------------------------- */

static int kernel = -1; /* our end */
static pid_t monitor;

static bool readable(void)
{
	struct pollfd fd = {.fd = kernel, .events = POLLIN};

	return poll(&fd, 1, PATIENCE_MS) == 1;
}

static void send_request(uint32_t opcode, uint64_t unique, const void *arguments, size_t bytes)
{
	struct {
		struct fuse_in_header in;
		uint8_t arguments[128];
	} request = {.in = {.len = (uint32_t)(sizeof(request.in) + bytes), .opcode = opcode, .unique = unique}};

	memcpy(request.arguments, arguments, bytes);
	CHECK(write(kernel, &request, request.in.len) == (ssize_t)request.in.len);
}

/* The next answer is this one. */
static bool answers(uint64_t unique, int error)
{
	uint8_t answer[4096] __attribute__((aligned(8)));
	const struct fuse_out_header *out = (const void *)answer;

	if (!readable() || read(kernel, answer, sizeof(answer)) < (ssize_t)sizeof(*out)) {
		printf("# no answer to %llx\n", (unsigned long long)unique);
		return false;
	}
	if (out->unique != unique || out->error != error)
		printf("# answer to %llx with error %d\n", (unsigned long long)out->unique, out->error);
	return out->unique == unique && out->error == error;
}

/* A new server asks for what was not answered. */
static bool asks_for_resend(void)
{
	return answers(0, FUSE_NOTIFY_RESEND);
}

static void start_monitor_of(const struct fuse_init_in *init)
{
	int pair[2];

	unlink(state_path);
	rmdir(made_path);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return;
	monitor = fork();
	if (monitor == 0) {
		char mountpoint[32];
		struct recover_options options = {.source = "none",
						  .mountpoint = mountpoint,
						  .state_path = state_path,
						  .version = "0",
						  .workers = 1,
						  .cache = "none",
						  .foreground = true,
						  .notify_fd = -1};
		int null = open("/dev/null", O_WRONLY);

		dup2(null, 2);
		close(pair[0]);
		snprintf(mountpoint, sizeof(mountpoint), "/dev/fd/%d", pair[1]);
		_exit(recover_run(&tiny, &options, NULL));
	}
	close(pair[1]);
	kernel = pair[0];
	send_request(FUSE_INIT, 1, init, sizeof(*init));
}

static void start_monitor(void)
{
	const struct fuse_init_in init = {.major = FUSE_KERNEL_VERSION,
					  .minor = FUSE_KERNEL_MINOR_VERSION,
					  .max_readahead = 65536,
					  .flags = FUSE_INIT_EXT,
					  .flags2 = (uint32_t)(FUSE_HAS_RESEND >> 32)};

	start_monitor_of(&init);
	CHECK(answers(1, 0));
}

/* One number of the state, as anybody sees it. */
static int look(int (*at)(const struct state_header *header))
{
	struct state state;
	const char *why;
	int value;

	if (state_open(&state, state_path, &why))
		return -1;
	value = at(state.header);
	state_close(&state);
	return value;
}

static int restarts(const struct state_header *header)
{
	return (int)header->restarts;
}

static int server_pid(const struct state_header *header)
{
	return header->server_pid;
}

/* The exit code of the monitor; it and its server are gone then, also when the test failed. */
static int monitor_ends(void)
{
	int server = look(server_pid), status = -1;

	for (int ms = 0; ms < PATIENCE_MS; ms += 10) {
		if (waitpid(monitor, &status, WNOHANG) == monitor) {
			close(kernel);
			return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
		}
		usleep(10000);
	}
	printf("# the monitor does not end\n");
	kill(monitor, SIGSTOP);
	if (server > 0)
		kill(server, SIGKILL);
	kill(monitor, SIGKILL);
	waitpid(monitor, &status, 0);
	close(kernel);
	return -1;
}

/* --- tests --------------------------------------------------------------------------------------------------- */

static const uint8_t nothing[8];

static void a_server_that_dies_is_followed_by_another(void)
{
	how_it_starts = STARTS;
	start_monitor();
	CHECK(asks_for_resend());
	for (int death = 0; death < 12; death++) { /* more than it takes to pause: each was ready before */
		uint64_t unique = 100 + 2 * (uint64_t)death;
		int pid;

		send_request(FUSE_READLINK, unique, nothing, 0);
		CHECK(answers(unique, 0));
		CHECK_EQUAL(look(restarts), death);
		pid = look(server_pid);
		REQUIRE(pid > 0);
		kill(pid, SIGKILL);
		CHECK(asks_for_resend());
		CHECK(look(server_pid) != pid);
	}
	kill(monitor, SIGTERM);
	CHECK_EQUAL(monitor_ends(), 0);
	CHECK(access(state_path, F_OK) != 0);
}

static void what_was_done_is_not_done_again(void)
{
	const struct fuse_mkdir_in in[2] = {{0}}; /* and an empty name */

	how_it_starts = STARTS;
	start_monitor();
	CHECK(asks_for_resend());
	/* a kernel queues what it sends again while it is asked to, so it is there before the next server reads */
	send_request(FUSE_MKDIR, 50, in, sizeof(in[0]) + 1);
	send_request(FUSE_MKDIR, 50 | UNIQUE_RESEND, in, sizeof(in[0]) + 1);
	CHECK(asks_for_resend());
	CHECK_EQUAL(access(made_path, F_OK), 0);
	CHECK(answers(50 | UNIQUE_RESEND, 0)); /* and not EEXIST */
	CHECK_EQUAL(look(restarts), 1);
	kill(monitor, SIGTERM);
	CHECK_EQUAL(monitor_ends(), 0);
}

static int nlookup(const struct state_header *header)
{
	struct state state;
	const char *why;
	int sum;

	(void)header;
	if (state_open(&state, state_path, &why))
		return -1;
	sum = (int)nodes_count(&state).nlookup;
	state_close(&state);
	return sum;
}

static int in_flight(const struct state_header *header)
{
	struct state state;
	const char *why;
	uint32_t n;

	(void)header;
	if (state_open(&state, state_path, &why))
		return -1;
	n = journal_in_flight(&state);
	state_close(&state);
	return (int)n;
}

static void a_reference_is_handed_out_once(void)
{
	how_it_starts = STARTS;
	start_monitor();
	CHECK(asks_for_resend());
	send_request(FUSE_LOOKUP, 60, "x", 2);
	send_request(FUSE_LOOKUP, 60 | UNIQUE_RESEND, "x", 2);
	CHECK(asks_for_resend());
	CHECK(answers(60 | UNIQUE_RESEND, 0));
	CHECK_EQUAL(look(nlookup), 1);

	/* one that is never sent again was given up: the record is free once an ordinary request comes */
	send_request(FUSE_LOOKUP, 62, "x", 2);
	CHECK(asks_for_resend());
	send_request(FUSE_READLINK, 64, nothing, 0);
	CHECK(answers(64, 0));
	CHECK_EQUAL(look(nlookup), 1);
	for (int ms = 0; ms < 1000 && look(in_flight) > 0; ms++)
		usleep(1000);
	CHECK_EQUAL(look(in_flight), 0);
	kill(monitor, SIGTERM);
	CHECK_EQUAL(monitor_ends(), 0);
}

static void an_end_of_the_connection_ends_the_monitor(void)
{
	how_it_starts = STARTS;
	start_monitor();
	CHECK(asks_for_resend());
	send_request(FUSE_READLINK, 70, nothing, 0);
	CHECK(answers(70, 0));
	send_request(FUSE_STATFS, 72, nothing, 0);
	CHECK_EQUAL(monitor_ends(), 0);
}

static void a_server_that_never_starts_is_a_failure(void)
{
	how_it_starts = FAILS_TO_START;
	start_monitor();
	CHECK_EQUAL(monitor_ends(), 4);
	CHECK(access(state_path, F_OK) != 0);
}

static void a_mount_that_is_gone_at_once_is_a_failure(void)
{
	how_it_starts = ENDS_AT_START;
	start_monitor();
	CHECK_EQUAL(monitor_ends(), 32);
	CHECK(access(state_path, F_OK) != 0);
}

static void a_kernel_that_cannot_send_again_is_refused(void)
{
	const struct fuse_init_in init = {.major = FUSE_KERNEL_VERSION, .minor = 39, .flags = FUSE_INIT_EXT};

	how_it_starts = STARTS;
	start_monitor_of(&init);
	CHECK_EQUAL(monitor_ends(), 32);
	CHECK(access(state_path, F_OK) != 0);
}

static void nothing_is_left_in_run(void)
{
	char command[512];

	snprintf(command, sizeof(command), "find /run/fxfs -lname '%s/*' 2>/dev/null | grep .", directory);
	CHECK_EQUAL(system(command), 256);
}

int main(void)
{
	static const struct check checks[] = {
		{"every pair of state and event has an action", every_pair_has_an_action},
		{"a server that dies is followed by another", a_server_that_dies_is_followed_by_another},
		{"what was done is not done again", what_was_done_is_not_done_again},
		{"a reference is handed out once", a_reference_is_handed_out_once},
		{"an end of the connection ends the monitor", an_end_of_the_connection_ends_the_monitor},
		{"a server that never starts is a failure", a_server_that_never_starts_is_a_failure},
		{"a mount that is gone at once is a failure", a_mount_that_is_gone_at_once_is_a_failure},
		{"a kernel that cannot send again is refused", a_kernel_that_cannot_send_again_is_refused},
		{"no link is left in /run/fxfs", nothing_is_left_in_run},
	};
	int result;

	check_directory(directory, sizeof(directory));
	snprintf(state_path, sizeof(state_path), "%s/state", directory);
	snprintf(made_path, sizeof(made_path), "%s/made", directory);
	result = check_run(checks, COUNT(checks));
	unlink(state_path);
	rmdir(made_path);
	rmdir(directory);
	return result;
}
