# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
#
# The programs of test/bench. program_NAME does its work below $AT/read, which is the same for all file systems, or in
# $HERE, a directory that is empty, and prints a line for each thing it takes the time of. What it
# names 'cold' comes first, after the kernel has forgotten names and inodes; 'warm' is the same again at once.

PROGRAMS=(git-status find grep tar-c compile modules git-clone tar-x cp-a rm-r sqlite fio)

# Whether a part is left out on what is mounted read-only.
writes() { # PART
	[[ $1 =~ ^(git-clone|tar-x|cp-a|rm-r|sqlite|fio)$ ]]
}

# --- what they work on -------------------------------------------------------------------------------------

# A part of the kernel's source. It takes half a minute to unpack, so it is kept.
tree_unpack() { # DIR
	local kernel kept
	kernel=$(compgen -G '/usr/src/linux-source-*.tar.xz' | head -n 1)
	[ -n "$kernel" ] || die 'there is no source of the kernel'
	kept=$O/bench-tree.$(echo "$kernel ${PARTS[*]}" | cksum | cut -d ' ' -f 1).tar
	if [ ! -e "$kept" ]; then
		progress "unpacking a part of $kernel"
		local name=${kernel##*/}
		xz -dc "$kernel" | tar -x -C "$1" --strip-components=1 "${PARTS[@]/#/${name%.tar.xz}/}" || return
		tar -C "$1" -cf "$kept.new" . && mv "$kept.new" "$kept" || return
	else
		tar -C "$1" -xf "$kept" || return
	fi
	TREE_TAR=$kept
}

# Directories to search, and headers, each of which is in the last third of them.
includes_make() { # DIR
	local i
	mkdir "$1"
	for ((i = 0; i < 30; i++)); do mkdir "$1/$i"; done
	for ((i = 0; i < 150; i++)); do
		echo "int value_$i;" >"$1/$((20 + i % 10))/header_$i.h"
		echo "#include <header_$i.h>"
	done >"$1/main.c"
}

# The index of the repository must suit all file systems: some give files other inode numbers than the source does.
programs_prepare() { # DIR
	mkdir "$1/tree" && tree_unpack "$1/tree" || return
	progress 'making a repository of it'
	git init -q --bare -b main "$1/repo.git" && git -C "$1/repo.git" config core.checkStat minimal &&
		in_tree "$1" add . && in_tree "$1" commit -q -m all && git -C "$1/repo.git" gc -q || return
	includes_make "$1/includes"
	mkdir "$1/modules" && "$APPS/modules" make "$1/modules"
}

# --- tools of the programs ---------------------------------------------------------------------------------

export GIT_CONFIG_NOSYSTEM=1 GIT_OPTIONAL_LOCKS=0 GIT_{AUTHOR,COMMITTER}_{NAME,EMAIL}=bench

in_tree() { # DIR GIT-COMMAND...
	git --git-dir="$1/repo.git" --work-tree="$1/tree" "${@:2}"
}

requests() {
	[ -z "$COUNT" ] || (cd / && "$COUNT")
}

# timed WHAT COMMAND...: does it and prints its sample.
timed() {
	local before begin end after
	before=$(requests) begin=${EPOCHREALTIME/./}
	"${@:2}" >/dev/null || exit
	end=${EPOCHREALTIME/./}
	sleep 0.01 # requests that nobody waits for
	after=$(requests)
	printf '%s\t%d\t%s\n' "$1" $(((end - begin) * 1000)) "$([ -z "$before" ] && echo - || echo $((after - before)))"
}

# The same cold and warm.
twice() { # WHAT COMMAND...
	echo 2 >/proc/sys/vm/drop_caches
	timed "$1, cold" "${@:2}"
	timed "$1, warm" "${@:2}"
}

# --- programs that change nothing --------------------------------------------------------------------------

program_git-status() {
	twice 'git status' in_tree "$AT/read" status --porcelain
}

program_find() {
	twice 'find by size' find "$AT/read/tree" -size +1M
}

program_grep() {
	twice 'grep -r' bash -c "grep -r -c no-such-word '$AT/read/tree' | head -n 0"
}

program_tar-c() {
	twice 'tar c' bash -c "tar -C '$AT/read' -c tree | cat"
}

program_compile() {
	local i options=()
	for ((i = 0; i < 30; i++)); do options+=("-I$AT/read/includes/$i"); done
	twice 'compile, 30 include paths' gcc -fsyntax-only "${options[@]}" "$AT/read/includes/main.c"
}

program_modules() {
	twice 'node_modules walk' "$APPS/modules" walk "$AT/read/modules"
}

# --- programs that write -----------------------------------------------------------------------------------

program_git-clone() {
	timed 'git clone' git clone -q --no-hardlinks "$AT/read/repo.git" "$HERE/clone"
}

program_tar-x() {
	timed 'tar x' tar -C "$HERE" -xf "$TREE_TAR"
}

program_cp-a() {
	timed 'cp -a' cp -a "$AT/read/tree" "$HERE/copy"
}

program_rm-r() {
	tar -C "$HERE" -xf "$TREE_TAR" || exit
	timed 'rm -r' find "$HERE" -mindepth 1 -maxdepth 1 -exec rm -r {} +
}

program_sqlite() {
	local i
	cd "$HERE" || exit
	for ((i = 0; i < 200; i++)); do echo "insert into t values ($i, hex(randomblob(100)));"; done >"$WORK/inserts"
	sqlite3 db 'create table t (id integer primary key, data)'
	timed 'sqlite3, 200 transactions' sqlite3 -bail db ".read $WORK/inserts"
	timed 'sqlite3, one of 100,000 rows' sqlite3 -bail db \
		'insert into t with recursive n(i) as (select 1000 union all select i + 1 from n where i < 100999)
			select i, hex(randomblob(50)) from n'
}

# For a second; the sample is the time for each read or write of all jobs together.
fio_mix() { # WHAT OPTION...
	local before after total
	before=$(requests)
	total=$(fio --name=bench --directory="$HERE" --size=16m --runtime=1 --time_based --fallocate=none --numjobs=2 --group_reporting \
		--output-format=terse --terse-version=3 "${@:2}" | awk -F ';' '$1 == 3 { print $8 + $49 }')
	after=$(requests)
	awk -v what="$1" -v rate="$total" -v before="$before" -v after="$after" 'BEGIN {
		if (!rate)
			exit 1
		printf "%s\t%d\t%s\n", what, 1e9 / rate, before == "" ? "-" : sprintf("%.3g", (after - before) / rate) }' || exit
	rm -f "$HERE"/bench.*
}

program_fio() {
	fio_mix 'fio, 2 jobs, 70% reads of 4 KiB' --rw=randrw --rwmixread=70 --bs=4k --ioengine=psync
	fio_mix 'fio, the same by mmap' --rw=randrw --rwmixread=70 --bs=4k --ioengine=mmap
	fio_mix 'fio, 2 jobs, 64 KiB, fsync each 16' --rw=write --bs=64k --fsync=16 --ioengine=psync
}

for name in "${PROGRAMS[@]}"; do export -f "program_$name"; done
export -f in_tree requests timed twice fio_mix
