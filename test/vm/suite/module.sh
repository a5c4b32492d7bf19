# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=dash disable=SC2086
#
# The module itself: what it is called, that it comes and goes beside the kernel's own fuse, and that fxfs uses which is
# asked for. Settings: LOADS=100.
# shellcheck source=test/vm/guest.sh
. ./guest.sh

LOADS=${LOADS:-100}

# Linux before 6.9 is refused by its own device, and is served by the module's.
case $(uname -r) in
6.1.*) OWN=refused ;;
*) OWN=served ;;
esac

names_are_its_own() {
	awk '{ print $NF }' /proc/filesystems | grep -x -e fxfuse -e fxfusectl -e fxfuseblk | sort | tr '\n' ' ' >/tmp/names
	equal 'fxfuse fxfuseblk fxfusectl ' "$(cat /tmp/names)" && [ -c /dev/fxfuse ] && [ -d /sys/fs/fxfuse/connections ] &&
		[ -d /sys/fs/fuse/connections ]
}

# A mount on tmpfs or none: served [OPTIONS]
served() {
	t $FXFS ${1:+-o "$1"} $SRC $MNT && mount_is_right && echo hello >$MNT/file && equal hello "$(cat $SRC/file)" && t umount $MNT
}

refused() {
	t $FXFS ${1:+-o "$1"} $SRC $MNT 2>/tmp/messages
	code=$?
	cat /tmp/messages
	equal 32 $code && grep -q 'Linux 6.9' /tmp/messages
}

without_it_fails() {
	t $FXFS -o device=fxfuse $SRC $MNT 2>/tmp/messages
	code=$?
	cat /tmp/messages
	equal 32 $code && grep -q '^fxfs: cannot open /dev/fxfuse: No such file' /tmp/messages
}

by_own_device() {
	DEVICE=/dev/fuse TYPE=fuse.fxfs
	$OWN device=fuse
	result=$?
	DEVICE=/dev/fxfuse TYPE=fxfuse.fxfs
	return $result
}

# While something is mounted the module must stay, and goes when it is not.
mounted_it_stays() {
	t $FXFS $SRC $MNT && umount /sys/fs/fxfuse/connections || return
	if rmmod fxfuse; then
		echo 'it was unloaded under a mount'
		return 1
	fi
	t umount $MNT && eventually rmmod fxfuse && [ ! -e /dev/fxfuse ]
}

# Again and again, while the kernel's own fuse serves another mount, where it can.
comes_and_goes() {
	if [ $OWN = served ]; then
		t $FXFS -o device=fuse $SRC $MNT && mkdir $MNT/strict || return
		/test/strict $MNT/strict 100000 >/tmp/strict.out 2>&1 &
		strict=$!
	fi
	n=0
	while [ $n -lt $LOADS ]; do
		insmod ./fxfuse.ko && rmmod fxfuse || return
		n=$((n + 1))
	done
	[ $OWN = served ] || return 0
	kill $strict
	wait $strict && t umount $MNT
}

# Each time with a mount that is used, and whose server dies.
comes_serves_and_goes() {
	n=0
	while [ $n -lt $((LOADS / 10)) ]; do
		insmod ./fxfuse.ko && t $FXFS $SRC $MNT && echo $n >$MNT/number && kill -9 "$(fxfs_status server_pid)" &&
			equal $n "$(t cat $MNT/number)" && t umount $MNT && eventually rmmod fxfuse || return
		n=$((n + 1))
	done
}

check 'there is a file system' source_mount tmpfs
check "without it the kernel's own device is used" $OWN
check 'without it device=fxfuse fails' without_it_fails
check 'it is loaded' module_load
check 'its names are its own' names_are_its_own
check 'it is used' served
check 'it is used where asked for' served device=fxfuse
check "the kernel's own is used where asked for" by_own_device
check 'it stays while something is mounted' mounted_it_stays
check "it comes and goes $LOADS times" comes_and_goes
check "it comes, serves and goes $((LOADS / 10)) times" comes_serves_and_goes
guest_end
