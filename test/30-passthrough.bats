#!/usr/bin/env bats
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The mount is the source: what the differential test does not do, or not with two sides at once.
# shellcheck disable=SC2016 # scripts for inner shells
# shellcheck disable=SC2030,SC2031,SC2153 # each test is a process of its own, and lib.bash sets FXFS

load lib

# All there is to see of a tree, content and attributes included.
everything() { # DIR
	cd "$1" || return
	find . -printf '%p type %y mode %m user %U group %G links %n size %s blocks %b inode %i mtime %T@ to %l\n' |
		sed '/type d/s/size [0-9]* blocks [0-9]*//' | sort
	find . -type f -readable | sort | xargs -d '\n' sha256sum
	getfattr -R -P -h -d -m - . 2>/dev/null
	getfacl -R -P -n . 2>/dev/null
	find . \( -type b -o -type c \) -exec stat -c '%n %t:%T' {} +
}
export -f everything

@test "a tree with all that a tree can have looks the same" {
	cd "$SRC"
	mkdir -p dir/below empty
	echo content >dir/file
	printf '%0255d' 0 | xargs touch
	touch 'blanks and "quotes"' $'new\nline' $'\377bytes' -d '2001-02-03 04:05:06.123456789'
	ln dir/file dir/below/link
	ln -s dir/file symlink
	ln -s /nowhere dangling
	mkfifo fifo
	mknod null c 1 3
	mknod block b 7 300
	perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => "socket", Listen => 1) or die $!'
	truncate -s 5G sparse
	echo end >>sparse
	install -m 4755 /dev/null setuid
	install -m 2755 /dev/null setgid
	install -d -m 1777 sticky
	install -d -m 2770 -g 4321 -o 1234 shared
	setfattr -n user.name -v value dir/file
	setfattr -n trusted.name -v value dir
	setfacl -m u:1234:rwx,g:4321:r-x dir/file
	setfacl -d -m u:1234:rwx dir
	setcap cap_net_raw+ep setuid
	touch -h -d '1969-12-31 00:00:00.5' symlink
	touch -d '2100-01-01' empty
	truncate -s 1k sparse # its checksum would take long
	fxfs_mount
	t bash -c "everything '$SRC'" >"$WORK/source"
	t bash -c "everything '$MNT'" >"$WORK/mount"
	[ "$(wc -l <"$WORK/source")" -gt 60 ]
	diff "$WORK/source" "$WORK/mount"
}

@test "names of 255 bytes and paths of PATH_MAX work as on the source" {
	fxfs_mount
	both 'name=$(printf "%0255d" 0)
		touch "$name" && mv "$name" "x${name#0}" && ls | wc -c
		touch "0$name"; mkdir "0$name"; ln -s x "0$name"; stat "0$name"
		for i in $(seq 15); do mkdir "$name" && cd "$name" || exit; done
		touch file && stat -c %s file
		touch "$(printf "./%.0s" $(seq 2047))"; touch "$(printf "./%.0s" $(seq 2048))"'
}

@test "sparse files and offsets beyond 4 GiB work as on the source" {
	need xfs_io
	fxfs_mount
	both 'xfs_io -f -c "pwrite -q 0 4k" -c "pwrite -q 5g 8k" -c "pwrite -q -S 7 8589934590 5" f
		stat -c %s f; xfs_io -c "seek -a -r 0" f
		xfs_io -c "fpunch 5g 4k" -c "seek -a -r 0" f
		xfs_io -c "falloc -k 9g 64k" f; stat -c %s f
		xfs_io -c "fzero 0 4k" f
		xfs_io -c "truncate 6g" f; stat -c %s f
		tail -c 1G f | sha256sum; cp --sparse=always f g; xfs_io -c "seek -a -r 0" g'
}

@test "copy_file_range, fallocate and friends work as on the source" {
	need xfs_io
	fxfs_mount
	both 'xfs_io -f -c "pwrite -q -S 1 0 1m" a; xfs_io -f -c "pwrite -q -S 2 0 64k" b
		xfs_io -c "copy_range -s 4096 -d 8192 -l 100000 a" b; sha256sum b; stat -c %s b
		xfs_io -c "copy_range -s 0 -d 10 -l 20 b" b; sha256sum b
		xfs_io -c "falloc 0 2m" b; stat -c %s b
		xfs_io -c fsync -c fdatasync -c syncfs -c "sync_range 0 4k" b; xfs_io -c fsync .; sync . b; sync -f b'
}

@test "what the kernel's FUSE client refuses by itself is refused, and nothing happens" {
	need xfs_io
	local command sum
	head -c 64k /dev/urandom >"$SRC/file"
	sum=$(sha256sum <"$SRC/file")
	fxfs_mount
	# Documented differences: these requests never reach the server.
	for command in "fcollapse 0 4k" "finsert 0 4k"; do
		run t xfs_io -c "$command" "$MNT/file"
		[[ $output == *"Operation not supported"* ]]
		equal "$sum" "$(sha256sum <"$SRC/file")"
		equal "$sum" "$(t sha256sum <"$MNT/file")"
	done
	run t cp --reflink=always "$MNT/file" "$MNT/clone"
	[[ $output == *"Operation not supported"* ]]
}

@test "O_DIRECT works as on the source" {
	need xfs_io
	local mode
	for mode in on off; do
		fxfs_mount -o passthrough=$mode
		both 'xfs_io -f -d -c "pwrite -q -S 65 0 1m" -c "pread -q 4096 8192" f
			xfs_io -d -c "pwrite -q -S 66 512k 64k" f; xfs_io -c "pwrite -q -S 67 512k 4k" f
			xfs_io -d -c "pread -v 524284 4" f | head -n 1
			xfs_io -d -c "pread -q 1m 4096" -c "pread -q 1044480 8192" f
			sha256sum f; stat -c %s f'
		fxfs_unmount
	done
}

@test "shared and private mappings see writes from both sides" {
	head -c 8192 /dev/zero | tr '\0' . >"$SRC/file"
	hold mount
	hold source
	fxfs_mount -o passthrough=on
	ask mount ok "open $MNT/file rdwr"
	ask source ok "open $SRC/file rdwr"
	ask mount ok "map 8192 shared"
	ask source ok "map 8192 shared"
	# By store, by write(), from either side.
	ask mount ok "poke 0 AB"
	ask source "ok AB.." "peek 0 4"
	ask source ok "poke 2 CD"
	ask mount "ok ABCD" "peek 0 4"
	ask source ok "write 4096 EF"
	ask mount "ok EF.." "peek 4096 4"
	ask mount ok "write 4098 GH"
	ask source "ok EFGH" "read 4096 4"
	ask source "ok EFGH" "peek 4096 4"
	ask mount ok unmap
	# A private one keeps its own stores to itself.
	ask mount ok "map 8192 private"
	ask mount ok "poke 0 xy"
	ask source "ok ABCD" "read 0 4"
	ask mount "ok ABCD" "read 0 4"
	ask source ok "poke 4096 ZZ"
	ask mount "ok ZZGH" "peek 4096 4"
}

@test "without passthrough a shared mapping reaches the source when it is synced" {
	head -c 4096 /dev/zero | tr '\0' . >"$SRC/file"
	hold mount
	fxfs_mount -o passthrough=off
	ask mount ok "open $MNT/file rdwr"
	ask mount ok "map 4096 shared"
	ask mount ok "poke 10 hello"
	ask mount ok msync
	equal hello "$(dd if="$SRC/file" bs=1 skip=10 count=5 status=none)"
	ask mount ok "write 20 world"
	ask mount "ok world" "peek 20 5"
	ask mount ok unmap
	ask mount ok close
}

@test "no name of a directory is lost or doubled while it changes" {
	mkdir "$SRC/dir"
	(cd "$SRC/dir" && seq -f 's%05.0f' 10000 | xargs touch)
	local changed
	for changed in "$SRC/dir" "$MNT/dir"; do
		fxfs_mount
		run t "$APPS/dirscan" "$MNT/dir" "$changed" 4
		tell "changed in ${changed%/dir}: $output"
		equal 0 "$status"
		[[ $output == "names 10000 "*" lost 0 doubled 0" ]]
		fxfs_unmount
	done
}

@test "telldir, seekdir and rewinddir work, also after changes" {
	mkdir "$SRC/dir"
	(cd "$SRC/dir" && seq -f 'name-%05.0f' 1000 | xargs touch)
	hold dir
	fxfs_mount
	ask dir ok "open $MNT/dir directory"
	say dir "list 300"
	answer dir >/dev/null
	ask dir ok tell
	say dir "list 5"
	local next
	next=$(answer dir)
	ask dir "ok 697" count # and . and ..
	ask dir ok seek
	ask dir "$next" "list 5"
	# A name that comes later goes away, a new one appears after a rewind.
	rm "$SRC/dir/$(cut -d ' ' -f 6 <<<"$next")"
	touch "$SRC/dir/new"
	ask dir ok rewind
	ask dir "ok 1002" count
	ask dir ok close
}

# All of the mount has one st_dev: the kernel lets only virtiofs begin a file system inside a FUSE mount.
@test "file systems mounted below the source are crossed" {
	mkdir "$SRC/sub"
	mount -t tmpfs -o size=3m none "$SRC/sub"
	echo hello >"$SRC/sub/file"
	touch "$SRC/top"
	fxfs_mount
	equal hello "$(t cat "$MNT/sub/file")"
	equal "$(t stat -c %d "$MNT")" "$(t stat -c %d "$MNT/sub")"
	equal "$(t stat -c %d "$MNT/sub")" "$(t stat -c %d "$MNT/sub/file")"
	# One st_dev, so that the numbers must tell the file systems apart; and they are the same in a listing.
	equal "$(($(stat -c %i "$SRC/sub/file") ^ 1 << 55))" "$(t stat -c %i "$MNT/sub/file")"
	equal "$(($(stat -c %i "$SRC/sub/file") ^ 1 << 55)) file" "$(t ls -i "$MNT/sub")"
	equal "$(stat -f -c '%b %S %l' "$SRC/sub")" "$(t stat -f -c '%b %S %l' "$MNT/sub")"
	equal "$(stat -f -c '%b %S %l' "$SRC")" "$(t stat -f -c '%b %S %l' "$MNT")"
	run t ln "$MNT/top" "$MNT/sub/top"
	[[ $output == *"Invalid cross-device link"* ]]
	run t ln "$MNT/sub/file" "$MNT/file"
	[[ $output == *"Invalid cross-device link"* ]]
	equal "$(cd "$SRC" && find . | sort)" "$(cd "$MNT" && t find . | sort)"
	kill_server
	equal "$(cd "$SRC" && find . | sort)" "$(cd "$MNT" && t find . | sort)"
	# Full is the one, not the other.
	run t dd if=/dev/zero of="$MNT/sub/big" bs=1M count=4
	[[ $output == *"No space left on device"* ]]
	t dd if=/dev/zero of="$MNT/big" bs=1M count=4 status=none
	t rm "$MNT/sub/big"
	t mv "$MNT/top" "$MNT/sub/top"
	[ -e "$SRC/sub/top" ]
	fxfs_unmount
	umount "$SRC/sub"
}

@test "a file system below one whose root has the same number is no loop and no hard link" {
	mount -t tmpfs none "$SRC"
	mkdir "$SRC/sub"
	mount -t tmpfs none "$SRC/sub"
	equal "$(stat -c %i "$SRC")" "$(stat -c %i "$SRC/sub")"
	mkdir "$SRC/dir" "$SRC/sub/dir"
	echo one >"$SRC/dir/a" && ln "$SRC/dir/a" "$SRC/dir/b"
	echo two >"$SRC/sub/dir/a" && ln "$SRC/sub/dir/a" "$SRC/sub/dir/b"
	fxfs_mount
	equal "$(cd "$SRC" && find . | sort)" "$(cd "$MNT" && t find . | sort)"
	t tar -C "$MNT" -cf "$WORK/tar" .
	equal two "$(tar -xOf "$WORK/tar" ./sub/dir/a)$(tar -xOf "$WORK/tar" ./sub/dir/b)"
	fxfs_unmount
	umount "$SRC/sub" "$SRC"
}

# The server has descriptors there, so that it is busy as for a program that works in it: documented.
@test "what is mounted below the source later is seen, and its lazy unmount too" {
	mkdir "$SRC/sub"
	touch "$SRC/sub/under"
	fxfs_mount
	equal under "$(t ls "$MNT/sub")"
	mount -t tmpfs none "$SRC/sub"
	touch "$SRC/sub/over"
	eventually gives over t ls "$MNT/sub"
	t stat "$MNT/sub/over"
	run umount "$SRC/sub"
	[[ $output == *busy* ]]
	umount -l "$SRC/sub"
	eventually gives under t ls "$MNT/sub"
}

@test "devices, fifos and sockets can be used" {
	fxfs_mount
	both 'mknod zero c 1 5 && head -c 100 zero | wc -c; mknod full c 1 7; echo x >full
		mkfifo fifo; (echo through >fifo &); cat fifo; ls -l zero fifo | cut -c 1-10
		perl -MIO::Socket::UNIX -e "
			my \$s = IO::Socket::UNIX->new(Local => q(socket), Listen => 1) or die \$!;
			my \$c = IO::Socket::UNIX->new(Peer => q(socket)) or die \$!;
			my \$a = \$s->accept; print \$c qq(hello\n); \$c->flush; print scalar(<\$a>)"
		stat -c %F socket; chmod 600 socket fifo; rm socket; mknod -m 600 reg p; stat -c "%F %a" reg'
}

@test "a file without a name can be made, and given one" {
	fxfs_mount
	hold file
	ask file ok "open $MNT tmpfile,rdwr"
	ask file ok "write 0 hello"
	equal "" "$(ls -A "$SRC")"
	ask file ok "link $MNT/named"
	equal hello "$(cat "$SRC/named")"
	ask file ok "write 5 !"
	equal 'hello!' "$(t cat "$MNT/named")"
	equal "$(stat -c %i "$SRC/named")" "$(t stat -c %i "$MNT/named")"
	ask file ok close
}

@test "an open file lives on when its name is removed, here or in the source" {
	local side
	fxfs_mount
	for side in "$MNT" "$SRC"; do
		echo hello >"$SRC/file"
		t cat "$MNT/file" >/dev/null
		hold file
		ask file ok "open $MNT/file rdwr"
		t rm "$side/file"
		ask file "ok hello" "read 0 5"
		ask file ok "write 0 HELLO"
		ask file "ok HELLO" "read 0 5"
		say file stat
		[[ $(answer file) == *"nlink 0 size 6"* ]]
		release file
		# The name is free for another file.
		echo other >"$SRC/file"
		eventually gives other t cat "$MNT/file"
		rm "$SRC/file"
		sleep 1.1
	done
}

@test "an open file that was renamed or replaced in the source is still that file" {
	echo one >"$SRC/file"
	hold file
	fxfs_mount
	ask file ok "open $MNT/file rdwr"
	mv "$SRC/file" "$SRC/elsewhere"
	echo two >"$SRC/file"
	ask file "ok one" "read 0 3"
	ask file ok "write 0 ONE"
	equal ONE "$(cat "$SRC/elsewhere")"
	sleep 1.1
	equal "two ONE" "$(t cat "$MNT/file" "$MNT/elsewhere" | xargs)"
	ask file ok close
}

@test "hard links are one inode" {
	fxfs_mount
	both 'echo a >a; ln a b; stat -c %h a b; [ a -ef b ] && echo same; echo b >>a; cat b; rm a; stat -c %h b
		mkdir d; ln b d/c; mv d/c d/d; stat -c %h b; [ b -ef d/d ] && echo same; ln -s b s; ln s t; stat -c %h s t'
	echo x >"$SRC/one"
	ln "$SRC/one" "$SRC/two"
	equal "$(stat -c '%i %h' "$SRC/one" "$SRC/two")" "$(t stat -c '%i %h' "$MNT/one" "$MNT/two")"
}

@test "appends from both sides do not overwrite each other" {
	fxfs_mount
	touch "$SRC/log"
	hold mount
	hold source
	ask mount ok "open $MNT/log wronly,append"
	ask source ok "open $SRC/log wronly,append"
	local i
	for i in 1 2 3; do
		ask mount ok "append m$i"
		ask source ok "append s$i"
	done
	equal m1s1m2s2m3s3 "$(cat "$SRC/log")"
	sleep 1.1
	equal m1s1m2s2m3s3 "$(t cat "$MNT/log")"
}

@test "changes in the source are seen: at once without a cache, within the time-out with one" {
	local cache
	for cache in none ttl=1 auto; do
		rm -rf "${SRC:?}"/*
		echo one >"$SRC/file"
		mkdir "$SRC/dir"
		fxfs_mount -o cache=$cache
		equal one "$(t cat "$MNT/file")"
		equal "" "$(t ls "$MNT/dir")"
		fails t test -e "$MNT/new"
		echo three >"$SRC/file"
		chmod 600 "$SRC/file"
		touch "$SRC/dir/name" "$SRC/new"
		mv "$SRC/file" "$SRC/dir/moved"
		echo again >"$SRC/file"
		[ $cache = none ] || sleep 1.2
		equal "again 644" "$(t cat "$MNT/file") $(t stat -c %a "$MNT/file")"
		equal "moved name" "$(t ls "$MNT/dir" | xargs)"
		equal "three 600" "$(t cat "$MNT/dir/moved") $(t stat -c %a "$MNT/dir/moved")"
		t test -e "$MNT/new"
		rm "$SRC/new"
		[ $cache = none ] || sleep 1.2
		fails t test -e "$MNT/new"
		fxfs_unmount
	done
}

# --- locks ---

@test "locks of each kind are seen on both sides" {
	touch "$SRC/file"
	fxfs_mount
	hold mount
	hold source
	hold other
	ask mount ok "open $MNT/file rdwr"
	ask source ok "open $SRC/file rdwr"
	ask other ok "open $MNT/file rdwr"
	local kind
	for kind in flock posix ofd; do
		ask mount ok "lock $kind ex"
		ask source EAGAIN "lock $kind ex"
		ask source EAGAIN "lock $kind sh"
		ask other EAGAIN "lock $kind sh"
		[ $kind = flock ] || ask source "ok held" "test $kind ex"
		ask mount ok "unlock $kind"
		ask source ok "lock $kind ex"
		ask mount EAGAIN "lock $kind sh"
		[ $kind = flock ] || ask other "ok held" "test $kind sh"
		ask source ok "unlock $kind"
		ask mount ok "lock $kind sh"
		ask source ok "lock $kind sh"
		ask other ok "lock $kind sh"
		ask mount EAGAIN "lock $kind ex"
		ask mount ok "unlock $kind"
		ask source ok "unlock $kind"
		ask other ok "unlock $kind"
	done
}

@test "POSIX and OFD locks are of ranges, and POSIX locks fall when the process closes the file" {
	touch "$SRC/file"
	fxfs_mount
	hold mount
	hold source
	ask mount ok "open $MNT/file rdwr"
	ask source ok "open $SRC/file rdwr"
	local kind
	for kind in posix ofd; do
		ask mount ok "lock $kind ex 0 10"
		ask source ok "lock $kind ex 10 10"
		ask source EAGAIN "lock $kind ex 5 1"
		ask mount EAGAIN "lock $kind sh 15 100"
		ask mount ok "unlock $kind 5 5"
		ask source ok "lock $kind ex 5 1"
		ask source ok "unlock $kind"
		ask mount ok close
		# The kernel does not wait for RELEASE: only POSIX locks are gone in SOURCE when close returns.
		if [ "$kind" = posix ]; then ask source ok "lock posix ex"; else eventually ask source ok "lock $kind ex"; fi
		ask source ok "unlock $kind"
		ask mount ok "open $MNT/file rdwr"
	done
}

@test "whoever waits for a lock is woken when it is given up on either side" {
	touch "$SRC/file"
	fxfs_mount
	hold mount
	hold source
	hold other
	ask mount ok "open $MNT/file rdwr"
	ask source ok "open $SRC/file rdwr"
	ask other ok "open $MNT/file rdwr"
	local kind
	for kind in flock posix ofd; do
		ask source ok "lock $kind ex"
		say mount "lock $kind ex wait"
		silent mount
		say other "lock $kind sh wait"
		silent other
		# The server is not blocked by those who wait.
		TIME=5 t touch "$MNT/alive"
		ask source ok "unlock $kind"
		# One of them gets it, then the other.
		if ! silent mount; then
			ask mount ok "unlock $kind"
			answer other ok
		else
			answer other ok
			ask other ok "unlock $kind"
			answer mount ok
			ask mount ok "unlock $kind"
		fi
		ask other ok "unlock $kind"
		# Waiting on the source for a lock taken through the mount.
		ask mount ok "lock $kind ex"
		say source "lock $kind ex wait"
		silent source
		ask mount ok "unlock $kind"
		answer source ok
		ask source ok "unlock $kind"
	done
}

@test "waiting for a lock can be interrupted, and more can wait than there are workers" {
	touch "$SRC/file"
	fxfs_mount -o workers=2
	hold holder
	ask holder ok "open $SRC/file rdwr"
	local kind i
	for kind in flock posix ofd; do
		ask holder ok "lock $kind ex"
		for i in 1 2 3 4 5 6; do
			hold "waiter$i"
			ask "waiter$i" ok "open $MNT/file rdwr"
			say "waiter$i" "lock $kind ex wait"
		done
		silent waiter1
		TIME=5 t touch "$MNT/alive"
		for i in 1 2 3 4 5 6; do release "waiter$i"; done
		ask holder ok "unlock $kind"
		# Nobody who was killed got it.
		hold after
		ask after ok "open $MNT/file rdwr"
		ask after ok "lock $kind ex"
		release after
	done
	eventually gives 0 fxfs_status in_flight
}

@test "processes that wait for each other in a circle are told so, those with OFD locks are not" {
	touch "$SRC/file"
	fxfs_mount
	local dir
	for dir in "$SRC" "$MNT"; do
		hold a
		hold b
		hold c
		for name in a b c; do ask $name ok "open $dir/file rdwr"; done
		ask a ok "lock posix ex 0 10"
		ask b ok "lock posix ex 10 10"
		ask c ok "lock posix ex 20 10"
		say a "lock posix ex wait 10 10"
		silent a
		say b "lock posix ex wait 20 10"
		silent b
		ask c EDEADLK "lock posix ex wait 5 1"
		ask c ok "unlock posix"
		answer b ok
		release b
		answer a ok
		for name in a c; do release $name; done
		for name in a b; do
			hold $name
			ask $name ok "open $dir/file rdwr"
		done
		ask a ok "lock ofd ex 0 10"
		ask b ok "lock ofd ex 10 10"
		say a "lock ofd ex wait 10 10"
		silent a
		say b "lock ofd ex wait 0 10"
		silent b
		for name in a b; do release $name; done
	done
	eventually gives 0 fxfs_status in_flight
}

# --- permissions ---

@test "inode flags work as on the source" {
	fxfs_mount
	both 'touch f; mkdir d; lsattr -d f d; chattr +i f; lsattr f; rm f; echo x >f; chmod 600 f; chattr -i f; rm f
		touch a; chattr +a a; echo x >>a; echo y >a; chattr -a a; cat a
		chattr +d a; chattr +A d; lsattr -d a d'
}

@test "ACLs work as on the source" {
	need setfacl
	fxfs_mount
	both 'chmod 755 .; mkdir d; chmod 700 d; setfacl -m u:1234:rwx d; runas 1234 touch d/theirs; runas 1235 touch d/not
		setfacl -d -m u:1235:r-x,g:4321:rwx,m::rwx d; runas 1234 mkdir d/sub; runas 1234 touch d/sub/f
		getfacl -n -p -R d; ls -ln d | cut -c 1-11; chmod 640 d/theirs; getfacl -n d/theirs
		runas 1235 ls d/sub; runas 1236 ls d/sub; runas 1236:1236,4321 touch d/sub/member; setfacl -b d; getfacl -n d
		chmod 755 d; setfacl -m u:1235:r d/sub/f; runas 1235 cat d/sub/f; runas 1236 cat d/sub/f; chmod g= d/sub/f; runas 1235 cat d/sub/f
		cp -a d e; getfacl -n -R e; umask 077; mkdir d/sub/masked; getfacl -n d/sub/masked'
}

@test "extended attributes work as on the source" {
	need setfattr
	fxfs_mount
	both 'touch f; ln -s f l; mkfifo p; setfattr -n user.a -v 1 f; setfattr -n user.b -v "" f; getfattr -d f
		setfattr -n user.a -v 1 p; setfattr -h -n user.a -v 1 l; setfattr -h -n trusted.a -v 1 l
		getfattr -h -d -m - l; setfattr -x user.a f; setfattr -x user.a f; getfattr -n user.a f; getfattr -d -m - f
		setfattr -n none.a -v 1 f; setfattr -n user."$(printf "%0256d" 0)" -v 1 f; chmod 600 f
		runas 1234 getfattr -n user.b f; runas 1234 setfattr -n trusted.x -v 1 f; setfattr -n security.x -v 1 f
		getfattr -d -m - f; setfattr -n user.big -v "$(head -c 3000 /dev/zero | tr "\0" x)" f
		getfattr --only-values -n user.big f | wc -c'
}

@test "capabilities and set-id bits of a file go when it is written, exactly as on the source" {
	need setcap
	local mode
	for mode in on off; do
		fxfs_mount -o passthrough=$mode
		both 'chmod 777 .
			new() { rm -f f; cp /dev/null f; chown "$2" f; chmod "$1" f; setcap cap_net_raw+ep f; }
			see() { stat -c "%a %u:%g" f; getcap f; }
			for user in 0 1234; do for mode in 4777 2777 6777 2767 6667; do
				echo "user $user mode $mode"
				new $mode 1234:1234; see
				runas $user sh -c "echo x >>f"; see
				new $mode 1234:1234; runas $user sh -c ": >f"; see
				new $mode 1234:1234; runas $user truncate -s 5 f; see
				new $mode 1234:1234; runas $user xfs_io -c "falloc 0 4k" f; see
				new $mode 1234:1234; runas $user xfs_io -c "mmap 0 1" f; see
				new $mode 1234:1234; runas $user chgrp 1234 f; see
				new $mode 1234:1234; runas $user chown 1234 f; see
				new $mode 1234:4321; runas $user chmod $mode f; see
				new $mode 1234:1234; runas $user touch f; see
			done; done'
		fxfs_unmount
	done
}

@test "supplementary groups count as on the source" {
	fxfs_mount
	both 'chmod 777 .; mkdir shared; chgrp 4321 shared; chmod 2770 shared
		m="runas 1234:1234,4321,4322" # a member
		$m touch shared/f && stat -c "%u:%g %a" shared/f; $m mkdir shared/d && stat -c "%u:%g %a" shared/d
		runas 1235 touch shared/no; runas 1235:1235,4321 cat shared/f; runas 1235:1235,4321 rm shared/f
		$m touch mine; $m chgrp 4322 mine; $m chgrp 4323 mine; $m chmod 2770 mine; stat -c "%u:%g %a" mine
		$m chgrp 4321 mine; stat -c "%u:%g %a" mine; runas 1234 chmod 2770 mine; stat -c "%u:%g %a" mine
		install -m 640 -g 4322 /dev/null secret; $m cat secret; runas 1236 cat secret; $m sh -c "echo >secret"
		$m mkfifo shared/p; $m ln -s x shared/s; stat -c "%u:%g %a" shared/p shared/s
		$m ln mine shared/l; chmod 1777 .; $m rm mine; runas 1235 rm -f secret'
}

@test "a creator's umask, user and groups are those of the new file" {
	fxfs_mount
	both 'chmod 777 .; for mask in 000 022 027 077 777; do
			runas 1234 sh -c "umask $mask; touch f$mask; mkdir d$mask; mkfifo p$mask; mkdir -m 755 e$mask"; done
		chmod 2777 .; runas 1234 mkdir s; runas 1234 touch s/f; chgrp 4321 s; runas 1234 mkdir s/d; runas 1234 touch s/g; ls -lnR s | awk "{print \$1, \$3, \$4}"'
}

@test "an ordinary user is refused what the source refuses" {
	fxfs_mount
	both 'mkdir -m 755 d; touch d/f; mkdir -m 1777 t; touch t/root; runas 1234 touch t/mine; mkdir -m 311 x; touch x/f
		for c in "touch d/g" "rm d/f" "sh -c \"echo >d/f\"" "chmod 777 d/f" "chown 1234 d/f" "mv t/root t/r" "rm t/root" \
			"mknod t/dev c 1 3" "ls x" "cat x/f" "touch x/g" "ln d/f t/hard" "touch -d yesterday d/f" "chgrp 0 t/mine" \
			"setfattr -n user.a -v 1 d/f" "rmdir d" "truncate -s 0 d/f"; do
			echo "$c"; eval "runas 1234 $c"; done 2>&1'
}

# --- much of it ---

# A tree of 200,000 files in 200 directories, in the source. With sanitizers a tenth: they look at code, not at sizes.
DIRECTORIES=${FXFS_SANITIZER:+20}
DIRECTORIES=${DIRECTORIES:-200}
big_tree() {
	perl -e 'for my $d (1 .. $ARGV[1]) { mkdir "$ARGV[0]/$d" or die;
		for my $f (1 .. 1000) { open my $h, ">", "$ARGV[0]/$d/$f" or die } }' "$SRC" "$DIRECTORIES"
}

# What is known of each file, in a few bytes each.
listing() { # DIR
	(cd "$1" && TIME=200 t find . -type f -printf '%p %i %s %m\n' | sort | sha256sum)
}

@test "a tree of 200,000 files works under a limit of 20,000 descriptors, and of 1000" {
	local limit before after server bytes inodes=$((DIRECTORIES * 1001))
	[ "$(ulimit -H -n)" = unlimited ] || [ "$(ulimit -H -n)" -ge 20000 ] || skip "machine lacks 20,000 descriptors"
	mount -t tmpfs none "$SRC" # quickly made
	big_tree
	# The state is memory of all servers together, where it is allocated; the rest is the server's own.
	memory() {
		server=$(fxfs_status server_pid)
		echo $(($(awk '/^RssAnon/ { print $2 }' "/proc/$server/status") + $(stat -c '%b * %B / 1024' "$STATE")))
	}
	# Others on this machine may drop caches meanwhile: then once more, and in the end what each of the known takes.
	all_known() {
		for _ in 1 2 3; do
			[ "$(fxfs_status inodes)" != $inodes ] || return 0
			t find "$MNT" -size +1G
		done
		tell "only $(fxfs_status inodes) of $inodes inodes are known: somebody drops caches"
	}
	for limit in 20000 1000; do
		BEFORE="ulimit -n $limit" fxfs_mount
		before=$(memory)
		equal "$(listing "$SRC")" "$(listing "$MNT")"
		all_known
		after=$(memory)
		bytes=$(((after - before) * 1024 / inodes))
		tell "limit $limit, $inodes inodes: $(descriptors) descriptors, $bytes bytes of memory each"
		[ "$(descriptors)" -lt $limit ]
		[ -n "${FXFS_SANITIZER:-}" ] || [ $bytes -lt 1024 ]
		# All can still be reached, also after a death: by name and by what the kernel remembers.
		kill_server
		equal "$(listing "$SRC")" "$(listing "$MNT")"
		t sh -c "echo hello >'$MNT/13/500'"
		equal hello "$(cat "$SRC/13/500")"
		forgotten
		fxfs_unmount
		: >"$SRC/13/500"
	done
	eventually umount "$SRC" # a server that ends has many descriptors to close
}

@test "programs run from the mount" {
	cp "$(command -v sha256sum)" "$SRC/program"
	printf '#!/bin/sh\necho script "$1"\n' >"$SRC/script"
	chmod 755 "$SRC/script"
	fxfs_mount
	equal "$(sha256sum <"$SRC/program")" "$(t "$MNT/program" <"$SRC/program")"
	equal "script works" "$(t "$MNT/script" works)"
	run t "$MNT"
	[ "$status" -eq 126 ]
	# As on any file system, a program that runs cannot be written.
	cp "$(command -v sleep)" "$SRC/sleep"
	t "$MNT/sleep" 2 &
	sleep 0.5
	run t sh -c "echo x >>'$MNT/sleep'"
	[[ $output == *"Text file busy"* ]]
	wait $!
}

@test "many threads work in one directory" {
	fxfs_mount
	t "$APPS/threads" "$MNT" 64 40
	equal "" "$(ls -A "$SRC")"
	equal 0 "$(fxfs_status restarts)"
}

@test "limits of the writing process hold as on the source" {
	fxfs_mount
	both 'trap "" XFSZ; ulimit -f 8; head -c 100000 /dev/zero >f; stat -c %s f; truncate -s 1m f; stat -c %s f'
}

@test "when all is forgotten no inode, look-up, handle or descriptor is left" {
	mkdir -p "$SRC"/a/b/c
	touch "$SRC"/a/b/c/{1,2,3}
	fxfs_mount
	t stat "$MNT" >/dev/null
	local before
	before=$(descriptors)
	t find "$MNT" -type f -exec cat {} +
	t sh -c "cd '$MNT' && mkdir d && echo x >d/f && ln d/f d/g && mv d/g g && rm d/f && rmdir d && rm g"
	forgotten
	equal 0 "$(fxfs_status handles)"
	equal "$before" "$(descriptors)"
}
