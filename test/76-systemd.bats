#!/usr/bin/env bats
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What `make install` puts in place, under a real systemd: it is process 1 of a small machine, made of namespaces and a root
# file system in memory, with this machine's /usr (read-only). Mounts on $MNT and below it are seen here too.

# shellcheck disable=SC2030,SC2031,SC2153 # each test is a process of its own, and lib.bash sets FXFS

load lib

eval "$(declare -f setup | sed '1s/setup/lib_setup/')"
eval "$(declare -f teardown | sed '1s/teardown/lib_teardown/')"

SYSTEMD=/usr/lib/systemd/systemd
declare -gA HELD_PID

setup() {
	lib_setup
	UNSHARE='' MACHINE='' APP='' AT=$MNT
	[ -x $SYSTEMD ] || skip "machine lacks systemd"
	mount --bind "$MNT" "$MNT"
	mount --make-private "$MNT"
	mount --make-shared "$MNT"
	mkdir "$WORK/root" "$WORK/etc" "$WORK/cgroup"
	mount -t cgroup2 cgroup2 "$WORK/cgroup" || skip "machine lacks control groups, version 2"
	CGROUP=$WORK/cgroup/fxfs-test-${WORK##*.}
	env -u MAKEFLAGS -u MAKELEVEL make -s -C "$ROOT" -o all install BIN="$FXFS" DESTDIR="$WORK/install" 3>&-
	machine_boot
}

# Ends the machine, and complains if it does not end by itself, or if a control group stays.
teardown() {
	local left=0
	kill ${APP:+"$APP"} 2>/dev/null || true
	if [ -n "$UNSHARE" ]; then
		kill -s RTMIN+4 "$MACHINE" 2>/dev/null || true
		eventually gone "$UNSHARE" || {
			left=1
			kill -KILL "$UNSHARE" "$MACHINE"
			eventually gone "$MACHINE"
		}
		cat "$WORK/machine.log"
		eventually rmdir_all "$CGROUP" || left=1
	fi
	lib_teardown || left=1
	return $left
}

rmdir_all() { # DIRECTORY
	find "$1" -depth -type d -exec rmdir {} +
}

# --- the machine ---

# In namespaces of its own: makes the root file system and becomes systemd.
machine_main() { # WORK MNT
	local root=$1/root name
	set -e
	# pivot_root(2) wants it so. Nothing of all this is to be seen outside, where mounts are shared
	mount --make-private "$(findmnt -n -o TARGET -T "$1")"
	mount -t tmpfs -o mode=755 root "$root"
	cd "$root"
	mkdir sbin usr etc proc sys dev run tmp var root old srv mnt
	for name in bin lib lib32 lib64; do ln -s usr/$name $name; done
	ln -s /run var/run
	mount --bind --make-private /usr usr
	mount -o remount,bind,ro usr
	mount --bind "$1/install/usr/local" usr/local
	mount --bind "$1/install/usr/sbin" sbin # mount.fxfs
	mount --bind "$1/etc" etc
	mount -t proc proc proc
	mount --bind proc/sys proc/sys
	mount -o remount,bind,ro proc/sys
	mount -t sysfs -o ro sysfs sys
	mount -t cgroup2 cgroup2 sys/fs/cgroup
	mount -t tmpfs -o mode=755 run run
	mount -t tmpfs -o mode=755 dev dev
	mkdir dev/shm dev/pts
	for name in null zero full random urandom tty fuse autofs; do
		[ ! -c /dev/$name ] || cp -a /dev/$name dev
	done
	mkdir -p "$root$1" "$root$2"
	mount --bind --make-private "$1" "$root$1"
	mount --bind "$2" "$root$2" # shared with the one outside
	pivot_root . old
	mount --make-rslave /old
	umount -l /old
	exec env -i container=fxfs-test PATH=/usr/local/bin:/usr/sbin:/usr/bin setsid $SYSTEMD --unit=test.target
}

machine_boot() {
	mkdir -p "$WORK/etc/systemd/system" "$WORK/etc/fxfs"
	echo root:x:0:0::/root:/bin/sh >"$WORK/etc/passwd"
	echo root:x:0: >"$WORK/etc/group"
	: >"$WORK/etc/machine-id"
	printf '[Unit]\nWants=systemd-journald.service\n' >"$WORK/etc/systemd/system/test.target"
	printf 'SOURCE=%s\nMOUNTPOINT=%s\n' "$SRC" "$MNT" >"$WORK/etc/fxfs/data.conf"
	mkdir "$CGROUP"
	export SYSTEMD
	export -f machine_main
	# shellcheck disable=SC2016 # for the inner shell
	bash -c 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"' bash "$CGROUP" unshare --mount --propagation unchanged --pid \
		--cgroup --uts --ipc --net --fork --kill-child bash -c 'machine_main "$@"' bash "$WORK" "$MNT" \
		>"$WORK/machine.log" 2>&1 </dev/null 3>&- &
	UNSHARE=$!
	eventually machine_runs
}

machine_runs() {
	MACHINE=$(pgrep -P "$UNSHARE")
	[[ $(in_machine systemctl is-system-running) == @(running|degraded) ]]
}

in_machine() { # COMMAND...
	t nsenter -t "$MACHINE" -m -u -i -n -p -C "$@" 3>&-
}

# --- the service ---

status() { # KEY
	in_machine fxfs --status "$AT" --json | sed -n 's/.*"'"$1"'" *: *"\{0,1\}\([^",}]*\).*/\1/p'
}

service() { # PROPERTY [UNIT]
	in_machine systemctl show -P "$1" "${2:-fxfs@data}"
}

service_is() { # "STATE RESULT"
	equal "$1" "$(service ActiveState) $(service Result)"
}

journal() { # [UNIT]
	in_machine journalctl --no-pager -o cat -u "${1:-fxfs@data}"
}

start() {
	in_machine systemctl start fxfs@data || {
		journal
		return 1
	}
	guard
}

healthy() {
	TIME=20 t "$FXFS" --health "$AT"
}

unmounted() {
	fails grep -q " $AT .* - fuse" /proc/self/mountinfo
}

killed() {
	in_machine systemctl kill -s KILL fxfs@data
	eventually other_main "$1"
}

other_main() {
	local pid
	pid=$(service MainPID)
	[ "$pid" != 0 ] && [ "$pid" != "$1" ] && healthy
}

# Kills a process of the service, by its number in the machine.
kill_in() { # PID
	in_machine kill -KILL "$1"
}

# A strict application, from here on; and its end.
app_start() {
	mkdir "$SRC/strict"
	"$APPS/strict" "$MNT/strict" 1000 >"$WORK/strict" 2>&1 3>&- &
	APP=$!
}

app_end() {
	kill "$APP"
	wait "$APP" || {
		cat "$WORK/strict"
		return 1
	}
	tell "$(tail -n 1 "$WORK/strict")"
	grep -q '^operations [1-9][0-9]* wrong 0 ' "$WORK/strict"
}

@test "systemd finds nothing wrong with the units" {
	local unit
	for unit in fxfs@data fxfs-hold; do
		run in_machine systemd-analyze verify --man=no $unit.service
		echo "$output"
		equal "0 " "$status $output"
	done
}

@test "applications see no error when the service is restarted, reloaded and killed; stopped, it unmounts" {
	echo hello >"$SRC/file"
	start
	equal "active notify" "$(service ActiveState) $(service Type)"
	equal "on registers" "$(status contain) $(status witness)"
	hold file
	ask file ok "open $MNT/file rdwr"
	ask file ok "lock flock ex"
	app_start
	for _ in 1 2 3; do
		in_machine systemctl restart fxfs@data
		ask file "ok hello" "read 0 5"
	done
	for _ in 4 5 6; do
		killed "$(service MainPID)"
		ask file "ok hello" "read 0 5"
	done
	in_machine systemctl daemon-reexec
	killed "$(service MainPID)"
	equal "7 0 0" "$(status handovers) $(status lost_handles) $(status lost_locks)"
	in_machine systemctl reload fxfs@data
	equal 1 "$(status upgrades)"
	app_end
	ask file "ok hello" "read 0 5"
	release file
	in_machine systemctl stop fxfs@data
	service_is "inactive success"
	unmounted
	gives '' in_machine find /run/fxfs -type f
}

@test "the death of the monitor, or of the server, is no end of the service" {
	start
	app_start
	local main invocation
	invocation=$(service InvocationID)
	for _ in 1 2 3; do
		main=$(service MainPID)
		equal "$main" "$(status monitor_pid)"
		kill_in "$main"
		eventually other_main "$main"
		kill_in "$(status server_pid)"
		healthy
	done
	equal "active 0 $invocation" "$(service ActiveState) $(service NRestarts) $(service InvocationID)"
	equal 0 "$(status handovers)"
	app_end
	in_machine systemctl stop fxfs@data
	unmounted
}

@test "a restart waits for nobody, while SOURCE is being changed" {
	start
	app_start
	bash -c 'cd "$1" && mkdir direct && while :; do echo >direct/a; mv direct/a direct/b; rm direct/b; done' bash "$SRC" \
		>/dev/null 2>&1 3>&- &
	HELD_PID[changes]=$! # teardown ends it
	bash -c 'while :; do ls "$1/direct" "$1/strict"; mkdir "$1/direct/d"; rmdir "$1/direct/d"; done' bash "$MNT" \
		>/dev/null 2>&1 3>&- &
	HELD_PID[reader]=$!
	for _ in {1..12}; do
		sleep 0.$((RANDOM % 5))
		TIME=15 in_machine systemctl restart fxfs@data
	done
	equal "12 0" "$(status handovers) $(status lost_handles)"
	kill "${HELD_PID[changes]}" "${HELD_PID[reader]}"
	app_end
	journal | grep -q "cache=watch: off: a service"
}

@test "a mount in use that is stopped goes on for who has it open, out of sight" {
	echo hello >"$SRC/file"
	start
	hold file
	ask file ok "open $MNT/file rdwr"
	in_machine systemctl stop --no-block fxfs@data
	eventually unmounted
	ask file "ok hello" "read 0 5"
	equal deactivating "$(service ActiveState)"
	release file
	eventually service_is "inactive success"
}

@test "what was killed and stopped before it was started again can be started" {
	start
	in_machine systemctl kill -s KILL fxfs@data
	in_machine systemctl stop fxfs@data
	start
	healthy
	equal 1 "$(mounts | grep -c fuse)"
}

@test "umount(8) ends the service" {
	start
	t umount "$MNT"
	eventually service_is "inactive success"
}

# refused NAME TEXT: it cannot be started, has failed and is not tried again, and the journal has this.
refused() {
	fails in_machine systemctl start "fxfs@$1"
	sleep 0.5
	equal "failed 0" "$(service ActiveState "fxfs@$1") $(service NRestarts "fxfs@$1")"
	journal "fxfs@$1" | tee "$WORK/journal"
	grep -qF "$2" "$WORK/journal"
}

@test "what is wrong in the configuration is said in the journal, and the service has failed" {
	printf 'SOURCE=/nowhere\nMOUNTPOINT=%s\n' "$MNT" >"$WORK/etc/fxfs/source.conf"
	refused source "fxfs: cannot open source /nowhere: No such file or directory"
	printf 'SOURCE=%s\n' "$SRC" >"$WORK/etc/fxfs/mountpoint.conf"
	refused mountpoint "fxfs: cannot use mountpoint : No such file or directory"
	printf 'SOURCE=%s\nMOUNTPOINT=%s\nOPTIONS=frobnicate\n' "$SRC" "$MNT" >"$WORK/etc/fxfs/options.conf"
	refused options "fxfs: unknown option -o frobnicate"
	run in_machine systemctl start fxfs@nothing
	echo "$output"
	[[ $output == *"Assertion failed"* ]]
	unmounted
}

@test "the service may do what the mount needs, and has the capabilities that fxfs keeps" {
	local kept
	start
	touch "$MNT/file"
	t chmod 6755 "$MNT/file"
	gives 6755 stat -c %a "$SRC/file"
	t mknod "$MNT/block" b 7 99
	t mknod "$MNT/char" c 1 3
	t setfattr -n trusted.name -v value "$MNT/file"
	in_machine systemctl stop fxfs@data
	in_machine fxfs "$SRC" "$MNT"
	kept=$(in_machine grep CapBnd "/proc/$(status monitor_pid)/status")
	in_machine umount "$MNT"
	echo OPTIONS=contain=off >>"$WORK/etc/fxfs/data.conf"
	start
	gives "$kept" in_machine grep CapBnd "/proc/$(service MainPID)/status"
}

@test "a holder that is a service keeps mounts of others" {
	echo hello >"$SRC/file"
	in_machine systemctl start fxfs-hold
	in_machine fxfs -o hold=/run/fxfs-hold/socket,cache=ttl "$SRC" "$MNT"
	guard
	[[ $(status hold) == yes* ]]
	hold file
	ask file ok "open $MNT/file rdwr"
	local server
	server=$(status server_pid)
	in_machine kill -STOP "$server"
	in_machine kill -KILL "$(status monitor_pid)" "$server"
	in_machine fxfs -o hold=/run/fxfs-hold/socket,cache=ttl "$SRC" "$MNT"
	ask file "ok hello" "read 0 5"
	equal 1 "$(status handovers)"
	in_machine systemctl restart fxfs-hold
	eventually holder_has_it
	release file
	in_machine umount "$MNT"
}

holder_has_it() {
	[[ $(status hold) == yes* ]]
}

# --- the README ---

# follow HEADING: does what the README has below it, line by line.
follow() {
	awk -v heading="**$1" 'index($0, "**") == 1 { on = index($0, heading) == 1 }
		on && /^    [a-z]/ { print substr($0, 5); print "sleep 0.5" }' "$ROOT/README.md" >"$WORK/lines"
	in_machine bash -ex "$WORK/lines" >"$WORK/out" 2>&1 || {
		cat "$WORK/out"
		return 1
	}
	cat "$WORK/out"
}

said() { # REGULAR-EXPRESSION
	grep -q -e "$1" "$WORK/out"
}

@test "a host and a service are as the README has it" {
	[ -x /usr/sbin/automount ] && [ -c /dev/autofs ] || skip "machine lacks autofs"
	rm "$WORK/etc/fxfs/data.conf"
	mkdir "$WORK/etc/auto.master.d"
	echo +dir:/etc/auto.master.d >"$WORK/etc/auto.master" # as Debian has it
	echo automount: files >"$WORK/etc/nsswitch.conf"
	in_machine mkdir -p /srv/data
	in_machine touch /srv/data/hello
	follow "On a host"
	said "^healthy: /mnt answered"
	said "^restarts  *0"
	said "^hello"
	fails in_machine mountpoint -q /mnt
	follow "As a service"
	said 'Status: "serving"'
	said "^handovers  *2"
	equal "inactive success enabled" "$(service ActiveState) $(service Result) $(service UnitFileState)"
	fails in_machine mountpoint -q /mnt
}

# --- fstab, automounter ---

@test "mounts of fstab: at boot, when they are wanted, and taken off again" {
	[ -c /dev/autofs ] || skip "machine lacks /dev/autofs"
	local unit
	AT=$MNT/fs # something is mounted on $MNT
	mkdir "$AT"
	unit=$(in_machine systemd-escape -p --suffix=mount "$AT")
	echo hello >"$SRC/file"
	echo "$SRC $AT fxfs defaults,nofail 0 0" >"$WORK/etc/fstab"
	in_machine systemctl daemon-reload
	in_machine systemctl restart local-fs.target
	guard
	eventually healthy
	equal active "$(service ActiveState "$unit")"
	kill_in "$(status monitor_pid)"
	healthy
	in_machine systemctl stop "$unit"
	unmounted
	in_machine mount -a
	healthy
	in_machine umount -a -t fuse.fxfs
	unmounted
	echo "$SRC $AT fxfs noauto,x-systemd.automount,x-systemd.idle-timeout=1,cache=ttl=5 0 0" >"$WORK/etc/fstab"
	in_machine systemctl daemon-reload
	in_machine systemctl start "${unit%.mount}.automount"
	unmounted
	gives hello in_machine cat "$AT/file"
	healthy
	eventually unmounted
	gives hello in_machine cat "$AT/file"
	in_machine systemctl stop "${unit%.mount}.automount"
	eventually unmounted
}

@test "an automounter mounts it, and takes it off when nobody uses it" {
	[ -x /usr/sbin/automount ] && [ -c /dev/autofs ] || skip "machine lacks autofs"
	AT=$MNT/auto/data
	echo hello >"$SRC/file"
	echo "$MNT/auto /etc/auto.fxfs --timeout=1" >"$WORK/etc/auto.master"
	echo "automount: files" >"$WORK/etc/nsswitch.conf"
	echo "data -fstype=fxfs,cache=ttl=5 :$SRC" >"$WORK/etc/auto.fxfs"
	in_machine systemctl start autofs
	for _ in 1 2; do
		gives hello in_machine cat "$AT/file"
		guard
		equal ttl=5 "$(status cache)"
		eventually unmounted
	done
	for _ in {1..5}; do
		gives hello in_machine cat "$AT/file"
		in_machine systemctl reset-failed autofs # so often it is not meant to be restarted
		TIME=10 in_machine systemctl restart autofs
	done
	in_machine systemctl stop autofs
	unmounted
}
