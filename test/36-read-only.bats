#!/usr/bin/env bats
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# locks=local, and what it makes possible on a read-only mount: no file is opened in the source, and all that needs an
# open file works nonetheless.
# shellcheck disable=SC2030,SC2031,SC2153 # each test is a process of its own, and lib.bash sets FXFS

load lib

MIB=$((1 << 20))

# --- locks=local ---

@test "local locks exclude the mount's own users, fall as they should, and nobody in the source knows of them" {
	touch "$SRC/file"
	local kind ro
	for ro in '' 'ro,'; do
		fxfs_mount -o "${ro}locks=local"
		hold mount
		hold other
		hold source
		ask mount ok "open $MNT/file rdonly"
		ask other ok "open $MNT/file rdonly"
		ask source ok "open $SRC/file rdwr"
		for kind in posix ofd; do
			ask mount ok "lock $kind sh"
			ask source ok "lock $kind ex"
			ask other ok "lock $kind sh"
			ask source ok "unlock $kind"
			ask mount ok "unlock $kind"
			ask other ok "unlock $kind"
		done
		ask mount ok "lock flock ex"
		ask other EAGAIN "lock flock sh"
		ask source ok "lock flock ex"
		ask mount ok close
		ask other ok "lock flock ex"
		release mount
		release other
		release source
		fxfs_unmount
	done
}

@test "a local POSIX lock falls when the process closes another descriptor of the file" {
	touch "$SRC/file"
	fxfs_mount -o locks=local
	# shellcheck disable=SC2016 # it is perl's
	t perl -e '
		use Fcntl ":DEFAULT", ":seek";
		my $lock = pack("s s x4 q q l", F_WRLCK, SEEK_SET, 0, 0, 0);
		sub locked { # can another process not have it?
			my $pid = fork;
			if (!$pid) {
				sysopen(my $file, $ARGV[0], O_RDWR) or die;
				exit !fcntl($file, F_SETLK, $lock);
			}
			waitpid $pid, 0;
			return $? != 0;
		}
		sysopen(my $first, $ARGV[0], O_RDWR) or die;
		sysopen(my $second, $ARGV[0], O_RDONLY) or die;
		fcntl($first, F_SETLK, $lock) or die;
		locked() or die "not locked";
		close $second;
		!locked() or die "locked still";
' "$MNT/file"
}

# --- read-only ---

# A mount on which nothing is opened.
ro_mount() {
	fxfs_mount -o "ro,locks=local${1:+,$1}"
}

# Where the data of a file is: START-END for each piece. And it can be synced.
# shellcheck disable=SC2016 # it is perl's
extents() {
	t perl -e '
		use IO::Handle;
		open my $file, "<", $ARGV[0] or die;
		my $end = 0;
		while (defined(my $data = sysseek($file, $end, 3))) { # SEEK_DATA
			$end = sysseek($file, $data, 4) or die; # SEEK_HOLE
			printf "%d-%d\n", $data, $end;
		}
		$file->sync or die;
	' "$1"
}

@test "files are read as in the source, whichever way" {
	head -c $((3 * MIB)) /dev/urandom >"$SRC/file"
	truncate -s $((9 * MIB)) "$SRC/file"
	printf end >>"$SRC/file"
	echo some text >"$SRC/text"
	local cache
	for cache in none ttl always; do
		ro_mount cache=$cache
		t cmp "$SRC/file" "$MNT/file"
		t cmp "$SRC/file" "$MNT/file"
		equal "$(dd if="$SRC/file" iflag=direct bs=64k count=30 skip=7 status=none | sha256sum)" \
			"$(t dd if="$MNT/file" iflag=direct bs=64k count=30 skip=7 status=none | sha256sum)"
		gives "$(extents "$SRC/file")" extents "$MNT/file"
		hold reader
		ask reader ok "open $MNT/text rdonly"
		ask reader ok "map 4096 private"
		ask reader "ok some text" "peek 0 9"
		release reader
		equal "$(lsattr "$SRC/file" | cut -d' ' -f1)" "$(t lsattr "$MNT/file" | cut -d' ' -f1)"
		fxfs_unmount
	done
}

@test "reading leaves the source as it was, also the time of the last access" {
	echo text >"$SRC/file"
	touch -a -d 2001-01-01 "$SRC/file"
	ro_mount
	t cat "$MNT/file"
	gives "$(stat -c %x "$SRC/file")" stat -c %x "$MNT/file"
	[[ $(stat -c %x "$SRC/file") == 2001-01-01* ]]
}

@test "directories are listed, and a position in one is found again" {
	mkdir "$SRC/dir"
	(cd "$SRC/dir" && seq -f 'a name of some length %05.0f' 3000 | tr '\n' '\0' | xargs -0 touch)
	local cache
	for cache in none ttl always; do
		ro_mount cache=$cache
		equal "$(find "$SRC/dir" -printf '%P %i %s %m\n' | sort | sha256sum)" \
			"$(t find "$MNT/dir" -printf '%P %i %s %m\n' | sort | sha256sum)"
		hold reader
		ask reader ok "open $MNT/dir directory"
		say reader "list 100"
		answer reader >/dev/null
		ask reader ok tell
		say reader "list 1000"
		local first
		first=$(answer reader)
		say reader "list 1000"
		answer reader >/dev/null
		ask reader ok seek
		ask reader "$first" "list 1000"
		ask reader ok rewind
		ask reader "ok 3002" count
		release reader
		fxfs_unmount
	done
}

@test "what changes in the source is seen within the time-out, in files that are open as well" {
	echo before >"$SRC/file"
	ro_mount cache=ttl=0.5
	hold reader
	ask reader ok "open $MNT/file rdonly"
	ask reader "ok before" "read 0 6"
	echo after. >"$SRC/file"
	sleep 0.6
	ask reader "ok after." "read 0 6"
	gives after. t cat "$MNT/file"
	echo longer than before >"$SRC/file"
	mkdir "$SRC/new"
	sleep 0.6
	gives "longer than before" t cat "$MNT/file"
	t ls "$MNT" | grep -x new
}

@test "a file that somebody deletes in the source can be read on by who has it open" {
	echo content >"$SRC/file"
	head -c $MIB /dev/urandom >"$SRC/large"
	cp "$SRC/large" "$WORK/large"
	ro_mount cache=none
	exec {fd}<"$MNT/large"
	rm "$SRC/large" "$SRC/file"
	t cmp "$WORK/large" "/proc/self/fd/$fd"
	exec {fd}<&-
	fails t cat "$MNT/file"
}

@test "nothing can be changed, also when somebody makes the mount writable" {
	echo content >"$SRC/file"
	ro_mount
	fails t touch "$MNT/new"
	t cat "$MNT/file" # nothing is opened from now on
	mount -i -o remount,rw "$MNT"
	run t touch "$MNT/new"
	[[ $output == *"Read-only file system"* ]]
	# shellcheck disable=SC2016 # for the inner shell
	run t bash -c 'echo more >>"$1"' bash "$MNT/file"
	[ "$status" -ne 0 ]
	run t mkdir "$MNT/dir"
	[[ $output == *"Read-only file system"* ]]
	run t chattr +d "$MNT/file"
	[[ $output == *"Read-only file system"* ]]
	run t rm "$MNT/file"
	[[ $output == *"Read-only file system"* ]]
	gives content cat "$SRC/file"
	gives file ls "$SRC"
}

@test "the server dies and nobody who reads notices" {
	local d
	for d in 1 2 3 4 5 6 7 8; do
		mkdir "$SRC/$d"
		(cd "$SRC/$d" && seq 200 | while read -r f; do echo "$d/$f" >"$f"; done && head -c $((2 * MIB)) /dev/urandom >large)
	done
	tar -C "$SRC" --sort=name --numeric-owner -c . | sha256sum >"$WORK/wanted"
	local cache end
	for cache in none always; do
		ro_mount cache=$cache
		kill_often 5 50
		end=$((SECONDS + 6))
		while [ $SECONDS -lt $end ]; do
			equal "$(cat "$WORK/wanted")" "$(t tar -C "$MNT" --sort=name --numeric-owner -c . | sha256sum)"
			echo 3 >/proc/sys/vm/drop_caches
		done
		killing_ends 10
		equal 0 "$(fxfs_status handles)"
		forgotten
		fxfs_unmount
	done
}
