# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=dash disable=SC2086
# append: lsm=landlock,lockdown,yama,integrity,apparmor
#
# Where cache=bpf cannot be had: without the module, without BPF among the security modules, without BTF, with a module that
# has not what the program calls. The mount works with the next level of cache, the log says why, and bpf=on fails with it.
# shellcheck source=test/vm/guest.sh
. ./guest.sh

works_without() { # WHY [OPTIONS]
	$FXFS -f ${2:+-o $2} $SRC $MNT >/tmp/log 2>&1 &
	monitor=$!
	eventually grep -q ': ready' /tmp/log && equal watch "$(fxfs_status cache)" && echo hello >$MNT/file &&
		equal hello "$(cat $SRC/file)" && t umount $MNT && wait $monitor
	result=$?
	cat /tmp/log
	[ $result = 0 ] && grep -q "^fxfs: cache=bpf: off: $1" /tmp/log
}

refuses() { # WHY
	t $FXFS -o bpf=on $SRC $MNT >/tmp/log 2>&1
	code=$?
	cat /tmp/log
	equal 2 $code && grep -q "^fxfs: cache=bpf: cannot be had: $1" /tmp/log && ! mountpoint -q $MNT
}

both() { # NAME WHY
	check "$1: it works without" works_without "$2"
	check "$1: bpf=on says why not" refuses "$2"
}

# The same module, but for one name of the same length.
other_module_load() {
	sed s/fxfuse_answer_open/fxfuse_answer_opan/g fxfuse.ko >/tmp/other.ko
	insmod /tmp/other.ko && mount -t fxfusectl fxfusectl /sys/fs/fxfuse/connections
}

no_btf() {
	: >/tmp/empty
	mount --bind /tmp/empty /sys/kernel/btf/vmlinux
}

check 'there is a file system' source_mount ext4
case $(uname -r) in
6.1.*) # nothing is mounted there without the module
	check 'the module is loaded' module_load
	both 'a module without BPF' 'the program: '
	;;
*)
	both 'no module' 'the mount is not one of the kernel module fxfuse'
	check 'asked for' works_without 'asked for' bpf=off
	check 'another cache was asked for' works_without 'asked for' cache=watch
	check 'the module is loaded' module_load
	both 'no BPF among the security modules' 'BPF is none of the '
	check 'BTF is taken away' no_btf
	both 'no BTF' 'the program: '
	check 'BTF is there' umount /sys/kernel/btf/vmlinux
	check 'the module is unloaded' module_unload
	check 'another module is loaded' other_module_load
	both 'another module' 'the program: '
	;;
esac
check 'the module is unloaded' module_unload
guest_end
