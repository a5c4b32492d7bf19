# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=dash disable=SC2086
#
# The same random operations on a directory and on a mount, with the module, and changes of the source beside: what BPF answers
# is what the server would have. Settings: SEEDS='1 2', STEPS=3000, FILESYSTEM=ext4, OPTIONS='bpf=on'.
# shellcheck source=test/vm/guest.sh
. ./guest.sh

OPTIONS=${OPTIONS-bpf=on}
if [ -e fxfuse.ko ]; then check 'the module is loaded' module_load; fi
check 'there is a file system' source_mount ${FILESYSTEM:-ext4}
chmod 755 $SRC

same() { # SEED
	rm -rf ${SRC:?}/plain $SRC/source
	mkdir $SRC/plain $SRC/source && t $FXFS ${OPTIONS:+-o $OPTIONS} $SRC/source $MNT && mount_is_right || return
	TIME=900 t /test/difftest --seed $1 --steps ${STEPS:-3000} --other-side $SRC/source $SRC/plain $MNT
	result=$?
	$FXFS --status $MNT | grep bpf
	t umount $MNT
	return $result
}

for seed in ${SEEDS:-1 2}; do
	check "seed $seed" same $seed
	sed 's/^/# /' /tmp/said | tail -n 8
done
guest_end
