#!/usr/bin/env bats
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What who operates it does: asking whether a mount is healthy, taking off one that is dead.

# shellcheck disable=SC2030,SC2031,SC2153 # each test is a process of its own, and lib.bash sets FXFS

load lib

# fxfs_says STATUS TEXT ARGUMENT...: fxfs ends with this status and says one line, which begins with the text. A pipe
# that a stuck process of its kept open would hold this up.
fxfs_says() {
	local wanted=$1 text=$2
	shift 2
	run t "$FXFS" "$@"
	echo "$output"
	equal "$wanted" "$status"
	equal 1 "${#lines[@]}"
	[[ $output == "$text"* ]]
}

# Both processes of the mount die at once: nobody has it any more. A stopped one cannot take the other's place.
fxfs_die() {
	local server
	server=$(fxfs_status server_pid)
	kill -STOP "$server"
	kill -KILL "$MONITOR" "$server"
	eventually gone "$MONITOR"
	eventually gone "$server"
	# what processes had open falls a moment later
	eventually nobody_answers
}

nobody_answers() {
	[[ $(t stat "$MNT" 2>&1) == *"Transport endpoint is not connected"* ]]
}

# Milliseconds that a command takes, whatever its status.
takes() {
	local start=${EPOCHREALTIME/./}
	"$@" >&2 || true
	echo $(((${EPOCHREALTIME/./} - start) / 1000))
}

server_stop() {
	SERVER=$(fxfs_status server_pid)
	kill -STOP "$SERVER"
}

# --- health ---

@test "a mount that answers is healthy" {
	fxfs_mount
	fxfs_says 0 "healthy: $MNT answered in " --health "$MNT"
	(cd "$WORK" && fxfs_says 0 "healthy: " --health mnt/)
	(cd "$MNT" && fxfs_says 0 "healthy: " --health .)
}

@test "health asks the server, whatever the kernel knows" {
	fxfs_mount -o cache=always
	t stat "$MNT" >/dev/null
	local before
	before=$(fxfs_status requests)
	fxfs_says 0 healthy --health "$MNT"
	[ "$(fxfs_status requests)" -gt "$before" ]
}

@test "a mount whose server does not answer is unhealthy when the time is over, and nothing hangs" {
	fxfs_mount -o watchdog=0
	server_stop
	local ms
	ms=$(takes fxfs_says 1 "unhealthy: $MNT does not answer within 0.5 s" --health --timeout 0.5 "$MNT")
	[ "$ms" -ge 500 ] && [ "$ms" -lt 1500 ]
	ms=$(takes fxfs_says 1 "unhealthy: $MNT does not answer within 2 s" --health "$MNT")
	[ "$ms" -ge 2000 ] && [ "$ms" -lt 3000 ]
	kill -CONT "$SERVER"
	eventually fxfs_says 0 healthy --health "$MNT"
	# those who were stuck have ended
	eventually fails grep -qs -e --health /proc/[0-9]*/cmdline
}

@test "a mount whose server is being replaced is healthy" {
	fxfs_mount
	local n
	for ((n = 0; n < 10; n++)); do
		kill -KILL "$(fxfs_status server_pid)"
		fxfs_says 0 healthy --health "$MNT"
	done
}

@test "a dead mount is unhealthy" {
	fxfs_mount
	fxfs_die
	fxfs_says 1 "unhealthy: $MNT is dead" --health "$MNT"
	t umount "$MNT"
	rm "$STATE"
}

@test "health of what is no mount of fxfs says so" {
	fxfs_says 1 "unhealthy: nothing is mounted on $MNT" --health "$MNT"
	fxfs_says 1 "unhealthy: nothing is mounted on $WORK/nowhere" --health "$WORK/nowhere"
	fxfs_says 1 "unhealthy: nothing is mounted on $WORK/no/where" --health "$WORK/no/where"
	mount -t tmpfs none "$MNT"
	fxfs_says 1 "unhealthy: $MNT is no mount of fxfs, its type is tmpfs" --health "$MNT"
	umount "$MNT"
	fxfs_mount
	mkdir "$SRC/below"
	fxfs_says 1 "unhealthy: nothing is mounted on $MNT/below" --health "$MNT/below"
}

@test "health of a name with a line break is one line" {
	MNT="$WORK/a
b"
	mkdir "$MNT"
	fxfs_mount
	fxfs_says 0 "healthy: $WORK/a?b answered" --health "$MNT"
}

@test "the directory above may hang too" {
	mkdir "$SRC/below"
	fxfs_mount -o watchdog=0
	server_stop
	fxfs_says 1 "unhealthy: $MNT/below/other does not answer within 0.3 s" --health "$MNT/below/other" --timeout 0.3
	kill -CONT "$SERVER"
}

@test "options of health and umount are checked" {
	run_wrong() {
		run t "$FXFS" "$@"
		echo "$output"
		equal 1 "$status"
	}
	local value
	for value in 0 -1 x 1x '' nan inf 1e9; do
		run_wrong --health --timeout "$value" "$MNT"
		[[ $output == *"--timeout $value"* ]]
	done
	run_wrong --health
	[[ $output == *"--health needs MOUNTPOINT" ]]
	run_wrong --umount "$MNT" "$MNT"
	[[ $output == *"--umount needs MOUNTPOINT" ]]
	run_wrong --timeout 1 --status "$MNT"
	[[ $output == *"--timeout needs "* ]]
	run_wrong --force "$SRC" "$MNT"
	[[ $output == *"--force needs --umount" ]]
}

# --- umount ---

@test "umount takes off a mount that is served, waits for its end, and may be said again" {
	fxfs_mount
	fxfs_says 0 "unmounted $MNT" --umount "$MNT"
	equal "unmounted $MNT" "$output"
	gone "$MONITOR"
	fails mountpoint -q "$MNT"
	[ ! -e "$STATE" ]
	fxfs_says 0 "nothing is mounted on $MNT" --umount "$MNT"
	equal "nothing is mounted on $MNT" "$output"
	fxfs_says 0 "nothing is mounted on $WORK/no/where" --umount "$WORK/no/where"
}

@test "a busy mount is not unmounted, unless forced" {
	echo hello >"$SRC/file"
	hold file
	fxfs_mount -o cache=none
	ask file ok "open $MNT/file rdwr"
	fxfs_says 32 "fxfs: cannot unmount $MNT: " --umount "$MNT"
	ask file "ok hello" "read 0 5"
	fxfs_says 0 "unmounted $MNT" --umount --force "$MNT"
	gone "$MONITOR"
	[ ! -e "$STATE" ]
	ask file ENOTCONN stat
	release file
}

@test "a dead mount is taken off with what it left, also if it is busy" {
	echo hello >"$SRC/file"
	local options
	for options in '' "state=$WORK/state"; do
		hold file
		fxfs_mount ${options:+-o "$options"}
		ask file ok "open $MNT/file rdwr"
		fxfs_die
		[ -e "$STATE" ]
		fxfs_says 0 "unmounted $MNT" --umount "$MNT"
		fails mountpoint -q "$MNT"
		[ ! -e "$STATE" ]
		fails grep -rqsF "$MNT" /run/fxfs
		release file
	done
}

@test "a dead mount is mounted anew by the same command, and not by one that only pretends" {
	echo hello >"$SRC/file"
	hold file
	fxfs_mount
	ask file ok "open $MNT/file rdwr"
	fxfs_die
	ln -s "$FXFS" "$WORK/mount.fxfs"
	t "$WORK/mount.fxfs" "$SRC" "$MNT" -f || true
	equal 1 "$(mounts | wc -l)"
	rm "$WORK/mount.fxfs"
	fxfs_mount
	grep -qF "the mount on $MNT is dead: unmounted $MNT" "$WORK/messages"
	equal hello "$(t cat "$MNT/file")"
	equal 1 "$(mounts | wc -l)"
	ask file ENOTCONN stat
	release file
}

@test "what a dead mount left is removed also when somebody has unmounted it" {
	fxfs_mount
	fxfs_die
	umount "$MNT"
	[ -e "$STATE" ]
	fxfs_says 0 "nothing is mounted on $MNT; removed what a dead mount had left" --umount "$MNT"
	[ ! -e "$STATE" ]
}

@test "umount of one mount leaves the state of another alone" {
	fxfs_mount
	mkdir "$WORK/other"
	fxfs_start "$SRC" "$WORK/other"
	fxfs_says 0 "unmounted $WORK/other" --umount "$WORK/other"
	[ -e "$STATE" ]
	fxfs_says 0 healthy --health "$MNT"
}

@test "a mount that hangs is not waited for, and force ends it" {
	echo hello >"$SRC/file"
	hold file
	fxfs_mount -o watchdog=0
	ask file ok "open $MNT/file rdwr"
	server_stop
	local ms
	ms=$(takes fxfs_says 32 "fxfs: cannot unmount $MNT within 0.5 s: its server hangs (--force ends it)" \
		--umount --timeout 0.5 "$MNT")
	[ "$ms" -lt 2000 ]
	ms=$(takes fxfs_says 0 "unmounted $MNT; its monitor $MONITOR goes on" --umount --force --timeout 0.5 "$MNT")
	[ "$ms" -lt 2000 ]
	fails mountpoint -q "$MNT"
	kill -CONT "$SERVER"
	eventually gone "$MONITOR"
	release file
}

@test "umount leaves alone what is not ours" {
	mount -t tmpfs none "$MNT"
	fxfs_says 1 "fxfs: $MNT is no mount of fxfs, its type is tmpfs: left alone" --umount --force "$MNT"
	mountpoint -q "$MNT"
	umount "$MNT"
	# one that is mounted on ours
	fxfs_mount
	mount -t tmpfs none "$MNT"
	fxfs_says 1 "fxfs: $MNT is no mount of fxfs" --umount "$MNT"
	umount "$MNT"
	fxfs_says 0 healthy --health "$MNT"
}

@test "of a mount that is at two places one can be taken off" {
	local flag
	mkdir "$WORK/second"
	for flag in '' --force; do
		fxfs_mount
		mount --bind "$MNT" "$WORK/second"
		fxfs_says 0 "unmounted $WORK/second; it is mounted elsewhere too" --umount $flag "$WORK/second"
		fails mountpoint -q "$WORK/second"
		fxfs_says 0 healthy --health "$MNT"
		fxfs_unmount
	done
}

@test "a copy in another mount namespace is taken off alone" {
	fxfs_mount
	# shellcheck disable=SC2016 # for the inner shell
	run t unshare -m --propagation private bash -c '"$0" --umount --timeout 0.5 "$1" && ! mountpoint -q "$1"' \
		"$FXFS" "$MNT" 3>&-
	echo "$output"
	equal 0 "$status"
	[[ $output == "unmounted $MNT; its monitor $MONITOR goes on: "* ]]
	fxfs_says 0 healthy --health "$MNT"
}

@test "what somebody else has mounted and handed over is a mount of fxfs, whatever its type" {
	TYPE=fuse t "$APPS/mountfd" "$MNT" "$FXFS" "$SRC" 3>&-
	guard
	MONITOR=$(fxfs_status monitor_pid)
	equal fuse "$(findmnt -n -o FSTYPE "$MNT")"
	fxfs_says 0 healthy --health "$MNT"
	fxfs_says 0 "unmounted $MNT" --umount "$MNT"
	gone "$MONITOR"
}

@test "umount needs root" {
	fxfs_mount
	run t runas 1234 "$FXFS" --umount "$MNT"
	echo "$output"
	equal 2 "$status"
	[[ $output == "fxfs: cannot unmount $MNT: "* ]]
	fxfs_says 0 healthy --health "$MNT"
}
