#!/usr/bin/env bats
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# -o uidmap, gidmap: sources that belong to others. What an idmapped mount of the kernel does is what is wanted.

# shellcheck disable=SC2030,SC2031,SC2034,SC2153 # each test is a process of its own, and lib.bash sets FXFS

load lib

declare -gA HELD_PID

# The source is user 1000's, who is root on the mount; 100001 to 100999 are 1 to 999 there.
MAP=uidmap=1000:0,uidmap=100001:1:999,gidmap=1000:0,gidmap=100001:1:999

setup_source() {
	chown 1000:1000 "$SRC"
	install -o 1000 -g 1000 -m 644 /dev/null "$SRC/root"
	install -o 100005 -g 100006 -m 640 /dev/null "$SRC/user"
	install -o 77 -g 78 -m 600 /dev/null "$SRC/stranger"
	echo secret >"$SRC/stranger"
}

owners() { # FILE...
	t stat -c '%u:%g' "$@" | paste -s -d ' '
}

# refused MESSAGE COMMAND...
refused() {
	run t "${@:2}"
	echo "$output"
	[ "$status" != 0 ] && [[ $output == *"$1" ]]
}

OVERFLOW='Value too large for defined data type' # EOVERFLOW

@test "owners are those of the mount in every answer" {
	setup_source
	local cache
	for cache in none ttl auto; do
		fxfs_mount -o "cache=$cache,$MAP"
		equal "0:0 5:6 65534:65534" "$(owners "$MNT/root" "$MNT/user" "$MNT/stranger")"
		# once more, from a listing; and with its birth time, which another request asks for
		fxfs_unmount
		fxfs_mount -o "cache=$cache,$MAP"
		equal "0 0 5 6 65534 65534" "$(t find "$MNT" -type f -printf '%f %U %G\n' | sort | cut -d ' ' -f 2- | paste -s -d ' ' |
			awk '{ print $1, $2, $5, $6, $3, $4 }')"
		equal "5 6" "$(t stat -c '%W %u %g' "$MNT/user" | cut -d ' ' -f 2-)"
		fxfs_unmount
	done
}

@test "what is made and given away belongs to the same user in the source" {
	setup_source
	chmod 777 "$SRC"
	fxfs_mount -o "$MAP"
	t touch "$MNT/by-root"
	t mkdir "$MNT/dir-by-root"
	t runas 5:6 bash -c "cd '$MNT' && touch file && mkdir dir && ln -s x link && mkfifo pipe && ln file name"
	equal "1000:1000 1000:1000" "$(owners "$SRC"/{by-root,dir-by-root})"
	equal "100005:100006 100005:100006 100005:100006 100005:100006" "$(owners "$SRC"/{file,dir,link,pipe})"
	equal "5:6 5:6 5:6 5:6" "$(owners "$MNT"/{file,dir,link,pipe})"
	t chown 7:8 "$MNT/file"
	equal "100007:100008 7:8" "$(owners "$SRC/file" "$MNT/file")"
	t runas 7:8,9 chgrp 9 "$MNT/file"
	equal "100007:100009 7:9" "$(owners "$SRC/file" "$MNT/file")"
	refused 'Operation not permitted' runas 7:8 chown 5 "$MNT/file"
}

@test "who has no id in the source makes nothing, and nothing is given to him" {
	setup_source
	chmod 777 "$SRC"
	fxfs_mount -o "$MAP"
	local id command
	for id in 65534:65534 5:65534 2000:5; do
		for command in "touch x" "mkdir x" "ln -s y x" "mkfifo x"; do
			refused "$OVERFLOW" runas $id bash -c "cd '$MNT' && $command"
		done
	done
	refused "$OVERFLOW" chown 2000 "$MNT/user"
	refused "$OVERFLOW" chown :2000 "$MNT/user"
	refused "$OVERFLOW" chown 65534 "$MNT/user"
	equal "100005:100006" "$(owners "$SRC/user")"
	# what others may do he may
	echo text >"$SRC/root"
	gives text t runas 65534:65534 cat "$MNT/root"
	chmod 666 "$SRC/root"
	eventually t runas 65534:65534 bash -c "echo more >>'$MNT/root'"
	# a name that is there is none that is made
	refused "$OVERFLOW" runas 65534:65534 mv -T "$MNT/root" "$MNT/new"
	t runas 65534:65534 mv -f -T "$MNT/root" "$MNT/user"
}

@test "what belongs to no id of the mount belongs to nobody, not even to user nobody" {
	setup_source
	chmod 777 "$SRC"
	fxfs_mount -o "$MAP"
	refused 'Permission denied' runas 65534:65534 cat "$MNT/stranger"
	refused "$OVERFLOW" runas 65534:65534 chmod 666 "$MNT/stranger"
	refused "$OVERFLOW" runas 65534:65534 rm -f "$MNT/stranger"
	refused "$OVERFLOW" chmod 666 "$MNT/stranger"
	refused 'Permission denied' cat "$MNT/stranger"
	equal "77:78 600" "$(owners "$SRC/stranger") $(stat -c %a "$SRC/stranger")"
}

@test "root without an id in the source is acted for as nobody" {
	install -o 100005 -g 100006 -m 666 /dev/null "$SRC/file"
	chown 100005:100006 "$SRC"
	chmod 777 "$SRC"
	fxfs_mount -o passthrough=off,uidmap=100001:1:999,gidmap=100001:1:999
	refused "$OVERFLOW" touch "$MNT/new"
	t bash -c "echo text >>'$MNT/file'"
	gives 65534 bash -c "cat /proc/$(fxfs_status server_pid)/task/*/status | awk '/^Uid:/ && \$5 { print \$5 }' | sort -u"
	gives 65534 bash -c "cat /proc/$(fxfs_status server_pid)/task/*/status | awk '/^Gid:/ && \$5 { print \$5 }' | sort -u"
}

@test "a map of groups alone leaves users as they are" {
	install -o 7 -g 1000 /dev/null "$SRC/file"
	fxfs_mount -o gidmap=1000:5
	equal 7:5 "$(owners "$MNT/file")"
	t chown 8:5 "$MNT/file"
	equal 8:1000 "$(owners "$SRC/file")"
	refused "$OVERFLOW" chgrp 0 "$MNT/file"
}

@test "set-id bits go as the caller's own groups say" {
	setup_source
	local kept
	install -o 100005 -g 100006 -m 6777 /dev/null "$SRC/both"
	install -o 100005 -g 100006 -m 2767 /dev/null "$SRC/member"
	install -o 100005 -g 100006 -m 2767 /dev/null "$SRC/other"
	fxfs_mount -o "passthrough=off,$MAP"
	t runas 7:7 bash -c "echo text >>'$MNT/both'"
	equal 777 "$(stat -c %a "$SRC/both")"
	# without group execution the bit stays for a member of the group: by fallocate(2), which the kernel leaves to the server
	t runas 7:7,6 fallocate -l 100 "$MNT/member"
	t runas 7:7,8 fallocate -l 100 "$MNT/other"
	equal "2767 767" "$(stat -c %a "$SRC/member" "$SRC/other" | paste -s -d ' ')"
}

@test "ACLs are for the same users, and those of nobody cannot be lost" {
	setup_source
	need setfacl getfacl setfattr
	echo text >"$SRC/user"
	fxfs_mount -o "cache=none,$MAP"
	refused 'Permission denied' runas 7:7 cat "$MNT/user"
	t setfacl -m u:7:r,g:8:rw "$MNT/user"
	gives text t runas 7:7 cat "$MNT/user"
	t runas 9:9,8 bash -c "echo more >>'$MNT/user'"
	gives "user::rw- user:100007:r-- group::r-- group:100008:rw- mask::rw- other::---" \
		bash -c "getfacl -cpn '$SRC/user' | paste -s -d ' ' | sed 's/ *$//'"
	gives "user::rw- user:7:r-- group::r-- group:8:rw- mask::rw- other::---" \
		bash -c "timeout 10 getfacl -cpn '$MNT/user' | paste -s -d ' ' | sed 's/ *$//'"
	refused 'Invalid argument' setfacl -m u:2000:r "$MNT/user"
	setfacl -m u:77:rw "$SRC/user"
	fails grep -q 77 <(t getfacl -cpn "$MNT/user")
	fails grep -q 65534 <(t getfacl -cpn "$MNT/user")
	refused 'Permission denied' runas 77:77 cat "$MNT/user"
	refused 'Permission denied' runas 65534:65534 cat "$MNT/user"
	refused "$OVERFLOW" setfacl -m u:7:rw "$MNT/user"
	refused "$OVERFLOW" setfacl -b "$MNT/user"
	refused "$OVERFLOW" setfattr -x system.posix_acl_access "$MNT/user"
	grep -q user:77:rw- <(getfacl -cpn "$SRC/user")
	t mkdir "$MNT/dir"
	t setfacl -d -m u:7:rwx "$MNT/dir"
	grep -q default:user:100007:rwx <(getfacl -cpn "$SRC/dir")
	t touch "$MNT/dir/file"
	grep -q user:7:rwx <(t getfacl -cpn "$MNT/dir/file")
}

@test "file capabilities are those that root of the mount gave" {
	setup_source
	need setcap getcap
	cp /bin/true "$SRC/theirs"
	setcap cap_net_raw+ep "$SRC/theirs"
	chown 1000:1000 "$SRC"/*
	setcap cap_net_raw+ep "$SRC/theirs" # of root in the source, who is nobody on the mount
	fxfs_mount -o "$MAP"
	t cp /bin/true "$MNT/ours"
	t setcap cap_net_raw+ep "$MNT/ours"
	gives "$SRC/ours cap_net_raw=ep [rootid=1000]" getcap -n "$SRC/ours"
	gives "$MNT/ours cap_net_raw=ep" t getcap -n "$MNT/ours"
	gives "" t getcap -n "$MNT/theirs"
	t "$MNT/theirs"
	t bash -c "echo >>'$MNT/theirs'" # nor are they in the way
	gives "" getcap -n "$SRC/theirs"
}

# All processes of the mount die at once, and it is started again.
handed_over() {
	local pids
	pids="$(fxfs_status monitor_pid) $(fxfs_status server_pid) $(fxfs_status watcher_pid)"
	# shellcheck disable=SC2086 # words
	{ kill -STOP ${pids% 0} && kill -KILL ${pids% 0}; }
	eventually gone "${pids%% *}"
	fxfs_mount -o "hold=$WORK/hold,$MAP"
	equal 1 "$(fxfs_status handovers)"
}

@test "deaths, another program and a hand-over change nothing" {
	setup_source
	chmod 777 "$SRC"
	local event
	"$FXFS" -f --hold "$WORK/hold" >"$WORK/hold.log" 2>&1 3>&- &
	HELD_PID[holder]=$! # teardown ends it
	disown $!
	eventually test -S "$WORK/hold"
	fxfs_mount -o "hold=$WORK/hold,$MAP"
	for event in kill_server kill_monitor "t $FXFS --upgrade $MNT" handed_over; do
		$event
		MONITOR=$(fxfs_status monitor_pid)
		t runas 5:6 touch "$MNT/after-${event%% *}"
		equal "100005:100006 5:6" "$(owners "$SRC/after-${event%% *}" "$MNT/after-${event%% *}")"
		equal "0:0 65534:65534" "$(owners "$MNT/root" "$MNT/stranger")"
		refused "$OVERFLOW" chown 2000 "$MNT/root"
	done
}

@test "everything is made once, and by whom, while servers die" {
	setup_source
	chmod 777 "$SRC"
	fxfs_mount -o "$MAP"
	kill_often 20 60
	# shellcheck disable=SC2016 # for the inner shell
	TIME=120 t runas 5:6,7 bash -e -c 'cd "$1"; for ((i = 0; i < 300; i++)); do
		mkdir "d$i"; echo $i >"d$i/f"; chgrp 7 "d$i/f"; setfacl -m u:9:r "d$i/f"; mv "d$i/f" "f$i"; rmdir "d$i"
	done' bash "$MNT"
	killing_ends 5
	equal "300 100005 100007" "$(find "$SRC" -name 'f[0-9]*' -printf '%U %G\n' | sort | uniq -c | xargs)"
	equal 300 "$(getfacl -cpn "$SRC"/f[0-9]* | grep -c '^user:100009:r--$')"
	equal 300 "$(find "$MNT" -name 'f[0-9]*' -uid 5 -gid 7 | wc -l)"
}

@test "it is as an idmapped mount of the kernel" {
	mkdir "$WORK/plain" "$WORK/kernel" "$WORK/other"
	chown 100000:100000 "$SRC" "$WORK/plain"
	"$APPS/idmapped" "$WORK/plain" "$WORK/kernel" 100000:0:65536 || skip 'machine lacks idmapped mounts of its file system'
	"$APPS/idmapped" "$SRC" "$WORK/other" 100000:0:65536
	fxfs_mount -o uidmap=100000:0:65536,gidmap=100000:0:65536
	TIME=150 t "$(dirname "$APPS")/difftest" --seed 77 --steps 5000 --other-side "$WORK/other" "$WORK/kernel" "$MNT"
	fxfs_unmount
	umount "$WORK/kernel" "$WORK/other"
}

@test "ranges that cannot be are a usage error" {
	local map
	for map in uidmap uidmap= uidmap=1 uidmap=a:1 uidmap=1:2:0 gidmap=1:2:3:4 gidmap=4294967295:0 \
		uidmap=1:2,uidmap=1:3 gidmap=1:10:5,gidmap=100:14; do
		run t "$FXFS" -o "$map" "$SRC" "$MNT"
		echo "$output"
		equal 1 "$status"
		[[ $output == "fxfs: option -o ${map%%map*}map"* ]]
	done
	[[ $output == *": 100:14 overlaps another one" ]]
}

@test "the log says that ids are mapped" {
	fxfs_mount_logged -o "$MAP"
	logged '^fxfs: uidmap: 2 ranges; all other ids are nobody.s$'
}

# The mount once more, at $WORK/idmapped: its users 0 to 999 are 100000 to 100999 there.
idmapped() {
	mkdir -p "$WORK/idmapped"
	t "$APPS/idmapped" "$MNT" "$WORK/idmapped" 0:100000:1000
}

@test "with idmap=on the mount may be idmapped, and what is made there belongs to whom it should" {
	[ "$(uname -r | awk -F '[.-]' '{ print $1 * 1000 + $2 }')" -ge 6012 ] || skip 'machine lacks Linux 6.12'
	chmod 777 "$SRC"
	install -o 5 -g 6 -m 600 /dev/null "$SRC/file"
	fxfs_mount_logged -o idmap=on
	logged 'idmap=on: the mount may be idmapped'
	idmapped
	equal 100005:100006 "$(owners "$WORK/idmapped/file")"
	t runas 100007:100008 bash -c "cd '$WORK/idmapped' && touch new && mkdir dir && ln new name && mv new moved && ln -s x link"
	equal "7:8 7:8 7:8" "$(owners "$SRC"/{moved,dir,link})"
	refused 'Permission denied' runas 7:8 cat "$WORK/idmapped/file"
	refused "$OVERFLOW" runas 7:8 touch "$WORK/idmapped/other"
	kill_server
	t runas 100005:100006 bash -c "echo text >>'$WORK/idmapped/file'"
	equal text "$(cat "$SRC/file")"
	kill_monitor
	t chown 100009:100010 "$WORK/idmapped/file"
	equal "9:10 9:10" "$(owners "$SRC/file" "$MNT/file")"
	# and beside it as ever
	t runas 7:8 touch "$MNT/plain"
	equal 7:8 "$(owners "$SRC/plain")"
	t runas 7:8 rm "$MNT/plain"
	t umount "$WORK/idmapped"
}

@test "both kinds of maps go together" {
	[ "$(uname -r | awk -F '[.-]' '{ print $1 * 1000 + $2 }')" -ge 6012 ] || skip 'machine lacks Linux 6.12'
	setup_source
	chmod 777 "$SRC"
	fxfs_mount -o "idmap=on,$MAP"
	idmapped
	equal 100005:100006 "$(owners "$WORK/idmapped/user")"
	t runas 100007:100008 bash -c "cd '$WORK/idmapped' && touch new && ln new name && mv new moved"
	equal "100007:100008 7:8" "$(owners "$SRC/moved" "$MNT/moved")"
	t umount "$WORK/idmapped"
}

@test "without idmap=on it may not" {
	fxfs_mount
	refused 'Invalid argument' "$APPS/idmapped" "$MNT" "$WORK" 0:100000:1000
}

@test "with idmap=on who makes nothing is acted for as nobody" {
	[ "$(uname -r | awk -F '[.-]' '{ print $1 * 1000 + $2 }')" -ge 6012 ] || skip 'machine lacks Linux 6.12'
	touch "$SRC/file"
	setfattr -n trusted.name -v value "$SRC/file"
	fxfs_mount -o idmap=on,passthrough=off
	t bash -c "echo text >>'$MNT/file'"
	gives 65534 bash -c "cat /proc/$(fxfs_status server_pid)/task/*/status | awk '/^Uid:/ && \$5 { print \$5 }' | sort -u"
	gives "" t getfattr -m . "$MNT/file"
	t mkdir "$MNT/dir"
	equal 0:0 "$(owners "$SRC/dir")"
}
