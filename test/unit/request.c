/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* request_valid(): no request passes that would be read beyond its end. */
#include "test/unit/check.h"

#include <stdlib.h>
#include <string.h>

#include "recover/internal.h"

/* What protocol 7.x says stands behind the header of each request. */
static const struct {
	const char *name;
	uint32_t opcode;
	size_t fixed;
	int strings;
	size_t count_at, each; /* data: at which offset of the arguments its count stands, and how long each is */
} shape[] = {
#define SHAPE(op, type, strings)                                               \
	{                                                                      \
#op, FUSE_##op, sizeof(struct fuse_##type##_in), strings, 0, 0 \
	}
#define NAMES(op, strings)                       \
	{                                        \
#op, FUSE_##op, 0, strings, 0, 0 \
	}
#define DATA(op, type, strings, field, each)                                                                        \
	{                                                                                                           \
#op, FUSE_##op, sizeof(struct fuse_##type##_in), strings, offsetof(struct fuse_##type##_in, field), \
			each                                                                                        \
	}
	NAMES(LOOKUP, 1),
	SHAPE(FORGET, forget, 0),
	SHAPE(GETATTR, getattr, 0),
	SHAPE(SETATTR, setattr, 0),
	NAMES(READLINK, 0),
	NAMES(SYMLINK, 2),
	SHAPE(MKNOD, mknod, 1),
	SHAPE(MKDIR, mkdir, 1),
	NAMES(UNLINK, 1),
	NAMES(RMDIR, 1),
	SHAPE(RENAME, rename, 2),
	SHAPE(LINK, link, 1),
	SHAPE(OPEN, open, 0),
	SHAPE(READ, read, 0),
	DATA(WRITE, write, 0, size, 1),
	NAMES(STATFS, 0),
	SHAPE(RELEASE, release, 0),
	SHAPE(FSYNC, fsync, 0),
	DATA(SETXATTR, setxattr, 1, size, 1),
	SHAPE(GETXATTR, getxattr, 1),
	SHAPE(LISTXATTR, getxattr, 0),
	NAMES(REMOVEXATTR, 1),
	SHAPE(FLUSH, flush, 0),
	SHAPE(OPENDIR, open, 0),
	SHAPE(READDIR, read, 0),
	SHAPE(RELEASEDIR, release, 0),
	SHAPE(FSYNCDIR, fsync, 0),
	SHAPE(GETLK, lk, 0),
	SHAPE(SETLK, lk, 0),
	SHAPE(SETLKW, lk, 0),
	SHAPE(ACCESS, access, 0),
	SHAPE(CREATE, create, 1),
	SHAPE(INTERRUPT, interrupt, 0),
	SHAPE(BMAP, bmap, 0),
	NAMES(DESTROY, 0),
	DATA(IOCTL, ioctl, 0, in_size, 1),
	SHAPE(POLL, poll, 0),
	DATA(BATCH_FORGET, batch_forget, 0, count, sizeof(struct fuse_forget_one)),
	SHAPE(FALLOCATE, fallocate, 0),
	SHAPE(READDIRPLUS, read, 0),
	SHAPE(RENAME2, rename2, 2),
	SHAPE(LSEEK, lseek, 0),
	SHAPE(COPY_FILE_RANGE, copy_file_range, 0),
	SHAPE(SYNCFS, syncfs, 0),
	SHAPE(TMPFILE, create, 0),
	SHAPE(STATX, statx, 0),
};

/* A request of just these bytes at the very end of a block of memory, so that sanitizers see what lies beyond. */
static bool valid(uint32_t opcode, const void *arguments, size_t bytes)
{
	size_t all = sizeof(struct fuse_in_header) + bytes;
	struct fuse_in_header *in = malloc(all);
	bool result;

	if (!in)
		return false;
	memset(in, 0, sizeof(*in));
	in->len = (uint32_t)all;
	in->opcode = opcode;
	memcpy(in + 1, arguments, bytes);
	result = request_valid(in, all, FUSE_SETXATTR_EXT);
	free(in);
	return result;
}

static void says(bool good, size_t i, const char *what)
{
	if (!CHECK(good))
		printf("# %s: %s\n", shape[i].name, what);
}

static void every_length_is_judged_rightly(void)
{
	for (size_t i = 0; i < COUNT(shape); i++) {
		uint8_t arguments[256];
		size_t exact = shape[i].fixed + 2 * (size_t)shape[i].strings;

		memset(arguments, 0, sizeof(arguments));
		for (int s = 0; s < shape[i].strings; s++)
			arguments[shape[i].fixed + 2 * (size_t)s] = 'x';
		says(valid(shape[i].opcode, arguments, exact), i, "as long as it has to be");
		says(valid(shape[i].opcode, arguments, exact + 8), i, "longer (extensions)");
		if (exact)
			says(!valid(shape[i].opcode, arguments, exact - 1), i, "one byte too short");
		if (shape[i].fixed) {
			says(!valid(shape[i].opcode, arguments, shape[i].fixed - 1), i, "arguments cut off");
			says(!valid(shape[i].opcode, arguments, 0), i, "no arguments");
		}
		if (shape[i].strings)
			says(!valid(shape[i].opcode, arguments, shape[i].fixed), i, "no name");
	}
}

static void names_have_to_end(void)
{
	for (size_t i = 0; i < COUNT(shape); i++) {
		uint8_t arguments[256];

		/* nothing but non-zero bytes, in the arguments too: no data is announced where there are names only */
		memset(arguments, 'x', sizeof(arguments));
		if (!shape[i].strings)
			continue;
		says(!valid(shape[i].opcode, arguments, sizeof(arguments)), i, "a name without an end");
		memset(arguments, 0, shape[i].fixed);
		says(!valid(shape[i].opcode, arguments, sizeof(arguments)), i, "a name without an end");
		arguments[sizeof(arguments) - 1] = 0;
		says(valid(shape[i].opcode, arguments, sizeof(arguments)) == (shape[i].strings == 1), i,
		     "one name that ends in the last byte");
		arguments[sizeof(arguments) - 2] = 0;
		says(valid(shape[i].opcode, arguments, sizeof(arguments)), i, "one or two names");
	}
}

static void data_is_all_there(void)
{
	for (size_t i = 0; i < COUNT(shape); i++) {
		static const uint32_t absurd[] = {UINT32_MAX, UINT32_MAX / 16 + 1, 1u << 31, 1u << 28};
		uint8_t arguments[512];
		uint32_t count = 3;
		size_t exact = shape[i].fixed + (size_t)shape[i].strings + count * shape[i].each;

		if (!shape[i].each)
			continue;
		memset(arguments, 0, sizeof(arguments));
		memcpy(arguments + shape[i].count_at, &count, sizeof(count));
		says(valid(shape[i].opcode, arguments, exact), i, "with its data");
		says(!valid(shape[i].opcode, arguments, exact - 1), i, "one byte of data is missing");
		says(!valid(shape[i].opcode, arguments, exact - count * shape[i].each), i, "all data is missing");
		for (size_t a = 0; a < COUNT(absurd); a++) {
			memcpy(arguments + shape[i].count_at, &absurd[a], sizeof(absurd[a]));
			says(!valid(shape[i].opcode, arguments, sizeof(arguments)), i, "an absurd count");
		}
	}
}

static void the_length_has_to_be_what_was_read(void)
{
	struct fuse_in_header in[2] = {{.len = sizeof(in[0]), .opcode = FUSE_STATFS}};

	CHECK(request_valid(in, sizeof(in[0]), 0));
	CHECK(!request_valid(in, sizeof(in[0]) - 1, 0));
	CHECK(!request_valid(in, 0, 0));
	CHECK(!request_valid(in, sizeof(in), 0));
	in->len++;
	CHECK(!request_valid(in, sizeof(in[0]), 0));
	in->len = 0;
	CHECK(!request_valid(in, sizeof(in[0]), 0));
	in->len = sizeof(in[0]) - 1; /* true, but not even a header */
	CHECK(!request_valid(in, sizeof(in[0]) - 1, 0));
}

/* Kernel and server agree on the longer arguments; a server that did not ask for them gets the shorter. */
static void setxattr_has_two_shapes(void)
{
	struct {
		struct fuse_in_header in;
		uint8_t arguments[FUSE_COMPAT_SETXATTR_IN_SIZE];
		char name[8];
	} request = {.in.opcode = FUSE_SETXATTR, .name = "abcdefg"};

	request.in.len = sizeof(request);
	CHECK(request_valid(&request.in, sizeof(request), 0));
	/* read the longer way the name begins behind the end */
	CHECK(!request_valid(&request.in, sizeof(request), FUSE_SETXATTR_EXT));
}

static void unknown_requests_are_left_to_libfuse(void)
{
	const uint32_t unknown[] = {0, 7, 19, 999, UINT32_MAX};

	for (size_t i = 0; i < COUNT(unknown); i++)
		CHECK(valid(unknown[i], "", 0));
}

static void what_is_never_sent_is_refused(void)
{
	static const uint8_t zeros[256];

	CHECK(!valid(FUSE_INIT, zeros, sizeof(zeros)));
	CHECK(!valid(FUSE_NOTIFY_REPLY, zeros, sizeof(zeros)));
}

int main(void)
{
	static const struct check checks[] = {
		{"every length is judged rightly", every_length_is_judged_rightly},
		{"names have to end", names_have_to_end},
		{"data is all there", data_is_all_there},
		{"the length has to be what was read", the_length_has_to_be_what_was_read},
		{"SETXATTR has two shapes", setxattr_has_two_shapes},
		{"what is never sent is refused", what_is_never_sent_is_refused},
		{"unknown requests are left to libfuse", unknown_requests_are_left_to_libfuse},
	};

	return check_run(checks, COUNT(checks));
}
