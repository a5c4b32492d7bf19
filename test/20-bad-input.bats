#!/usr/bin/env bats
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What cannot work: it is refused with one clear line and leaves nothing mounted; and what fails while mounted
# fails for the application that asked, and the mount goes on.
# shellcheck disable=SC2030,SC2031,SC2153 # each test is a process of its own, and lib.bash sets FXFS

load lib

# refused STATUS WORDS ARGUMENT...: fxfs ends with this status and one line that has these words (a pattern), and
# nothing new is mounted. AS is who runs it, as runas takes it.
refused() {
	local wanted=$1 words=$2 before
	shift 2
	before=$(mounts)
	run t ${AS:+runas "$AS"} "$FXFS" "$@" 3>&-
	guard
	echo "$output"
	equal 1 "${#lines[@]}"
	equal "$wanted" "$status"
	# shellcheck disable=SC2053 # a pattern is meant
	[[ $output == fxfs:\ $words ]]
	equal "$before" "$(mounts)"
	[ ! -e "$WORK/state" ]
}

# The binary where an ordinary user may run it.
for_all() {
	cp "$FXFS" "$WORK/fxfs"
	chmod 755 "$WORK/fxfs"
	FXFS=$WORK/fxfs
}

# Makes a file system in a file and mounts it at $SRC: image MIB MKFS [ARGUMENT...] -- [MOUNT OPTION...]
image() {
	local size=$1 mkfs=()
	shift
	while [ $# -gt 0 ] && [ "$1" != -- ]; do
		mkfs+=("$1")
		shift
	done
	truncate -s "${size}M" "$WORK/image"
	"${mkfs[@]}" "$WORK/image" >/dev/null 2>&1
	mount -o "loop${2:+,$2}" "$WORK/image" "$SRC" ||
		skip "machine lacks loop devices, ${mkfs[0]#mkfs.}, or${2:+ its option $2}"
}

# --- refused at the mount ---

@test "a source that is not there is refused" {
	refused 32 "*$WORK/nowhere: No such file or directory" "$WORK/nowhere" "$MNT"
}

@test "a source that is a file is refused" {
	touch "$WORK/file"
	refused 32 "*$WORK/file: Not a directory" "$WORK/file" "$MNT"
}

@test "a source that may not be read is refused" {
	local AS=1234
	for_all
	chmod 711 "$SRC"
	refused 32 "*$SRC: Permission denied" "$SRC" "$MNT"
	mkdir -m 700 "$WORK/private" "$WORK/private/below"
	refused 32 "*$WORK/private/below: Permission denied" "$WORK/private/below" "$MNT"
}

@test "a mountpoint that is not there is refused" {
	refused 32 "*$WORK/nowhere*: No such file or directory" "$SRC" "$WORK/nowhere"
}

@test "a mountpoint that is a file is refused" {
	touch "$WORK/file"
	refused 32 "*$WORK/file*: Not a directory" "$SRC" "$WORK/file"
}

@test "a mountpoint that somebody works in is taken, as by mount, and he stays where he was" {
	touch "$MNT/under" "$SRC/over"
	hold inside
	ask inside ok "open $MNT directory"
	fxfs_mount
	equal over "$(t ls "$MNT")"
	ask inside "ok 3" count
	# And an unmount of what is in use is refused, and nothing is lost by it.
	hold user
	ask user ok "open $MNT directory"
	run t umount "$MNT"
	equal 32 "$status"
	[[ $output == *busy* ]]
	equal over "$(t ls "$MNT")"
	ask user "ok 3" count
	ask user ok close
	fxfs_unmount
}

@test "a source inside the mountpoint is refused: the mount would hide it" {
	mkdir "$MNT/inside"
	refused 32 "*$MNT/inside*" "$MNT/inside" "$MNT"
	refused 32 "*$MNT/inside*" "$MNT/./inside/" "$MNT/../mnt"
}

@test "a mountpoint inside the source is refused: it would show itself" {
	mkdir "$SRC/inside"
	refused 32 "*$SRC/inside*" "$SRC" "$SRC/inside"
	ln -s "$SRC/inside" "$WORK/link"
	refused 32 "*" "$SRC" "$WORK/link"
}

@test "a directory can be mounted over itself" {
	echo hello >"$SRC/file"
	MNT=$SRC
	fxfs_mount
	[[ $(mounts) == *" $FSTYPE $SRC" ]]
	equal hello "$(t cat "$SRC/file")"
	t mkdir "$SRC/made"
	kill_server
	t mkdir "$SRC/made/again"
	fxfs_unmount
	equal "" "$(mounts)"
	[ -d "$SRC/made/again" ]
}

@test "a name that only begins like the other is no recursion" {
	mkdir "$SRC-beside"
	fxfs_start "$SRC" "$SRC-beside"
}

@test "unknown mount options are refused" {
	refused 1 "*frobnicate*" "$SRC" "$MNT" -o frobnicate
	refused 1 "*frobnicate*" "$SRC" "$MNT" -o ro,frobnicate=1
}

@test "bad values of options are refused" {
	local bad
	for bad in cache=frob cache= cache cache=ttl=x cache=ttl=-1 cache=ttl= workers=0 workers=x workers= \
		workers=-1 workers=99999999999999999999 passthrough=maybe passthrough state= ro=1; do
		refused 1 "*${bad%%=*}*" "$SRC" "$MNT" -o "$bad"
	done
}

@test "names that are too long are refused" {
	local long
	long=$(printf '%0256d' 0)
	refused 32 "*File*name too long" "$SRC/$long" "$MNT"
	refused 32 "*File*name too long" "$SRC" "$MNT/$long"
	long=$(printf '%05000d' 0 | sed 's,0,./,g')
	refused 32 "*File*name too long" "$SRC/$long" "$MNT"
	run t "$FXFS" "$SRC" "$MNT" -o "state=/$long" 3>&-
	[ "$status" -ne 0 ]
	[[ $output == "fxfs: "* ]]
}

@test "mounting on a mount stacks, as mount does" {
	echo one >"$SRC/file"
	mkdir "$WORK/other"
	echo two >"$WORK/other/file"
	fxfs_start "$SRC" "$MNT"
	fxfs_start "$WORK/other" "$MNT"
	equal two "$(t cat "$MNT/file")"
	t umount "$MNT"
	equal one "$(t cat "$MNT/file")"
}

@test "without /dev/fuse it says so" {
	run t unshare -m sh -c "mount -t tmpfs none /dev && exec '$FXFS' '$SRC' '$MNT'"
	echo "$output"
	equal 32 "$status"
	[[ $output == "fxfs: "*/dev/fuse*"No such file or directory" ]]
}

@test "without root it says so" {
	for_all
	AS=1234 refused 32 "cannot mount $SRC on $MNT: only root may*" "$SRC" "$MNT"
	AS=1234:1234,0 refused 32 "cannot mount $SRC on $MNT: only root may*" "$SRC" "$MNT"
}

@test "/dev/fd/N that is no descriptor of /dev/fuse is refused" {
	refused 32 "*" "$SRC" /dev/fd/99
	refused 32 "*" "$SRC" /dev/fd/x
	exec 9<"$SRC"
	refused 32 "*" "$SRC" /dev/fd/9
}

# --- hostile state files ---

@test "a state file is never written through a link" {
	echo precious >"$WORK/precious"
	ln -s "$WORK/precious" "$WORK/link"
	run t "$FXFS" "$SRC" "$MNT" -o "state=$WORK/link" 3>&-
	echo "$output"
	equal 32 "$status"
	[[ $output == "fxfs: "*"$WORK/link"* ]]
	equal precious "$(cat "$WORK/precious")"
	ln -sf "$WORK/new" "$WORK/link"
	run t "$FXFS" "$SRC" "$MNT" -o "state=$WORK/link" 3>&-
	equal 32 "$status"
	[ ! -e "$WORK/new" ]
}

@test "a state file with foreign content is neither used nor overwritten" {
	local content
	fxfs_mount -o "state=$WORK/state"
	cp "$WORK/state" "$WORK/copy"
	fxfs_unmount
	# What is no state, the start of one, and one that everybody may read.
	head -c 1000 "$WORK/copy" >"$WORK/torn"
	echo hello >"$WORK/foreign"
	for content in "$WORK/foreign" "$WORK/torn" "$WORK/copy"; do
		cp --sparse=always "$content" "$WORK/given"
		run t "$FXFS" "$SRC" "$MNT" -o "state=$WORK/given" 3>&-
		echo "$output"
		equal 32 "$status"
		[[ $output == "fxfs: "*"$WORK/given"* ]]
		cmp "$content" "$WORK/given"
	done
}

# changed OFFSET BYTES: a copy of $WORK/copy, only for us, with these bytes (printf) there.
changed() {
	cp --sparse=always "$WORK/copy" "$WORK/given"
	chmod 600 "$WORK/given"
	# shellcheck disable=SC2059 # escapes are meant
	printf "$2" | dd of="$WORK/given" bs=1 seek="$1" conv=notrunc status=none
	cp --sparse=always "$WORK/given" "$WORK/as-given"
}

@test "a state of another version or layout, or a torn one, is refused and says which" {
	fxfs_mount -o "state=$WORK/live"
	cp --sparse=always "$WORK/live" "$WORK/copy"
	# of a mount that is there
	mkdir "$WORK/other"
	refused 32 "*$WORK/live is in use by the mount of monitor $MONITOR*" "$SRC" "$WORK/other" -o "state=$WORK/live"
	fxfs_unmount
	local wanted what at bytes
	while read -r what at bytes; do
		wanted=${what//-/ }
		changed "$at" "$bytes"
		refused 32 "*$WORK/given exists and is not used: *$wanted*" "$SRC" "$MNT" -o "state=$WORK/given"
		cmp "$WORK/as-given" "$WORK/given"
		run t "$FXFS" --status "$MNT" -o "state=$WORK/given"
		echo "$output"
		equal 2 "$status"
		[[ $output == *"$WORK/given"*"$wanted"* ]]
	done <<-'END'
		not-a-state-of-fxfs 0 X
		another-version 8 \xfe
		another-layout 12 \xff\xfe\xfd\xfc
		torn 16 \x01
		another-layout 24 \x01
		torn 56 \xff
		torn 136 \xff\xff\xff\xff\xff\xff\xff\xff
	END
	changed 0 f
	truncate -s -4096 "$WORK/given"
	refused 32 "*$WORK/given exists and is not used: torn*" "$SRC" "$MNT" -o "state=$WORK/given"
	# What a mount left that is gone for certain is replaced.
	changed 0 f
	fxfs_mount -o "state=$WORK/given"
	fxfs_unmount
	[ ! -e "$WORK/given" ]
}

@test "a state that is a directory, a fifo or a device is refused" {
	mkdir "$WORK/given"
	run t "$FXFS" "$SRC" "$MNT" -o "state=$WORK/given" 3>&-
	equal 32 "$status"
	rmdir "$WORK/given"
	mkfifo "$WORK/given"
	run t "$FXFS" "$SRC" "$MNT" -o "state=$WORK/given" 3>&-
	equal 32 "$status"
	run t "$FXFS" "$SRC" "$MNT" -o "state=/dev/null" 3>&-
	equal 32 "$status"
	run t "$FXFS" "$SRC" "$MNT" -o "state=$WORK/missing/state" 3>&-
	equal 32 "$status"
}

@test "status bears a state file that was damaged" {
	fxfs_mount -o "state=$WORK/state"
	local size server
	size=$(stat -c %s "$WORK/state")
	server=$(fxfs_status server_pid)
	for at in 0 8 16 100 1000 10000 40000; do
		[ "$at" -lt "$size" ] || continue
		# A copy is damaged, and put where the mount's own was.
		cp --sparse=always "$WORK/state" "$WORK/damaged"
		head -c 64 /dev/urandom | dd of="$WORK/damaged" bs=1 seek="$at" conv=notrunc status=none
		mv "$WORK/state" "$WORK/good"
		mv "$WORK/damaged" "$WORK/state"
		run t "$FXFS" --status "$MNT"
		[ "$status" -lt 124 ] # neither a signal nor the time limit
		mv "$WORK/good" "$WORK/state"
	done
	equal "$server" "$(fxfs_status server_pid)"
}

# --- full, read-only, over quota, out of descriptors ---

@test "a full source gives ENOSPC to the application and the mount goes on" {
	mount -t tmpfs -o size=1m none "$SRC"
	local mode
	for mode in on off; do
		fxfs_mount -o passthrough=$mode
		run t dd if=/dev/zero of="$MNT/file" bs=64k count=32
		[[ $output == *"No space left on device"* ]]
		t rm "$MNT/file"
		t dd if=/dev/zero of="$MNT/file" bs=64k count=8 status=none
		equal 524288 "$(stat -c %s "$SRC/file")"
		t rm "$MNT/file"
		equal 0 "$(fxfs_status restarts)"
		fxfs_unmount
	done
	umount "$SRC"
}

@test "a source without free inodes gives ENOSPC to the application" {
	image 8 mkfs.ext4 -q -N 32
	fxfs_mount
	run t sh -c "cd '$MNT' && for i in \$(seq 100); do mkdir \$i || exit; done"
	[[ $output == *"No space left on device"* ]]
	t rmdir "$MNT/1"
	t mkdir "$MNT/again"
	fxfs_unmount
	umount "$SRC"
}

@test "a read-only source gives EROFS" {
	echo hello >"$SRC/file"
	mount --bind "$SRC" "$SRC"
	mount -o remount,bind,ro "$SRC"
	fxfs_mount -o rw
	run t sh -c "echo x >'$MNT/file'"
	[[ $output == *"Read-only file system"* ]]
	run t mkdir "$MNT/new"
	[[ $output == *"Read-only file system"* ]]
	equal hello "$(t cat "$MNT/file")"
	fxfs_unmount
	umount "$SRC"
}

@test "quota stops an ordinary user and not root" {
	need setquota
	image 64 mkfs.ext4 -q -O quota -E quotatype=usrquota -- usrquota
	setquota -u 1234 0 100 0 10 "$SRC" || skip "machine lacks disk quota in its kernel"
	chmod 777 "$SRC"
	fxfs_mount
	run t runas 1234 dd if=/dev/zero of="$MNT/file" bs=16k count=32
	[[ $output == *"Disk quota exceeded"* ]]
	run t runas 1234 sh -c "cd '$MNT' && for i in \$(seq 20); do echo >name-\$i || exit; done"
	[[ $output == *"Disk quota exceeded"* ]]
	t dd if=/dev/zero of="$MNT/root" bs=16k count=32 status=none
	t rm "$MNT/file"
	t runas 1234 dd if=/dev/zero of="$MNT/small" bs=16k count=1 status=none
	fxfs_unmount
	umount "$SRC"
}

@test "the quota of a btrfs subvolume stops who writes, and the mount goes on" {
	need mkfs.btrfs
	image 256 mkfs.btrfs -q --
	t btrfs subvolume create "$SRC/sub" >/dev/null
	t btrfs quota enable "$SRC" && t btrfs qgroup limit 4M "$SRC/sub" || skip "machine lacks btrfs quota"
	mkdir "$WORK/other"
	local mode
	for mode in on off; do
		fxfs_mount -o passthrough=$mode
		run t dd if=/dev/urandom of="$MNT/sub/file" bs=64k count=256 conv=fsync
		[[ $output == *"Disk quota exceeded"* ]]
		# beside it there is room
		t dd if=/dev/urandom of="$MNT/file" bs=64k count=256 conv=fsync status=none
		t rm "$MNT/sub/file" "$MNT/file"
		sync -f "$SRC"
		eventually t dd if=/dev/urandom of="$MNT/sub/small" bs=64k count=1 conv=fsync status=none
		equal 65536 "$(stat -c %s "$SRC/sub/small")"
		equal 0 "$(fxfs_status restarts)"
		fxfs_unmount
	done
	umount "$SRC"
}

# Opens files below $MNT, N at a time, and prints how many could be opened and the first error.
open_many() { # COUNT
	# shellcheck disable=SC2016 # for perl
	t perl -e '
		my ($n, $error) = (0, "none");
		for my $i (1 .. $ARGV[1]) {
			if (open(my $file, "<", "$ARGV[0]/$i")) { push @files, $file; $n++ }
			elsif ($error eq "none") { $error = "$!" }
		}
		print "$n $error\n"' "$MNT" "$1"
}

@test "without descriptors an open fails, and works again when others are closed" {
	local n error
	for n in $(seq 600); do echo "$n" >"$SRC/$n"; done
	BEFORE="ulimit -n 256" fxfs_mount
	read -r n error < <(open_many 600)
	echo "$n opened, then: $error"
	[ "$n" -ge 100 ]
	[[ $error == "Too many open files"* ]]
	eventually gives 0 fxfs_status handles
	# All of them can be read one after the other, and listed.
	equal 600 "$(t sh -c "cat '$MNT'/* | wc -l")"
	equal 600 "$(t ls -l "$MNT" | grep -c ^-)"
	read -r n error < <(open_many 100)
	equal "100 none" "$n $error"
	equal 0 "$(fxfs_status restarts)"
}

@test "a full place for the state is an error at the mount, or of one request, and never a crash" {
	local k n
	mkdir "$WORK/small"
	for k in 16 4096; do
		mount -t tmpfs -o "size=${k}k" none "$WORK/small"
		run t "$FXFS" "$SRC" "$MNT" -o "state=$WORK/small/state" 3>&-
		guard
		echo "$k KiB: $output"
		if [ "$status" -eq 0 ]; then
			# Fill what is left, then need more of it than there is.
			dd if=/dev/zero of="$WORK/small/filler" bs=4k status=none 2>/dev/null || true
			mkdir -p "$SRC/d"
			(cd "$SRC/d" && seq 20000 | xargs touch)
			run t ls -l "$MNT/d"
			rm -f "$WORK/small/filler"
			equal 20000 "$(t ls -l "$MNT/d" | grep -c ^-)"
			equal 0 "$(fxfs_status restarts)"
			t umount "$MNT"
			eventually no_processes
		else
			equal 32 "$status"
			[[ $output == "fxfs: "*"No space left on device"* ]]
			fails mountpoint -q "$MNT"
		fi
		[ ! -e "$WORK/small/state" ]
		umount "$WORK/small"
	done
}
