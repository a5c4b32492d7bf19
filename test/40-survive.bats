#!/usr/bin/env bats
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The server is killed, at random and at chosen moments: applications see a pause and no error.
# shellcheck disable=SC2030,SC2031,SC2153 # each test is a process of its own, and lib.bash sets FXFS

load lib

MIB=$((1 << 20))

# A tree with some of everything: 40 directories, 4000 files, links.
some_tree() {
	perl -e 'for my $d (1 .. 40) { mkdir "$ARGV[0]/$d" or die;
		symlink("../$d/1", "$ARGV[0]/$d/link") or die;
		for my $f (1 .. 100) { open my $h, ">", "$ARGV[0]/$d/$f" or die; print $h "$d/$f\n" x ($f * 10) } }' "$SRC"
}

# during SECONDS COMMAND...: repeats a command for that long; each time it has to succeed.
during() {
	local end=$((SECONDS + $1)) rounds=0
	shift
	while [ $SECONDS -lt $end ]; do
		"$@" || return
		rounds=$((rounds + 1))
	done
	tell "$rounds times $*"
}

same_names() {
	t find "$MNT" -printf '%P %i %s %m %n %T@ %l\n' | sort | diff "$WORK/wanted" - || return
	echo 2 >/proc/sys/vm/drop_caches
}

same_archive() {
	equal "$(cat "$WORK/wanted")" "$(t tar -C "$MNT" --sort=name --numeric-owner -c . | sha256sum)" || return
	echo 3 >/proc/sys/vm/drop_caches
}

# --- killed at random ---

@test "a 200 MiB file is read in 4096-byte O_DIRECT reads while the server is killed, every byte right" {
	"$APPS/directwrite" "$SRC/file" 1 $((200 * MIB))
	local mode
	for mode in off auto; do
		fxfs_mount -o passthrough=$mode
		kill_often 5 50
		TIME=150 t "$APPS/directread" "$MNT/file" 1
		killing_ends 5
		tell "passthrough=$mode: $(cat "$WORK/kills")"
		fxfs_unmount
	done
}

@test "a 200 MiB file is overwritten in 4096-byte O_DIRECT writes while the server is killed, every byte right" {
	"$APPS/directwrite" "$SRC/file" 1 $((200 * MIB))
	local mode seed=1
	for mode in off auto; do
		seed=$((seed + 1))
		fxfs_mount -o passthrough=$mode
		kill_often 5 50
		TIME=150 t "$APPS/directwrite" "$MNT/file" $seed $((200 * MIB))
		killing_ends 5
		tell "passthrough=$mode: $(cat "$WORK/kills")"
		fxfs_unmount
		"$APPS/directread" "$SRC/file" $seed
	done
}

@test "find sees the same tree each time" {
	some_tree
	find "$SRC" -printf '%P %i %s %m %n %T@ %l\n' | sort >"$WORK/wanted"
	fxfs_mount
	kill_often 5 50
	during 8 same_names
	killing_ends 20
}

@test "tar reads the same content each time" {
	some_tree
	tar -C "$SRC" --sort=name --numeric-owner -c . | sha256sum >"$WORK/wanted"
	local mode
	for mode in off auto; do
		fxfs_mount -o passthrough=$mode
		kill_often 5 50
		during 6 same_archive
		killing_ends 10
		fxfs_unmount
	done
}

@test "a large directory is read whole, also while it changes" {
	mkdir "$SRC/dir"
	(cd "$SRC/dir" && seq -f 's%05.0f' 20000 | xargs touch)
	fxfs_mount
	kill_often 5 50
	t "$APPS/dirscan" "$MNT/dir" "$SRC/dir" 8
	killing_ends 20
}

@test "buffered writes of large blocks arrive" {
	local i
	fxfs_mount -o passthrough=off
	kill_often 5 50
	head -c 64M /dev/urandom >"$WORK/wanted"
	for i in 1 2 3; do
		t dd if="$WORK/wanted" of="$MNT/file" bs=1M conv=fsync status=none
		cmp "$WORK/wanted" "$SRC/file"
	done
	killing_ends 5
}

@test "stores through a mapping arrive" {
	truncate -s 32M "$SRC/file"
	fxfs_mount -o passthrough=off
	hold map
	ask map ok "open $MNT/file rdwr"
	ask map ok "map 33554432 shared"
	kill_often 5 50
	local i
	for ((i = 0; i < 200; i++)); do
		ask map ok "poke $((i * 4096 * 40)) page $i"
		[ $((i % 20)) -ne 0 ] || ask map ok msync
		ask map "ok page $i" "peek $((i * 4096 * 40)) $((${#i} + 5))"
	done
	ask map ok msync
	killing_ends 5
	for ((i = 0; i < 200; i++)); do
		equal "page $i" "$(dd if="$SRC/file" bs=1 skip=$((i * 4096 * 40)) count=$((${#i} + 5)) status=none)"
	done
}

@test "whatever signal the server dies of, there is no error, and the pauses are short" {
	echo hello >"$SRC/file"
	fxfs_mount -o cache=none
	"$APPS/pulse" "$MNT/file" >"$WORK/pulse" 3>&- &
	local pulse=$!
	# KILL ABRT SEGV BUS ILL FPE; of the last four a sanitizer would say that they are errors of ours
	if [ -n "${FXFS_SANITIZER:-}" ]; then kill_often 20 60 9 6; else kill_often 20 60 9 6 11 7 4 8; fi
	sleep 6
	killing_ends 20
	# The time limit passes the signal on.
	kill $pulse
	wait $pulse
	tell "$(cat "$WORK/pulse"), $(cat "$WORK/kills")"
	grep -q "errors 0" "$WORK/pulse"
}

@test "many readers at once see no error" {
	some_tree
	sha256sum "$SRC"/*/{1,50,100} >"$WORK/sums"
	sed -i "s,$SRC,$MNT," "$WORK/sums"
	fxfs_mount -o passthrough=off
	kill_often 5 50
	local i readers=()
	for ((i = 0; i < 8; i++)); do
		t sh -c "for i in 1 2 3 4 5 6 7 8 9 10; do sha256sum --quiet -c '$WORK/sums' || exit; done" 3>&- &
		readers+=($!)
	done
	for i in "${readers[@]}"; do wait "$i"; done
	killing_ends 5
}

# --- killed at a chosen moment ---

@test "an open file without a name is still there, is read and is written" {
	echo hello >"$SRC/file"
	fxfs_mount
	hold file
	hold tmpfile
	ask file ok "open $MNT/file rdwr"
	rm "$SRC/file"
	ask tmpfile ok "open $MNT tmpfile,rdwr"
	ask tmpfile ok "write 0 nameless"
	kill_server
	ask file "ok hello" "read 0 5"
	ask file ok "write 0 HELLO"
	kill_server
	ask file "ok HELLO" "read 0 5"
	ask tmpfile "ok nameless" "read 0 8"
	ask tmpfile ok "link $MNT/named"
	equal nameless "$(cat "$SRC/named")"
	ask file ok close
}

@test "a directory that is half read is read to its end" {
	mkdir "$SRC/dir"
	(cd "$SRC/dir" && seq -f 'name-%05.0f' 5000 | xargs touch)
	fxfs_mount
	hold dir
	ask dir ok "open $MNT/dir directory"
	list_on dir 2000
	kill_server
	list_on dir 1500
	kill_server
	list_on dir 10000
	listed_all "$SRC/dir"
	ask dir ok rewind
	ask dir "ok 5002" count
}

@test "locks are held on, and their owners can give them up" {
	touch "$SRC/file"
	fxfs_mount
	hold mount
	hold source
	hold other
	ask mount ok "open $MNT/file rdwr"
	ask other ok "open $MNT/file rdwr"
	ask source ok "open $SRC/file rdwr"
	local kind
	for kind in flock posix ofd; do
		ask mount ok "lock $kind ex"
		kill_server
		ask source EAGAIN "lock $kind ex"
		ask other EAGAIN "lock $kind sh"
		kill_server
		ask mount ok "lock $kind sh" # still the owner
		ask source ok "lock $kind sh"
		ask source ok "unlock $kind"
		ask mount ok "unlock $kind"
		ask source ok "lock $kind ex"
		ask source ok "unlock $kind"
	done
	# A lock falls with its owner, whichever server gave it.
	ask mount ok "lock posix ex"
	kill_server
	release mount
	ask source ok "lock posix ex"
}

@test "whoever waits for a lock still gets it" {
	touch "$SRC/file"
	fxfs_mount
	hold waiter
	hold source
	ask waiter ok "open $MNT/file rdwr"
	ask source ok "open $SRC/file rdwr"
	local kind
	for kind in flock posix ofd; do
		ask source ok "lock $kind ex"
		say waiter "lock $kind ex wait"
		silent waiter
		kill_server
		silent waiter
		ask source ok "unlock $kind"
		answer waiter ok
		ask source EAGAIN "lock $kind ex"
		ask waiter ok "unlock $kind"
	done
}

@test "a mapping shows and takes what it did before" {
	head -c 8192 /dev/zero | tr '\0' . >"$SRC/file"
	local mode
	for mode in on off; do
		fxfs_mount -o passthrough=$mode
		hold map
		ask map ok "open $MNT/file rdwr"
		ask map ok "map 8192 shared"
		ask map ok "poke 0 before"
		kill_server
		ask map "ok before." "peek 0 7"
		ask map "ok ...." "peek 4096 4" # a page that was not there yet
		ask map ok "poke 4096 after"
		ask map ok msync
		equal before "$(head -c 6 "$SRC/file")"
		equal after "$(tail -c +4097 "$SRC/file" | head -c 5)"
		release map
		fxfs_unmount
		head -c 8192 /dev/zero | tr '\0' . >"$SRC/file"
	done
}

@test "a program runs on, and the working directory stays" {
	cp "$(command -v bash)" "$SRC/program"
	mkdir "$SRC/dir"
	fxfs_mount
	# shellcheck disable=SC2016 # for the inner shell
	t "$MNT/program" -c 'cd "$1" && echo started >one && read -r line <"$2" && echo "$line" >two && pwd' \
		program "$MNT/dir" <(eventually test -e "$SRC/dir/one" && kill_server >/dev/null && echo two) >"$WORK/out" 3>&-
	equal "$MNT/dir" "$(cat "$WORK/out")"
	equal two "$(cat "$SRC/dir/two")"
}

# --- afterwards ---

@test "status counts the restarts" {
	fxfs_mount
	local i
	for i in 1 2 3; do
		kill_server
		equal $i "$(fxfs_status restarts)"
	done
	equal "$MONITOR" "$(fxfs_status monitor_pid)"
}

@test "after 50 deaths under load nothing has leaked" {
	some_tree
	fxfs_mount
	t stat "$MNT" >/dev/null
	local before deaths=0
	forgotten
	before=$(descriptors)
	kill_often 5 50
	(while t find "$MNT" -type f -exec cat {} + >/dev/null && echo 2 >/proc/sys/vm/drop_caches; do :; done) 3>&- &
	local load=$!
	while [ "$deaths" -lt 50 ]; do
		sleep 0.5
		kill -0 $load
		deaths=$(fxfs_status restarts)
	done
	kill $load
	wait $load || true
	killing_ends 50
	sleep 1 # the last find is killed by nobody
	eventually fails pgrep -f "^find $MNT"
	forgotten
	equal 0 "$(fxfs_status handles)"
	equal 0 "$(fxfs_status in_flight)"
	tell "descriptors before $before, after $(descriptors)"
	equal "$before" "$(descriptors)"
	fxfs_unmount
}

@test "when monitor and server are both killed, the mountpoint can be used again" {
	echo hello >"$SRC/file"
	fxfs_mount
	t cat "$MNT/file"
	kill -KILL "$MONITOR" "$(fxfs_status server_pid)"
	eventually gone "$MONITOR"
	eventually no_processes
	run t cat "$MNT/file"
	[ "$status" -ne 0 ]
	t umount "$MNT"
	fxfs_mount
	equal hello "$(t cat "$MNT/file")"
	fxfs_unmount
}
