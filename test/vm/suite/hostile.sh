# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=dash disable=SC2086
#
# The kernel stays well whatever a server answers, and whatever stands in the tables that the BPF program reads.
# Settings: HOSTILE=20 seconds of each, SEED=1.
# shellcheck source=test/vm/guest.sh
. ./guest.sh

HOSTILE=${HOSTILE:-20} SEED=${SEED:-1}

answers_anything() {
	TIME=$((HOSTILE + 60)) t /test/hostile /dev/fxfuse fxfuse $MNT $HOSTILE $SEED
}

# Programs use the mount all the while; what they get does not matter, but it must go on.
tables_say_anything() {
	t $FXFS -o bpf=on $SRC $MNT || return
	/test/look $SRC $MNT 100000000 1 both >/tmp/look 2>&1 &
	look=$!
	(while :; do find $SRC $MNT -type f -exec cat {} + >/dev/null 2>&1; done) &
	walk=$!
	TIME=$((HOSTILE + 60)) t /test/hostile --tables $HOSTILE $SEED
	result=$?
	kill $look $walk
	wait $look $walk
	eventually umount $MNT && return $result
}

check 'the module is loaded' module_load
check 'there is a file system' source_mount ext4
check "a server answers anything, for $HOSTILE s" answers_anything
sed 's/^/# /' /tmp/said
case $(uname -r) in
6.1.*) ;;
*)
	check "the tables say anything, for $HOSTILE s" tables_say_anything
	sed 's/^/# /' /tmp/said
	check 'a mount with tables of its own is right' t $FXFS -o bpf=on $SRC $MNT
	check 'it unmounts' t umount $MNT
	;;
esac
check 'the module is unloaded' module_unload
guest_end
