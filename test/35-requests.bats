#!/usr/bin/env bats
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# How many requests each operation costs: a round trip that can be avoided is not made. Which ones they are stands beside
# the numbers. Why those that remain cannot be spared says doc/architecture.md.
# shellcheck disable=SC2030,SC2031,SC2153 # each test is a process of its own, and lib.bash sets FXFS

load lib

TIMES=50
SPARE=15 # for reaching the directory, and for the file that is open meanwhile

# The requests that have reached the server, once nothing more comes: RELEASE and FORGET are not waited for.
requests() {
	local before now
	now=$(fxfs_status requests)
	until [ "$before" = "$now" ]; do
		before=$now
		sleep 0.3
		now=$(fxfs_status requests)
	done
	echo "$now"
}

counted_mount() {
	DROPS=$(drops)
	fxfs_mount "$@"
}

# How often somebody has had the kernel drop its caches.
drops() {
	sed -n 's/^drop_slab //p' /proc/vmstat
}

# cost OPERATION WANTED: each costs that many requests.
cost() {
	local before after off
	before=$(requests)
	t "$APPS/many" "$MNT" $TIMES "$1" >/dev/null
	after=$(requests)
	echo "$1: $((after - before)) requests for $TIMES"
	off=$((after - before - TIMES * $2))
	[ ${off#-} -le $SPARE ] || { # less: FORGETs come several at a time
		[ "$DROPS" = "$(drops)" ] || skip "machine lacks peace: somebody drops the caches"
		echo "$1: wanted $2 each" >&2
		return 1
	}
}

@test "no request is sent that can be spared" {
	counted_mount -o cache=ttl=600
	cost create 5 # LOOKUP, CREATE, FLUSH, RELEASE, GETATTR of the directory
	cost stat 0
	cost fstat 0
	cost birth 1 # STATX, once
	cost birth 0
	cost missing 1 # LOOKUP, once
	cost missing 0
	cost access 0
	cost open 3 # OPEN, FLUSH, RELEASE
	cost open-write 3
	cost open-read 3
	cost pwrite 0
	cost pread 0
	cost pread-fstat 1  # GETATTR: the time of the last access
	cost pwrite-fstat 2 # GETATTR, GETXATTR security.capability: the attributes are new, so it is asked again
	cost chmod 1
	cost utimes 1
	cost truncate 2 # SETATTR, GETXATTR security.capability
	cost setxattr 1
	cost getxattr 1
	cost noxattr 1
	cost acl 1 # GETXATTR, once
	cost acl 0
	cost mkdir 3 # LOOKUP, MKDIR, GETATTR of the directory
	cost rmdir 3 # RMDIR, GETATTR of the directory, FORGET
	cost link 3
	cost unlink 2 # UNLINK, GETATTR of the directory
	cost symlink 3
	cost readlink 1 # READLINK, once
	cost readlink 0
}

@test "without a time-out each name and each attribute is asked for" {
	counted_mount -o cache=none
	touch "$SRC/f0"
	cost missing 2 # LOOKUP, GETATTR of the directory
	cost fstat 1
}

@test "with local locks close sends no FLUSH" {
	counted_mount -o locks=local,cache=ttl=600
	cost create 4
	cost open 2
	cost open-write 2
	cost open-read 2
}

@test "a listing is sent once where nobody else changes the source, or the kernel is told" {
	(cd "$SRC" && seq 500 | xargs touch)
	local cache
	for cache in always watch; do
		counted_mount -o cache=$cache
		t ls "$MNT" >/dev/null
		cost list 2 # OPENDIR, RELEASEDIR
		t ls -l "$MNT" >/dev/null
		cost list-stat 2
		fxfs_unmount
	done
}

@test "on a read-only mount with local locks what is known is opened, read and listed without a request" {
	(cd "$SRC" && seq 0 49 | while read -r i; do echo content >"f$i"; done)
	counted_mount -o ro,locks=local,cache=always
	cost open 1 # LOOKUP, once
	cost open-read 1 # READ, once
	cost open-read 0
	cost pread-fstat 0
	t ls "$MNT" >/dev/null
	cost list 0
	t ls -l "$MNT" >/dev/null
	cost list-stat 0
	fxfs_unmount
	counted_mount -o ro,locks=local,cache=ttl=600
	cost open-read 2
	cost open-read 0
	fxfs_unmount
	counted_mount -o ro
	cost open-read 2
	cost open-read 0
	fxfs_unmount
	counted_mount -o ro,locks=shared,cache=always
	cost open 4 # LOOKUP, once; OPEN, FLUSH, RELEASE
	cost open 3
}

@test "data that goes through the server is read ahead in large pieces" {
	fxfs_mount -o passthrough=off
	[ -w "/sys/class/bdi/0:$(stat -c %d "$MNT")/read_ahead_kb" ] || skip "machine lacks a /sys that can be written"
	gives 1024 cat "/sys/class/bdi/0:$(stat -c %d "$MNT")/read_ahead_kb"
}
