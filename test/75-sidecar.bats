#!/usr/bin/env bats
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The image, and containers made from it: fxfs in one, a sidecar, with SOURCE and a directory whose mounts propagate;
# applications in another, to which the mount comes from there.

# shellcheck disable=SC2030,SC2031,SC2034,SC2153 # each test is a process of its own, and lib.bash sets FXFS

load lib

OUT=$(realpath -m "$ROOT/${O:-build}")
[[ ${O:-} != /* ]] || OUT=$O
RUNTIME=${RUNTIME:-runc}
APP_CAPS=(CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID MKNOD SETFCAP LINUX_IMMUTABLE)

eval "$(declare -f setup | sed '1s/setup/lib_setup/')"
eval "$(declare -f teardown | sed '1s/teardown/lib_teardown/')"

setup() {
	lib_setup
	ID=fxfs-test-${WORK##*.}
	need "$RUNTIME" umoci
	STARTED=() MORE=()
	VERSION=$(t "$FXFS" --version)
	VERSION=${VERSION#fxfs }
	RUN=$(tmpfs /run)
	mount --bind "$MNT" "$MNT"
	mount --make-private "$MNT"
	mount --make-shared "$MNT"
}

# Ends what runs, and complains about cgroups that stay.
teardown() {
	local id left=0
	for id in "${STARTED[@]}"; do
		runtime delete --force "$ID-$id" || left=1
	done
	lib_teardown || left=1
	[ ! -e "$WORK" ] || left=1
	! find /sys/fs/cgroup -name "*$ID*" 2>/dev/null | grep . || left=1
	return $left
}

# --- containers ---

runtime() {
	TIME=${TIME:-30} t "$RUNTIME" --root "$WORK/runtime" "$@"
}

quoted() { # WORD...: as a list in JSON
	local list
	printf -v list '"%s",' "$@"
	echo "[${list%,}]"
}

# bind FROM TO PROPAGATION: a mount of a container
bind() {
	printf '{"destination":"%s","type":"bind","source":"%s","options":["rbind","%s"]}' "$2" "$1" "$3"
}

tmpfs() { # TO
	printf '{"destination":"%s","type":"tmpfs","source":"tmpfs","options":["nosuid","mode=755"]}' "$1"
}

# bundle NAME ARGUMENTS CAPABILITIES PROPAGATION DEVICES MOUNT...: what a runtime makes a container of; its root is there.
bundle() {
	local dir=$WORK/$1 mounts devices='' allowed=''
	printf -v mounts ',%s' "${@:6}"
	if [ -n "$5" ]; then
		devices='{"path":"/dev/fuse","type":"c","major":10,"minor":229,"fileMode":438,"uid":0,"gid":0}'
		allowed=',{"allow":true,"type":"c","major":10,"minor":229,"access":"rwm"}'
	fi
	cat >"$dir/config.json" <<-END
		{"ociVersion":"1.0.2",
		"process":{"terminal":false,"user":{"uid":0,"gid":0},"args":$2,"cwd":"/","noNewPrivileges":true,
		"capabilities":{"bounding":$3,"effective":$3,"permitted":$3}},
		"root":{"path":"rootfs","readonly":false},
		"mounts":[{"destination":"/proc","type":"proc","source":"proc"},$(tmpfs /dev)$mounts],
		"linux":{"namespaces":[{"type":"pid"},{"type":"mount"},{"type":"ipc"},{"type":"uts"},{"type":"network"}],
		"rootfsPropagation":"$4","devices":[$devices],
		"resources":{"devices":[{"allow":false,"access":"rwm"}$allowed]}}}
	END
}

# image_unpack IMAGE DIRECTORY: as another tool than ours reads it
image_unpack() {
	t umoci unpack --image "$1" "$2" >/dev/null 2>&1
}

# container NAME: starts it; what it says is in $WORK/NAME.log. Sets JOB[NAME], whose exit code is the container's.
declare -gA JOB
container() {
	[[ " ${STARTED[*]} " == *" $1 "* ]] || STARTED+=("$1")
	"$RUNTIME" --root "$WORK/runtime" run --bundle "$WORK/$1" "$ID-$1" >>"$WORK/$1.log" 2>&1 </dev/null 3>&- &
	JOB[$1]=$!
}

# in_sidecar COMMAND...
in_sidecar() {
	runtime exec "$ID-sidecar" "$@" 3>&-
}

sidecar_status() { # KEY [MOUNTPOINT]
	in_sidecar /fxfs --status "${2:-/mnt}" --json | sed -n 's/.*"'"$1"'" *: *"\{0,1\}\([^",}]*\).*/\1/p'
}

# A process id of the sidecar, as it is outside. (Others may end meanwhile: awk would stop at the first that it cannot read.)
outside() { # PID
	grep -lsE "^NSpid:[[:space:]]+[0-9]+[[:space:]]+$1\$" /proc/[0-9]*/status | while IFS=/ read -r _ _ pid _; do
		[ "$(readlink "/proc/$pid/ns/pid")" != "$NAMESPACE" ] || echo "$pid"
	done
}

sidecar_bundle() { # [ARGUMENT...], instead of those of the image
	local arguments=("$@")
	[ $# -gt 0 ] || arguments=(-f /source /mnt)
	image_unpack "${IMAGE:-$OUT/image:fxfs:$VERSION}" "$WORK/sidecar"
	cp "$OUT/vm/killer" "$WORK/sidecar/rootfs"
	bundle sidecar "$(quoted /fxfs "${arguments[@]}")" \
		"$(quoted "${APP_CAPS[@]/#/CAP_}" CAP_SYS_ADMIN)" shared fuse \
		"$(bind "$SRC" /source rprivate)" "$(bind "$MNT" /mnt rshared)" ${RUN:+"$RUN"} "${MORE[@]}"
}

# sidecar_program FILE: puts it in the place of the one there, under which a mount may be.
sidecar_program() {
	cp "$1" "$WORK/sidecar/rootfs/.next"
	mv "$WORK/sidecar/rootfs/.next" "$WORK/sidecar/rootfs/fxfs"
}

healthy() { # MOUNTPOINT
	eventually t "$FXFS" --health "$1" || {
		cat "$WORK/sidecar.log"
		return 1
	}
}

# sidecar [ARGUMENT...]: starts it. Sets NAMESPACE, that of its processes.
sidecar() {
	sidecar_bundle "$@"
	container sidecar
	healthy "$MNT" || return
	guard
	NAMESPACE=$(readlink "/proc/$(sidecar_top)/ns/pid")
}

# Process 1 of the sidecar, as it is outside.
sidecar_top() {
	runtime state "$ID-sidecar" | sed -n 's/.*"pid": \([0-9]*\).*/\1/p'
}

# app NAME PROGRAM ARGUMENT...: one of test/app, in a container to which the mount propagates.
app() {
	mkdir -p "$WORK/$1/rootfs"
	cp "$OUT/vm/$2" "$WORK/$1/rootfs"
	bundle "$1" "$(quoted "/$2" "${@:3}")" "$(quoted "${APP_CAPS[@]/#/CAP_}")" rslave '' "$(bind "$MNT" /mnt rslave)"
	container "$1"
}

# app_ends NAME: it saw no wrong answer, and did something.
app_ends() {
	local code=0
	wait "${JOB[$1]}" || code=$?
	cat "$WORK/$1.log"
	tell "$1: $(tail -n 1 "$WORK/$1.log")"
	equal 0 $code
	grep -q '^operations [1-9][0-9]* wrong 0 ' "$WORK/$1.log"
}

# The two applications, for so many seconds: apps SECONDS [MOUNTPOINT]
apps() {
	mkdir "$SRC/strict" "$SRC/crowd"
	app strict strict "${2:-/mnt}/strict" "$1"
	app crowd crowd "${2:-/mnt}/crowd" "$1"
}

apps_end() {
	app_ends strict
	app_ends crowd
}

# sidecar_stop: asks it to end. It does, with code 0, and nothing of the mount is left outside.
sidecar_stop() {
	local code=0
	runtime kill "$ID-sidecar" TERM
	TIME=10 t tail --pid="${JOB[sidecar]}" -f /dev/null
	wait "${JOB[sidecar]}" || code=$?
	equal 0 $code
	fails grep -q " $MNT .* - fuse" /proc/self/mountinfo
}

# A holder in a container of its own, with the directory that its socket is in.
holder() {
	mkdir "$WORK/hold"
	image_unpack "$OUT/image:fxfs:$VERSION" "$WORK/holder"
	bundle holder "$(quoted /fxfs -f --hold /hold/socket)" '[]' private '' "$(bind "$WORK/hold" /hold rprivate)"
	container holder
	eventually test -S "$WORK/hold/socket"
}

# A sidecar that a holder keeps. Its mount is below what propagates: a runtime looks at what it mounts, while nobody answers.
held_sidecar() {
	mkdir "$MNT/fs"
	MORE=("$(bind "$WORK/hold" /hold rprivate)")
	holder
	sidecar_bundle -f -o hold=/hold/socket,state=/hold/state /source /mnt/fs
	container sidecar
	healthy "$MNT/fs"
	guard
}

# The container is killed from outside, is gone, and is started anew as a kubelet does it: from the same description.
sidecar_killed() {
	local code=0
	runtime kill "$ID-sidecar" KILL
	wait "${JOB[sidecar]}" || code=$?
	equal 137 $code
	container sidecar
}

handed_over() {
	local key
	for key in handovers lost_handles lost_locks; do
		sidecar_status "$key" /mnt/fs
	done | paste -s -d ' '
}

# sidecar_says STATUS TEXT OPTION...: what --health inside says: one line that begins so, and ends with this status.
sidecar_says() {
	run in_sidecar /fxfs --health "${@:3}" /mnt
	echo "$output"
	equal "$1 1" "$status ${#lines[@]}"
	[[ $output == "$2"* ]]
}

no_zombies() {
	local zombies
	mapfile -t zombies < <(grep -ls "^State:[[:space:]]*Z" /proc/[0-9]*/status)
	fails grep -qs "^PPid:[[:space:]]*$(sidecar_top)\$" "${zombies[@]}" /dev/null
}

processes_in_sidecar() {
	local pid
	for pid in /proc/[0-9]*; do
		[ "$(readlink "$pid/ns/pid")" != "$NAMESPACE" ] || echo "${pid#/proc/}"
	done 2>/dev/null
}

# --- the image ---

@test "the image holds one file, the binary, and others can read it" {
	need skopeo
	image_unpack "$OUT/image:fxfs:$VERSION" "$WORK/image"
	gives "fxfs f 755 0:0" find "$WORK/image/rootfs" -mindepth 1 -printf '%P %y %m %U:%G\n'
	cmp "$FXFS" "$WORK/image/rootfs/fxfs"
	[ "$(stat -c %s "$OUT/image.tar")" -lt $((2 << 20)) ]
	# both forms, with every digest checked
	t skopeo --insecure-policy copy "oci:$OUT/image" "dir:$WORK/one"
	t skopeo --insecure-policy copy "oci-archive:$OUT/image.tar" "dir:$WORK/two"
	diff -r "$WORK/one" "$WORK/two"
	t skopeo --insecure-policy inspect --config --raw "oci:$OUT/image" | tee "$WORK/config"
	for text in '"Entrypoint":["/fxfs"]' '"StopSignal":"SIGTERM"' '"CMD","/fxfs","--health","/mnt"' \
		"\"org.opencontainers.image.version\":\"$VERSION\"" '"org.opencontainers.image.licenses":"LGPL-2.1-or-later"'; do
		grep -qF "$text" "$WORK/config"
	done
}

@test "the same binary gives the same image, whoever makes it and when" {
	# shellcheck disable=SC2016 # for the inner shell
	gives "$(sha256sum <"$OUT/image.tar")" bash -c '
		umask 077
		cp "$1" "$2/binary"
		touch -d "2001-02-03" "$2/binary"
		cd /
		TZ=Asia/Tokyo LC_ALL=C.UTF-8 "$3/deps/image" "$2/binary" "$("$1" --version | cut -d " " -f 2)" "$2/again" >&2
		sha256sum <"$2/again.tar"' - "$FXFS" "$WORK" "$ROOT"
}

# --- process 1 ---

@test "a sidecar starts, is healthy inside and outside, and stops at TERM: nothing is left" {
	sidecar
	echo data >"$SRC/file"
	gives data t cat "$MNT/file"
	sidecar_says 0 "healthy: /mnt answered in "
	sidecar_stop
	equal '' "$(processes_in_sidecar)"
}

@test "crun runs it too" {
	need crun
	[ ! -e /sys/fs/cgroup/unified ] || skip 'machine lacks a layout of cgroups that crun takes: hybrid mode'
	RUNTIME=crun
	sidecar
	sidecar_says 0 "healthy: /mnt answered in "
	sidecar_stop
}

@test "in process 1 fxfs stays in the foreground, and a busy mount ends when its files are closed" {
	sidecar /source /mnt
	echo data >"$SRC/file"
	exec {file}<"$MNT/file"
	runtime kill "$ID-sidecar" TERM
	eventually fails grep -q " $MNT .* - fuse" /proc/self/mountinfo
	sleep 0.3
	kill -0 "${JOB[sidecar]}"
	gives data cat <&"$file"
	exec {file}<&-
	wait "${JOB[sidecar]}"
}

@test "TERM is not lost when there is no monitor for a moment" {
	sidecar
	local monitor server
	monitor=$(outside "$(sidecar_status monitor_pid)")
	server=$(outside "$(sidecar_status server_pid)")
	kill -STOP "$server"
	kill -KILL "$monitor"
	runtime kill "$ID-sidecar" TERM
	sleep 0.2
	kill -CONT "$server"
	TIME=10 t tail --pid="${JOB[sidecar]}" -f /dev/null
	wait "${JOB[sidecar]}"
}

@test "a sidecar ends when monitor and server die at once: the code says of what" {
	sidecar
	local monitor server code=0
	monitor=$(outside "$(sidecar_status monitor_pid)")
	server=$(outside "$(sidecar_status server_pid)")
	kill -STOP "$server"
	kill -KILL "$monitor" "$server"
	wait "${JOB[sidecar]}" || code=$?
	equal 137 $code
	[[ $(cat "$WORK/sidecar.log") == *"all processes of the mount died"* ]]
	t "$FXFS" --umount "$MNT"
}

@test "a mount that does not answer is unhealthy in time, and process 1 reaps whoever asked" {
	sidecar -f -o watchdog=0 /source /mnt
	local server ms
	server=$(outside "$(sidecar_status server_pid)")
	kill -STOP "$server"
	ms=${EPOCHREALTIME/./}
	sidecar_says 1 "unhealthy: /mnt does not answer within 0.5 s" --timeout 0.5
	ms=$(((${EPOCHREALTIME/./} - ms) / 1000))
	[ $ms -lt 3000 ]
	# the child that asked was killed and left to process 1
	eventually no_zombies
	kill -CONT "$server"
	eventually sidecar_says 0 healthy
}

@test "in an image without /run the state is found all the same" {
	RUN=''
	sidecar
	gives serving sidecar_status phase
	sidecar_stop
}

# --- at work ---

@test "applications see no error while the server dies" {
	sidecar
	apps 15
	TIME=60 in_sidecar /killer -n 100 /fxfs /mnt 20 120 >"$WORK/kills"
	tell "$(tail -n 1 "$WORK/kills")"
	grep -q '^kills 100 ' "$WORK/kills"
	apps_end
	sidecar_stop
}

@test "nor while server and monitor die in turn" {
	sidecar
	apps 15
	TIME=60 in_sidecar /killer -n 60 -v both /fxfs /mnt 50 200 >"$WORK/kills"
	tell "$(tail -n 1 "$WORK/kills")"
	grep -q '^kills 60 .* monitors [1-9]' "$WORK/kills"
	apps_end
	sidecar_stop
}

@test "nor while the binary of a newer image is put in place" {
	sidecar
	"$ROOT/deps/image" "$FXFS_CRASH" next "$WORK/next"
	image_unpack "$WORK/next:fxfs:next" "$WORK/newer"
	apps 10
	local n program
	for n in 1 2 3; do
		sleep 1
		# there and back: another file each time
		program=$WORK/newer/rootfs/fxfs
		[ $n != 2 ] || program=$FXFS
		sidecar_program "$program"
		if [ $n = 3 ]; then runtime kill "$ID-sidecar" HUP; else in_sidecar /fxfs --upgrade /mnt; fi
		eventually gives $n sidecar_status upgrades
		cmp "$program" "/proc/$(outside "$(sidecar_status server_pid)")/exe"
	done
	apps_end
	sidecar_stop
}

# The image of the version before this one: test/previous.
previous() {
	[ -e "$OUT/previous/commit" ] || skip 'machine lacks the history of this repository: make previous'
	PREVIOUS=$(t "$OUT/previous/fxfs" --version)
	PREVIOUS=${PREVIOUS#fxfs }
	IMAGE=$OUT/previous/image:fxfs:$PREVIOUS
}

@test "nor while the image of the previous version is replaced by this one's, and that by the previous one's" {
	local program n=0 handle
	previous
	sidecar
	fails equal "$PREVIOUS" "$VERSION"
	gives "$PREVIOUS" sidecar_status version
	apps 10
	echo kept >"$MNT/open"
	exec {handle}<"$MNT/open"
	rm "$MNT/open"
	for program in "$FXFS" "$OUT/previous/fxfs" "$FXFS"; do
		sleep 1
		sidecar_program "$program"
		in_sidecar /fxfs --upgrade /mnt
		gives $((n += 1)) sidecar_status upgrades
		gives "fxfs $(sidecar_status version)" t "$program" --version
	done
	gives kept cat <&"$handle"
	exec {handle}<&-
	apps_end
	sidecar_stop
}

@test "nor while a sidecar of the previous version is killed, and started anew from this one's image" {
	local reader
	previous
	held_sidecar
	apps 10 /mnt/fs
	echo kept >"$MNT/fs/open"
	# nobody else may have this file: he would wait when he closes it
	mkfifo "$WORK/go"
	{
		read -r <"$WORK/go"
		read -r text
		echo "$text" >"$WORK/text"
	} <"$MNT/fs/open" 3>&- &
	reader=$!
	sleep 1
	sidecar_program "$FXFS"
	sidecar_killed
	healthy "$MNT/fs"
	gives "1 0 0" handed_over
	echo >"$WORK/go"
	wait $reader
	equal kept "$(cat "$WORK/text")"
	apps_end
	sidecar_stop
}

# KILLS is for make: `make sidecar-check KILLS=200`.
@test "nor while the whole sidecar is killed and started anew, over a holder in another container" {
	GUARD_SECONDS=$((200 + 5 * ${KILLS:-0}))
	local n kills=${KILLS:-8} name
	held_sidecar
	apps 3600 /mnt/fs
	for ((n = 1; n <= kills; n++)); do
		sleep 0.$((RANDOM % 10))
		sidecar_killed
		healthy "$MNT/fs"
	done
	tell "killed and started anew $kills times"
	gives "$kills 0 0" handed_over
	grep -q 'cache=watch: off: a container' "$WORK/sidecar.log"
	for name in strict crowd; do runtime kill "$ID-$name" TERM; done
	apps_end
	sidecar_stop
	tail -n 1 "$WORK/holder.log" | grep -q '0 mounts, 0 descriptors are kept'
}

@test "a sidecar that took over is no process 1 either: its monitor may die too" {
	held_sidecar
	sidecar_killed
	healthy "$MNT/fs"
	local monitor
	monitor=$(sidecar_status monitor_pid /mnt/fs)
	fails equal 1 "$monitor"
	NAMESPACE=$(readlink "/proc/$(sidecar_top)/ns/pid")
	kill -KILL "$(outside "$monitor")"
	healthy "$MNT/fs"
	sidecar_stop
}

# --- doc/kubernetes.yaml ---

# described POD CONTAINER WHAT: a line for each of its arguments, of its probe's, or of its mounts: VOLUME/SUBPATH PATH PROPAGATION
described() {
	python3 - "$ROOT/doc/kubernetes.yaml" "$@" <<-'END'
		import sys, yaml
		path, name, container, what = sys.argv[1:]
		document = next(d for d in yaml.safe_load_all(open(path)) if d["metadata"]["name"] == name)
		spec = document["spec"].get("template", document)["spec"]
		c = next(c for c in spec.get("initContainers", []) + spec["containers"] if c["name"] == container)
		propagation = {None: "rprivate", "HostToContainer": "rslave", "Bidirectional": "rshared"}
		if what == "mounts":
		    lines = [m["name"] + "/" + m.get("subPath", "") + " " + m["mountPath"] + " " + propagation[m.get("mountPropagation")]
		        for m in c["volumeMounts"]]
		elif what == "probe":
		    lines = c["startupProbe"]["exec"]["command"]
		else:
		    lines = c.get("args", ["-f", "/source", "/mnt"]) # of the image
		print("\n".join(lines))
	END
}

# pod_container POD CONTAINER NAME CAPABILITIES PROPAGATION DEVICES [COMMAND...]: starts it, NAME is what it is called here.
pod_container() {
	local -A volume=([source]=$SRC [shared]=$MNT [hold]=$WORK/hold [run]=$WORK/run)
	local from at propagation binds=() command=("${@:7}")
	while read -r from at propagation; do
		mkdir -p "${volume[${from%%/*}]}/${from#*/}" # as a kubelet does for a subPath
		binds+=("$(bind "${volume[${from%%/*}]}/${from#*/}" "$at" "$propagation")")
	done < <(described "$1" "$2" mounts)
	[ ${#command[@]} -gt 0 ] || {
		mapfile -t command < <(echo /fxfs && described "$1" "$2" arguments)
		rm -rf "${WORK:?}/$3" # started again, it has a new root
		image_unpack "$OUT/image:fxfs:$VERSION" "$WORK/$3"
	}
	bundle "$3" "$(quoted "${command[@]}")" "$4" "$5" "$6" "${binds[@]}"
	container "$3"
}

# pod_fxfs POD: starts it, and is done when its startupProbe says so.
pod_fxfs() {
	local probe
	pod_container "$1" fxfs sidecar "$(quoted "${APP_CAPS[@]/#/CAP_}" CAP_SYS_ADMIN)" shared fuse
	mapfile -t probe < <(described "$1" fxfs probe)
	eventually in_sidecar "${probe[@]}" || {
		cat "$WORK/sidecar.log"
		return 1
	}
	guard
}

# pod_app POD DIRECTORY: a strict application where the pod has its own, with the mount in this directory.
pod_app() {
	rm -rf "$WORK/strict" "$SRC/strict"
	mkdir -p "$WORK/strict/rootfs" "$SRC/strict"
	cp "$OUT/vm/strict" "$WORK/strict/rootfs"
	pod_container "$1" application strict "$(quoted "${APP_CAPS[@]/#/CAP_}")" rslave '' /strict "$2/strict" 3600
}

pod_app_ends() {
	runtime kill "$ID-strict" TERM
	app_ends strict
	runtime delete --force "$ID-strict"
}

@test "the pods of doc/kubernetes.yaml do what they say" {
	need python3
	# shellcheck disable=SC2016 # for the inner shell
	gives "fxfs:$VERSION" bash -c 'grep -oh "fxfs:[0-9.]*" "$1/doc/kubernetes.yaml" "$1/README.md" | sort -u' - "$ROOT"
	mkdir "$WORK/hold" "$WORK/run"
	pod_fxfs example
	pod_app example /data
	sleep 1
	pod_app_ends
	sidecar_stop

	pod_container fxfs-hold fxfs-hold holder '[]' private ''
	eventually test -S "$WORK/hold/socket"
	pod_container example-held directory directory '[]' private ''
	wait "${JOB[directory]}"
	gives "fxfs $VERSION" cat "$WORK/directory.log"
	pod_fxfs example-held
	pod_app example-held /data/fs
	local n
	for n in 1 2 3; do
		sleep 0.5
		runtime kill "$ID-sidecar" KILL
		wait "${JOB[sidecar]}" || true
		pod_fxfs example-held
		gives "$n 0 0" handed_over
	done
	pod_app_ends
	sidecar_stop
	gives '' find "$WORK/run" -type f
}
