# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=dash disable=SC2086,SC2231,SC2119,SC2120,SC2010
#
# cache=bpf, with the module: what it saves, that nothing it says is old, and how it ends. Settings: FILES=2000,
# LOOKS=20000 on each of FILESYSTEMS='ext4 xfs btrfs tmpfs'.
# shellcheck source=test/vm/guest.sh
. ./guest.sh

FILESYSTEMS=${FILESYSTEMS:-ext4 xfs btrfs tmpfs}
FILES=${FILES:-2000}
LOOKS=${LOOKS:-20000}
STAT=/bin/stat # by its path: what busybox runs of itself for xargs spoils the names of the next time

status_line() {
	$FXFS --status $MNT | sed -n 's/^\(requests\|inodes\|kept_inodes\|nlookup\|bpf_[a-z]*\) */\1 /p' | tr '\n' ' '
	echo
}

mounts_with_it() { # [OPTIONS]
	t $FXFS -o bpf=on${1:+,$1} $SRC $MNT && mount_is_right && equal bpf "$(fxfs_status cache)"
}

tree_make() { # FILES
	mkdir $SRC/tree
	n=0
	while [ $n -lt $1 ]; do
		[ $((n % 100)) != 0 ] || mkdir $SRC/tree/$((n / 100))
		echo $n >$SRC/tree/$((n / 100))/$n
		n=$((n + 1))
	done
}

kernel_forgot() {
	equal 0 "$(fxfs_status inodes)"
}

tree_walk() {
	find $MNT/tree -type f -exec $STAT -c %s {} + >/tmp/sizes && equal $FILES "$(wc -l </tmp/sizes)"
}

# Names that were known are looked up, and attributes asked for, without a message; so are names that are not there.
looks_are_answered() {
	tree_walk && tree_walk || return
	echo 2 >/proc/sys/vm/drop_caches
	eventually kernel_forgot
	before=$(fxfs_status requests)
	n=0
	while [ $n -lt $FILES ]; do
		echo $MNT/tree/$((n / 100))/$n
		n=$((n + 1))
	done >/tmp/names
	xargs $STAT -c %s </tmp/names >/tmp/sizes
	after=$(fxfs_status requests)
	status_line
	equal $FILES "$(wc -l </tmp/sizes)" && equal 0 $((after - before))
}

few_are_missed() { # PREFIX
	for suffix in a b c d; do
		for directory in $MNT/tree/*; do
			[ ! -e $directory/$1-$suffix ] || return
		done
	done
}

# Each a name that nobody has asked for, in directories where a few were.
missing_names_are_answered() {
	few_are_missed one || return
	before=$(fxfs_status requests)
	sed 's/$/-missing/' /tmp/names | xargs $STAT -c %s >/tmp/sizes 2>/tmp/errors
	after=$(fxfs_status requests)
	status_line
	equal $FILES "$(grep -c 'No such file' /tmp/errors)" && equal 0 $((after - before)) || return
	echo there >$SRC/tree/0/0-missing
	equal there "$(cat $MNT/tree/0/0-missing)" && rm $SRC/tree/0/0-missing && [ ! -e $MNT/tree/0/0-missing ]
}

# Nobody answers but the program.
answered_without_server() {
	few_are_missed other && xargs $STAT -c %s </tmp/names >/tmp/sizes || return
	kill -STOP "$(fxfs_status monitor_pid)" && kill -9 "$(fxfs_status server_pid)" || return
	sed 's/$/-missing/' /tmp/names | TIME=30 t xargs $STAT -c %s >/tmp/sizes 2>/tmp/errors
	TIME=30 t xargs $STAT -c %s </tmp/names >/tmp/sizes 2>&1
	kill -CONT "$(fxfs_status monitor_pid)"
	equal $FILES "$(wc -l </tmp/sizes)" && equal $FILES "$(grep -c 'No such file' /tmp/errors)"
}

# Opening, reading and closing send nothing; nor is anything lost by it.
files_are_opened() {
	TIME=200 t xargs cat </tmp/names >/tmp/first && TIME=200 t xargs cat </tmp/names >/tmp/first || return
	echo 2 >/proc/sys/vm/drop_caches
	eventually kernel_forgot || return
	before=$(fxfs_status requests)
	xargs cat </tmp/names >/tmp/second
	after=$(fxfs_status requests)
	status_line
	cmp /tmp/first /tmp/second && equal $FILES "$(wc -l </tmp/second)" && equal 0 $((after - before))
}

# So are directories, and what changes in them is seen.
directories_are_listed() {
	for n in 1 2 3; do find $MNT/tree >/tmp/list; done
	before=$(fxfs_status requests)
	find $MNT/tree >/tmp/list
	after=$(fxfs_status requests)
	status_line
	equal "$(find $SRC/tree | wc -l)" "$(wc -l </tmp/list)" && equal 0 $((after - before)) || return
	n=0
	while [ $n -lt 30 ]; do
		: >$SRC/tree/0/new-$n
		[ "$(ls $MNT/tree/0 | grep -c new)" = $((n + 1)) ] || return
		n=$((n + 1))
	done
	rm $SRC/tree/0/new-* && [ "$(ls $MNT/tree/0 | grep -c new)" = 0 ]
}

# Several read the same: one's entries, of before a change, are not what another knows since.
listings_are_true() {
	TIME=${LOOK_SECONDS:-400} t /test/look $SRC $MNT $LOOKS 1 both listing
}

# look OPTIONS ['both']
looks_are_true() {
	rm -rf ${SRC:?}/*
	TIME=${LOOK_SECONDS:-400} t /test/look $SRC $MNT $LOOKS 1 $1 >/tmp/look 2>&1
	result=$?
	cat /tmp/look
	status_line
	[ $result = 0 ] && [ "$(fxfs_status bpf_hits)" -gt $((LOOKS / 20)) ]
}

looks_are_true_under_kills() {
	/test/killer -n 100000 $FXFS $MNT 40 60 9 >/tmp/kills 2>&1 &
	killer=$!
	looks_are_true $1
	result=$?
	kill -INT $killer
	wait $killer
	tail -n 1 /tmp/kills
	[ $result = 0 ] && [ "$(fxfs_status restarts)" -gt 5 ]
}

# Each program answers for its own mount, and one ends while the other is used.
two_mounts() {
	mkdir -p $SRC/one $SRC/two /tmp/other && echo 1 >$SRC/one/name && echo 22 >$SRC/two/name || return
	t $FXFS -o bpf=on $SRC/one $MNT && t $FXFS -o bpf=on $SRC/two /tmp/other || return
	(while equal '2 3' "$(stat -c %s $MNT/name) $(stat -c %s /tmp/other/name)"; do :; done) >/tmp/both 2>&1 &
	both=$!
	sleep 2
	kill -0 $both && kill $both
	result=$?
	wait $both
	(while equal 2 "$(stat -c %s $MNT/name)"; do :; done) >/tmp/first 2>&1 &
	first=$!
	n=0
	while [ $n -lt 5 ]; do
		t umount /tmp/other && t $FXFS -o bpf=on $SRC/two /tmp/other && equal 3 "$(stat -c %s /tmp/other/name)" || result=1
		n=$((n + 1))
	done
	t umount /tmp/other
	kill -0 $first && kill $first || result=1
	wait $first
	cat /tmp/both /tmp/first
	t umount $MNT && return $result
}

# An upgrade, a hand-over: the next program of fxfs has the tables of the one before, or its own.
goes_on() {
	t $FXFS --hold /tmp/hold && t $FXFS -o bpf=on,hold=/tmp/hold $SRC $MNT && echo here >$MNT/here &&
		equal 5 "$(stat -c %s $MNT/here)" || return
	{ while [ ! -e /tmp/over ]; do sleep 0.1; done; cat; } <$MNT/here >/tmp/read &
	reader=$!
	hits=$(fxfs_status bpf_hits)
	t $FXFS --upgrade $MNT && equal bpf "$(fxfs_status cache)" && equal 5 "$(stat -c %s $MNT/here)" &&
		[ "$(fxfs_status bpf_hits)" -gt "$hits" ] || return
	kill -9 "$(fxfs_status monitor_pid)" "$(fxfs_status server_pid)"
	t $FXFS -o bpf=on,hold=/tmp/hold $SRC $MNT && equal bpf "$(fxfs_status cache)" || return
	touch /tmp/over
	wait $reader
	rm /tmp/over
	equal here "$(cat /tmp/read)" && equal 5 "$(stat -c %s $MNT/here)" && equal here "$(cat $MNT/here)" &&
		equal here "$(cat $MNT/here)" && [ "$(fxfs_status bpf_hits)" -gt 0 ] && t umount $MNT && rm $SRC/here || return
	kill "$(pidof fxfs)" # the holder
	eventually test ! -e /tmp/hold
}

check 'the module is loaded' module_load
for filesystem in $FILESYSTEMS; do
	check "$filesystem: there is such a file system" source_mount $filesystem
	check "$filesystem: it mounts" mounts_with_it
	check "$filesystem: there is a tree" tree_make $FILES
	check "$filesystem: known names are answered without a request" looks_are_answered
	sed 's/^/# /' /tmp/said
	check "$filesystem: known files are opened, read and closed without a request" files_are_opened
	sed 's/^/# /' /tmp/said
	check "$filesystem: known directories are listed without a request" directories_are_listed
	sed 's/^/# /' /tmp/said
	check "$filesystem: a listing that was begun before a change is not taken for a later one" listings_are_true
	rm -rf ${SRC:?}/listing-*
	check "$filesystem: names that are missing are answered without a request" missing_names_are_answered
	sed 's/^/# /' /tmp/said
	check "$filesystem: they are while there is no server" answered_without_server
	check "$filesystem: $LOOKS looks find no old answer" looks_are_true
	sed 's/^/# /' /tmp/said
	check "$filesystem: the same with changes from both sides" looks_are_true both
	sed 's/^/# /' /tmp/said
	check "$filesystem: the same while the server is killed" looks_are_true_under_kills
	sed 's/^/# /' /tmp/said
	check "$filesystem: it unmounts" t umount $MNT
	check "$filesystem: it mounts with room for 64 answers" mounts_with_it bpf_entries=64
	check "$filesystem: then too looks find no old answer" looks_are_true_under_kills both
	sed 's/^/# /' /tmp/said
	check "$filesystem: it unmounts again" t umount $MNT
	rm -rf ${SRC:?}/*
	check "$filesystem: two mounts" two_mounts
	check "$filesystem: an upgrade and a hand-over" goes_on
	rm -rf ${SRC:?}/*
	check "$filesystem: it is free again" source_unmount $filesystem
done
check 'the module is unloaded' module_unload
guest_end
