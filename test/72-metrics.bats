#!/usr/bin/env bats
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# -o metrics: OpenMetrics text in a file or on a socket.

# shellcheck disable=SC2016,SC2030,SC2031,SC2153 # for perl and eval; each test is a process of its own; lib.bash sets FXFS

load lib

# What a socket says.
scrape() { # PATH
	t perl -MIO::Socket::UNIX -e '
		my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die "$ARGV[0]: $!\n"; print while <$s>' "$1"
}

# A sample of the text on standard input: sample NAME [LABEL="VALUE"].
sample() {
	awk -v name="$1" -v label="${2:-}" 'index($0, name "{") == 1 && index($0, label) { print $NF; found = 1 }
		END { exit !found }'
}

# Each line is a comment of the kinds there are or a sample of a family that was declared, and the last one ends it.
well_formed() {
	awk -v mount="$MNT" '
		/^# (TYPE|HELP) fxfs_[a-z_]+ ./ { if ($2 == "TYPE") { if ($3 in declared) bad(); declared[$3] = $4 }; next }
		$0 == "# EOF" { ended = NR; next }
		!/^fxfs_[a-z_]+\{mountpoint="[^"]*"(,[a-z]+="[^"]*")*\} [0-9.]+$/ || !index($0, mount) { bad() }
		{ family = $1; sub(/\{.*/, "", family)
		  if (!(family in declared)) sub(/_(total|info|bucket|count|sum)$/, "", family)
		  if (!(family in declared)) bad() }
		function bad() { print "line " NR ": " $0; failed = 1 }
		END { exit failed || ended != NR || NR < 20 }' "$1"
}

@test "a file for the node exporter is written, whole, and goes with the mount" {
	mkdir "$WORK/textfile"
	fxfs_mount -o "cache=none,metrics=$WORK/textfile/fxfs.prom"
	t ls "$MNT" >/dev/null
	eventually grep -q 'op="getattr"' "$WORK/textfile/fxfs.prom"
	well_formed "$WORK/textfile/fxfs.prom"
	equal 644 "$(stat -c %a "$WORK/textfile/fxfs.prom")"
	equal fxfs.prom "$(ls "$WORK/textfile")"
	fxfs_unmount
	eventually fails test -e "$WORK/textfile/fxfs.prom"
}

@test "a socket tells what the mount did, also beside a dead server and after it" {
	fxfs_mount -o "cache=none,metrics=$WORK/metrics"
	t mkdir "$MNT"/d{1..7}
	scrape "$WORK/metrics" >"$WORK/before"
	well_formed "$WORK/before"
	equal 7 "$(sample fxfs_request_duration_seconds_count 'op="mkdir"' <"$WORK/before")"
	equal 7 "$(sample fxfs_request_duration_seconds_bucket 'op="mkdir",le="+Inf"' <"$WORK/before")"
	equal 0 "$(sample fxfs_server_deaths_total 'signal="9"' <"$WORK/before")"
	equal 1 "$(sample fxfs_serving <"$WORK/before")"
	kill_server
	t mkdir "$MNT/d8"
	eventually eval 'scrape "$WORK/metrics" | sample fxfs_recovery_seconds_count | grep -qx 1'
	scrape "$WORK/metrics" >"$WORK/after"
	well_formed "$WORK/after"
	equal 1 "$(sample fxfs_server_deaths_total 'signal="9"' <"$WORK/after")"
	equal 8 "$(sample fxfs_request_duration_seconds_count 'op="mkdir"' <"$WORK/after")"
	awk -v pause="$(sample fxfs_longest_pause_seconds <"$WORK/after")" 'BEGIN { exit !(pause > 0 && pause < 10) }'
	[ "$(fxfs_status longest_pause_us)" -gt 0 ]
	[ "$(sample fxfs_resident_bytes 'process="server"' <"$WORK/after")" -gt 100000 ]
	fxfs_unmount
	eventually fails test -e "$WORK/metrics"
}

@test "the socket outlives the monitor" {
	fxfs_mount -o "metrics=$WORK/metrics"
	scrape "$WORK/metrics" >/dev/null
	kill_monitor
	eventually serves
	eventually eval 'scrape "$WORK/metrics" | sample fxfs_monitor_deaths_total | grep -qx 1'
}

@test "who reads slowly, or not at all, holds nobody up" {
	fxfs_mount -o "cache=none,metrics=$WORK/metrics"
	perl -MIO::Socket::UNIX -e 'my @s = map { IO::Socket::UNIX->new(Peer => $ARGV[0]) } 1 .. 20; sleep 60' \
		"$WORK/metrics" 3>&- &
	local idle=$!
	sleep 0.5
	scrape "$WORK/metrics" >"$WORK/text"
	well_formed "$WORK/text"
	kill_server
	t ls "$MNT" >/dev/null
	kill $idle
}

@test "a path that cannot be used is an error at mount and stays as it is" {
	echo mine >"$WORK/file"
	run t "$FXFS" -o "metrics=$WORK/file" "$SRC" "$MNT"
	[ "$status" -ne 0 ]
	[[ $output == *"metrics=$WORK/file"* ]]
	equal mine "$(cat "$WORK/file")"
	run t "$FXFS" -o "metrics=$WORK/nowhere/fxfs.prom" "$SRC" "$MNT"
	[ "$status" -ne 0 ]
	run t "$FXFS" -o metrics=relative "$SRC" "$MNT"
	equal 1 "$status"
	fails mountpoint -q "$MNT"
	# a socket that somebody listens on is not taken away, one that was left behind is
	fxfs_mount -o "metrics=$WORK/metrics"
	mkdir "$WORK/other"
	run t "$FXFS" -o "metrics=$WORK/metrics" "$SRC" "$WORK/other"
	[ "$status" -ne 0 ]
	scrape "$WORK/metrics" >/dev/null
	fxfs_unmount
	perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 1) or die' "$WORK/metrics"
	test -S "$WORK/metrics"
	fxfs_mount -o "metrics=$WORK/metrics"
	scrape "$WORK/metrics" >/dev/null
}
