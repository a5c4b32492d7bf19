# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=dash
#
# What the suites share, inside the virtual machine: busybox's shell runs it. A suite prints TAP: `check NAME COMMAND...`
# is one test, `guest_end` the last thing it does.

SRC=/tmp/source MNT=/tmp/mount
FXFS=/test/fxfs
export SRC MNT FXFS
# shellcheck disable=SC1091
. ./settings
tests=${tests:-0} failures=${failures:-0} # a suite may go on with another
mkdir -p $SRC $MNT

# The device that fxfs is expected to use, and the type of the mount.
DEVICE=/dev/fuse TYPE=fuse.fxfs

module_load() {
	insmod ./fxfuse.ko && mount -t fxfusectl fxfusectl /sys/fs/fxfuse/connections || return
	DEVICE=/dev/fxfuse TYPE=fxfuse.fxfs
}

module_unload() {
	DEVICE=/dev/fuse TYPE=fuse.fxfs
	umount /sys/fs/fxfuse/connections && eventually rmmod fxfuse
}

# Runs a command with a time limit. A file system that is being tested may hang whoever touches it.
t() {
	timeout -k 5 "${TIME:-60}" "$@"
}

# check NAME COMMAND...: what it prints is shown if it fails.
check() {
	name=$1
	shift
	tests=$((tests + 1))
	if "$@" >/tmp/said 2>&1; then
		echo "ok $tests - $name"
	else
		echo "not ok $tests - $name"
		sed 's/^/# /' /tmp/said | tail -n 30
		failures=$((failures + 1))
	fi
}

equal() { # WANTED GOT
	[ "$1" = "$2" ] && return 0
	printf 'wanted: %s\ngot:    %s\n' "$1" "$2"
	return 1
}

eventually() {
	local tries=0
	while [ $tries -lt 200 ]; do
		if "$@" >/dev/null 2>&1; then return 0; fi
		sleep 0.1
		tries=$((tries + 1))
	done
	echo "still not after 20 seconds: $*"
	"$@"
}

# fxfs_status KEY
fxfs_status() {
	t $FXFS --status $MNT --json | sed -n 's/.*"'"$1"'" *: *"\{0,1\}\([^",}]*\).*/\1/p' | head -n 1
}

# True if the mount is what it should be by device and type.
mount_is_right() {
	equal $DEVICE "$(fxfs_status device)" && equal $TYPE "$(awk -v at=$MNT '$2 == at { print $3 }' /proc/mounts)"
}

# What the kernel complained of since the machine was switched on.
kernel_is_well() {
	! dmesg | grep -E -A 30 'WARNING|BUG|Oops|UBSAN|general protection|refcount_t|blocked for more than|tainted:'
}

# source_mount FILESYSTEM: an empty one, on $SRC. The disks are those of test/vm/boot.
source_mount() {
	case $1 in
	ext4) disk=/dev/vda ;;
	xfs) disk=/dev/vdb ;;
	btrfs) disk=/dev/vdc ;;
	tmpfs) disk=tmpfs ;;
	nfs)
		nfs_mount
		return
		;;
	overlay)
		mkdir -p /run/overlay
		mount -t tmpfs tmpfs /run/overlay && mkdir /run/overlay/lower /run/overlay/upper /run/overlay/work &&
			mount -t overlay -o lowerdir=/run/overlay/lower,upperdir=/run/overlay/upper,workdir=/run/overlay/work \
				overlay $SRC
		return
		;;
	esac
	mount -t "$1" "$disk" $SRC
}

source_unmount() { # FILESYSTEM
	eventually umount $SRC || return
	case $1 in
	overlay) umount /run/overlay ;;
	nfs) nfs_server_stop && eventually umount /export ;;
	esac
}

# --- NFS: server and client of this kernel -------------------------------------------------------------------------

# The kernel asks mountd(8) who may mount what, and keeps the answers; here they are given before it asks.
nfs_server_start() {
	local until
	until=$(($(date +%s) + 100000))
	mkdir -p /export
	mount -t ext4 /dev/vda /export && mount -t nfsd nfsd /proc/fs/nfsd && ifconfig lo 127.0.0.1 up || return
	nfs_knows auth.unix.ip "nfsd 127.0.0.1 $until everybody" &&
		nfs_knows nfsd.export "everybody /export $until 9218 65534 65534 0" && # any port, no subtree check, fsid
		nfs_knows nfsd.fh "everybody 1 \\x00000000 $until /export" || return
	echo -3 >/proc/fs/nfsd/versions
	echo 10 >/proc/fs/nfsd/nfsv4gracetime # at least; until then nobody can open a file
	echo 'tcp 2049' >/proc/fs/nfsd/portlist
	echo 8 >/proc/fs/nfsd/threads
}

nfs_knows() { # CACHE LINE
	printf '%s\n' "$2" >"/proc/net/rpc/$1/channel"
}

nfs_server_stop() {
	echo 0 >/proc/fs/nfsd/threads && umount /proc/fs/nfsd
}

nfs_mount() {
	nfs_server_start && eventually mount -t nfs4 -o vers=4.2,addr=127.0.0.1,clientaddr=127.0.0.1 127.0.0.1:/ $SRC
}

guest_end() {
	check 'the kernel complains of nothing' kernel_is_well
	echo "1..$tests"
	[ "$failures" = 0 ]
	exit
}
