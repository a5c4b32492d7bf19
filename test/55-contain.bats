#!/usr/bin/env bats
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What the processes of a mount may still do. That each system call that they make is allowed the other files show: a
# server that makes another one dies of it, and what restarts they expect is counted there.
# shellcheck disable=SC2030,SC2031,SC2034,SC2153 # each test is a process of its own, and lib.bash sets FXFS

load lib

FXFS_CRASH=$(realpath -m "${FXFS_CRASH:-$ROOT/${O:-build}/fxfs-crash}")
FORBIDDEN=103 # recover/crash.h

# arm POINT OPCODE SIGNAL AGAIN: see test/app/poke.c.
arm() {
	local number
	number=$("$FXFS_CRASH" --crash-points | grep -n "^$1 " | head -n 1 | cut -d : -f 1)
	[ -n "$number" ] && "$APPS/poke" "$(fxfs_status state)" arm "$number" "$2" "$3" "$4"
}

# of PROCESS KEY: what its threads have there, each value once, and how many of them: "3:2 1:0"
of() {
	cat "/proc/$(fxfs_status "$1")"/task/*/status | sed -n "s/^$2:[[:space:]]*//p" | sort | uniq -c | sort -rn |
		awk '{ print $1 ":" $2 }' | paste -s -d ' '
}

# The number of personality(2): what crash.c makes.
personality() {
	case $(uname -m) in
	x86_64) echo 135 ;;
	aarch64) echo 92 ;;
	esac
}

# Is every bit of the hexadecimal sets `$1` in the set $2 too?
within() {
	local set
	for set in $1; do
		((0x${set#*:} & ~0x$2)) && return 1
	done
	return 0
}

# What they may keep: fs/contain.c and recover/contain.c. CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, SETGID,
# SETUID, LINUX_IMMUTABLE, IPC_LOCK, SYS_PTRACE, SYS_ADMIN, SYS_RESOURCE, MKNOD, SETFCAP, MAC_OVERRIDE, MAC_ADMIN
SERVER_MAY=3892842df
MONITOR_MAY=3892843ff # KILL and SETPCAP too
WATCHER_MAY=4 # DAC_READ_SEARCH

all_are_contained() {
	local name
	equal on "$(fxfs_status contain)"
	for name in server_pid monitor_pid watcher_pid; do
		[[ $(of $name NoNewPrivs) =~ ^[0-9]+:1$ ]]
	done
	# the guardian, which becomes the monitor, has what that has
	[[ $(of server_pid Seccomp) =~ ^[0-9]+:2\ 1:0$ ]]
	equal 1:2 "$(of watcher_pid Seccomp)"
	for name in CapPrm CapEff CapBnd; do
		within "$(of server_pid $name | sed 's/ 1:.*//')" $SERVER_MAY
		within "$(of server_pid $name) $(of monitor_pid $name)" $MONITOR_MAY
		within "$(of watcher_pid $name)" $WATCHER_MAY
	done
}

watched() {
	[ "$(fxfs_status watcher_pid)" != 0 ]
}

@test "the processes of a mount keep no other capabilities and system calls than they use" {
	fxfs_mount_logged
	logged '^fxfs: contain: on$'
	t touch "$MNT/file"
	eventually watched
	all_are_contained
}

@test "nor do those that come after a death, or with another program" {
	fxfs_mount_logged
	t touch "$MNT/file"
	kill_server
	eventually watched
	all_are_contained
	kill_monitor
	eventually watched
	all_are_contained
	t "$FXFS" --upgrade "$MNT"
	MONITOR=$(fxfs_status monitor_pid)
	eventually watched
	all_are_contained
	t touch "$MNT/other"
}

@test "with contain=off they keep all" {
	fxfs_mount -o contain=off
	eventually watched
	equal "off: asked for" "$(fxfs_status contain)"
	local name
	for name in server_pid monitor_pid watcher_pid; do
		[[ $(of $name NoNewPrivs) =~ ^[0-9]+:0$ ]]
		[[ $(of $name Seccomp) =~ ^[0-9]+:0$ ]]
		[[ $(of $name CapBnd) == *:$(sed -n 's/^CapBnd:[[:space:]]*//p' /proc/self/status) ]]
	done
}

@test "a server that makes another system call is killed, and its request is carried out by the next" {
	[ -z "$FXFS_SANITIZER" ] || skip 'a sanitizer makes calls of its own'
	FXFS=$FXFS_CRASH fxfs_mount_logged -o cache=none
	arm call_before 9 $FORBIDDEN 0 # MKDIR
	t mkdir "$MNT/dir"
	test -d "$SRC/dir"
	equal "1 0" "$(fxfs_status restarts) $(fxfs_status poisoned)"
	logged "system call $(personality), which the server has no use for, was denied to it: starting the next"
}

@test "a request that makes each server do so is answered with EIO after the third time" {
	[ -z "$FXFS_SANITIZER" ] || skip 'a sanitizer makes calls of its own'
	FXFS=$FXFS_CRASH fxfs_mount_logged -o cache=none
	arm call_before 9 $FORBIDDEN 1000
	run t mkdir "$MNT/dir"
	arm call_before 65535 0 0
	[[ $output == *"Input/output error"* ]]
	fails test -e "$SRC/dir"
	equal "3 1" "$(fxfs_status restarts) $(fxfs_status poisoned)"
	t mkdir "$MNT/dir"
}

@test "without containment the same call is made" {
	FXFS=$FXFS_CRASH fxfs_mount_logged -o cache=none,contain=off
	arm call_before 9 $FORBIDDEN 0
	t mkdir "$MNT/dir"
	equal 0 "$(fxfs_status restarts)"
}
