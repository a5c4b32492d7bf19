#!/usr/bin/env bats
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The command line: options, operands, exit codes, how a mount looks from outside, how it ends.

# shellcheck disable=SC2030,SC2031,SC2153 # each test is a process of its own, and lib.bash sets FXFS

load lib

# run_fxfs STATUS ARGUMENT...: fxfs ends with this status; what it said is in $output.
run_fxfs() {
	local wanted=$1
	shift
	run t "$FXFS" "$@"
	echo "$output"
	equal "$wanted" "$status"
}

# The names of the options that --help shows, one a line: "-f", "--help", "cache=", "nosuid".
options_in_help() {
	t "$FXFS" --help | sed -n -E \
		-e 's/^  (-[a-z]), (--[a-z]+) .*/\1\n\2/ip' -e 's/^ +(--[a-z]+) .*/\1/p' \
		-e 's/^  -o ([a-z]+=).*/\1/p' -e '/^and those of mount/,/^$/ { /^ / s/ +/\n/gp }' | sed '/^$/d'
}

# The mount options of $MNT as the kernel shows them.
mount_options() {
	findmnt -n -o OPTIONS "${1:-$MNT}"
}

has_option() { # OPTION [MOUNTPOINT]
	[[ ,$(mount_options "${2:-$MNT}"), == *,$1,* ]]
}

# --- what it says ---

@test "help goes to standard output and names every option" {
	run_fxfs 0 --help
	local option
	for option in -f -d -o --status --json --help --version cache= device= state= workers= passthrough=; do
		grep -q -e "$option" <<<"$output"
	done
	[ -z "$(t "$FXFS" --help 2>&1 >/dev/null)" ]
}

@test "the version is one line that begins with the name" {
	run_fxfs 0 --version
	[[ $output =~ ^fxfs\ [0-9]+\.[0-9]+ ]]
	equal 1 "${#lines[@]}"
}

# The man page's words in bold, one a line, with \- as the hyphen it is.
man_page_bold() {
	sed -n 's/\\-/-/g; s/"//g; s/^\.B[RI]\? *//p' "$ROOT/doc/fxfs.1" | sed 's/= .*/=/' | tr -s ', ' '\n'
}

@test "the man page names each option that help lists" {
	local option
	[ "$(options_in_help | wc -l)" -ge 45 ]
	for option in $(options_in_help); do
		man_page_bold | grep -qxF -e "$option" || {
			echo "doc/fxfs.1 says nothing of $option"
			return 1
		}
	done
}

@test "the man page names each key of status" {
	fxfs_mount
	local key
	for key in $(t "$FXFS" --status "$MNT" | cut -d ' ' -f 1); do
		man_page_bold | grep -qxF -e "$key" || {
			echo "doc/fxfs.1 says nothing of $key"
			return 1
		}
	done
}

@test "the man page is well formed" {
	need mandoc
	gives "" mandoc -T lint "$ROOT/doc/fxfs.1"
}

@test "an unknown option is a usage error" {
	run_fxfs 1 --frobnicate "$SRC" "$MNT"
	[[ $output == *frobnicate* ]]
	run_fxfs 1 -Q "$SRC" "$MNT"
}

@test "missing or too many operands are a usage error" {
	run_fxfs 1
	run_fxfs 1 "$SRC"
	run_fxfs 1 "$SRC" "$MNT" "$WORK"
	run_fxfs 1 --status
}

@test "a message says what failed, on what, and why" {
	run_fxfs 32 "$WORK/nowhere" "$MNT"
	[[ $output == "fxfs: "*"$WORK/nowhere"*"No such file or directory" ]]
}

# --- mounting ---

@test "it returns when the mount answers" {
	echo hello >"$SRC/file"
	fxfs_mount
	equal hello "$(t cat "$MNT/file")"
	kill -0 "$MONITOR"
}

@test "the operands may come before the options" {
	fxfs_start "$SRC" "$MNT" -o ro,cache=none
	equal none "$(fxfs_status cache)"
	has_option ro
}

@test "called as mount.fxfs it takes what mount(8) passes" {
	ln -s "$FXFS" "$WORK/mount.fxfs"
	t "$WORK/mount.fxfs" "$SRC" "$MNT" -n -v -o rw,noatime 3>&-
	guard
	has_option noatime
	t umount "$MNT"
	t "$WORK/mount.fxfs" "$SRC" "$MNT" -s -t fuse.fxfs -o defaults 3>&-
	guard
	mountpoint -q "$MNT"
}

@test "mount(8) mounts it from fstab" {
	[ ! -e /sbin/mount.fxfs ] || skip "machine lacks a place for /sbin/mount.fxfs: there is one already"
	ln -s "$FXFS" /sbin/mount.fxfs
	echo "$SRC $MNT fxfs defaults,nofail,_netdev,noauto,x-test.mark=1,nosuid,cache=ttl 0 0" >"$WORK/fstab"
	t mount -T "$WORK/fstab" "$MNT" 3>&-
	guard
	equal "$FSTYPE" "$(findmnt -n -o FSTYPE "$MNT")"
	has_option nosuid
	[[ $(fxfs_status cache) == ttl* ]]
	t umount "$MNT"
	t mount -t fxfs -o ro "$SRC" "$MNT" 3>&-
	guard
	has_option ro
	t umount "$MNT"
}

@test "mount -f only pretends" {
	[ ! -e /sbin/mount.fxfs ] || skip "machine lacks a place for /sbin/mount.fxfs: there is one already"
	ln -s "$FXFS" /sbin/mount.fxfs
	t mount -f -t fxfs "$SRC" "$MNT" 3>&-
	fails mountpoint -q "$MNT"
}

@test "options that only mount(8) and fstab care about are accepted" {
	fxfs_mount -o defaults,_netdev,nofail,noauto,auto,user,users,nouser,owner,group,x-systemd.automount,comment=hello
	mountpoint -q "$MNT"
}

@test "the last of several options wins" {
	fxfs_mount -o cache=always,ro -o cache=none,rw
	equal none "$(fxfs_status cache)"
	has_option rw
	fxfs_unmount
	fxfs_mount -o rw,ro
	has_option ro
}

@test "each cache level and each passthrough mode can be chosen" {
	local mode
	for mode in none ttl ttl=5 always auto; do
		fxfs_mount -o "cache=$mode"
		[ $mode = auto ] || [[ $(fxfs_status cache) == "${mode%%=*}"* ]]
		fxfs_unmount
	done
	for mode in auto on off; do
		fxfs_mount -o "passthrough=$mode,workers=1"
		[ $mode = auto ] || [[ $(fxfs_status passthrough) == "$mode"* ]]
		fxfs_unmount
	done
}

@test "the device can be chosen" {
	fxfs_mount
	equal "$DEVICE" "$(fxfs_status device)"
	fxfs_unmount
	fxfs_mount -o device=fuse
	equal "/dev/fuse fuse.fxfs" "$(fxfs_status device) $(findmnt -n -o FSTYPE "$MNT")"
	fxfs_unmount
	fxfs_mount -o device=fuse,device=auto
	equal "$DEVICE" "$(fxfs_status device)"
	fxfs_unmount
	run_fxfs 1 -o device=cuse "$SRC" "$MNT"
}

@test "without the module its device cannot be had" {
	run t unshare -m sh -c "mount -t tmpfs none /dev && exec '$FXFS' -o device=fxfuse '$SRC' '$MNT'" 3>&-
	equal "32 fxfs: cannot open /dev/fxfuse: No such file or directory" "$status $output"
}

@test "relative paths, blanks and commas in names, and a link to the source work" {
	SRC="$WORK/a source, with commas" MNT="$WORK/a place, with commas"
	mkdir "$SRC" "$MNT"
	echo hello >"$SRC/file"
	cd "$WORK"
	fxfs_start "${SRC##*/}" "${MNT##*/}"
	equal hello "$(t cat "$MNT/file")"
	equal "$SRC" "$(findmnt -n -o SOURCE "$MNT")"
	t umount "$MNT"
	ln -s "$SRC" link
	MNT=$WORK/mnt
	fxfs_start link/ mnt/
	equal hello "$(t cat "$MNT/file")"
}

@test "findmnt shows source and type" {
	fxfs_mount
	equal "$SRC $FSTYPE" "$(findmnt -n -o SOURCE,FSTYPE "$MNT" | tr -s ' ')"
	grep -q "^$SRC $MNT $FSTYPE rw," /proc/self/mounts
}

@test "generic options are in force" {
	fxfs_mount -o ro,nosuid,nodev,noexec,noatime
	local option
	for option in ro nosuid nodev noexec noatime; do has_option $option; done
	run t touch "$MNT/file"
	[[ $output == *"Read-only file system"* ]]
	fxfs_unmount
	fxfs_mount -o nodiratime,sync,dirsync
	has_option nodiratime
}

@test "the flags of the source's own mount are inherited, unless told otherwise" {
	mkdir "$WORK/bound"
	mount --bind "$SRC" "$WORK/bound"
	mount -o remount,bind,ro,nosuid,nodev,noexec "$WORK/bound"
	SRC=$WORK/bound
	fxfs_mount
	local option
	for option in ro nosuid nodev noexec; do has_option $option; done
	fxfs_unmount
	fxfs_mount -o suid,dev,exec
	for option in nosuid nodev noexec; do fails has_option $option; done
	has_option ro
}

@test "it works with a /dev/fuse that somebody else opened and mounted" {
	echo hello >"$SRC/file"
	t "$APPS/mountfd" "$MNT" "$FXFS" "$SRC" 3>&-
	guard
	equal hello "$(t cat "$MNT/file")"
	equal /dev/fuse "$(fxfs_status device)"
	has_option nosuid
	t umount "$MNT"
}

@test "a /dev/fd/N that is no /dev/fuse is refused" {
	run_fxfs 32 "$SRC" /dev/fd/7 7</dev/null
	run_fxfs 32 "$SRC" /dev/fd/199
}

@test "two mounts of one source work side by side" {
	mkdir "$WORK/second"
	fxfs_start "$SRC" "$MNT"
	fxfs_start "$SRC" "$WORK/second"
	t sh -c "echo hello >'$MNT/file'"
	equal hello "$(t cat "$WORK/second/file")"
	fails equal "$(fxfs_status state)" "$(fxfs_status state "$WORK/second")"
}

# --- the process ---

@test "with -f it stays in the foreground, and TERM ends it with status 0" {
	t "$FXFS" -f "$SRC" "$MNT" 3>&- &
	local fxfs=$!
	eventually mountpoint -q "$MNT"
	guard
	eventually t ls "$MNT"
	kill -0 $fxfs
	kill "$(fxfs_status monitor_pid)"
	wait $fxfs
	fails mountpoint -q "$MNT"
}

@test "with -d it says more" {
	t "$FXFS" -f -d "$SRC" "$MNT" 2>"$WORK/messages" 3>&- &
	local fxfs=$!
	eventually mountpoint -q "$MNT"
	guard
	t ls "$MNT"
	t umount "$MNT"
	wait $fxfs
	[ -s "$WORK/messages" ]
}

@test "TERM and INT to the monitor unmount and remove the state file" {
	local signal
	for signal in TERM INT; do
		fxfs_mount
		[ -f "$STATE" ]
		kill -s $signal "$MONITOR"
		eventually gone "$MONITOR"
		fails mountpoint -q "$MNT"
		[ ! -e "$STATE" ]
	done
}

@test "umount ends it and the state file goes away" {
	fxfs_mount
	local server
	server=$(fxfs_status server_pid)
	t umount "$MNT"
	eventually gone "$MONITOR"
	eventually gone "$server"
	[ ! -e "$STATE" ]
}

@test "TERM detaches a busy mount and open files go on" {
	echo hello >"$SRC/file"
	hold file
	fxfs_mount
	ask file ok "open $MNT/file rdwr"
	kill "$MONITOR"
	eventually fails mountpoint -q "$MNT"
	ask file "ok hello" "read 0 5"
	ask file ok "write 0 HELLO"
	equal HELLO "$(cat "$SRC/file")"
	# The server goes on surviving while the file is open.
	ask file ok close
	eventually gone "$MONITOR"
	[ ! -e "$STATE" ]
}

@test "a second TERM aborts a busy mount, also where fusectl is not mounted" {
	echo hello >"$SRC/file"
	# shellcheck disable=SC2016 # for the inner shell
	unshare -m sh -c 'while umount "$3"; do :; done; exec "$0" -f -o state="$4" "$1" "$2"' \
		"$FXFS" "$SRC" "$MNT" "$CONNECTIONS" "$WORK/state" 2>"$WORK/messages" 3>&- &
	local fxfs=$!
	eventually grep -q ': ready$' "$WORK/messages"
	# shellcheck disable=SC2016
	timeout 60 nsenter -t $fxfs -m sh -c 'exec 4<"$0" && echo open >"$1" && exec sleep 60' "$MNT/file" "$WORK/held" 3>&- &
	local holder=$!
	eventually [ -s "$WORK/held" ]
	kill $fxfs
	eventually grep -q 'is busy' "$WORK/messages"
	kill -0 $fxfs
	kill $fxfs
	eventually gone $fxfs
	fails grep 'cannot abort' "$WORK/messages"
	kill $holder
	wait $holder || true
}

@test "a busy mount is not unmounted by umount, and not by accident" {
	touch "$SRC/file"
	hold file
	fxfs_mount
	ask file ok "open $MNT/file rdonly"
	run t umount "$MNT"
	[[ $output == *busy* ]]
	ask file "ok" "read 0 5"
	ask file ok close
	fxfs_unmount
}

@test "it does not need standard input, output and error" {
	t "$FXFS" "$SRC" "$MNT" <&- >&- 2>&- 3>&-
	guard
	echo hello >"$SRC/file"
	equal hello "$(t cat "$MNT/file")"
	kill_server
	equal hello "$(t cat "$MNT/file")"
}

@test "it does not keep its caller's pipe open" {
	# $( ) waits until the last holder of the pipe has closed it.
	equal "" "$(t "$FXFS" "$SRC" "$MNT" 2>&1 3>&- | sed '/a sanitizer makes its own$/d')"
	guard
}

@test "it keeps no other descriptor of its caller" {
	touch "$WORK/open"
	fxfs_mount 9<"$WORK/open"
	fails sh -c "ls -l /proc/$MONITOR/fd | grep -F '$WORK/open'"
}

@test "it keeps no directory busy" {
	mkdir "$WORK/elsewhere"
	mount -t tmpfs none "$WORK/elsewhere"
	(cd "$WORK/elsewhere" && t "$FXFS" "$SRC" "$MNT" 3>&-)
	guard
	umount "$WORK/elsewhere"
}

@test "the umask and the file size limit of its caller are not those of the mount" {
	BEFORE='umask 077; ulimit -S -f 4' fxfs_mount
	t bash -c "umask 022; head -c 100000 /dev/zero >'$MNT/file'"
	equal "644 100000" "$(stat -c '%a %s' "$SRC/file")"
	equal 0 "$(fxfs_status restarts)"
}

# --- what it logs ---

# log_of OPTION...: mounts in the foreground; what it says until it is ready is in $WORK/messages.
log_of() {
	t "$FXFS" -f "$@" "$SRC" "$MNT" 2>"$WORK/messages" 3>&- &
	local fxfs=$!
	eventually grep -q ': ready$' "$WORK/messages"
	guard
	cat "$WORK/messages"
	t umount "$MNT"
	wait $fxfs
}

logged() { # TEXT...
	local text
	for text; do grep -q -F -e "$text" "$WORK/messages"; done
}

@test "at mount it logs what is on, what is off, and why" {
	log_of
	logged "cache=watch: the kernel keeps names and attributes until the source says that they changed" "cache=bpf: off: " \
		"kernel passthrough of file data: o" "file handles" "descriptors of inodes: at most" \
		"workers, requests of up to" "locked in memory" "protocol 7." \
		"mounted rw,allow_other,default_permissions" "device=$DEVICE: " "wake=" "state: /run/fxfs/" "$SRC on $MNT: ready"
	log_of -o "cache=none,passthrough=off,workers=3,wake=plain,ro,noexec,state=$WORK/state"
	logged "cache=none: names and attributes are asked for every time" "passthrough of file data: off: asked for" \
		"3 workers," "wake=plain: asked for" "mounted ro,noexec,allow_other" "state: $WORK/state"
	log_of -o cache=ttl
	logged "cache=ttl: names and attributes are taken to be true for 1 s"
}

@test "a source without file handles is logged as such" {
	mkdir -p "$WORK"/{lower,upper,work,merged}
	mount -t overlay -o "lowerdir=$WORK/lower,upperdir=$WORK/upper,workdir=$WORK/work" none "$WORK/merged" ||
		skip "machine lacks overlayfs here"
	SRC=$WORK/merged
	log_of
	logged "gives no file handles"
	eventually umount "$WORK/merged"
}

@test "a time limit of the kernel's own for requests is warned of" {
	echo 600 >"$WORK/seconds"
	local name
	for name in default max; do
		[ -e /proc/sys/fs/fuse/${name}_request_timeout ] || skip "machine lacks fs.fuse.${name}_request_timeout"
		# in a mount namespace of its own: the setting counts for the whole machine
		# shellcheck disable=SC2016 # for the inner shell
		run t unshare -m bash -c 'mount --bind "$4" "$3" && "$0" "$1" "$2" && umount "$2"' \
			"$FXFS" "$SRC" "$MNT" "/proc/sys/fs/fuse/${name}_request_timeout" "$WORK/seconds" 3>&-
		echo "$output"
		equal 0 "$status"
		[[ $output == "fxfs: fs.fuse.${name}_request_timeout is 600 s: "* ]]
	done
	eventually no_processes
}

# --- status ---

@test "status prints every key, as text and as JSON" {
	fxfs_mount
	local key
	run_fxfs 0 --status "$MNT"
	for key in source mountpoint monitor_pid server_pid restarts uptime_s cache device passthrough inodes nlookup \
		handles in_flight wake state version; do
		grep -q "^$key\b" <<<"$output"
		[ -n "$(fxfs_status $key)" ]
	done
	equal "$SRC" "$(fxfs_status source)"
	equal "$MNT" "$(fxfs_status mountpoint)"
	equal "0 0 0 0" "$(fxfs_status restarts) $(fxfs_status inodes) $(fxfs_status nlookup) $(fxfs_status handles)"
	kill -0 "$(fxfs_status monitor_pid)" "$(fxfs_status server_pid)"
	equal "fxfs $(fxfs_status version)" "$("$FXFS" --version)"
}

@test "the JSON is valid, whatever the names are" {
	perl -MJSON::PP -e1 || skip "machine lacks JSON::PP"
	SRC="$WORK/a\"b\\c
d" MNT="$WORK/m,\"}"
	mkdir "$SRC" "$MNT"
	fxfs_start "$SRC" "$MNT"
	equal "$SRC" "$(t "$FXFS" --status "$MNT" --json |
		perl -MJSON::PP -e 'local $/; print decode_json(<>)->{source}')"
	t umount "$MNT"
}

@test "status counts inodes, look-ups and handles" {
	touch "$SRC"/{a,b,c}
	hold file
	fxfs_mount
	t stat "$MNT"/{a,b,c} >/dev/null
	equal 3 "$(fxfs_status inodes)"
	[ "$(fxfs_status nlookup)" -ge 3 ]
	ask file ok "open $MNT/a rdonly"
	equal 1 "$(fxfs_status handles)"
	ask file ok close
	eventually gives 0 fxfs_status handles
}

@test "status answers while the server does not" {
	fxfs_mount
	local server
	server=$(fxfs_status server_pid)
	kill -STOP "$server"
	equal "$server" "$(TIME=5 fxfs_status server_pid)"
	kill -CONT "$server"
}

@test "status of what is no fxfs mount is an error" {
	run_fxfs 1 --status "$MNT"
	[[ $output == "fxfs: "*"$MNT"* ]]
	run_fxfs 1 --status "$WORK/nowhere"
}

@test "the state file is in /run/fxfs and nobody else's business" {
	fxfs_mount
	[[ $STATE == /run/fxfs/* ]]
	equal "600 0 0" "$(stat -c '%a %u %g' "$STATE")"
	fxfs_unmount
	fxfs_mount -o "state=$WORK/state"
	equal "$WORK/state" "$STATE"
	equal "600" "$(stat -c %a "$WORK/state")"
	fxfs_unmount
	[ ! -e "$WORK/state" ]
}
