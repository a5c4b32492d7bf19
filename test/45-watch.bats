#!/usr/bin/env bats
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# cache=watch: what is changed directly in SOURCE is seen through the mount, at once and always.
# shellcheck disable=SC2030,SC2031,SC2153 # each test is a process of its own, and lib.bash sets FXFS

load lib

# outside SECONDS PROCESSES [both]: changes in SOURCE, or on both sides, all of which have to be seen.
outside() {
	local seconds=$1 processes=$2
	shift 2
	TIME=$((seconds + 40)) t "$APPS/outside" "$SRC" "$MNT" "$seconds" "${SEED:-$RANDOM}" "$processes" "$@" >"$WORK/outside" || {
		cat "$WORK/outside"
		return 1
	}
	tell "$(tail -n 1 "$WORK/outside")"
}

# Kills the watcher every so many seconds, until the file $WORK/watchers is removed.
kill_watchers() { # SECONDS
	touch "$WORK/watchers"
	(
		local pid kills=0
		while [ -e "$WORK/watchers" ]; do
			pid=$(fxfs_status watcher_pid)
			if [ "${pid:-0}" -gt 0 ] && kill -KILL "$pid" 2>/dev/null; then kills=$((kills + 1)); fi
			echo "$kills" >"$WORK/watcher_kills"
			sleep "$1"
		done
	) 3>&- &
	WATCHER_KILLER=$!
}

watcher_killing_ends() {
	rm "$WORK/watchers"
	wait "$WATCHER_KILLER"
	tell "watcher killed $(cat "$WORK/watcher_kills") times"
	[ "$(cat "$WORK/watcher_kills")" -gt 2 ]
}

other_watcher() { # PID
	local pid
	pid=$(fxfs_status watcher_pid)
	[ "${pid:-0}" -gt 0 ] && [ "$pid" != "$1" ]
}

# How many requests it takes to run a command.
requests_of() {
	local before
	before=$(fxfs_status requests)
	"$@" >/dev/null
	echo $(($(fxfs_status requests) - before))
}

asks_once() {
	t find "$MNT/directory/file" -printf '%s\n'
	sleep 1.2
	gives 0 requests_of t find "$MNT/directory/file" -printf '%s\n'
}

@test "auto is watch where the source can be watched" {
	fxfs_mount -o cache=auto
	gives watch fxfs_status cache
	eventually other_watcher 0
	fxfs_unmount
	fxfs_mount -o cache=ttl
	gives ttl fxfs_status cache
	gives 0 fxfs_status watcher_pid
}

@test "a watched mount asks once, not every second" {
	mkdir "$SRC/directory"
	touch "$SRC/directory/file"
	fxfs_mount -o cache=watch
	eventually other_watcher 0
	eventually asks_once # others may have the kernel drop its caches just then
}

@test "every kind of change in the source is seen" {
	fxfs_mount
	outside 15 2
	tell "$(sort -k 4 -n -t ' ' "$WORK/outside" | grep -c longest) kinds of change"
}

@test "every kind of change in the source is seen without passthrough" {
	fxfs_mount -o passthrough=off
	outside 8 2
}

@test "changes from both sides at once are seen" {
	fxfs_mount
	outside 10 2 both
}

@test "every change is seen while the server is killed" {
	fxfs_mount
	kill_often 20 50
	outside 15 2
	killing_ends 20
	kill_often 20 50
	outside 8 2 both
	killing_ends 5
}

@test "every change is seen while the watcher is killed" {
	fxfs_mount
	kill_watchers 0.05
	outside 10 2
	watcher_killing_ends
	gives 0 fxfs_status watch_overflows
}

@test "every change is seen when more happen than the queue holds" {
	local before pid
	before=$(cat /proc/sys/fs/fanotify/max_queued_events)
	FXFS=$FXFS_CRASH # the queue of a test build has a limit
	echo 10 >/proc/sys/fs/fanotify/max_queued_events
	fxfs_mount || true
	echo "$before" >/proc/sys/fs/fanotify/max_queued_events
	eventually other_watcher 0
	touch "$SRC/"{1..50}
	t stat "$MNT/"{1..50} >/dev/null
	pid=$(fxfs_status watcher_pid)
	kill -STOP "$pid"
	rm "$SRC/"{1..25}
	chmod 600 "$SRC/"{26..50}
	kill -CONT "$pid"
	eventually fails gives 0 fxfs_status watch_overflows
	eventually equal '26 27 28 29 30' "$(t stat -c %n "$MNT/"{1..30} 2>/dev/null | sed 's|.*/||' | tr '\n' ' ' | sed 's/ $//')"
	gives 600 t stat -c %a "$MNT/50"
	outside 8 1
	tell "$(fxfs_status watch_overflows) overflows"
}

# Replies are late from now on, until strace ends: what the server saw is told after a change.
replies_are_late() {
	strace -f -q -p "$(fxfs_status server_pid)" -e trace=writev -e inject=writev:delay_enter=600000 -o /dev/null 3>&- &
	STRACE=$!
	eventually grep -q 'TracerPid:[[:space:]]*[1-9]' "/proc/$(fxfs_status server_pid)/status"
}

replies_are_in_time() {
	kill "$STRACE"
	wait "$STRACE" || true
}

@test "attributes from before a change, which arrive after it, do not stay" {
	need strace
	touch "$SRC/file"
	fxfs_mount -o witness=evidence # the server may be traced by others
	eventually other_watcher 0
	t stat "$MNT"
	replies_are_late
	t stat -c %a "$MNT/file" & # the kernel learns of it with its old mode
	sleep 0.15
	chmod 600 "$SRC/file"
	wait $!
	sleep 1.2 # and no longer: what the kernel forgets for another reason would hide it
	gives 600 t stat -c %a "$MNT/file"
	replies_are_in_time
}

@test "a name from before a change, which arrives after it, does not stay" {
	need strace
	touch "$SRC/file" "$SRC/other"
	fxfs_mount -o witness=evidence
	eventually other_watcher 0
	t stat "$MNT" "$MNT/file"
	mv "$SRC/file" "$SRC/gone" && mv "$SRC/gone" "$SRC/file"
	sleep 0.5
	replies_are_late
	t stat -c %i "$MNT/file" & # it is asked for again, without the directory's lock
	sleep 0.15
	mv "$SRC/other" "$SRC/file"
	wait $!
	sleep 1.2
	gives "$(stat -c %i "$SRC/file")" t stat -c %i "$MNT/file"
	replies_are_in_time
}

@test "who stands in a directory that is touched in the source stays there" {
	mkdir "$SRC/directory"
	fxfs_mount
	(
		cd "$MNT/directory"
		touch "$SRC/directory" "$SRC/directory/file"
		sleep 0.3
		gives "$MNT/directory" t /bin/pwd
		gives file t ls
	)
}

@test "what is mounted below the source later is seen, and what is taken off again" {
	mkdir -p "$SRC/directory/place" "$WORK/other"
	touch "$SRC/directory/place/under" "$WORK/other/over"
	fxfs_mount
	eventually other_watcher 0
	gives under t ls "$MNT/directory/place"
	mount --bind "$WORK/other" "$SRC/directory/place"
	eventually gives over t ls "$MNT/directory/place"
	umount -l "$SRC/directory/place"
	eventually gives under t ls "$MNT/directory/place"
	mount -t tmpfs tmpfs "$SRC/directory/place"
	eventually gives '' t ls "$MNT/directory/place"
	umount -l "$SRC/directory/place"
	eventually gives under t ls "$MNT/directory/place"
}

@test "a file that is mapped for writing through the mount has the times of the source" {
	local before
	dd if=/dev/zero of="$SRC/file" bs=4096 count=1 status=none
	touch -d '2001-01-01' "$SRC/file"
	fxfs_mount
	before=$(t stat -c %Y "$MNT/file")
	hold mapper
	ask mapper ok open "$MNT/file" rdwr
	ask mapper ok map 4096 shared
	ask mapper ok poke 0 x
	eventually fails gives "$before" t stat -c %Y "$MNT/file"
	release mapper
}

# Writes to a file until $WORK/writing is removed.
writing_begins() { # PATH
	touch "$WORK/writing"
	perl -e 'open F, "+<", $ARGV[0] or die; while (-e $ARGV[1]) { for (1 .. 50) { sysseek F, 0, 0; syswrite F, "x" x 4096 } }' \
		"$1" "$WORK/writing" 3>&- &
	WRITER=$!
}

writing_ends() {
	rm "$WORK/writing"
	wait "$WRITER"
}

# truncate(2): no event but that of a write. truncate(1) opens and closes the file.
cut_to() { # SIZE
	perl -e 'truncate $ARGV[0], $ARGV[1] or die' "$SRC/file" "$1"
}

soon() {
	local n
	for ((n = 0; n < 20 * ${SLOW:-1}; n++)); do
		if "$@" 2>/dev/null; then return 0; fi
		sleep 0.05
	done
	"$@"
}

ignored() {
	grep -qs ignored_mask:2 "/proc/$(fxfs_status watcher_pid)/fdinfo/"*
}

@test "a file that is written all the time makes no event for each write, and what is told of it is true" {
	local size where
	echo hello >"$SRC/file"
	fxfs_mount
	hold holder
	ask holder ok "open $MNT/file wronly" # not read, or it might be mapped
	for where in "$MNT" "$SRC" "$MNT"; do
		writing_begins "$where/file"
		eventually ignored
		for size in 5000 7000 10000 9000; do
			cut_to $size
			soon gives $size t stat -c %s "$MNT/file" # before the writer happens to pause
		done
		writing_ends
		eventually fails ignored
		cut_to 6000
		eventually gives 6000 t stat -c %s "$MNT/file"
		cut_to 4096
	done
	release holder
}

@test "a server that dies leaves no file whose writes are ignored for good" {
	local size=5000
	echo hello >"$SRC/file"
	fxfs_mount
	kill_often 20 120
	until [ "$(fxfs_status restarts)" -ge 10 ]; do
		writing_begins "$MNT/file"
		eventually ignored
		cut_to $size
		eventually gives $size t stat -c %s "$MNT/file"
		writing_ends
		size=$((size + 1))
	done
	killing_ends 10
	eventually fails ignored
	cut_to 5500
	eventually gives 5500 t stat -c %s "$MNT/file"
}

@test "the watcher survives an upgrade and the death of the monitor" {
	local pid
	fxfs_mount
	eventually other_watcher 0
	pid=$(fxfs_status watcher_pid)
	TIME=30 t "$FXFS" --upgrade "$MNT"
	eventually other_watcher "$pid"
	eventually gone "$pid"
	outside 4 1
	pid=$(fxfs_status watcher_pid)
	kill -KILL "$MONITOR"
	eventually other_watcher "$pid"
	MONITOR=$(fxfs_status monitor_pid)
	eventually gone "$pid"
	outside 4 1
}

@test "a source that cannot be watched is kept for the time-out, and the log says so" {
	fxfs_mount
	mkdir "$WORK/second"
	fxfs_start -o cache=watch "$MNT" "$WORK/second"
	grep -q 'is not watched' "$WORK/messages"
	gives ttl fxfs_status cache "$WORK/second"
	t umount "$WORK/second"
}
