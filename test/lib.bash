# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
#
# What the bats files share: a SOURCE and a MOUNTPOINT per test, mounting and unmounting, the server's
# death, and a teardown that leaves nothing behind and says so when something was.
#
# A file system that is being tested may hang whoever touches it. So every command on a mount runs under `t`
# (a time limit), and a guard beside each mount aborts its connection when the whole test takes too long: then
# even a process in an uninterruptible wait gets its error and ends.
#
# Environment: FXFS, the binary (./fxfs); FXFS_APPS, the compiled test/app (./build/app);
# FXFS_TEST_OPTIONS, mount options added to every fxfs_mount.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
FXFS=$(realpath -m "${FXFS:-$ROOT/fxfs}")
APPS=$(realpath -m "${FXFS_APPS:-$ROOT/${O:-build}/app}")
GUARD_SECONDS=${GUARD_SECONDS:-200} # a test may set it before it mounts
PATH=$ROOT/test/bin:$PATH # runas
SLOW=${FXFS_SANITIZER:+5} # sanitizers take that many times as long
# What mounts are made with, unless told otherwise: the module's device where it is loaded.
DEVICE=/dev/fuse FSTYPE=fuse.fxfs CONNECTIONS=/sys/fs/fuse/connections
# shellcheck disable=SC2034 # DEVICE is for the bats files
[ ! -c /dev/fxfuse ] || DEVICE=/dev/fxfuse FSTYPE=fxfuse.fxfs CONNECTIONS=/sys/fs/fxfuse/connections

# --- for every command -------------------------------------------------------------------------------------

# Runs a command with a time limit: TIME seconds, 60 by default.
t() {
	timeout -k 5 $((${TIME:-60} * ${SLOW:-1})) "$@"
}

# Skips the test unless these commands are installed.
need() {
	local command
	for command; do
		command -v "$command" >/dev/null || skip "machine lacks $command"
	done
}

# Turns failure into success: bats takes no notice of `! command`.
fails() {
	! "$@"
}

# Waits until a command succeeds, up to 10 seconds; with a sanitizer longer, as t does.
eventually() {
	local n seconds=$((10 * ${SLOW:-1}))
	for ((n = 0; n < 20 * seconds; n++)); do
		if "$@" >/dev/null 2>&1; then return 0; fi # 0: without it, in a trap (teardown), it is what failed before
		sleep 0.05
	done
	echo "still not after $seconds seconds: $*" >&2
	"$@"
}

# Fails, with both, unless the two texts are equal.
equal() { # WANTED GOT
	[ "$1" = "$2" ] && return 0
	printf 'wanted: %s\ngot:    %s\n' "$1" "$2" >&2
	return 1
}

# Fails unless a command prints this: gives WANTED COMMAND...
gives() {
	equal "$1" "$("${@:2}")"
}

# --- the mount ---------------------------------------------------------------------------------------------

# fxfs_start ARGUMENT...: runs fxfs with a time limit and a guard beside it. Its messages are in $WORK/messages.
# BEFORE is shell code that it starts under, for example a ulimit.
fxfs_start() {
	local result=0
	TIME=30 t bash -c "${BEFORE:-:}"'; exec "$@"' bash "$FXFS" "$@" >"$WORK/messages" 2>&1 3>&- || result=$?
	cat "$WORK/messages"
	guard
	return $result
}

# fxfs_mount [OPTION...]: mounts $SRC at $MNT. Sets MONITOR, STATE and STATE_ID.
fxfs_mount() {
	fxfs_start ${FXFS_TEST_OPTIONS:+-o "$FXFS_TEST_OPTIONS"} "$@" "$SRC" "$MNT" || return
	MONITOR=$(fxfs_status monitor_pid)
	STATE=$(fxfs_status state)
	STATE_ID=$(file_id "$STATE")
}

# The same in the foreground: what it says is in $WORK/log.
fxfs_mount_logged() { # [OPTION...]
	bash -c "${BEFORE:-:}"'; exec "$@"' bash "$FXFS" -f ${FXFS_TEST_OPTIONS:+-o "$FXFS_TEST_OPTIONS"} "$@" "$SRC" "$MNT" \
		>"$WORK/log" 2>&1 3>&- &
	disown $! # bash need not tell that it was killed
	eventually serves || return
	guard
	MONITOR=$(fxfs_status monitor_pid)
	STATE=$(fxfs_status state)
	STATE_ID=$(file_id "$STATE")
}

# True when the log says so: a regular expression.
logged() {
	grep -q -e "$1" "$WORK/log" || {
		echo "the log does not say: $1" >&2
		cat "$WORK/log" >&2
		return 1
	}
}

# Unmounts $MNT and waits until the monitor is gone.
fxfs_unmount() {
	t umount "$MNT" && eventually gone "$MONITOR"
}

# fxfs_status KEY [MOUNTPOINT]: one value of `fxfs --status`.
fxfs_status() {
	TIME=10 t "$FXFS" --status "${2:-$MNT}" --json |
		sed -n 's/.*"'"$1"'" *: *"\{0,1\}\([^",}]*\).*/\1/p' | head -n 1
}

# True when no process has this id (or only a zombie that others have to reap).
gone() {
	local state
	state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null) || return 0
	[ -z "$state" ] || [ "$state" = Z ]
}

# True when a server other than $1 serves $MNT.
other_server() {
	local pid
	pid=$(fxfs_status server_pid)
	[ -n "$pid" ] && [ "$pid" != 0 ] && [ "$pid" != "$1" ] && ! gone "$pid"
}

nothing_known() {
	echo 2 >/proc/sys/vm/drop_caches
	equal "0 0" "$(fxfs_status inodes) $(fxfs_status nlookup)"
}

# Has the kernel forget all it knows of $MNT, and makes sure that the server then knows nothing either.
forgotten() {
	eventually nothing_known
}

# How many descriptors the monitor and its servers have open.
descriptors() {
	find "/proc/$MONITOR/fd" -type l | wc -l
}

# kill_server [SIGNAL]: kills the server and waits for the next.
kill_server() {
	local pid
	pid=$(fxfs_status server_pid)
	kill -s "${1:-KILL}" "$pid" && eventually other_server "$pid"
}

# True when a monitor other than $1 looks after $MNT, and the mount is served.
other_monitor() {
	MONITOR=$(fxfs_status monitor_pid)
	[ -n "$MONITOR" ] && [ "$MONITOR" != "$1" ] && ! gone "$MONITOR" && serves
}

serves() {
	equal serving "$(fxfs_status phase)"
}

# kill_monitor: kills the monitor and waits until another has taken over. Sets MONITOR.
kill_monitor() {
	local pid
	pid=$(fxfs_status monitor_pid)
	kill -KILL "$pid" && eventually other_monitor "$pid"
}

# Kills the server at random from now on, until killing_ends: kill_often MIN_MS MAX_MS [SIGNAL...]
kill_often() {
	"$APPS/killer" "$FXFS" "$MNT" "$@" >"$WORK/kills" 2>"$WORK/kills.errors" 3>&- &
	KILLER=$!
}

# Prints how often the server died, and makes sure that it did: killing_ends [AT_LEAST]
killing_ends() {
	local kills
	kill "$KILLER" && wait "$KILLER"
	KILLER=
	cat "$WORK/kills" "$WORK/kills.errors"
	kills=$(sed -n 's/^kills \([0-9]*\).*/\1/p' "$WORK/kills")
	[ "${kills:-0}" -ge "${1:-1}" ] || {
		echo "the server was killed only ${kills:-0} times" >&2
		return 1
	}
}

# Prints to the terminal, whether the test passes or not.
tell() {
	echo "# $*" >&3
}

# --- the same on the source and through the mount -------------------------------------------------------

# What can be told of a tree without opening its files, in a fixed order.
tree() { # DIR
	(cd "$1" && find . -printf '%p %y %m %U %G %n %s %l\n' | sort)
}

# Runs a script in a directory; what it prints and its exit status go to FILE: run_in DIR SCRIPT FILE
run_in() {
	local status=0
	# shellcheck disable=SC2016 # for the inner shell
	t bash -c 'cd "$1" && eval "$2"' bash "$1" "$2" >"$3" 2>&1 </dev/null || status=$?
	echo "exit status $status" >>"$3"
}

# both SCRIPT: runs the script in a new directory of SOURCE, and in another one through the mount: it must print the
# same and leave the same behind.
both() {
	BOTH=$((${BOTH:-0} + 1))
	local plain=plain.$BOTH mount=mount.$BOTH
	mkdir -m 777 "$SRC/$plain" "$SRC/$mount"
	run_in "$SRC/$plain" "$1" "$WORK/plain.out"
	run_in "$MNT/$mount" "$1" "$WORK/mount.out"
	cat "$WORK/plain.out"
	diff "$WORK/plain.out" "$WORK/mount.out" || return
	tree "$SRC/$plain" >"$WORK/plain.out"
	tree "$SRC/$mount" >"$WORK/mount.out"
	diff "$WORK/plain.out" "$WORK/mount.out"
}

# --- files that stay open ----------------------------------------------------------------------------------

declare -gA HELD_PID HELD_IN HELD_OUT

# hold NAME: starts a test/app/filesh to talk to.
hold() {
	local in out
	mkfifo "$WORK/$1.in" "$WORK/$1.out"
	exec {in}<>"$WORK/$1.in" {out}<>"$WORK/$1.out"
	"$APPS/filesh" <"$WORK/$1.in" >"$WORK/$1.out" 3>&- &
	HELD_PID[$1]=$! HELD_IN[$1]=$in HELD_OUT[$1]=$out
}

# list_on NAME N: up to N names of the directory that NAME has open, from where it is, go to what it has listed so far.
list_on() {
	say "$1" "list $2"
	answer "$1" | cut -d ' ' -f 2- | tr ' ' '\n' >>"$WORK/names"
}

# True if that is each name of a directory, once: listed_all DIR
listed_all() {
	# shellcheck disable=SC2012 # no strange names here
	diff <(ls -a "$1" | sort) <(sort "$WORK/names")
}

# Ends it, and with it all its locks and mappings.
release() { # NAME
	local in=${HELD_IN[$1]} out=${HELD_OUT[$1]}
	kill "${HELD_PID[$1]}" && eventually gone "${HELD_PID[$1]}"
	exec {in}>&- {out}>&-
	unset "HELD_PID[$1]"
	rm "$WORK/$1.in" "$WORK/$1.out"
}

# say NAME COMMAND...: sends a command and does not wait for the answer.
say() {
	local name=$1
	shift
	echo "$*" >&"${HELD_IN[$name]}"
}

# answer NAME WANTED: reads the answer to a command and makes sure that it is this. Without WANTED, prints it.
answer() {
	local line
	read -r -t 30 -u "${HELD_OUT[$1]}" line || {
		echo "$1 does not answer" >&2
		return 1
	}
	if [ $# -gt 1 ]; then equal "$2" "$line"; else echo "$line"; fi
}

# ask NAME WANTED COMMAND...: sends a command and checks the answer.
ask() {
	local name=$1 wanted=$2
	shift 2
	say "$name" "$@"
	answer "$name" "$wanted" || {
		echo "$name: $*" >&2
		return 1
	}
}

# True when NAME has answered nothing for a while: it is blocked.
silent() {
	! read -r -t 0.5 -u "${HELD_OUT[$1]}"
}

# --- before and after each test ----------------------------------------------------------------------------

setup() {
	ulimit -S -c 0 # a core dump would take longer than the whole restart
	umask 022
	WORK=$(mktemp -d "${TMPDIR:-/tmp}/fxfs-test.XXXXXX")
	chmod 755 "$WORK"
	SRC=$WORK/src MNT=$WORK/mnt
	mkdir "$SRC" "$MNT"
	GUARD='' KILLER='' MONITOR='' STATE='' STATE_ID=''
}

# The mounts below $WORK, the last one first: "MINOR TYPE PATH" each, as the kernel writes them.
mounts() {
	awk -v work="$WORK" 'index($5, work) == 1 {
		split($3, device, ":")
		for (i = 7; $i != "-"; i++)
			;
		print device[2], $(i + 1), $5
	}' /proc/self/mountinfo | tac
}

# Ends the connections of these fuse mounts: everything that waits in them gets an error.
abort_connections() { # MINOR...
	local minor
	mountpoint -q $CONNECTIONS || mount -t "${FSTYPE%.fxfs}ctl" fusectl $CONNECTIONS || return
	for minor; do
		[ ! -e "$CONNECTIONS/$minor/abort" ] || echo 1 >"$CONNECTIONS/$minor/abort"
	done
}

# Watches over what this test mounts: one guard per test, started anew with each mount.
guard() {
	local minors
	kill ${GUARD:+"$GUARD"} 2>/dev/null || true
	(
		trap 'kill "$sleep"; exit' TERM
		sleep "$GUARD_SECONDS" &
		sleep=$!
		wait "$sleep"
		# Now, not before: a number may be another mount's by then, and not of this test.
		mapfile -t minors < <(mounts | awk '$2 ~ /^(fx)?fuse/ { print $1 }')
		abort_connections "${minors[@]}"
	) </dev/null >/dev/null 2>&1 3>&- &
	GUARD=$!
	disown "$GUARD"
}

# The processes whose command line names a path below $WORK.
processes() {
	local pid
	grep -lFs -f <(echo "$WORK") /proc/[0-9]*/cmdline | while IFS=/ read -r _ _ pid _; do
		gone "$pid" || echo "$pid"
	done
}

no_processes() {
	[ -z "$(processes)" ]
}

# A file, whatever its name: a state's name goes to the next mount with the number, which may be somebody else's, and so
# may its inode number.
file_id() {
	stat -c %d:%i:%w "$1" 2>/dev/null
}

# The state files of the mounts that are there now: "ID PATH" each.
state_files() {
	local minor type path state
	mounts | while read -r minor type path; do
		if [[ $type == @(fuse|fxfuse)* ]]; then
			state=$(fxfs_status state "$(printf '%b' "$path")")
			echo "$(file_id "$state") $state"
		fi
	done
	[ -z "$STATE" ] || echo "$STATE_ID $STATE"
}

# Unmounts all, ends all, and complains about whatever did not end by itself after the unmount.
teardown() {
	local left='' minor type path pid state states
	for pid in $KILLER "${HELD_PID[@]}"; do
		! kill "$pid" 2>/dev/null || eventually gone "$pid"
	done
	mapfile -t states < <(state_files 2>/dev/null)
	while read -r minor type path; do
		path=$(printf '%b' "$path")
		# the server lets go of its source a moment after its own mount is gone
		eventually timeout 10 umount "$path" 2>/dev/null || {
			left+=" mount $path;"
			[[ $type != @(fuse|fxfuse)* ]] || abort_connections "$minor"
			umount -l "$path" || true
		}
	done < <(mounts | grep -E ' (fx)?fuse' || true; mounts | grep -vE ' (fx)?fuse' || true) # a server keeps what is below its source busy
	eventually no_processes || for pid in $(processes); do
		left+=" process $pid ($(tr '\0' ' ' <"/proc/$pid/cmdline"));"
		kill -KILL "$pid" || true
	done
	for path in "${states[@]}"; do
		[ -z "${path%% *}" ] || [ "$(file_id "${path#* }")" != "${path%% *}" ] || {
			path=${path#* }
			left+=" state file $path;"
			rm "$path"
		}
	done
	[[ $(readlink /sbin/mount.fxfs) != "$FXFS" ]] || rm /sbin/mount.fxfs
	kill ${GUARD:+"$GUARD"} 2>/dev/null || true
	chattr -R -f -i -a "$WORK" || true
	rm -rf --one-file-system "$WORK"
	[ -z "$left" ] || {
		echo "left behind:$left" >&2
		return 1
	}
}
