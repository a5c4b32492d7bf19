#!/usr/bin/env bats
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# All processes of a mount die at once, and somebody else keeps it: who starts fxfs with the same command line goes on.

# shellcheck disable=SC2030,SC2031,SC2153 # each test is a process of its own, and lib.bash sets FXFS

load lib

declare -gA HELD_PID

# Starts a holder. What it says is in $WORK/hold.log.
holder_start() {
	HOLD=$WORK/hold
	bash -c "${HOLDER_BEFORE:-:}"'; exec "$@"' bash "$FXFS" -f --hold "$HOLD" >>"$WORK/hold.log" 2>&1 3>&- &
	HELD_PID[holder]=$! # teardown ends it
	disown $!
	eventually test -S "$HOLD"
}

holder_end() { # [SIGNAL]
	kill -s "${1:-TERM}" "${HELD_PID[holder]}" && eventually gone "${HELD_PID[holder]}"
	unset "HELD_PID[holder]"
}

# True when that is the last thing it said.
holder_says() { # REGULAR-EXPRESSION
	tail -n 1 "$WORK/hold.log" | grep -q -e "$1" || {
		cat "$WORK/hold.log" >&2
		return 1
	}
}

kept() {
	[[ $(fxfs_status hold) == "yes: "* ]]
}

# All processes of the mount die at once. Stopped first: none takes another's place. A watcher may be in a notification, and
# then ends only when the next server has answered.
die_all() {
	local pids watcher pid
	pids="$(fxfs_status monitor_pid) $(fxfs_status server_pid)"
	watcher=$(fxfs_status watcher_pid)
	[ "$watcher" != 0 ] || watcher=
	# shellcheck disable=SC2086 # words
	kill -STOP $pids $watcher
	# shellcheck disable=SC2086
	kill -KILL $pids $watcher
	for pid in $pids; do eventually gone "$pid"; done
}

# Starts anew what was killed, with the same options.
again() {
	fxfs_mount -o "hold=$HOLD" "$@"
}

again_logged() {
	fxfs_mount_logged -o "hold=$HOLD" "$@"
}

# Kills and starts everything so many times while applications run.
turns() { # N [OPTION...]
	local n
	for ((n = 0; n < $1; n++)); do
		die_all
		again "${@:2}" || return
		sleep 0.0$((RANDOM % 10))
	done
}

@test "open files of all kinds go on when all processes of the mount die and it is started again" {
	echo hello >"$SRC/file"
	head -c 8192 /dev/zero | tr '\0' . >"$SRC/mapped"
	touch "$SRC/log" "$SRC/locked"
	mkdir "$SRC/dir"
	(cd "$SRC/dir" && seq -f 'name-%05.0f' 3000 | xargs touch)
	holder_start
	again
	local name n
	for name in reader writer appender map flock posix dir other; do hold $name; done
	ask reader ok "open $MNT/file rdonly"
	ask writer ok "open $MNT/new creat,rdwr"
	ask appender ok "open $MNT/log append,wronly"
	ask map ok "open $MNT/mapped rdwr"
	ask map ok "map 8192 shared"
	ask flock ok "open $MNT/locked rdwr"
	ask flock ok "lock flock ex"
	ask posix ok "open $MNT/locked rdwr"
	ask posix ok "lock posix ex 10 20"
	ask other ok "open $SRC/locked rdwr"
	ask dir ok "open $MNT/dir directory"
	list_on dir 100
	for n in 1 2 3; do
		die_all
		again
		equal "$n" "$(fxfs_status handovers)"
		ask reader "ok hello" "read 0 5"
		ask writer ok "write $n $n"
		ask appender ok "append line$n"
		ask map ok "poke $n $n"
		ask other EAGAIN "lock flock sh"
		ask other EAGAIN "lock posix sh 15 1"
		ask other ok "lock posix ex 0 5"
		list_on dir 100
	done
	ask map ok msync
	equal line1line2line3 "$(cat "$SRC/log")"
	equal 123 "$(tail -c 3 "$SRC/new")"
	equal .123 "$(head -c 4 "$SRC/mapped")"
	ask flock ok "unlock flock"
	ask other ok "lock flock ex"
	ask posix ok "unlock posix 10 20"
	ask other ok "lock posix ex 10 20"
	list_on dir 10000
	listed_all "$SRC/dir"
	equal "0 0" "$(fxfs_status lost_handles) $(fxfs_status lost_locks)"
	for name in reader writer appender map flock posix dir; do release $name; done
	forgotten
	equal "0 0" "$(fxfs_status handles) $(fxfs_status in_flight)"
	fxfs_unmount
	holder_says "0 mounts, 0 descriptors are kept"
	fails test -e "$STATE"
}

@test "files without a name go on, also where their data goes through the server" {
	holder_start
	again -o cache=none,passthrough=off
	hold deleted
	hold unnamed
	ask deleted ok "open $MNT/file creat,rdwr"
	rm "$MNT/file"
	ask unnamed ok "open $MNT tmpfile,rdwr"
	ask deleted ok "write 0 deleted"
	ask unnamed ok "write 0 unnamed"
	die_all
	again -o cache=none,passthrough=off
	ask deleted "ok deleted" "read 0 7"
	ask unnamed "ok unnamed" "read 0 7"
	equal 0 "$(fxfs_status lost_handles)"
}

@test "whoever asks while nobody serves gets an answer when it is started again" {
	echo hello >"$SRC/file"
	holder_start
	again -o cache=none,passthrough=off
	hold file
	ask file ok "open $MNT/file rdwr"
	die_all
	say file "read 0 5"
	silent file
	t mkdir "$MNT/made" 3>&- &
	local maker=$!
	sleep 0.2
	again -o cache=none,passthrough=off
	answer file "ok hello"
	wait $maker
	test -d "$SRC/made"
}

# under APPLICATION [OPTION...]: 20 times everything is killed and started again under a strict application.
under() {
	local app=$1 pid before
	shift
	holder_start
	again "$@"
	mkdir "$SRC/$app"
	t stat "$MNT" >/dev/null
	forgotten
	before=$(descriptors)
	"$APPS/$app" "$MNT/$app" 1000 >"$WORK/$app" 2>&1 3>&- &
	pid=$!
	turns 20 "$@"
	kill $pid
	wait $pid || {
		cat "$WORK/$app"
		return 1
	}
	tell "$(tail -n 1 "$WORK/$app"), resent $(fxfs_status resent)"
	grep -q 'wrong 0' "$WORK/$app"
	equal "20 0 0" "$(fxfs_status handovers) $(fxfs_status lost_handles) $(fxfs_status lost_locks)"
	forgotten
	equal "0 0" "$(fxfs_status handles) $(fxfs_status in_flight)"
	tell "descriptors before $before, after $(descriptors)"
	equal "$before" "$(descriptors)"
	fxfs_unmount
	holder_says "0 mounts, 0 descriptors are kept"
}

@test "a strict application sees no error while everything is killed and started again 20 times" {
	under strict
}

@test "nor does a crowd" {
	under crowd
}

@test "nor without passthrough and names in the cache" {
	under strict -o cache=none,passthrough=off
}

@test "a change of the source meanwhile is seen" {
	echo old >"$SRC/file"
	holder_start
	again
	equal old "$(t cat "$MNT/file")"
	fails t test -e "$MNT/other"
	die_all
	echo longer >"$SRC/file"
	touch "$SRC/other"
	again
	eventually equal longer "$(t cat "$MNT/file")"
	eventually t test -e "$MNT/other"
}

@test "whoever stands in a directory of the mount stays there" {
	mkdir "$SRC/dir"
	holder_start
	again
	mkfifo "$WORK/go"
	# shellcheck disable=SC2016 # for the inner shell
	t bash -c 'cd "$1" && read -r line <"$2" && /bin/pwd && echo "$line" >file' bash "$MNT/dir" "$WORK/go" >"$WORK/out" 3>&- &
	local pid=$!
	sleep 0.5
	die_all
	again
	sleep 1
	echo hello >"$WORK/go"
	wait $pid
	equal "$MNT/dir" "$(cat "$WORK/out")"
	equal hello "$(cat "$SRC/dir/file")"
}

@test "an unlinked file goes on for as long as somebody has it open" {
	echo hello >"$SRC/file"
	holder_start
	again
	hold file
	ask file ok "open $MNT/file rdwr"
	t rm "$MNT/file"
	die_all
	again
	ask file "ok hello" "read 0 5"
	ask file ok "write 0 HELLO"
	die_all
	again
	ask file "ok HELLO" "read 0 5"
	equal "1 0" "$(fxfs_status handles) $(fxfs_status lost_handles)"
}

@test "also one that the kernel does not read and write by itself" {
	echo hello >"$SRC/file"
	holder_start
	again
	hold file
	hold second
	ask file ok "open $MNT/file append,rdwr"
	ask second ok "open $MNT/file append,rdwr"
	t rm "$MNT/file"
	release second # of several open files one remains
	die_all
	again
	ask file "ok hello" "read 0 5"
	ask file ok "append more"
	ask file "ok more" "read 6 4"
	equal "1 0" "$(fxfs_status handles) $(fxfs_status lost_handles)"
	release file
	forgotten
	equal 0 "$(fxfs_status handles)"
	fxfs_unmount # and lets go of the source
}

@test "open files of a file system below the source go on" {
	mkdir "$SRC/below"
	mount -t tmpfs none "$SRC/below"
	echo hello >"$SRC/below/file"
	holder_start
	again
	hold file
	hold dir
	ask file ok "open $MNT/below/file append,rdwr"
	ask dir ok "open $MNT/below directory"
	die_all
	again
	ask file "ok hello" "read 0 5"
	ask file ok "append more"
	equal "hello more" "$(tr '\n' ' ' <"$SRC/below/file")"
	ask dir "ok 3" count
	equal 0 "$(fxfs_status lost_handles)"
	release file
	release dir
	fxfs_unmount
	umount "$SRC/below"
}

@test "what cannot be opened again is an error for that open file only, is counted and said" {
	echo hello >"$SRC/file"
	echo hello >"$SRC/other"
	holder_start
	again_logged -o passthrough=off
	hold file
	hold other
	ask file ok "open $MNT/file rdwr"
	ask other ok "open $MNT/other rdwr"
	die_all
	rm "$SRC/file" # nobody keeps it: with passthrough the kernel would
	again_logged -o passthrough=off
	ask file ESTALE "read 1 1"
	ask other "ok ello" "read 1 4"
	equal 1 "$(fxfs_status lost_handles)"
	logged "an open file (inode [0-9]*) is lost: Stale file handle"
	logged "1 open files could not be opened again"
	release file
	eventually equal 1 "$(fxfs_status handles)"
}

@test "a lock that somebody took meanwhile is lost, counted and said; its owner is told" {
	touch "$SRC/file"
	holder_start
	again_logged
	local kind n=0
	hold source
	ask source ok "open $SRC/file rdwr"
	for kind in flock posix ofd; do
		n=$((n + 1))
		hold mount
		ask mount ok "open $MNT/file rdwr"
		ask mount ok "lock $kind ex"
		die_all
		ask source ok "lock $kind ex"
		again_logged
		equal "$n 0" "$(fxfs_status lost_locks) $(fxfs_status lost_handles)"
		logged "a lock (inode [0-9]*) is lost"
		ask mount EIO "lock $kind sh"
		ask source ok "unlock $kind"
		release mount
	done
}

# --- what was kept ---

@test "a mount is served by one fxfs only" {
	holder_start
	again
	run again
	echo "$output"
	equal 32 "$status"
	[[ $output == *"$MNT is served already"* ]]
	serves
	fxfs_unmount
}

@test "the state gets its name again where that was lost" {
	holder_start
	again
	die_all
	mv "$STATE" "$STATE.elsewhere"
	again
	equal "$STATE" "$(fxfs_status state)"
	die_all
	rm "$STATE" "$STATE.elsewhere"
	run again # nothing can be linked to it now: it is served, and --status does not find it
	[[ $output == *"the state has no name any more"* ]]
	t stat "$MNT" >/dev/null
	t "$FXFS" --umount "$MNT"
	eventually no_fxfs
}

no_fxfs() {
	! processes | grep -vx "${HELD_PID[holder]}"
}

# Where in the state's header this number is.
offset_of() { # NUMBER
	perl -e 'open my $f, "<", $ARGV[0] or die; read $f, my $h, 32768; my $at = index $h, pack "Q<", $ARGV[1];
		die if $at < 0; print $at' "$STATE" "$1"
}

# damaged OFFSET BYTES TEXT: nobody goes on with such a state, and says why.
damaged() {
	cp --sparse=always "$STATE" "$WORK/whole"
	printf '%b' "$2" | dd of="$STATE" bs=1 seek="$1" conv=notrunc status=none
	run again
	echo "$output"
	equal 32 "$status"
	[[ $output == *"$3"* ]]
	dd if="$WORK/whole" of="$STATE" bs=32768 count=1 conv=notrunc status=none
	rm "$WORK/whole"
}

@test "what is kept and is no state of this mount is refused" {
	holder_start
	again
	die_all
	damaged 0 X "what was kept of it is not a mount's"
	damaged 8 '\0377' "a state of another version of fxfs"
	damaged 12 XXXX "a state with another layout"
	damaged 16 '\0377' "torn: its size is not what its header says"
	damaged "$(offset_of "$(stat -c %i "$SRC")")" '\0377' "one of another SOURCE"
	# and as it was it is taken
	again
	serves
	fxfs_unmount
}

@test "what somebody else stored under the name of a mount is refused" {
	holder_start
	again_logged
	die_all
	local name
	name=$(sed -n 's/.*\(fxfs-[0-9a-f]*\) is kept.*/\1/p' "$WORK/hold.log" | head -n 1)
	"$APPS/holdmsg" "$HOLD" "FDSTORE=1\nFDNAME=$name" /dev/null "$STATE" "$WORK/hold.log"
	run again
	echo "$output"
	equal 32 "$status"
	[[ $output == *"what was kept of it is not a mount's"* ]]
	t "$FXFS" --umount "$MNT"
}

@test "a mount that was taken off while nobody served it is made anew" {
	echo hello >"$SRC/file"
	holder_start
	again
	die_all
	t "$FXFS" --umount "$MNT" # umount(8) looks at it first
	again_logged
	grep -q "has ended: 0 mounts" "$WORK/hold.log"
	equal hello "$(t cat "$MNT/file")"
	equal 0 "$(fxfs_status handovers)"
	fxfs_unmount
	holder_says "0 mounts, 0 descriptors are kept"
}

# --- the service manager ---

manager() { # WORD
	echo "$1" >&"${MANAGER[1]}"
}

told() { # REGULAR-EXPRESSION
	grep -q -e "$1" "$WORK/told"
}

manager_keeps() { # COUNT
	manager count
	sleep 0.1
	equal "count $1" "$(grep '^count' "$WORK/told" | tail -n 1)"
}

@test "a service manager keeps it, and is told what it wants to know" {
	echo hello >"$SRC/file"
	# it ignores SIGCHLD, as who starts fxfs may
	coproc MANAGER { exec "$APPS/manager" "$WORK/notify" "$FXFS" -f -o hold=systemd "$SRC" "$MNT" >"$WORK/told" 2>"$WORK/log" 3>&-; }
	eventually test -S "$WORK/notify"
	manager start
	eventually serves
	guard
	eventually told "^READY=1"
	MONITOR=$(fxfs_status monitor_pid)
	told "^MAINPID=$MONITOR"
	told "^STATUS=serving"
	told "^FDPOLL=0"
	logged "cache=watch: off: a service"
	manager_keeps 6
	hold file
	ask file ok "open $MNT/file rdwr"
	ask file ok "lock flock ex"
	local n
	for n in 1 2 3; do
		die_all
		manager start
		eventually serves
		equal "$n 0" "$(fxfs_status handovers) $(fxfs_status lost_handles)"
		ask file "ok hello" "read 0 5"
	done
	t "$FXFS" --upgrade "$MNT"
	ask file "ok hello" "read 0 5"
	kill_monitor
	eventually told "^MAINPID=$MONITOR"
	manager_keeps 6
	# taken off while nobody serves it
	release file
	die_all
	t "$FXFS" --umount "$MNT"
	manager start
	eventually serves
	logged "what was kept of the mount on $MNT has ended: it is mounted anew"
	equal 0 "$(fxfs_status handovers)"
	equal hello "$(t cat "$MNT/file")"
	MONITOR=$(fxfs_status monitor_pid)
	manager_keeps 6
	fxfs_unmount
	manager_keeps 0
	kill "$MANAGER_PID"
}

# --- the holder ---

@test "without a holder the mount is there, says so, and is kept as soon as there is one" {
	echo hello >"$SRC/file"
	HOLD=$WORK/hold
	again_logged
	logged "the holder at $HOLD does not keep this mount"
	[[ $(fxfs_status hold) == "no: the holder is not there"* ]]
	holder_start
	eventually kept
	hold file
	ask file ok "open $MNT/file rdwr"
	local signal
	for signal in KILL TERM; do
		holder_end $signal
		eventually fails kept
		ask file "ok hello" "read 0 5"
		holder_start
		eventually kept
	done
	die_all
	again
	ask file "ok hello" "read 0 5"
	fxfs_status hold
}

@test "a monitor that takes the place of another has the mount kept, and so has another program" {
	echo hello >"$SRC/file"
	holder_start
	again
	hold file
	ask file ok "open $MNT/file rdwr"
	kill_monitor
	eventually kept
	die_all
	again
	t "$FXFS" --upgrade "$MNT"
	eventually kept
	kill_monitor
	die_all
	again
	kill_monitor
	ask file "ok hello" "read 0 5"
	equal "2 1" "$(fxfs_status handovers) $(fxfs_status upgrades)"
}

@test "TERM ends the holder, and with it what nobody serves" {
	holder_start
	again
	die_all
	holder_end
	fails test -e "$HOLD"
	holder_says "ends: 1 mounts, [0-9]* descriptors were kept"
	eventually fails t ls "$MNT"
	t umount "$MNT"
	rm "$STATE"
}

@test "a socket that nobody listens at is taken, one that somebody listens at is not, nor is anything else" {
	holder_start
	run t "$FXFS" -f --hold "$HOLD"
	equal 2 "$status"
	[[ $output == *"another holder listens there"* ]]
	holder_end KILL
	test -S "$HOLD"
	holder_start
	equal 600 "$(stat -c %a "$HOLD")"
	touch "$WORK/file"
	run t "$FXFS" -f --hold "$WORK/file"
	equal 2 "$status"
	test -f "$WORK/file"
	holder_end
}

@test "the holder refuses what it cannot keep, and serves on" {
	HOLDER_BEFORE='ulimit -n 700' holder_start
	open_files() {
		find "/proc/${HELD_PID[holder]}/fd" -lname /dev/null | wc -l
	}
	local before
	before=$(open_files)
	told() { # ANSWER MESSAGE [PATH...]
		gives "$1" t "$APPS/holdmsg" "$HOLD" "${@:2}"
	}
	told "ERRNO=22 0" "FDSTORE=1\nFDNAME=a" # nothing with it
	told "ERRNO=22 0" "FDSTORE=1" /dev/null
	told "ERRNO=22 0" "FDSTORE=1\nFDNAME=a b" /dev/null
	told "ERRNO=22 0" "FDSTORE=1\nFDNAME=a:b" /dev/null
	told "ERRNO=22 0" "FDSTORE=1\nFDNAME=$(printf '%064d' 0)" /dev/null
	told "ERRNO=22 0" "FDSTORE=1\nFDSTOREREMOVE=1\nFDNAME=a" /dev/null
	told "ERRNO=22 0" "FDSTORE=1\nFDNAME=a" 129*/dev/null
	told "ERRNO=22 0" "X"
	told "ERRNO=2 0" "FDSTOREGET=1\nFDNAME=a"
	told "ERRNO=2 0" "FDSTOREREMOVE=1\nFDNAME=a"
	run t "$APPS/holdmsg" "$HOLD" "FDSTORE=1\nFDNAME=$(printf '%0600d' 0)" 200*/dev/null
	equal 3 "$status" # hung up
	told "FDSTORE=2 0" "FDSTORE=1\nFDNAME=a" 2*/dev/null
	told "FDSTORE=3 0" "FDSTORE=1\nFDNAME=a" 3*/dev/null # instead
	told "LISTEN_FDS=3 3" "FDSTOREGET=1\nFDNAME=a"
	told "ERRNO=23 0" "FDSTORE=1\nFDNAME=b" 120*/dev/null # more than it may have open
	holder_says "a message is refused: Too many open files in system"
	told "FDSTORE=60 0" "FDSTORE=1\nFDNAME=b" 60*/dev/null
	told "FDSTOREREMOVE=1 0" "FDSTOREREMOVE=1\nFDNAME=b"
	told "FDSTOREREMOVE=1 0" "FDSTOREREMOVE=1\nFDNAME=a" 5*/dev/null
	holder_says "a is forgotten: 0 mounts, 0 descriptors are kept"
	equal "$before" "$(open_files)"
}

@test "the holder listens to its own user and to root" {
	HOLD=$WORK/theirs/hold
	install -d -o 1234 "$WORK/theirs"
	chmod 777 "$WORK/theirs"
	holder_start() { :; }
	runas 1234:1234 "$FXFS" -f --hold "$HOLD" >"$WORK/hold.log" 2>&1 3>&- &
	HELD_PID[holder]=$!
	eventually test -S "$HOLD"
	gives "ERRNO=2 0" t "$APPS/holdmsg" "$HOLD" "FDSTOREGET=1\nFDNAME=a"
	chmod 777 "$HOLD"
	run t runas 1235:1235 "$APPS/holdmsg" "$HOLD" "FDSTOREGET=1\nFDNAME=a"
	equal 3 "$status"
	gives "ERRNO=2 0" t runas 1234:1234 "$APPS/holdmsg" "$HOLD" "FDSTOREGET=1\nFDNAME=a"
	holder_says "user 1235 is refused"
}
