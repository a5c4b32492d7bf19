#!/usr/bin/env bats
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Without root: in a user namespace, and with a device that somebody else has opened and mounted. What works where the table
# in README.md says.

# shellcheck disable=SC2016,SC2030,SC2031,SC2034,SC2153 # scripts for others; each test is a process of its own

load lib

declare -gA HELD_PID

# $OWN belongs to user 1234, and so does the source.
setup_user() {
	OWN=$WORK/own
	install -d -o 1234 -g 1234 "$OWN"
	chown 1234:1234 "$SRC" "$MNT"
	install -o 1234 -g 1234 -m 644 /dev/null "$SRC/file"
	echo hello >"$SRC/file"
	t unshare -U true || skip 'machine lacks user namespaces'
}

# Shell code that gives everybody a /dev/fuse, in a mount namespace of its own.
OPEN_DEVICE='mount -t tmpfs none "$WORK/mnt" && mknod -m 666 "$WORK/mnt/fuse" c 10 229 && mount --bind "$WORK/mnt/fuse" /dev/fuse &&
	umount "$WORK/mnt"'

# What a script in a namespace begins with: `start OPTION...` mounts there. Processes there end with the script.
IN_NAMESPACE='
set -eE
trap '\''echo "failed: $BASH_COMMAND" >&2; cat "$WORK/log" >&2'\'' ERR
. "$ROOT/test/lib.bash"
declare -gA HELD_PID HELD_IN HELD_OUT
WORK=$OWN STATE=$OWN/state
fxfs_status() {
	TIME=10 t "$FXFS" --status -o "state=$STATE" "$MNT" --json | sed -n "s/.*\"$1\" *: *\"\{0,1\}\([^\",}]*\).*/\1/p" | head -n 1
}
start() {
	"$FXFS" -f -o "device=fuse,state=$STATE" "$@" "$SRC" "$MNT" >>"$WORK/log" 2>&1 &
	eventually serves
}
'

export_all() {
	export ROOT FXFS APPS WORK SRC MNT OWN SLOW
}

# as_user SCRIPT: user 1234 runs it as root of a user namespace that has his id and no other.
as_user() {
	export_all
	TIME=90 t unshare -m bash -c "$OPEN_DEVICE"'; exec runas 1234:1234 unshare -Urmpf --mount-proc --kill-child bash -c "$@"' \
		bash "$IN_NAMESPACE$1" 3>&-
}

# with_ids SCRIPT: somebody runs it as root of a user namespace that has 1000 ids, from 100000 on.
with_ids() {
	local pid
	export_all
	mkfifo "$WORK/go"
	TIME=90 t unshare -m bash -c "$OPEN_DEVICE"'; exec unshare -U --keep-caps bash -c "$@"' bash \
		'echo $$ >"$0/pid"; read -r _ <"$0/go"; exec setpriv --reuid 0 --regid 0 --clear-groups unshare -mpf --mount-proc --kill-child \
			bash -c "$1"' "$WORK" "$IN_NAMESPACE$1" 3>&- &
	HELD_PID[namespace]=$!
	eventually test -s "$WORK/pid"
	pid=$(<"$WORK/pid")
	echo "0 100000 1000" >"/proc/$pid/uid_map"
	echo "0 100000 1000" >"/proc/$pid/gid_map"
	echo >"$WORK/go"
	wait "${HELD_PID[namespace]}"
}

# User 1234 serves what root has mounted: passed OPTION... Says what it says in $WORK/log.
passed() {
	"$APPS/mountfd" "$MNT" runas 1234:1234 "$FXFS" -f -o "state=$OWN/state" "$@" "$SRC" >"$WORK/log" 2>&1 3>&- &
	disown $!
	STATE=$OWN/state
	eventually serves
	guard
	MONITOR=$(fxfs_status monitor_pid)
}

# The state is another user's: he asks.
fxfs_status() {
	TIME=10 t runas 1234:1234 "$FXFS" --status -o "state=$OWN/state" "$MNT" --json |
		sed -n 's/.*"'"$1"'" *: *"\{0,1\}\([^",}]*\).*/\1/p' | head -n 1
}

@test "a user mounts in a user namespace of his own, and each death is survived" {
	setup_user
	as_user '
		start
		equal hello "$(t cat "$MNT/file")"
		t touch "$MNT/new"
		equal "0 0" "$(stat -c "%u %g" "$MNT/new")"
		hold one
		ask one ok open "$MNT/kept" rdwr,creat
		ask one ok append first
		rm "$MNT/kept"
		kill_server
		ask one ok append second
		kill_monitor
		ask one ok append third
		kill_server
		ask one "ok firstsecondthird" read 0 100
		equal hello "$(t cat "$MNT/file")"
		release one
		t umount "$MNT"
		eventually test ! -e "$STATE"
	'
	equal "1234 1234" "$(stat -c '%u %g' "$SRC/new")"
}

@test "there the log says what is off and why" {
	setup_user
	as_user '
		start
		logged "cache=watch: cannot watch anything: Operation not permitted"
		logged "gives no file handles (Operation not permitted): each of its known inodes holds a descriptor"
		logged "kernel passthrough of file data: off: not permitted (it needs CAP_SYS_ADMIN outside of user namespaces)"
		logged "contain: on"
		equal registers "$(fxfs_status witness)"
		equal ttl "$(fxfs_status cache)"
		fails grep -q "requests act as user" "$WORK/log"
		t umount "$MNT"
	'
}

@test "a namespace with ids of others acts as each of them" {
	setup_user
	chown 100000:100000 "$SRC" "$MNT" "$OWN" "$SRC/file"
	chmod 777 "$SRC"
	install -o 100005 -g 100006 -m 600 /dev/null "$SRC/theirs"
	install -o 5 -g 6 -m 600 /dev/null "$SRC/outside"
	with_ids '
		start
		runas 5:6 touch "$MNT/made"
		equal "5:6 5:6 65534:65534" "$(stat -c %u:%g "$MNT/made" "$MNT/theirs" "$MNT/outside" | xargs)"
		fails runas 7:7 cat "$MNT/theirs"
		chown 8:9 "$MNT/made"
		fails chown 2000 "$MNT/made"
		fails cat "$MNT/outside"
		kill_server
		runas 5:6 mkdir "$MNT/dir"
		t umount "$MNT"
	'
	equal "100008:100009 100005:100006" "$(stat -c %u:%g "$SRC/made" "$SRC/dir" | xargs)"
}

@test "a holder in the namespace keeps the mount; without file handles open files are lost, and what has a name is found again" {
	setup_user
	as_user '
		"$FXFS" -f --hold "$WORK/hold" >"$WORK/hold.log" 2>&1 &
		eventually test -S "$WORK/hold"
		start -o "hold=$WORK/hold"
		t mkdir "$MNT/dir"
		echo hello >"$MNT/dir/file"
		hold one
		ask one ok open "$MNT/kept" rdwr,creat
		ask one ok append first
		pids="$(fxfs_status monitor_pid) $(fxfs_status server_pid)"
		kill -STOP $pids
		kill -KILL $pids
		for pid in $pids; do eventually gone $pid; done
		start -o "hold=$WORK/hold"
		equal 1 "$(fxfs_status handovers)"
		equal first "$(t cat "$MNT/kept")"
		equal hello "$(t cat "$MNT/dir/file")"
		ask one ESTALE append more
		equal 1 "$(fxfs_status lost_handles)"
		release one
		t umount "$MNT"
	'
}

@test "a user serves a device that root has opened and mounted, and each death is survived" {
	setup_user
	passed
	equal hello "$(t cat "$MNT/file")"
	hold one
	ask one ok open "$MNT/kept" rdwr,creat
	ask one ok append first
	t rm "$MNT/kept"
	kill_server
	ask one ok append second
	kill_monitor
	ask one ok append third
	kill_server
	ask one 'ok firstsecondthird' read 0 100
	release one
	equal 1234 "$(stat -c %u "/proc/$(fxfs_status server_pid)")"
	fxfs_unmount
}

@test "there what anybody makes belongs to the user, and the log says so" {
	setup_user
	chmod 777 "$SRC"
	passed
	logged 'requests act as user 1234, whoever made them: no CAP_SETUID and CAP_SETGID'
	logged 'kernel passthrough of file data: off: not permitted (it needs CAP_SYS_ADMIN outside of user namespaces)'
	logged 'gives no file handles (Operation not permitted)'
	logged 'contain: on'
	t touch "$MNT/by-root"
	t runas 5:6 touch "$MNT/by-other" || true # its times are the owner's to set
	equal "1234:1234 1234:1234" "$(stat -c %u:%g "$SRC/by-root" "$SRC/by-other" | xargs)"
	run t chown 5 "$MNT/by-root"
	[[ $output == *"Operation not permitted" ]]
	install -o 0 -m 600 /dev/null "$SRC/roots"
	run t cat "$MNT/roots" # what he may not read he reads for nobody
	[[ $output == *"Permission denied" ]]
	fxfs_unmount
}

@test "where the device cannot be opened again all workers share one, and each request is carried out once" {
	setup_user
	[ "$(stat -L -c %a /dev/fuse)" = 600 ] || skip 'machine lacks a /dev/fuse that is not everybody'\''s'
	passed -o workers=4
	equal 1 "$(grep -c 'cannot clone /dev/fuse: Permission denied: all workers share one' "$WORK/log")"
	t bash -e -c 'cd "$1"; for ((i = 0; i < 300; i++)); do mkdir "d$i"; echo $i >"d$i/f"; mv "d$i/f" "f$i"; rmdir "d$i"; done' \
		bash "$MNT" 3>&- &
	HELD_PID[work]=$!
	for _ in 1 2 3 4 5 6; do kill_server; done
	wait "${HELD_PID[work]}"
	unset "HELD_PID[work]"
	equal 6 "$(fxfs_status restarts)"
	equal 300 "$(find "$SRC" -name 'f[0-9]*' -type f -size +0 | wc -l)"
	fxfs_unmount
}

@test "a server in a user namespace does not take an id that it lacks for another" {
	setup_user
	chown 0:0 "$SRC" "$OWN"
	chmod 777 "$SRC"
	"$APPS/mountfd" "$MNT" unshare -Ur "$FXFS" -f -o "state=$OWN/state" "$SRC" >"$WORK/log" 2>&1 3>&- &
	disown $!
	eventually mountpoint -q "$MNT"
	eventually grep -q ': ready$' "$WORK/log"
	guard
	t touch "$MNT/by-root" # the thread has acted as root
	run t runas 5:6 mkdir "$MNT/dir"
	[[ $output == *"Value too large for defined data type" ]]
	run t runas 5:6 ln -s x "$MNT/link"
	[[ $output == *"Value too large for defined data type" ]]
	t touch "$MNT/again"
	equal "again by-root file" "$(find "$SRC" -mindepth 1 -printf "%f\n" | sort | xargs)"
	t umount "$MNT"
}

@test "nobody keeps a mount that somebody else has made, and the log says so" {
	setup_user
	passed -o "hold=$OWN/hold"
	logged 'nobody keeps this mount when all of its processes die: it was mounted by somebody else'
	equal 'no: mounted by somebody else' "$(fxfs_status hold)"
	fxfs_unmount
}

@test "a user without a namespace or a device is told what is missing" {
	setup_user
	run t runas 1234:1234 "$FXFS" "$SRC" "$MNT"
	equal 32 "$status"
	[[ $output == *"cannot mount $SRC on $MNT: only root may (CAP_SYS_ADMIN), also of a user namespace (unshare -Urm)" ]]
}

@test "with less memory than it may lock the kernel sends requests that fit" {
	setup_user
	head -c 5000000 /dev/urandom >"$WORK/data"
	"$APPS/mountfd" "$MNT" runas 1234:1234 bash -c 'ulimit -l 1024; exec "$@"' bash \
		"$FXFS" -f -o "workers=4,state=$OWN/state" "$SRC" >"$WORK/log" 2>&1 3>&- &
	disown $!
	eventually serves
	guard
	MONITOR=$(fxfs_status monitor_pid)
	logged 'requests of up to 128 KiB, buffers of 544 KiB locked in memory'
	t cp "$WORK/data" "$MNT/data"
	cmp "$WORK/data" "$SRC/data"
	kill_server
	echo 3 >/proc/sys/vm/drop_caches
	t cmp "$WORK/data" "$MNT/data"
	equal 1 "$(fxfs_status restarts)"
	fxfs_unmount
}
