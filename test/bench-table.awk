# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The table of test/bench. Reads PART, WHAT, COLUMN, VALUE, REQUESTS, separated by tabs, in any number of rounds; `columns`
# are the file systems, the source first. Prints, for each WHAT in the order of its first line, the median on the source, what
# the others take as multiples of it, fxfs as a multiple of the best of those that are not fxfs and of passthrough_hp, and
# how many requests reached fxfs, and fxfs mounted read-only.
# Of PART memory the values are printed as they are.

BEGIN {
	FS = "\t"
	n_columns = split(columns, column, " ")
}

{
	if (!(($1, $2) in known)) {
		known[$1, $2] = 1
		row_part[++rows] = $1
		row[rows] = $2
	}
	key = $1 SUBSEP $2 SUBSEP $3
	value[key, ++n[key]] = $4
	requests[key, n[key]] = $5
}

# The median of values[key, 1..n]; "" if there are none.
function median(values, key, count,    i, j, swap, sorted) {
	if (!count)
		return ""
	for (i = 1; i <= count; i++) {
		sorted[i] = values[key, i] + 0
		for (j = i; j > 1 && sorted[j - 1] > sorted[j]; j--) {
			swap = sorted[j]
			sorted[j] = sorted[j - 1]
			sorted[j - 1] = swap
		}
	}
	return (sorted[int((count + 1) / 2)] + sorted[int(count / 2) + 1]) / 2
}

function duration(ns) {
	if (ns == "")
		return "-"
	if (ns < 1e5)
		return sprintf("%.2f us", ns / 1e3)
	if (ns < 1e6)
		return sprintf("%.0f us", ns / 1e3)
	if (ns < 1e9)
		return sprintf("%.1f ms", ns / 1e6)
	return sprintf("%.2f s", ns / 1e9)
}

function short(number) {
	if (number == "")
		return "-"
	return sprintf(number >= 9.95 ? "%.0f" : number >= 1.95 ? "%.1f" : "%.2f", number)
}

function times(part_ns, whole_ns) {
	return part_ns == "" || !whole_ns ? "-" : short(part_ns / whole_ns)
}

function asked(key) {
	return n[key] ? sprintf("%.6g", median(requests, key, n[key])) : "-"
}

function heading(times_too,    c) {
	printf "\n%-34s", ""
	for (c = 1; c <= n_columns; c++)
		printf " %9s", column[c]
	if (times_too)
		printf " %9s %9s %9s %9s", "fxfs/best", "fxfs/hp", "requests", "of ro"
	print ""
}

function print_row(i,    c, key, took, best) {
	printf "%-38s", row[i]
	best = ""
	for (c = 1; c <= n_columns; c++) {
		key = row_part[i] SUBSEP row[i] SUBSEP column[c]
		took[column[c]] = median(value, key, n[key])
		printf " %9s", c == 1 ? duration(took[column[c]]) : times(took[column[c]], took[column[1]])
		if (c > 1 && column[c] !~ /^fxfs/ && took[column[c]] != "" && (best == "" || took[column[c]] < best))
			best = took[column[c]]
	}
	key = row_part[i] SUBSEP row[i] SUBSEP "fxfs"
	printf " %9s %9s %9s %9s\n", times(took["fxfs"], best), times(took["fxfs"], took["hp"]), asked(key), asked(key "-ro")
}

function print_memory(i,    c, key, bytes) {
	printf "%-38s", row[i]
	for (c = 1; c <= n_columns; c++) {
		key = row_part[i] SUBSEP row[i] SUBSEP column[c]
		bytes = median(value, key, n[key])
		printf " %9s", bytes == "" ? "-" : sprintf("%.0f", bytes)
	}
	printf "\n"
}

END {
	heading(1)
	for (i = 1; i <= rows; i++) {
		if (row_part[i] == "memory") {
			any = 1
			continue
		}
		if (last != "" && row_part[i] != last && (last row_part[i]) ~ /^(ops|threads)|names|known/)
			print ""
		last = row_part[i]
		print_row(i)
	}
	if (!any)
		exit
	heading(0)
	for (i = 1; i <= rows; i++)
		if (row_part[i] == "memory")
			print_memory(i)
}
