#!/usr/bin/env bats
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# -o wake: /dev/cpu_dma_latency is held while requests come fast, and only then, whoever dies meanwhile.

# shellcheck disable=SC2030,SC2031,SC2153 # each test is a process of its own, and lib.bash sets FXFS

load lib

DEVICE=/dev/cpu_dma_latency

# What the cores may take to wake up, in microseconds: the least that somebody asks for.
latency() {
	od -An -td4 -N4 "$DEVICE" | tr -d ' '
}

held() {
	[ "$(latency)" = 0 ]
}

let_go() {
	[ "$(latency)" != 0 ]
}

# Is the device among the descriptors of the monitor, and so of the server?
device_is_open() {
	find "/proc/$MONITOR/fd" -lname "$DEVICE" | grep -q .
}

# Requests that come as fast as they can, until $WORK/stop is there.
load_begins() {
	rm -f "$WORK/stop"
	(while [ ! -e "$WORK/stop" ] && t stat "$MNT"/f{1..100} >/dev/null; do :; done) 3>&- &
	LOAD=$!
}

load_ends() {
	touch "$WORK/stop"
	wait "$LOAD"
}

# A mount with a hold.
mount_hold() {
	[ -w "$DEVICE" ] || skip "machine lacks $DEVICE"
	touch "$SRC"/f{1..100}
	fxfs_mount -o "cache=none,wake=hold"
	[[ $(fxfs_status wake) == hold* ]]
}

@test "with wake=plain the device is never opened" {
	touch "$SRC"/f{1..100}
	fxfs_mount -o cache=none,wake=plain
	equal "plain: asked for" "$(fxfs_status wake)"
	load_begins
	local n
	for ((n = 0; n < 20; n++)); do
		fails device_is_open
		sleep 0.05
	done
	load_ends
	[ "$(fxfs_status requests)" -gt 100 ]
	equal 0 "$(fxfs_status holds)"
}

@test "by default the cores are kept awake where the idle driver can poll" {
	local wanted=plain name=/sys/devices/system/cpu/cpu0/cpuidle/state0/name
	if [ "$(nproc)" -gt 1 ] && [ "$(cat $name 2>/dev/null)" = POLL ] && [ -w "$DEVICE" ]; then wanted=hold; fi
	fxfs_mount
	[[ $(fxfs_status wake) == "$wanted: "* ]]
}

@test "a hold begins with the load and ends after it" {
	mount_hold
	eventually let_go
	equal 0 "$(fxfs_status holds)"
	load_begins
	eventually held
	load_ends
	eventually let_go
	[ "$(fxfs_status holds)" -ge 1 ]
	device_is_open
}

@test "slow requests hold nothing" {
	mount_hold
	local n before
	before=$(fxfs_status requests)
	for ((n = 1; n <= 20; n++)); do
		t stat "$MNT/f$n" >/dev/null
		sleep 0.05
	done
	[ "$(fxfs_status requests)" -ge $((before + 20)) ]
	equal 0 "$(fxfs_status holds)"
}

@test "a server that dies under load leaves no hold, and no descriptor" {
	mount_hold
	local n before
	load_begins
	eventually held
	before=$(find "/proc/$MONITOR/fd" -lname "$DEVICE" | wc -l)
	for ((n = 0; n < 5; n++)); do
		kill_server
		eventually held
	done
	load_ends
	eventually let_go
	equal "$before" "$(find "/proc/$MONITOR/fd" -lname "$DEVICE" | wc -l)"
	equal 1 "$before"
}

@test "a server that does nothing holds nothing" {
	mount_hold
	local server
	load_begins
	eventually held
	server=$(fxfs_status server_pid)
	kill -STOP "$server"
	eventually let_go
	kill -CONT "$server"
	eventually held
	load_ends
	eventually let_go
}

@test "a monitor that dies under load leaves no hold, and the next one takes it" {
	mount_hold
	local before=$MONITOR
	load_begins
	eventually held
	kill -KILL "$MONITOR"
	eventually other_monitor "$before"
	MONITOR=$(fxfs_status monitor_pid)
	eventually held
	load_ends
	eventually let_go
	device_is_open
}

# True when a monitor other than $1 watches over $MNT.
other_monitor() {
	local pid
	pid=$(fxfs_status monitor_pid)
	[ -n "$pid" ] && [ "$pid" != "$1" ] && ! gone "$pid"
}

@test "an upgrade under load leaves no hold, and the new program takes it" {
	mount_hold
	load_begins
	eventually held
	t "$FXFS" --upgrade "$MNT"
	eventually held
	load_ends
	eventually let_go
	equal 1 "$(fxfs_status upgrades)"
	equal 1 "$(find "/proc/$MONITOR/fd" -lname "$DEVICE" | wc -l)"
}

@test "a monitor that dies while a request hangs leaves no hold" {
	touch "$SRC"/f{1..100}
	mkdir "$SRC/below" "$WORK/lower"
	touch "$WORK/lower/file"
	"$FXFS" -o cache=none "$WORK/lower" "$SRC/below"
	mount_hold
	local below
	below=$(fxfs_status server_pid "$SRC/below")
	t stat "$MNT/below/file" >/dev/null
	kill -STOP "$below"
	t stat "$MNT/below/file" >/dev/null 3>&- &
	local hanging=$! before=$MONITOR
	eventually gives 1 fxfs_status in_flight
	load_begins
	eventually held
	kill -KILL "$MONITOR"
	eventually let_go
	kill -CONT "$below"
	wait $hanging
	eventually other_monitor "$before"
	MONITOR=$(fxfs_status monitor_pid)
	load_ends
	eventually let_go
	fxfs_unmount
	t umount "$SRC/below"
}
