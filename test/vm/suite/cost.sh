# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=dash disable=SC2086,SC2154
# machine: -icount shift=0 -smp 1
#
# How many instructions a look-up takes that the kernel's own cache answers (the source's), BPF, and the server. One core that
# counts them: each run gives nearly the same.
# shellcheck source=test/vm/guest.sh
. ./guest.sh

FILES=1000

# How many a call takes: the least of ROUNDS; COLD=1: the kernel has forgotten the names.
cost() { # stat|open PATH EXPECTED
	[ "${COLD:-}" != 1 ] || echo 2 >/proc/sys/vm/drop_caches
	TIME=500 t /test/cost $FILES ${ROUNDS:-5} $1 $2 >/tmp/cost || return
	read -r instructions found </tmp/cost
	[ $found = $3 ]
}

# What is more than on the source: in thousandths of what the server takes.
share() { # SOURCE BPF SERVER
	echo $((($2 - $1) * 1000 / ($3 - $1)))
}

row() { # NAME SOURCE BPF SERVER
	part=$(share $2 $3 $4)
	[ $part -ge 0 ] || part=0
	printf '# %-28s %9s %9s %9s %12s %%\n' "$1" "$2" "$3" "$4" "$((part / 10)).$((part % 10))"
}

measure() { # PREFIX DIRECTORY
	cost stat $2/tree $FILES && eval "$1_stat=$instructions" &&
		cost stat $2/tree/missing 0 && eval "$1_missing=$instructions" &&
		cost open $2/tree $FILES && eval "$1_open=$instructions" &&
		COLD=1 ROUNDS=1 cost stat $2/tree $FILES && eval "$1_cold=$instructions"
}

measure_mount() { # PREFIX OPTIONS
	t $FXFS -o $2 $SRC $MNT && mount_is_right && cost stat $MNT/tree $FILES && cost open $MNT/tree $FILES &&
		cost stat $MNT/tree/missing 0 && measure $1 $MNT && t umount $MNT
}

tree_make() {
	mkdir $SRC/tree $SRC/tree/missing
	n=0
	while [ $n -lt $FILES ]; do
		echo $n >$SRC/tree/$n
		n=$((n + 1))
	done
}

table() {
	printf '# %-28s %9s %9s %9s %14s\n' 'instructions' source BPF server 'more: BPF/server'
	row 'stat' $source_stat $bpf_stat $server_stat
	row 'stat, not in the dcache' $source_cold $bpf_cold $server_cold
	row 'stat of a missing name' $source_missing $bpf_missing $server_missing
	row 'open + read + close' $source_open $bpf_open $server_open
}

# Target: under 5% of the server's.
is_cheap() { # SOURCE BPF SERVER
	[ "$(share $1 $2 $3)" -lt 50 ]
}

check 'the module is loaded' module_load
check 'there is a file system' source_mount ext4
check 'there is a tree' tree_make
check 'the source' measure source $SRC
check 'BPF' measure_mount bpf bpf=on
check 'the server' measure_mount server cache=none,wake=plain
table
check 'stat by BPF takes less than a twentieth' is_cheap $source_stat $bpf_stat $server_stat
check 'so does that of a missing name' is_cheap $source_missing $bpf_missing $server_missing
guest_end
