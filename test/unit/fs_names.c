/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Operations of the passthrough without a mount: names, inodes and handles; what is told apart; the caller's groups. */
#include "test/unit/check.h"
#include "test/unit/fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sys/stat.h>

#include "fs/creds.h"
#include "fs/fs.h"
#include "fs/inode.h"
#include "fs/ops.h"

static char source[200];
static struct recover *recover;
static struct request request;
static struct {
	struct fuse_in_header in;
	union {
		struct fuse_mkdir_in mkdir;
		struct fuse_create_in create;
		struct fuse_open_in open;
	};
} message;

/* A mount of an empty directory that has just started its first server. */
static void mount_source(void)
{
	int fd = open(source, O_RDONLY | O_DIRECTORY);

	recover = calloc(1, sizeof(*recover));
	if (fd < 0 || !recover || state_create(&recover->state, NULL, fxfs.area_bytes))
		err(1, "%s", source);
	recover->fs = &fxfs;
	recover->private = fs_new(fd);
	recover->workers_n = 1;
	fixture_life(recover);
	if (fxfs.prepare(recover) || fxfs.start(recover))
		errx(1, "the file system does not start");
	recover->workers[0] = (struct worker){.recover = recover, .slot = recover->state.slots, .device = -1};
	request = (struct request){.in = &message.in,
				   .recover = recover,
				   .worker = &recover->workers[0],
				   .slot = recover->state.slots,
				   .record = journal_claim(&recover->journal),
				   .out = malloc(65536),
				   .out_bytes = 65536};
	fxfs.start_worker(&request);
}

/* The next request: what the one before granted is the kernel's. */
static struct request *begin(uint32_t opcode)
{
	static uint64_t unique;

	if (request.record->phase != RECORD_FREE)
		journal_end(&recover->journal, request.record);
	fds_end_request(&request);
	unique += 2;
	memset(&message, 0, sizeof(message));
	message.in = (struct fuse_in_header){
		.opcode = opcode, .unique = unique, .uid = getuid(), .gid = getgid(), .pid = (uint32_t)getpid()};
	request.steps = 0;
	journal_begin(&recover->journal, request.record, unique, opcode);
	return &request;
}

static int lookup(uint64_t parent, const char *name, struct fuse_entry_param *entry)
{
	bool submount;

	return fs_lookup(begin(FUSE_LOOKUP), parent, name, entry, &submount);
}

static char *in_source(const char *name)
{
	static char path[2][300];
	static int which;

	which = !which;
	snprintf(path[which], sizeof(path[which]), "%s/%s", source, name);
	return path[which];
}

static void names_that_lead_elsewhere_are_refused(void)
{
	static const char *const names[] = {"", ".", "..", "a/b", "/", "/etc"};
	struct fuse_entry_param entry;

	for (size_t i = 0; i < COUNT(names); i++)
		if (!CHECK_EQUAL(lookup(NODE_ROOT, names[i], &entry), -EINVAL))
			printf("# \"%s\"\n", names[i]);
	CHECK_EQUAL(lookup(NODE_ROOT, "nothing", &entry), -ENOENT);
	CHECK_EQUAL(lookup(4711, "nothing", &entry), -ESTALE);
	CHECK_EQUAL(request.record->ngrants, 0);
}

static void a_directory_is_made_and_found(void)
{
	struct fuse_entry_param made, found;
	struct stat st;

	begin(FUSE_MKDIR);
	message.mkdir.umask = 022;
	CHECK_EQUAL(fs_mkdir(&request, NODE_ROOT, "made", 0777, &made), 0);
	CHECK_EQUAL(request.record->ngrants, 1);
	REQUIRE(stat(in_source("made"), &st) == 0);
	CHECK_EQUAL(st.st_mode, S_IFDIR | 0755);
	CHECK_EQUAL(made.attr.st_ino, st.st_ino);
	CHECK_EQUAL(lookup(NODE_ROOT, "made", &found), 0);
	CHECK_EQUAL(found.ino, made.ino);

	/* carried out again with the same record, as after a death: the same answer, and no EEXIST */
	begin(FUSE_MKDIR);
	CHECK_EQUAL(fs_mkdir(&request, NODE_ROOT, "again", 0777, &made), 0);
	node_revoke(&recover->nodes, request.slot, request.record);
	request.steps = 0;
	CHECK_EQUAL(fs_mkdir(&request, NODE_ROOT, "again", 0777, &made), 0);
	CHECK_EQUAL(fs_rmdir(begin(FUSE_RMDIR), NODE_ROOT, "again"), 0);
	CHECK_EQUAL(fs_rmdir(begin(FUSE_RMDIR), NODE_ROOT, "again"), -ENOENT);
}

static void two_names_of_a_file_are_one_node(void)
{
	struct fuse_entry_param one, other, third;
	uint32_t index;

	close(open(in_source("one"), O_CREAT | O_WRONLY, 0644));
	REQUIRE(link(in_source("one"), in_source("other")) == 0);
	REQUIRE(lookup(NODE_ROOT, "one", &one) == 0);
	REQUIRE(lookup(NODE_ROOT, "other", &other) == 0);
	CHECK_EQUAL(one.ino, other.ino);
	CHECK_EQUAL(node_find(&recover->nodes, one.ino, &index)->nlookup, 2);

	/* moved it is the same; another file under its old name is not */
	CHECK_EQUAL(fs_rename(begin(FUSE_RENAME2), NODE_ROOT, "one", NODE_ROOT, "moved", 0), 0);
	close(open(in_source("one"), O_CREAT | O_WRONLY, 0644));
	REQUIRE(lookup(NODE_ROOT, "moved", &other) == 0);
	CHECK_EQUAL(other.ino, one.ino);
	REQUIRE(lookup(NODE_ROOT, "one", &third) == 0);
	CHECK(third.ino != one.ino);
	unlink(in_source("one"));
	unlink(in_source("other"));
	unlink(in_source("moved"));
}

/* Made within one tick of the clock they have the same birth time. */
static void files_of_one_moment_are_different_nodes(void)
{
	struct fuse_entry_param entry[16];
	char name[16];

	for (unsigned i = 0; i < COUNT(entry); i++) {
		snprintf(name, sizeof(name), "f%u", i);
		close(open(in_source(name), O_CREAT | O_WRONLY, 0644));
	}
	for (unsigned i = 0; i < COUNT(entry); i++) {
		snprintf(name, sizeof(name), "f%u", i);
		REQUIRE(lookup(NODE_ROOT, name, &entry[i]) == 0);
		for (unsigned j = 0; j < i; j++)
			CHECK(entry[j].ino != entry[i].ino);
		unlink(in_source(name));
	}
}

/* A file system gives the number of a file that is gone to the next one, while the kernel still knows the first. */
static void a_number_used_again_is_another_node(void)
{
	struct fuse_entry_param first, second;
	bool used_again = false;

	for (int i = 0; i < 64 && !used_again; i++) {
		close(open(in_source("file"), O_CREAT | O_WRONLY, 0644));
		REQUIRE(lookup(NODE_ROOT, "file", &first) == 0);
		begin(FUSE_READLINK); /* lets go of what the look-up pinned */
		while (fds_shrink(recover->private))
			;
		unlink(in_source("file")); /* behind our back */
		usleep(10000);		   /* births are told apart by a clock that ticks this often */
		close(open(in_source("file"), O_CREAT | O_WRONLY, 0644));
		REQUIRE(lookup(NODE_ROOT, "file", &second) == 0);
		CHECK(first.ino != second.ino);
		used_again = first.attr.st_ino == second.attr.st_ino;
		unlink(in_source("file"));
	}
	if (!used_again)
		printf("# this file system does not use numbers again\n");
}

static ssize_t read_at(uint64_t fh, uint64_t offset)
{
	const struct fuse_read_in in = {.fh = fh, .size = 100, .offset = offset};

	return fs_read(begin(FUSE_READ), &in);
}

static void what_is_written_is_read(void)
{
	struct fuse_entry_param entry;
	struct fuse_write_in in = {.size = 5};
	struct open_reply reply = {0};

	begin(FUSE_CREATE);
	message.create = (struct fuse_create_in){.flags = O_RDWR, .mode = 0644, .umask = 0};
	REQUIRE(fs_create(&request, NODE_ROOT, "file", &message.create, &entry, &reply) == 0);
	CHECK(request.record->handle == reply.fh && request.record->ngrants == 1);
	in.fh = reply.fh;
	CHECK_EQUAL(fs_write(begin(FUSE_WRITE), &in, "hello"), 5);
	CHECK_EQUAL(read_at(reply.fh, 1), 4);
	CHECK(memcmp(request.out, "ello", 4) == 0);
	CHECK_EQUAL(fs_lseek(begin(FUSE_LSEEK), entry.ino, reply.fh, 0, SEEK_HOLE), 5);
	CHECK_EQUAL(fs_unlink(begin(FUSE_UNLINK), NODE_ROOT, "file"), 0);
	CHECK_EQUAL(read_at(reply.fh, 0), 5);
	CHECK_EQUAL(fs_release(begin(FUSE_RELEASE), entry.ino, reply.fh, 0), 0);
	CHECK(read_at(reply.fh, 0) < 0);
	CHECK_EQUAL(handles_count(&recover->state), 0);
}

/* The kernel remembers a missing name as long as one that is there: it gets an entry without a node. */
static void a_missing_name_is_an_answer(void)
{
	struct fs *fs = recover->private;
	struct fuse_entry_param entry;

	CHECK_EQUAL(lookup(NODE_ROOT, "nothing", &entry), -ENOENT);
	fs->ttl = 1.5;
	CHECK_EQUAL(lookup(NODE_ROOT, "nothing", &entry), 0);
	CHECK(entry.ino == 0 && entry.entry_timeout > 1.4 && request.record->ngrants == 0);
	inode_of(&recover->state.nodes[NODE_ROOT])->flags &= (uint8_t)~INODE_EXACT;
	inode_flags_add(inode_of(&recover->state.nodes[NODE_ROOT]), INODE_FOLDS);
	CHECK_EQUAL(lookup(NODE_ROOT, "nothing", &entry), -ENOENT);
	fs->ttl = 0;
}

/* Where the kernel was told not to open anything, a request names the inode, and nothing that changes is done. */
static void nothing_is_opened_on_a_mount_that_says_so(void)
{
	const struct fuse_read_in in = {.size = 100, .offset = 1};
	struct fs *fs = recover->private;
	struct fuse_entry_param entry;
	int err = 0, fd = openat(fs->source_fd, "quiet", O_CREAT | O_WRONLY, 0644);

	REQUIRE(fd >= 0 && write(fd, "text", 4) == 4 && close(fd) == 0);
	REQUIRE(lookup(NODE_ROOT, "quiet", &entry) == 0);
	CHECK_EQUAL(read_at(0, 0), -EBADF);
	fs->area->no_open = 1;
	begin(FUSE_READ);
	message.in.nodeid = entry.ino;
	CHECK_EQUAL(fs_read(&request, &in), 3);
	CHECK_EQUAL(fs_lseek(begin(FUSE_LSEEK), entry.ino, 0, 0, SEEK_HOLE), 4);
	CHECK_EQUAL(handles_count(&recover->state), 0);
	CHECK(noopen_answers(begin(FUSE_OPEN), &err) && err == -ENOSYS);
	CHECK(noopen_answers(begin(FUSE_UNLINK), &err) && err == -EROFS);
	CHECK(!noopen_answers(begin(FUSE_READ), &err));
	fds_end_request(&request);
	fs->area->no_open = 0;
	CHECK_EQUAL(unlinkat(fs->source_fd, "quiet", 0), 0);
}

/* The groups of a process are asked of that process. */
static void a_caller_is_in_its_groups_only(void)
{
	const gid_t groups[] = {4001, 4002, 70000};
	int tell[2], status;
	char byte;
	pid_t child;

	if (geteuid() != 0)
		SKIP("machine lacks root");
	REQUIRE(pipe(tell) == 0);
	child = fork();
	if (child == 0) {
		status = setgroups(COUNT(groups), groups);
		_exit(status || write(tell[1], "", 1) != 1 || pause());
	}
	REQUIRE(read(tell[0], &byte, 1) == 1);
	begin(FUSE_WRITE);
	message.in.pid = (uint32_t)child;
	message.in.gid = 4000;
	CHECK(creds_caller_in_group(&request, 4000));
	CHECK(creds_caller_in_group(&request, 4001));
	CHECK(creds_caller_in_group(&request, 4002));
	CHECK(creds_caller_in_group(&request, 70000));
	CHECK(!creds_caller_in_group(&request, 0));
	CHECK(!creds_caller_in_group(&request, 400));
	CHECK(!creds_caller_in_group(&request, 40010));
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	CHECK(!creds_caller_in_group(&request, 4001));
	close(tell[0]);
	close(tell[1]);
}

/* What a request makes belongs to whoever sent it. */
static void what_is_made_is_the_callers(void)
{
	struct fuse_entry_param entry;
	struct stat st;

	if (geteuid() != 0)
		SKIP("machine lacks root");
	REQUIRE(chmod(source, 0777) == 0);
	begin(FUSE_MKDIR);
	message.in.uid = 4711;
	message.in.gid = 4712;
	CHECK_EQUAL(fs_mkdir(&request, NODE_ROOT, "theirs", 0700, &entry), 0);
	begin(FUSE_MKDIR); /* and the next is ours again */
	CHECK_EQUAL(fs_mkdir(&request, NODE_ROOT, "ours", 0700, &entry), 0);
	REQUIRE(stat(in_source("theirs"), &st) == 0);
	CHECK_EQUAL(st.st_uid, 4711);
	CHECK_EQUAL(st.st_gid, 4712);
	REQUIRE(stat(in_source("ours"), &st) == 0);
	CHECK_EQUAL(st.st_uid, 0);
	CHECK_EQUAL(st.st_gid, getgid());
	rmdir(in_source("theirs"));
	rmdir(in_source("ours"));
}

static void numbers_become_names(void)
{
	char name[PROC_NAME_BYTES];

	CHECK(strcmp(proc_name(name, 0), "0") == 0);
	CHECK(strcmp(proc_name(name, 10), "10") == 0);
	CHECK(strcmp(proc_name(name, INT_MAX), "2147483647") == 0);
}

int main(void)
{
	static const struct check checks[] = {
		{"names that lead elsewhere are refused", names_that_lead_elsewhere_are_refused},
		{"a directory is made and found", a_directory_is_made_and_found},
		{"two names of a file are one node", two_names_of_a_file_are_one_node},
		{"files of one moment are different nodes", files_of_one_moment_are_different_nodes},
		{"a number used again is another node", a_number_used_again_is_another_node},
		{"what is written is read", what_is_written_is_read},
		{"a missing name is an answer", a_missing_name_is_an_answer},
		{"nothing is opened on a mount that says so", nothing_is_opened_on_a_mount_that_says_so},
		{"a caller is in its groups only", a_caller_is_in_its_groups_only},
		{"what is made is the caller's", what_is_made_is_the_callers},
		{"numbers become names", numbers_become_names},
	};
	int result;

	check_directory(source, sizeof(source));
	mount_source();
	result = check_run(checks, COUNT(checks));
	rmdir(in_source("made"));
	rmdir(source);
	return result;
}
