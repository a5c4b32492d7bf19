# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=dash disable=SC2086
#
# cache=bpf, mounted by the previous version, whose program and tables this one finds, and may not be able to use.
# shellcheck source=test/vm/guest.sh
. ./guest.sh

FILES=200

files_make() { # DIRECTORY GENERATION
	mkdir -p $SRC/$1 && for n in $(seq $FILES); do echo "$2 $n" >$SRC/$1/$n; done
}

# Each is opened, which BPF answers the second time.
files_are() { # DIRECTORY GENERATION
	for n in $(seq $FILES); do echo "$2 $n"; done >/tmp/wanted
	for n in $(seq $FILES); do cat $MNT/$1/$n; done >/tmp/got
	cmp /tmp/wanted /tmp/got
}

# The server opens and closes each for writing, and gives the backing ids back: those of `other` get them. BPF may not open
# an old file by one of these numbers any more.
backing_ids_move() { # GENERATION
	for n in $(seq $FILES); do : >>$MNT/files/$n; done
	files_make other "$1" && files_are other "$1" && files_are files first
}

upgrade() {
	t "$1" --upgrade $MNT && equal "$(t "$1" --version)" "fxfs $(fxfs_status version)"
}

application_is_right() {
	kill $strict
	wait $strict
	tail -n 1 /tmp/strict.out
	tail -n 1 /tmp/strict.out | grep -q ' wrong 0 '
}

check 'the module is loaded' module_load
check 'there is a file system' source_mount ext4
if [ -e /test/previous ]; then
	check 'the previous version mounts' t /test/previous -o bpf=on $SRC $MNT
	check 'with BPF' equal bpf "$(fxfs_status cache)"
	mkdir $SRC/strict
	/test/strict $MNT/strict 100000 >/tmp/strict.out 2>&1 &
	strict=$!
	check 'there are files' files_make files first
	check 'they are what they are' files_are files first
	check 'again' files_are files first
	check 'this version takes over' upgrade $FXFS
	fxfs_status cache | sed 's/^/# cache /'
	check 'files are as they were' files_are files first
	check 'also when their backing ids are given to others' backing_ids_move second
	check 'the previous version takes over again' upgrade /test/previous
	check 'files are still as they were' files_are files first
	check 'also when their backing ids are given to others once more' backing_ids_move third
	check 'an application saw nothing of it' application_is_right
	check 'it unmounts' t umount $MNT
else
	check 'the previous version is not at hand # SKIP machine lacks the history of this repository' true
fi
guest_end
