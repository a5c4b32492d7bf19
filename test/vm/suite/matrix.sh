# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=dash disable=SC2086
#
# The crash matrix with the module: each operation, with the server dying at each crash point. Settings: OPTIONS.
# shellcheck source=test/vm/guest.sh
. ./guest.sh

if [ -e fxfuse.ko ]; then check 'the module is loaded' module_load; fi
check 'there is a file system' source_mount ext4
mkdir $SRC/matrix
TIME=6500 t /test/matrix /test/fxfs-crash $SRC/matrix ${OPTIONS-bpf=on bpf=on,passthrough=off,witness=evidence cache=none} \
	>/tmp/matrix 2>&1
result=$?
sed 's/^/# /' /tmp/matrix
check 'nobody notices' equal 0 $result
guest_end
