# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=dash disable=SC2086
# modules: nfsd nfsv4
#
# A source on NFS, server and client in this kernel. /export is what another machine would see. Then all that the suite
# survive asks of a local file system.
# shellcheck source=test/vm/guest.sh
. ./guest.sh

mounts_and_says_what_is_off() {
	t $FXFS -f -o watchdog=2 $SRC $MNT 2>/tmp/log &
	eventually mount_is_right || return
	cat /tmp/log
	equal ttl "$(fxfs_status cache)" && grep -q 'is not watched: others than this machine may change it' /tmp/log
}

# On the NFS server, as by another machine.
changes_are_seen() {
	echo one >/export/changed && eventually equal one "$(cat $MNT/changed)" || return
	stat $MNT/removed
	echo two >/export/changed && mv /export/changed /export/moved && touch /export/removed
	eventually is_so
}

is_so() {
	[ ! -e $MNT/changed ] && [ "$(cat $MNT/moved)" = two ] && [ -e $MNT/removed ]
}

# The network is gone for much longer than the watchdog waits. Nothing is wrong with the server, and it stays.
outage_is_waited_for() {
	server=$(fxfs_status server_pid)
	outage_begins
	sleep 8
	equal "0 $server" "$(fxfs_status restarts) $(fxfs_status server_pid)" && still_waits && outage_ends
}

outage_begins() {
	mkdir -p /export/far && rm -rf /export/far/* && sleep 4 # attributes that the client still had would do
	ifconfig lo down
	(mkdir $MNT/far/made && echo written >$MNT/far/written && cat $MNT/far/written) >/tmp/waiting 2>&1 &
	waiting=$!
}

still_waits() {
	[ -d /proc/$waiting ] && [ ! -s /tmp/waiting ]
}

outage_ends() {
	ifconfig lo up
	TIME=120 t sh -c "while [ -d /proc/$waiting ]; do sleep 0.1; done"
	wait $waiting && equal written "$(cat /tmp/waiting)" && [ -d /export/far/made ]
}

check 'nfs: there is such a file system' source_mount nfs
check 'nfs: it mounts, and says what is off' mounts_and_says_what_is_off
check "nfs: another machine's changes are seen" changes_are_seen
check 'nfs: an outage is waited for' outage_is_waited_for
check 'nfs: it unmounts' t umount $MNT
check 'nfs: it is free again' source_unmount nfs

FILESYSTEMS=nfs
# shellcheck source=test/vm/suite/survive.sh
. ./survive.sh
