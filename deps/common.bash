# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
#
# What the scripts here share: where things are kept, and where they come from.

# The user's cache, or a directory beside the sources where there is no home to write to.
cache_directory() {
	local cache=${FXFS_CACHE:-${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/fxfs}
	if ! mkdir -p "$cache" 2>/dev/null || ! [ -w "$cache" ]; then
		cache=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../build/cache
		mkdir -p "$cache"
	fi
	readlink -f "$cache"
}

# The Debian archives apt knows, best first. Before the first `apt-get update` indextargets is empty;
# --print-uris then says what would be read.
mirrors() {
	if [ -n "${FXFS_MIRROR:-}" ]; then
		echo "${FXFS_MIRROR%/}/"
		return
	fi
	{
		# shellcheck disable=SC2016 # $( ) are apt's own format letters
		apt-get indextargets --format '$(CREATED_BY) $(ORIGIN) $(LABEL) $(REPO_URI)' |
			sed -n 's/^Packages Debian Debian //p'
		apt-get update --print-uris |
			sed -n "s,^'\(.*/\)dists/[^/]*/InRelease'.*,\1,p" | grep -v -- '-security/$'
	} 2>/dev/null | awk '!seen[$0]++' || true
}
