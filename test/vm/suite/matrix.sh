# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=dash disable=SC2086
#
# The crash matrix with the module: each operation, with the server dying at each crash point. Settings: OPTIONS='bpf=on'.
# shellcheck source=test/vm/guest.sh
. ./guest.sh

if [ -e fxfuse.ko ]; then check 'the module is loaded' module_load; fi
check 'there is a file system' source_mount ext4
mkdir $SRC/matrix
for options in ${OPTIONS-bpf=on bpf=on,witness=evidence}; do
	TIME=5000 t /test/matrix /test/fxfs-crash $SRC/matrix "$options" >/tmp/matrix 2>&1
	result=$?
	sed 's/^/# /' /tmp/matrix
	check "the matrix with $options" equal 0 $result
done
guest_end
