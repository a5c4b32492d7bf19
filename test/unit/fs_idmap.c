/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Ids on both sides of the mount: ranges from the command line, and values of extended attributes that have ids in them. */
#include "test/unit/check.h"

#include <errno.h>
#include <linux/capability.h>
#include <string.h>

#include "fs/idmap.h"

#define ACL "system.posix_acl_access"
#define CAPABILITY "security.capability"

static void what_is_no_range_is_refused(void)
{
	static const char *const texts[] = {"",
					    "1",
					    "1:",
					    ":1",
					    "1:2:",
					    "1:2:0",
					    "1:2:3:4",
					    "1:2:3,",
					    "-1:2",
					    " 1:2",
					    "1: 2",
					    "a:2",
					    "1:b",
					    "1:2:c",
					    "1::2",
					    "1:2 ",
					    "0x1:2",
					    "4294967295:0",
					    "0:4294967295",
					    "0:1:4294967295",
					    "1:0:4294967295",
					    "0:0:4294967296",
					    "4294967296:0",
					    "99999999999999999999:0"};
	struct idmap map = {0};

	for (size_t i = 0; i < COUNT(texts); i++)
		if (!CHECK_EQUAL(idmap_add(&map, texts[i]), -EINVAL))
			printf("# \"%s\"\n", texts[i]);
	CHECK_EQUAL(map.n, 0);
	CHECK_EQUAL(idmap_add(&map, "0:0:4294967295"), 0);
}

static void ids_of_two_ranges_are_refused(void)
{
	struct idmap map = {0};

	REQUIRE(idmap_add(&map, "100:10:10") == 0);
	CHECK_EQUAL(idmap_add(&map, "109:50"), -EEXIST);
	CHECK_EQUAL(idmap_add(&map, "91:50:10"), -EEXIST);
	CHECK_EQUAL(idmap_add(&map, "50:19"), -EEXIST);
	CHECK_EQUAL(idmap_add(&map, "50:1:10"), -EEXIST);
	CHECK_EQUAL(idmap_add(&map, "0:0:1000"), -EEXIST);
	CHECK_EQUAL(idmap_add(&map, "110:20"), 0);
	CHECK_EQUAL(idmap_add(&map, "90:0:10"), 0);
	CHECK_EQUAL(map.n, 3);
}

static void there_is_room_for_so_many_ranges(void)
{
	struct idmap map = {0};
	char text[32];

	for (unsigned i = 0; i < IDMAP_RANGES; i++) {
		snprintf(text, sizeof(text), "%u:%u", 2 * i, i);
		REQUIRE(idmap_add(&map, text) == 0);
	}
	CHECK_EQUAL(idmap_add(&map, "1000:1000"), -E2BIG);
	CHECK_EQUAL(idmap_mount(&map, 2 * (IDMAP_RANGES - 1)), IDMAP_RANGES - 1);
}

static void an_id_is_itself_without_ranges(void)
{
	const struct idmaps maps = {0};

	CHECK(!idmap_is_on(&maps));
	CHECK_EQUAL(idmap_mount(&maps.uids, 0), 0);
	CHECK_EQUAL(idmap_mount(&maps.uids, IDMAP_NONE), IDMAP_NONE);
	CHECK_EQUAL(idmap_source(&maps.gids, 12345), 12345);
}

static void an_id_in_no_range_is_none(void)
{
	struct idmap map = {0};

	REQUIRE(idmap_add(&map, "1000:0") == 0 && idmap_add(&map, "100000:1:65535") == 0);
	CHECK_EQUAL(idmap_mount(&map, 1000), 0);
	CHECK_EQUAL(idmap_mount(&map, 999), IDMAP_NONE);
	CHECK_EQUAL(idmap_mount(&map, 1001), IDMAP_NONE);
	CHECK_EQUAL(idmap_mount(&map, 0), IDMAP_NONE);
	CHECK_EQUAL(idmap_mount(&map, 100000), 1);
	CHECK_EQUAL(idmap_mount(&map, 165534), 65535);
	CHECK_EQUAL(idmap_mount(&map, 165535), IDMAP_NONE);
	CHECK_EQUAL(idmap_mount(&map, IDMAP_NONE), IDMAP_NONE);
	CHECK_EQUAL(idmap_source(&map, 0), 1000);
	CHECK_EQUAL(idmap_source(&map, 65535), 165534);
	CHECK_EQUAL(idmap_source(&map, 65536), IDMAP_NONE);
	CHECK_EQUAL(idmap_source(&map, IDMAP_NONE), IDMAP_NONE);
}

static struct idmaps example(void)
{
	struct idmaps maps = {0};

	idmap_add(&maps.uids, "1000:0");
	idmap_add(&maps.uids, "2000:1000");
	idmap_add(&maps.gids, "5000:50");
	return maps;
}

/* u::rwx u:1000:rwx u:7:r-x g::r-x g:5000:r-x m::rwx o::--- */
static const uint8_t acl[] = {2, 0,    0,   0,	 1,   0,   7,	0,  255, 255, 255,  255,  2,   0,   7,
			      0, 0xe8, 3,   0,	 0,   2,   0,	5,  0,	 7,   0,    0,	  0,   4,   0,
			      5, 0,    255, 255, 255, 255, 8,	0,  5,	 0,   0x88, 0x13, 0,   0,   16,
			      0, 7,    0,   255, 255, 255, 255, 32, 0,	 0,   0,    255,  255, 255, 255};

static void entries_of_nobody_are_left_out(void)
{
	const struct idmaps maps = example();
	uint8_t value[sizeof(acl)];

	memcpy(value, acl, sizeof(acl));
	CHECK_EQUAL(idmap_value_mount(&maps, ACL, value, sizeof(value)), sizeof(acl) - 8);
	CHECK(memcmp(value, acl, 16) == 0);
	CHECK_EQUAL(value[16] | value[17] << 8, 0);   /* 1000 */
	CHECK(memcmp(value + 20, acl + 28, 12) == 0); /* not 7 */
	CHECK_EQUAL(value[32] | value[33] << 8, 50);  /* group 5000 */
	CHECK(memcmp(value + 36, acl + 44, 16) == 0);

	/* and back */
	CHECK_EQUAL(value[16] | value[17] << 8, 0);
	CHECK_EQUAL(idmap_value_source(&maps, ACL, value, sizeof(acl) - 8), sizeof(acl) - 8);
	CHECK(memcmp(value, acl, 20) == 0 && memcmp(value + 20, acl + 28, sizeof(acl) - 28) == 0);
	CHECK(!idmap_hides(&maps, ACL, value, sizeof(acl) - 8));
	memcpy(value, acl, sizeof(acl));
	CHECK(idmap_hides(&maps, ACL, value, sizeof(value)));
}

static void an_entry_for_nobody_is_not_made(void)
{
	const struct idmaps maps = example();
	uint8_t value[sizeof(acl)];

	memcpy(value, acl, sizeof(acl));
	CHECK_EQUAL(idmap_value_source(&maps, ACL, value, sizeof(value)), -EINVAL);
}

/* The kernel says what is wrong with it. */
static void what_is_no_acl_stays_as_it_is(void)
{
	const struct idmaps maps = example();
	uint8_t value[sizeof(acl)];

	for (size_t size = 0; size < 12; size++) {
		memcpy(value, acl, sizeof(acl));
		CHECK_EQUAL(idmap_value_source(&maps, ACL, value, size), size);
		CHECK(memcmp(value, acl, sizeof(acl)) == 0);
	}
}

static void capabilities_are_of_a_root(void)
{
	const struct idmaps maps = example();
	const uint32_t by_1000[6] = {VFS_CAP_REVISION_3 | VFS_CAP_FLAGS_EFFECTIVE, 1, 2, 3, 4, 1000};
	const uint32_t by_root[6] = {VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE, 1, 2, 3, 4, 0};
	uint32_t value[6];

	/* who is root on the mount */
	memcpy(value, by_1000, sizeof(value));
	CHECK_EQUAL(idmap_value_mount(&maps, CAPABILITY, (uint8_t *)value, XATTR_CAPS_SZ_3), XATTR_CAPS_SZ_2);
	CHECK(memcmp(value, by_root, XATTR_CAPS_SZ_2) == 0);
	memcpy(value, by_root, sizeof(value));
	CHECK_EQUAL(idmap_value_source(&maps, CAPABILITY, (uint8_t *)value, XATTR_CAPS_SZ_2), XATTR_CAPS_SZ_3);
	CHECK(memcmp(value, by_1000, sizeof(value)) == 0);

	/* root of the source is nobody on the mount; 1000 there is 2000 */
	memcpy(value, by_root, sizeof(value));
	CHECK_EQUAL(idmap_value_mount(&maps, CAPABILITY, (uint8_t *)value, XATTR_CAPS_SZ_2), -ENODATA);
	memcpy(value, by_1000, sizeof(value));
	CHECK_EQUAL(idmap_value_source(&maps, CAPABILITY, (uint8_t *)value, XATTR_CAPS_SZ_3), XATTR_CAPS_SZ_3);
	CHECK_EQUAL(value[5], 2000);
	value[5] = 3000;
	CHECK_EQUAL(idmap_value_source(&maps, CAPABILITY, (uint8_t *)value, XATTR_CAPS_SZ_3), -EINVAL);
}

static void other_attributes_have_no_ids(void)
{
	CHECK(idmap_has_ids("system.posix_acl_access") && idmap_has_ids("system.posix_acl_default"));
	CHECK(idmap_has_ids("security.capability"));
	CHECK(!idmap_has_ids("user.name") && !idmap_has_ids("security.selinux") && !idmap_has_ids(""));
}

static const struct check checks[] = {
	{"what is no range is refused", what_is_no_range_is_refused},
	{"ids of two ranges are refused", ids_of_two_ranges_are_refused},
	{"there is room for so many ranges", there_is_room_for_so_many_ranges},
	{"an id is itself without ranges", an_id_is_itself_without_ranges},
	{"an id in no range is none", an_id_in_no_range_is_none},
	{"entries of an ACL that are of nobody are left out", entries_of_nobody_are_left_out},
	{"an entry for nobody is not made", an_entry_for_nobody_is_not_made},
	{"what is no ACL stays as it is", what_is_no_acl_stays_as_it_is},
	{"capabilities are of a root", capabilities_are_of_a_root},
	{"other attributes have no ids", other_attributes_have_no_ids},
};

int main(void)
{
	return check_run(checks, COUNT(checks));
}
