#!/usr/bin/env bats
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# recover/ is a framework: a second file system (test/memfs), which has nothing of the passthrough, survives by it.
# shellcheck disable=SC2030,SC2031,SC2034,SC2153 # each test is a process of its own, and lib.bash sets FXFS

load lib

MEMFS=$(dirname "$APPS")/memfs

answers() {
	mountpoint -q "$MNT" && equal serving "$(fxfs_status phase)"
}

# memfs_mount [N]: mounts an empty memfs at $MNT; its server kills itself at every Nth place that matters.
memfs_mount() {
	timeout "$GUARD_SECONDS" "$MEMFS" "$MNT" "$@" 2>"$WORK/messages" 3>&- &
	eventually answers
	guard
	MONITOR=$(fxfs_status monitor_pid)
	STATE=$(fxfs_status state)
}

free_space() {
	t stat -f -c '%f blocks %d inodes' "$MNT"
}

# strict_applications SECONDS: three at once; nothing that they see may be wrong, and nothing is left of them.
strict_applications() {
	local i pids=() result=0 free
	free=$(free_space)
	for i in 1 2 3; do
		mkdir "$MNT/$i"
		TIME=120 t "$APPS/strict" "$MNT/$i" "$1" "$RANDOM" >"$WORK/strict.$i" 3>&- &
		pids+=($!)
	done
	for i in "${pids[@]}"; do wait "$i" || result=1; done
	[ -z "$KILLER" ] || killing_ends 20
	cat "$WORK"/strict.*
	tell "$(tail -q -n 1 "$WORK"/strict.* | tr '\n' ';') restarts $(fxfs_status restarts)"
	[ $result = 0 ] || return
	rmdir "$MNT"/*
	forgotten
	gives "0 0" echo "$(fxfs_status handles) $(fxfs_status in_flight)"
	gives "$free" free_space
}

@test "it survives a server that is killed every 1 to 50 ms" {
	memfs_mount
	kill_often 1 50
	strict_applications 10
	fxfs_unmount
}

@test "it survives a server that dies between two stores of a change, again and again" {
	memfs_mount 300
	strict_applications 8
	[ "$(fxfs_status restarts)" -gt 30 ]
	fxfs_unmount
}

other_monitor() {
	[ "$(fxfs_status monitor_pid)" != "$1" ] && equal serving "$(fxfs_status phase)"
}

@test "it survives the death of its monitor" {
	local i
	memfs_mount
	(
		for ((i = 0; i < 5; i++)); do
			sleep 0.5
			monitor=$(fxfs_status monitor_pid)
			kill -KILL "$monitor"
			eventually other_monitor "$monitor"
		done
		touch "$WORK/killed"
	) 3>&- &
	strict_applications 5
	eventually test -e "$WORK/killed"
	MONITOR=$(fxfs_status monitor_pid)
	fxfs_unmount
}

@test "it takes at most 150 lines to survive" {
	local lines
	lines=$(gcc -fpreprocessed -dD -E -P "$ROOT"/test/memfs/survive.[ch] | grep -c .)
	tell "$lines lines of code, $(cat "$ROOT"/test/memfs/survive.[ch] | wc -l) with comments and blank ones"
	[ "$lines" -le 150 ]
}

@test "of recover/ it includes recover.h, of the passthrough nothing" {
	gives 'recover/recover.h' eval \
		"sed -n 's/^#include \"\([^\"]*\)\".*/\1/p' '$ROOT'/test/memfs/*.[ch] | grep -v '^test/memfs/' | sort -u"
	gives '' eval "sed -n 's/^#include \"\([^\"]*\)\".*/\1/p' '$ROOT'/recover/*.[ch] | grep -v '^recover/'"
}
