#!/usr/bin/env bats
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Other deaths than that of the server: of the monitor, of both in turn; another program under the mount; servers that
# hang, that die of a request, that do not start; and what they may leave in the state.
# shellcheck disable=SC2030,SC2031,SC2153 # each test is a process of its own, and lib.bash sets FXFS

load lib

FXFS_CRASH=$(realpath -m "${FXFS_CRASH:-$ROOT/${O:-build}/fxfs-crash}")
MKDIR=9 # opcodes: linux/fuse.h
SPINS=100 SLEEPS=101 OVERFLOWS=102 # recover/crash.h

# in_turn KILLS MIN_MS MAX_MS VICTIM [APPLICATION]: processes of the mount die under a strict application.
in_turn() {
	local app=${5:-strict}
	mkdir "$SRC/$app"
	"$APPS/$app" "$MNT/$app" 1000 >"$WORK/$app" 2>&1 3>&- &
	local pid=$!
	TIME=100 t "$APPS/killer" -n "$1" -v "$4" "$FXFS" "$MNT" "$2" "$3" >"$WORK/kills"
	kill $pid
	wait $pid || {
		cat "$WORK/$app"
		return 1
	}
	tell "$(tail -n 1 "$WORK/kills"), $(tail -n 1 "$WORK/$app")"
	grep -q 'wrong 0' "$WORK/$app"
	MONITOR=$(fxfs_status monitor_pid)
}

# arm POINT OPCODE SIGNAL AGAIN: see test/app/poke.c.
arm() {
	local number
	number=$("$FXFS_CRASH" --crash-points | grep -n "^$1 " | head -n 1 | cut -d : -f 1)
	[ -n "$number" ] && "$APPS/poke" "$(fxfs_status state)" arm "$number" "$2" "$3" "$4"
}

# Mounts with a program of its own that may be replaced: $PROGRAM.
mount_program() {
	mkdir "$WORK/bin"
	cp "$FXFS" "$WORK/bin/fxfs"
	PROGRAM=$WORK/bin/fxfs
	FXFS=$PROGRAM fxfs_mount_logged
}

# As a package does: under another name first, then in its place.
install_program() { # FILE
	cp -p "$1" "$PROGRAM.new"
	chmod "${2:-755}" "$PROGRAM.new"
	mv "$PROGRAM.new" "$PROGRAM"
}

runs() { # PROGRAM: is it what monitor and server are?
	MONITOR=$(fxfs_status monitor_pid)
	cmp "$1" "/proc/$MONITOR/exe" && cmp "$1" "/proc/$(fxfs_status server_pid)/exe"
}

upgrades_are() {
	equal "$1" "$(fxfs_status upgrades)" && serves
}

# --- the monitor -------------------------------------------------------------------------------------------

@test "when the monitor dies another takes its place, and all that is open goes on" {
	echo hello >"$SRC/file"
	mkdir "$SRC/dir"
	(cd "$SRC/dir" && seq -f 'name-%05.0f' 3000 | xargs touch)
	fxfs_mount_logged
	hold file
	hold other
	hold dir
	ask file ok "open $MNT/file rdwr"
	ask other ok "open $MNT/file rdwr"
	ask file ok "lock flock ex"
	ask dir ok "open $MNT/dir directory"
	list_on dir 1000
	rm "$SRC/file"
	kill_monitor
	ask file "ok hello" "read 0 5"
	ask other EAGAIN "lock flock ex"
	kill_server
	ask file ok "write 0 HELLO"
	kill_monitor
	kill_server
	ask file "ok HELLO" "read 0 5"
	ask other EAGAIN "lock flock sh"
	ask file ok "unlock flock"
	ask other ok "lock flock sh"
	list_on dir 10000
	listed_all "$SRC/dir"
	logged 'the monitor died: the server takes its place'
	logged ': taken over'
	equal registers "$(fxfs_status witness)"
}

@test "a monitor that took over has the options of the first" {
	echo hello >"$SRC/file"
	fxfs_mount -o "cache=none,passthrough=off,workers=3,watchdog=1,witness=evidence,state=$WORK/state"
	kill_monitor
	kill_server
	tr '\0' ' ' <"/proc/$MONITOR/cmdline" | grep -F "cache=none,passthrough=off,workers=3,watchdog=1"
	equal "none evidence 3 $WORK/state" \
		"$(fxfs_status cache) $(fxfs_status witness) $(fxfs_status workers) $(fxfs_status state)"
	# cache=none, and the watchdog
	t stat "$MNT/file" >/dev/null
	chmod 600 "$SRC/file"
	equal 600 "$(t stat -c %a "$MNT/file")"
	kill -STOP "$(fxfs_status server_pid)"
	equal hello "$(TIME=10 t cat "$MNT/file")"
	equal 1 "$(fxfs_status hangs)"
	fxfs_unmount
	fails test -e "$WORK/state"
}

@test "server and monitor die in turn: no application sees an error, and nothing is left behind" {
	fxfs_mount
	t stat "$MNT" >/dev/null
	local before
	forgotten
	before=$(descriptors)
	in_turn 40 5 40 both
	in_turn 15 20 60 monitor crowd
	forgotten
	equal "0 0" "$(fxfs_status handles) $(fxfs_status in_flight)"
	equal "$before" "$(descriptors)"
	fxfs_unmount
	eventually no_processes
	fails test -e "$STATE"
}

@test "TERM to a server waits until it is a monitor" {
	fxfs_mount
	local server
	server=$(fxfs_status server_pid)
	kill -TERM "$server"
	kill -HUP "$server"
	sleep 0.2
	equal "$server 0 0" "$(fxfs_status server_pid) $(fxfs_status restarts) $(fxfs_status upgrades)"
	kill -KILL "$MONITOR"
	eventually no_processes
	fails mountpoint -q "$MNT"
	fails test -e "$STATE"
}

@test "TERM to a monitor that took over unmounts" {
	fxfs_mount
	kill_monitor
	kill -TERM "$MONITOR"
	eventually gone "$MONITOR"
	fails mountpoint -q "$MNT"
	eventually no_processes
	fails test -e "$STATE"
}

@test "the monitor dies while a call takes long: others go on, and the call is made once" {
	need mkfs.ext4 fsfreeze
	truncate -s 32M "$WORK/image"
	mkfs.ext4 -q "$WORK/image"
	mount -o loop "$WORK/image" "$SRC"
	echo hello >"$SRC/file"
	mkdir "$SRC/in"
	fxfs_mount -o cache=none
	t stat "$MNT/file" >/dev/null # else it is looked up under the lock that mkdir holds
	fsfreeze -f "$SRC"
	t mkdir "$MNT/in/dir" 3>&- &
	local slow=$! pid
	sleep 0.3
	pid=$(fxfs_status monitor_pid)
	kill -KILL "$pid"
	sleep 0.3
	local i
	for i in 1 2 3 4 5; do equal hello "$(TIME=5 t cat "$MNT/file")" || break; done
	fsfreeze -u "$SRC"
	wait $slow
	equal 5 "$i"
	test -d "$SRC/in/dir"
	eventually other_monitor "$pid"
}

# --- another program ---------------------------------------------------------------------------------------

@test "an upgrade keeps open files, locks and directories" {
	echo hello >"$SRC/file"
	mount_program
	cp "$FXFS" "$WORK/next"
	hold file
	hold other
	ask file ok "open $MNT/file rdwr"
	ask other ok "open $MNT/file rdwr"
	ask file ok "lock posix ex"
	rm "$SRC/file"
	t "$WORK/next" --upgrade "$MNT"
	equal 1 "$(fxfs_status upgrades)"
	equal "$WORK/next" "$(readlink "/proc/$(fxfs_status server_pid)/exe")"
	equal "$MONITOR" "$(fxfs_status monitor_pid)"
	ask file "ok hello" "read 0 5"
	ask other EAGAIN "lock posix ex"
	ask file ok "unlock posix"
	ask other ok "lock posix ex"
	logged "is served by $WORK/next now"
	# whose monitor died
	kill_monitor
	equal "$WORK/next" "$(readlink "/proc/$MONITOR/exe")"
	t "$PROGRAM" --upgrade "$MNT"
	equal 2 "$(fxfs_status upgrades)"
	ask file "ok hello" "read 0 5"
}

@test "HUP takes what is installed now under the name of the program" {
	mount_program
	cp "$PROGRAM" "$WORK/old"
	cp "$PROGRAM" "$WORK/next"
	echo >>"$WORK/next" # another file with the same program
	install_program "$WORK/next"
	[[ $(readlink "/proc/$MONITOR/exe") == *" (deleted)" ]]
	kill -HUP "$MONITOR"
	eventually upgrades_are 1
	runs "$WORK/next"
	install_program "$WORK/old"
	kill -HUP "$MONITOR"
	eventually upgrades_are 2
	runs "$WORK/old"
}

@test "one upgrade after another, and several at once, cost no application an error" {
	mount_program
	mkdir "$SRC/strict"
	"$APPS/strict" "$MNT/strict" 1000 >"$WORK/strict" 2>&1 3>&- &
	local pid=$! i ok=0
	for ((i = 0; i < 12; i++)); do
		t "$PROGRAM" --upgrade "$MNT"
		kill -KILL "$(fxfs_status server_pid)"
		kill -HUP "$MONITOR"
		t "$PROGRAM" --upgrade "$MNT" 3>&- &
		if t "$PROGRAM" --upgrade "$MNT"; then ok=$((ok + 1)); fi
		wait $! || true
		eventually serves
	done
	tell "$(fxfs_status upgrades) upgrades, $ok of 12 second ones"
	[ "$(fxfs_status upgrades)" -ge 12 ]
	kill $pid
	wait $pid || {
		cat "$WORK/strict"
		return 1
	}
	grep 'wrong 0' "$WORK/strict" || { head -n 20 "$WORK/strict" && false; }
}

refused() { # LOG: what was installed is refused, and the mount goes on as it was
	kill -HUP "$MONITOR"
	TIME=15 eventually logged "$PROGRAM is not put in place: $1"
	runs "$WORK/old"
	equal 0 "$(fxfs_status upgrades)"
	equal "$SERVER" "$(fxfs_status server_pid)"
	ask file "ok hello" "read 0 5"
	: >"$WORK/log"
}

@test "a program that cannot take over is refused, and no server dies for it" {
	echo hello >"$SRC/file"
	mount_program
	local SERVER
	SERVER=$(fxfs_status server_pid)
	cp "$PROGRAM" "$WORK/old"
	hold file
	ask file ok "open $MNT/file rdwr"
	printf '#!/bin/sh\nexit 0\n' >"$WORK/says-yes"
	printf '#!/bin/sh\nexit 1\n' >"$WORK/says-no"
	printf '#!/bin/sh\nkill -SEGV $$\n' >"$WORK/dies"
	printf '#!/bin/sh\nexec sleep 1000\n' >"$WORK/hangs"
	head -c 100000 "$FXFS" >"$WORK/torn"
	local program
	for program in says-yes says-no dies torn; do
		install_program "$WORK/$program"
		refused "it does not start"
	done
	install_program "$WORK/old" 644
	refused "it does not start"
	rm "$PROGRAM"
	refused "it does not start"
	# another layout is what it sees
	install_program "$WORK/old"
	"$APPS/poke" "$STATE" layout
	kill -HUP "$MONITOR"
	eventually logged "is not put in place: it does not start, or takes no state of this layout"
	run t "$FXFS" --upgrade "$MNT"
	"$APPS/poke" "$STATE" layout
	equal 2 "$status"
	[[ $output == *"another layout"* ]]
	# the server dies while a program is asked that does not answer
	install_program "$WORK/hangs"
	kill -HUP "$MONITOR"
	sleep 0.3
	kill_server
	SERVER=$(fxfs_status server_pid)
	eventually logged "it says nothing"
	ask file "ok hello" "read 0 5"
}

@test "an upgrade that the monitor cannot carry out is a failure of the command" {
	mount_program
	# a program that only the command sees
	# shellcheck disable=SC2016 # for the inner shell
	t unshare -m sh -c 'mount -t tmpfs none "$1" && cp "$2" "$1/other" && "$1/other" --upgrade "$3"; echo $? >"$4"' \
		sh "$WORK/bin" "$FXFS" "$MNT" "$SRC/code" >"$WORK/messages" 2>&1
	equal 2 "$(cat "$SRC/code")"
	grep "was not put in place; the mount goes on as it was" "$WORK/messages"
	logged "is not put in place"
	t "$PROGRAM" --upgrade "$MNT"
	equal 1 "$(fxfs_status upgrades)"
}

@test "a program whose servers die is rolled back, and the command says so" {
	echo hello >"$SRC/file"
	mount_program
	cp "$PROGRAM" "$WORK/old"
	hold file
	ask file ok "open $MNT/file rdwr"
	arm server_started 0 0 1000
	run t "$FXFS_CRASH" --upgrade "$MNT"
	equal 2 "$status"
	[[ $output == *"was not put in place"* ]]
	eventually serves
	runs "$WORK/old"
	equal 0 "$(fxfs_status upgrades)"
	ask file "ok hello" "read 0 5"
	logged "did not come up: the program before it goes on"
}

# --- the watchdog ------------------------------------------------------------------------------------------

@test "a server that is stopped is replaced" {
	echo hello >"$SRC/file"
	fxfs_mount_logged -o watchdog=1,cache=none
	local server
	server=$(fxfs_status server_pid)
	kill -STOP "$server"
	equal hello "$(TIME=10 t cat "$MNT/file")"
	equal 1 "$(fxfs_status hangs)"
	logged 'the server hangs: it has taken up no request'
	# also one that was stopped before it serves
	kill -KILL "$(fxfs_status server_pid)"
	eventually other_server "$server"
	kill -STOP "$(fxfs_status server_pid)"
	equal hello "$(TIME=15 t cat "$MNT/file")"
}

@test "a server that hangs in a request is replaced, and the request is answered" {
	FXFS=$FXFS_CRASH fxfs_mount_logged -o watchdog=1
	local how
	for how in $SPINS $SLEEPS; do
		arm call_before $MKDIR "$how" 0
		TIME=15 t mkdir "$MNT/$how"
		test -d "$SRC/$how"
	done
	equal "2 2 0" "$(fxfs_status hangs) $(fxfs_status restarts) $(fxfs_status poisoned)"
	logged 'the server hangs: request'
}

@test "what waits for a slow source, for a disk or for a lock is no hang" {
	need mkfs.ext4 fsfreeze
	truncate -s 32M "$WORK/image"
	mkfs.ext4 -q "$WORK/image"
	mkdir "$WORK/inner"
	mount -o loop "$WORK/image" "$WORK/inner"
	echo hello >"$WORK/inner/file"
	# the source is a mount of fxfs itself, whose server stands still for a while
	t "$FXFS" -o watchdog=0,cache=none,passthrough=off "$WORK/inner" "$SRC"
	fxfs_mount -o watchdog=1,cache=none,passthrough=off
	hold holder
	hold waiter
	ask holder ok "open $MNT/file rdwr"
	ask waiter ok "open $MNT/file rdwr"
	ask holder ok "lock posix ex"
	say waiter "lock posix ex wait"
	local inner
	inner=$(fxfs_status server_pid "$SRC")
	kill -STOP "$inner"
	t mkdir "$MNT/slow" 3>&- &
	local slow=$! disk
	sleep 4
	kill -CONT "$inner"
	wait $slow
	fsfreeze -f "$WORK/inner"
	t mkdir "$MNT/disk" 3>&- &
	disk=$!
	sleep 4
	fsfreeze -u "$WORK/inner"
	wait $disk
	silent waiter
	ask holder ok "unlock posix"
	answer waiter ok
	equal "0 0" "$(fxfs_status hangs) $(fxfs_status restarts)"
}

# --- requests and servers that cannot be helped ------------------------------------------------------------

@test "a request that ends each server is answered with EIO after the third, and only that one" {
	echo hello >"$SRC/file"
	FXFS=$FXFS_CRASH fxfs_mount_logged -o cache=none
	"$APPS/pulse" "$MNT/file" >"$WORK/pulse" 3>&- &
	local pulse=$! how
	for how in 11 7 6 8 4 $OVERFLOWS; do # SEGV BUS ABRT FPE ILL
		arm call_before 6 "$how" 1000 # SYMLINK
		run t ln -s nowhere "$MNT/link"
		arm call_before 65535 0 0
		[[ $output == *"Input/output error"* ]]
		fails test -L "$SRC/link"
	done
	kill $pulse
	wait $pulse
	grep -q 'errors 0' "$WORK/pulse"
	equal "6 18" "$(fxfs_status poisoned) $(fxfs_status restarts)"
	logged 'request .* (opcode 6, node .*, of process .*) ended 3 servers: answered with EIO'
	t ln -s nowhere "$MNT/link"
	test -L "$SRC/link"
}

phase_is() {
	equal "$1" "$(fxfs_status phase)"
}

@test "a mount whose servers do not start answers errors, and is whole again when one does" {
	echo hello >"$SRC/file"
	FXFS=$FXFS_CRASH fxfs_mount_logged -o cache=none
	hold file
	ask file ok "open $MNT/file rdwr"
	arm server_started 0 0 100000
	kill -KILL "$(fxfs_status server_pid)"
	run t cat "$MNT/file"
	[ "$status" -ne 0 ]
	[[ $output == *"Input/output error"* ]]
	phase_is broken
	logged 'next try in 10 ms'
	logged 'next try in 1280 ms'
	logged 'answers errors from now on'
	run t ls "$MNT"
	[[ $output == *"Input/output error"* ]]
	run t "$FXFS" --health "$MNT"
	equal "1 unhealthy: $MNT answers: I/O error" "$status $output"
	arm server_started 65535 0 0
	eventually serves
	equal hello "$(t cat "$MNT/file")"
	ask file "ok hello" "read 0 5"
}

@test "a mount that is broken, or waits for its next server, can be unmounted and told to end" {
	local how
	for how in umount TERM broken; do
		FXFS=$FXFS_CRASH fxfs_mount_logged -o cache=none
		arm server_started 0 0 100000
		kill -KILL "$(fxfs_status server_pid)"
		eventually logged 'next try in 640 ms'
		if [ $how = broken ]; then
			eventually logged 'died 16 times' # the pauses are 16 seconds in all
			eventually logged 'died 19 times'
			eventually logged 'answers errors'
		fi
		case $how in
		umount) t umount "$MNT" ;;
		*) kill -TERM "$MONITOR" ;;
		esac
		eventually gone "$MONITOR"
		fails mountpoint -q "$MNT"
		fails test -e "$STATE"
	done
}

@test "deaths faster than a server can start are got over" {
	fxfs_mount
	in_turn 150 1 2 server
}

# --- memory, dumps, damage ---------------------------------------------------------------------------------

@test "the server is killed for memory rather than the monitor, and no core is dumped" {
	fxfs_mount
	local server monitor
	monitor=$(cat "/proc/$MONITOR/oom_score_adj")
	server=$(cat "/proc/$(fxfs_status server_pid)/oom_score_adj")
	[ "$server" -gt "$monitor" ] || [ "$server" = 1000 ]
	kill_monitor
	equal "$monitor" "$(cat "/proc/$MONITOR/oom_score_adj")"
	# 0 would not keep a dump from the program in core_pattern
	grep -q '^Max core file size *1 *1 ' "/proc/$(fxfs_status server_pid)/limits"
	# the monitor needs no memory to bury the server that dies to make some
	awk '/ r-xp .*fxfs/ { text = 1 } text && /^VmFlags/ { print; exit }' "/proc/$MONITOR/smaps" | grep -w lo
	awk '/[.]state$/ { state = 1 } state && /^VmFlags/ { print; exit }' "/proc/$MONITOR/smaps" | grep -w lo
}

@test "when memory runs out in the mount's control group nothing is lost" {
	local group=/sys/fs/cgroup/memory/${WORK##*/} bytes=memory.limit_in_bytes usage=memory.usage_in_bytes
	[ -e /sys/fs/cgroup/memory/cgroup.procs ] || {
		group=/sys/fs/cgroup/${WORK##*/} bytes=memory.max usage=memory.current
		grep -q memory /sys/fs/cgroup/cgroup.subtree_control 2>/dev/null || skip "machine lacks a memory control group"
	}
	mkdir "$group"
	BEFORE="echo \$\$ >$group/cgroup.procs" fxfs_mount_logged -o workers=2,cache=none,passthrough=off
	mkdir "$SRC/strict"
	"$APPS/strict" "$MNT/strict" 1000 >"$WORK/strict" 2>&1 3>&- &
	local strict=$!
	sleep 1
	echo $(($(cat "$group/$usage") + 50000000)) >"$group/$bytes"
	for _ in 1 2 3; do
		echo 1000 >"/proc/$(fxfs_status server_pid)/oom_score_adj" # before whoever uses it up
		# shellcheck disable=SC2016 # for the inner shell
		run t sh -c 'echo $$ >"$1" && eat() { exec perl -e "print length(q(a) x 200e6)"; } && { eat & eat; }' \
			sh "$group/cgroup.procs" # two: each is smaller than what 1000 weighs
		eventually serves
	done
	kill $strict
	wait $strict || true
	tell "deaths $(fxfs_status restarts), $(tail -n 1 "$WORK/strict")"
	grep "wrong 0" "$WORK/strict" || { head -n 20 "$WORK/strict" >&2; false; }
	[ "$(fxfs_status restarts)" -ge 3 ]
	logged 'was killed by signal 9'
	fxfs_unmount
	eventually rmdir "$group"
}

threads_are() { # N PID
	equal "$1" "$(find "/proc/$2/task" -mindepth 1 -maxdepth 1 | wc -l)"
}

@test "a server that gets no more memory serves on" {
	fxfs_mount -o cache=none,workers=4
	local server before
	server=$(fxfs_status server_pid)
	eventually threads_are 5 "$server" # and the guardian
	sleep 0.2
	prlimit --pid "$server" --as=1: # the soft limit, before any worker has had a request
	mkdir "$SRC/dir"
	(cd "$SRC/dir" && seq 3000 | xargs touch)
	touch "$SRC/file"
	hold holder
	hold waiter
	ask holder ok "open $MNT/file rdwr"
	ask waiter ok "open $MNT/file rdwr"
	ask holder ok "lock posix ex"
	local n lists=()
	for n in {1..8}; do # each worker has a part in it
		t ls -l "$MNT/dir" >/dev/null 3>&- &
		lists+=($!)
	done
	for n in "${lists[@]}"; do wait "$n"; done
	t mkdir "$MNT/new"
	say waiter "lock posix ex wait"
	sleep 0.5
	ask holder ok "unlock posix"
	[[ $(answer waiter) =~ ^(ok|ENOLCK|ENOMEM)$ ]]
	prlimit --pid "$server" --as=unlimited:
	t ls -l "$MNT/dir" >/dev/null
	equal "$server" "$(fxfs_status server_pid)"
}

# damaged WHAT LOG: the server dies and leaves this in the state.
damaged() {
	local server
	server=$(fxfs_status server_pid)
	kill -STOP "$server"
	kill -STOP "$MONITOR"
	"$APPS/poke" "$STATE" damage "$1"
	kill -KILL "$server"
	kill -CONT "$MONITOR"
	eventually other_server "$server" && eventually serves || return
	[ -z "$2" ] || logged "$2"
	: >"$WORK/log"
	server=$(fxfs_status server_pid)
	equal hello "$(TIME=10 t cat "$MNT/file")"
	mkdir "$MNT/after-$1"
	test -d "$SRC/after-$1"
	equal "$server" "$(fxfs_status server_pid)"
}

@test "what cannot be in the state is dropped and said, and not followed" {
	echo hello >"$SRC/file"
	touch "$SRC/other"
	fxfs_mount_logged -o cache=none
	t ls -l "$MNT" >/dev/null
	hold other
	local what
	for what in record steps area ngrants granted grant reply descriptor; do
		damaged $what 'record .* of the journal .* cannot be: dropped'
	done
	damaged thread 'the step of thread 0 on node 4294967295 cannot be: dropped'
	damaged devices ''
	damaged workers ''
	for what in handle handle-descriptor; do
		ask other ok "open $MNT/other rdwr"
		damaged $what 'handle .* cannot be: dropped'
		say other close
		answer other >/dev/null
	done
	for what in circle chain heads; do
		damaged $what ''
	done
	logged 'the chain of node .* is torn'
}

@test "a header that cannot be ends in errors, not in a wrong answer" {
	echo hello >"$SRC/file"
	fxfs_mount_logged -o cache=none
	local server
	server=$(fxfs_status server_pid)
	kill -STOP "$MONITOR"
	"$APPS/poke" "$STATE" damage header
	kill -KILL "$server"
	kill -CONT "$MONITOR"
	run t cat "$MNT/file"
	[[ $output == *"Input/output error"* ]]
	logged 'the state cannot be followed: torn: a number in its header is out of range'
	t umount "$MNT"
	eventually gone "$MONITOR"
}

# --- the witness -------------------------------------------------------------------------------------------

@test "status says which witness there is, and registers that cannot be had are an error" {
	local witness
	for witness in registers evidence; do
		fxfs_mount -o witness=$witness
		equal $witness "$(fxfs_status witness)"
		kill_server
		equal $witness "$(fxfs_status witness)"
		fxfs_unmount
	done
	run t "$APPS/noptrace" "$FXFS" -o witness=registers "$SRC" "$MNT"
	equal 2 "$status"
	[[ $output == *"witness=registers: cannot trace a process"* ]]
	fails mountpoint -q "$MNT"
}

@test "where nobody may trace, evidence is taken, said, and right" {
	BEFORE="set -- '$APPS/noptrace' \"\$@\"" fxfs_mount_logged
	equal evidence "$(fxfs_status witness)"
	logged 'cannot trace a process (Operation not permitted): interrupted system calls are judged by evidence'
	in_turn 40 5 30 both
	equal evidence "$(fxfs_status witness)"
}
