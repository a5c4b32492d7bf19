# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=dash disable=SC2086
#
# On each file system: a mount, a tree that is the same on both sides, and strict applications while the server is
# killed; by the module's device where fxfuse.ko is there. Settings: KILLS=40 on each, FILESYSTEMS='ext4 xfs btrfs tmpfs overlay'.
# shellcheck source=test/vm/guest.sh
. ./guest.sh

FILESYSTEMS=${FILESYSTEMS:-ext4 xfs btrfs tmpfs overlay}
KILLS=${KILLS:-40}

# Linux before 6.9 cannot send the requests of a dead server again: fxfs must say so and mount nothing.
refused() {
	t $FXFS $SRC $MNT >/tmp/messages 2>&1
	code=$?
	cat /tmp/messages
	equal 32 $code && grep -q '^fxfs: this kernel cannot send the requests of a dead server again: Linux 6.9' /tmp/messages &&
		! mountpoint -q $MNT
}

tree_make() { # DIRECTORY
	for i in 1 2 3 4 5 6 7 8 9 10; do
		mkdir -p $1/$i/deep/er
		for j in 1 2 3 4 5 6 7 8 9 10; do
			echo "content of $i $j" >$1/$i/$j
			echo "content of $i $j, deeper" >$1/$i/deep/er/$j
		done
		ln -s ../1/$i $1/$i/link
		ln $1/$i/1 $1/$i/hard
	done
}

tree_list() { # DIRECTORY
	(cd $1 && find . | sort | xargs stat -c '%n %f %h %s %Y' && find . -type f | sort | xargs md5sum)
}

# Made on one side, it is the same on the other.
tree_is_same() {
	tree_make $SRC/outside
	tree_make $MNT/inside
	tree_list $SRC >/tmp/tree.source && tree_list $MNT >/tmp/tree.mount || return
	[ "$(wc -l </tmp/tree.mount)" -gt 900 ] && diff /tmp/tree.source /tmp/tree.mount
}

data_is_same() {
	dd if=/dev/urandom of=$MNT/data bs=64k count=160 && cmp $SRC/data $MNT/data && dd if=/dev/zero of=$SRC/data bs=4k \
		seek=100 count=1 conv=notrunc && cmp $SRC/data $MNT/data && rm $MNT/data && ! [ -e $SRC/data ]
}

# The last line an application prints says how many wrong answers it got.
application_end() { # PID OUTPUT
	kill $1
	wait $1
	if equal 0 $? && tail -n 1 $2 | grep ' wrong 0 '; then return; fi
	cat $2
	return 1
}

storm() {
	mkdir $SRC/strict $SRC/crowd
	/test/strict $MNT/strict 100000 >/tmp/strict.out 2>&1 &
	strict=$!
	/test/crowd $MNT/crowd 100000 >/tmp/crowd.out 2>&1 &
	crowd=$!
	TIME=300 t /test/killer -n "$KILLS" $FXFS $MNT 1 50 9 11 6 >/tmp/kills 2>&1
	cat /tmp/kills
	wrong=0
	application_end $strict /tmp/strict.out || wrong=1
	application_end $crowd /tmp/crowd.out || wrong=1
	[ $wrong = 0 ] && tail -n 1 /tmp/kills | grep -q "^kills $KILLS slow 0 " && equal "$KILLS" "$(fxfs_status restarts)"
}

knows_nothing() {
	echo 2 >/proc/sys/vm/drop_caches
	equal '0 0 0 0' "$(fxfs_status inodes) $(fxfs_status nlookup) $(fxfs_status handles) $(fxfs_status in_flight)"
}

survives() { # FILESYSTEM
	check "$1: it mounts" t $FXFS $SRC $MNT
	check "$1: by $DEVICE" mount_is_right
	check "$1: a tree is the same on both sides" tree_is_same
	check "$1: data is the same on both sides" data_is_same
	check "$1: the server dies $KILLS times, and applications get no wrong answer" storm
	rm -rf "${MNT:?}"/*
	check "$1: then nothing is known any more" eventually knows_nothing
	check "$1: it unmounts" t umount $MNT
}

if [ -e fxfuse.ko ]; then check 'the module is loaded' module_load; fi
for filesystem in $FILESYSTEMS; do
	check "$filesystem: there is such a file system" source_mount $filesystem
	case $(uname -r)$DEVICE in
	6.1.*/dev/fuse) check "$filesystem: this kernel is refused" refused ;;
	*) survives $filesystem ;;
	esac
	check "$filesystem: it is free again" source_unmount $filesystem
done
if [ -e fxfuse.ko ]; then check 'the module is unloaded' module_unload; fi
guest_end
