# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Builds fxfs: `make` leaves ./fxfs, one static file. `make help` lists the rest.
#
# Variables you may set, on the command line or in the environment:
#
#   V=1              show the commands
#   O=DIR            where objects and test programs go (build). With another DIR the binary goes there too
#   CC=clang         another compiler for our sources
#   EXTRA_CFLAGS=... further compiler flags
#   CROSS=PREFIX-    build with a cross compiler, e.g. CROSS=aarch64-linux-gnu-, into build/PREFIX
#   TEST_POINTS=1    compile the crash points in: $(O)/fxfs-crash
#   PREFIX, DESTDIR  where `make install` puts things (/usr/local)
#   FXFS_MIRROR=URL  take the libraries' sources from this Debian mirror (default: the one apt uses)
#   FXFS_CACHE=DIR   where the built libraries are kept (~/.cache/fxfs)
#
# How it hangs together: deps/install gets the packages, deps/build the static libraries; $(O)/deps is a link
# to them. Sources compile into $(B)/obj, where B is $(O) or, for a variant, $(O)/VARIANT.

VERSION := 0.2.0
# The version before, and its commit: tests put this one under mounts of that one.
PREVIOUS := 0.1.0 aa07b31fd968ee798fea695905b1ddfd5509318b

.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules --no-print-directory
all:

# Users may not have the administrator's tools in their PATH (bpftool).
export PATH := $(PATH):/usr/sbin:/sbin

# All cores, unless told otherwise.
ifeq ($(MAKELEVEL)$(filter -j%,$(MAKEFLAGS)),0)
MAKEFLAGS += -j$(shell nproc)
endif

PREFIX ?= /usr/local
DESTDIR ?=
CROSS ?=
ifeq ($(origin CC),default)
CC := $(CROSS)gcc
endif
O ?= build$(if $(CROSS),/$(CROSS:-=))

# VARIANT is the same sources built another way; targets below set it, users need not.
#   crash: with crash points    asan, tsan: the same, with sanitizers, dynamic    clang: by clang
#   fuzz: the fuzzers only, by clang, with sanitizers
VARIANT ?= $(if $(TEST_POINTS),crash)
B := $(O)$(if $(filter-out crash,$(VARIANT)),/$(VARIANT))
OBJ := $(B)/$(if $(filter crash,$(VARIANT)),crash-)obj
STAMP := $(OBJ).flags

ifeq ($(VARIANT),)
BIN := $(if $(filter build,$(O)),fxfs,$(O)/fxfs)
else
BIN := $(B)/fxfs$(if $(filter crash,$(VARIANT)),-crash)
endif

ifeq ($(V),1)
Q :=
say = @:
else
Q := @
say = @printf '  %-7s %s\n' $(1) $(2)
endif

# --- flags -------------------------------------------------------------------------------------------------

WARNINGS := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition \
	-Wvla -Wpointer-arith -Wwrite-strings -Wundef -Wimplicit-fallthrough
DEFINES := -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DFUSE_USE_VERSION=317 -DFXFS_VERSION='"$(VERSION)"'
# The same binary wherever it is built: no path of this machine gets into it. (The last match counts.)
PATH_MAP := -ffile-prefix-map=$(CURDIR)=. -ffile-prefix-map=$(abspath $(O))=build
CFLAGS_ALL := -std=gnu11 -g -fPIE $(PATH_MAP) $(WARNINGS) $(DEFINES) -I. -I$(O)/bpf
LIBS := -lfuse3 -lbpf -lelf -lz

# What each variant adds; DEPS is its libraries, a link made by the rule for $(STAMP).
SANITIZE :=
ifneq ($(filter asan tsan fuzz,$(VARIANT)),)
# Sanitizers need a dynamic libc and their own malloc.
ifneq ($(filter asan fuzz,$(VARIANT)),)
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=undefined
else
SANITIZE := -fsanitize=thread
endif
DEPS := $(B)/deps
DEPS_BUILD := SANITIZE='$(SANITIZE)' deps/build glibc
# ThreadSanitizer does not understand fences: gcc warns of each, and there is none.
CFLAGS_ALL += -O1 -fno-omit-frame-pointer $(SANITIZE) -DFXFS_SANITIZE -isystem $(DEPS)/include
LDFLAGS_ALL := -pie $(SANITIZE) -L$(DEPS)/lib
LINK = $(CROSS)gcc
ifeq ($(VARIANT),fuzz)
CFLAGS_ALL += -fsanitize=fuzzer-no-link -Wno-gnu-variable-sized-type-not-at-end
LDFLAGS_ALL += -fsanitize=fuzzer
LINK = clang
endif
else
DEPS := $(O)/deps
DEPS_BUILD := CROSS='$(CROSS)' deps/build musl
CFLAGS_ALL += -O2 -fstack-protector-strong -fstack-clash-protection -ffunction-sections -fdata-sections
# clang knows no specs: it is told where the headers are, and gcc links.
ifneq ($(findstring clang,$(CC)),)
CFLAGS_ALL += -nostdlibinc -isystem $(DEPS)/include -Wno-gnu-variable-sized-type-not-at-end
else
CFLAGS_ALL += -specs=$(DEPS)/specs
endif
LINK = $(CROSS)gcc -specs=$(DEPS)/specs
LDFLAGS_ALL := -static-pie -Wl,--gc-sections,-z,relro,-z,now,-z,noexecstack,-z,stack-size=1048576 \
	$(DEPS)/lib/mimalloc.o
endif
# <fuse_kernel.h> and the like; libbpf has a newer <linux/bpf.h> than the system.
CFLAGS_ALL += -isystem $(DEPS)/uapi -isystem $(DEPS)/include/fuse3
ifneq ($(filter crash asan tsan,$(VARIANT)),)
CFLAGS_ALL += -DFXFS_CRASH_POINTS
endif
CFLAGS_ALL += $(EXTRA_CFLAGS)

# --- sources -----------------------------------------------------------------------------------------------

RECOVER := $(wildcard recover/*.c recover/*.S)
FS := $(wildcard fs/*.c)
BPF := $(filter-out %.bpf.c,$(wildcard bpf/*.c))
BPF_PROGS := $(wildcard bpf/*.bpf.c)
SKELS := $(BPF_PROGS:%.bpf.c=$(O)/%.skel.h)

objects = $(addprefix $(OBJ)/,$(addsuffix .o,$(basename $(1))))
OBJS := $(call objects,main.c $(RECOVER) $(FS) $(BPF))

FUZZ := $(patsubst test/fuzz/%.c,$(O)/fuzz/%,$(wildcard test/fuzz/*.c))
UNIT := $(patsubst test/unit/%.c,$(B)/unit/%,$(wildcard test/unit/*.c))
APPS := $(patsubst test/app/%.c,$(O)/app/%,$(wildcard test/app/*.c))
MEMFS := $(wildcard test/memfs/*.c)
DIFFTEST := $(wildcard test/difftest.c test/difftest/*.c)

# --- the binary --------------------------------------------------------------------------------------------

.PHONY: all FORCE
all: $(BIN) ; @:

# The unstripped one stays beside the objects, for the debugger.
$(BIN): $(B)/$(notdir $(BIN)).debug
	$(call say,STRIP,$@)
ifeq ($(SANITIZE),)
	$(Q)$(CROSS)strip -o $@ $<
else
	$(Q)cp $< $@
endif

$(B)/$(notdir $(BIN)).debug: $(OBJS)
	$(call say,LINK,$@)
	$(Q)$(LINK) -o $@ $(OBJS) $(LDFLAGS_ALL) $(LIBS)

# Says what everything here was compiled with: when that changes, so does the file, and all is built again.
# This is also where packages and libraries are made sure of.
$(STAMP): FORCE
	@deps/install $(if $(CROSS),cross-$(CROSS:-=),build)
	@mkdir -p $(@D)
	@deps=$$($(DEPS_BUILD)) && \
	if [ "$$(readlink $(DEPS))" != "$$deps" ]; then ln -sfn "$$deps" $(DEPS); fi && \
	printf '%s\n' "$$deps" '$(subst ','\'',$(CC) $(CFLAGS_ALL) | $(LINK) $(LDFLAGS_ALL) | $(BPF_CFLAGS))' >$@.new && \
	if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi
FORCE:

$(OBJ)/%.o: %.c $(STAMP)
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(OBJ)/%.o: %.S $(STAMP)
	$(call say,AS,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

# --- the image -----------------------------------------------------------------------------------------------

#: image        an OCI image with nothing but the binary in it: $(O)/image, and the same as one file, $(O)/image.tar
.PHONY: image
image: $(O)/image.tar ; @:

$(O)/image.tar: $(BIN) deps/image Makefile
	$(call say,IMAGE,$@)
	$(Q)deps/image $(BIN) $(VERSION) $(O)/image

# The previous version, built from the history. Where there is none the tests of upgrades are left out, and say so.
.PHONY: previous
previous: packages-build
	+$(Q)test/previous $(O)/previous $(PREVIOUS)

# --- BPF: bpf/NAME.bpf.c becomes $(O)/bpf/NAME.skel.h, the same for every variant ---------------------------

BPF_ARCH := $(if $(filter aarch64%,$(or $(CROSS),$(shell uname -m))),arm64,x86)
BPF_CFLAGS := -target bpf -mcpu=v3 -g -O2 -Wall -Wextra -Werror -D__TARGET_ARCH_$(BPF_ARCH) -nostdlibinc \
	-I. -isystem $(O)/deps/uapi -isystem $(O)/deps/include -fdebug-compilation-dir=.

$(O)/bpf/%.bpf.o: bpf/%.bpf.c $(O)/obj.flags
	$(call say,BPF,$@)
	@mkdir -p $(@D)
	$(Q)clang $(BPF_CFLAGS) -MMD -MP -c -o $(@:.o=.raw.o) -MF $(@:.o=.d) -MT $@ $<
	$(Q)bpftool gen object $@ $(@:.o=.raw.o)

$(O)/bpf/%.skel.h: $(O)/bpf/%.bpf.o
	$(call say,SKEL,$@)
	$(Q)bpftool gen skeleton $< name $* >$@

# The skeletons must be there before the first compilation of their includers; after that the .d files know.
$(call objects,$(BPF)): | $(SKELS)

# --- test programs -----------------------------------------------------------------------------------------

# A unit test is linked with recover/; one whose name begins with fs_ with fs/ as well.
UNIT_OBJS := $(call objects,$(RECOVER))
UNIT_FS_OBJS := $(UNIT_OBJS) $(call objects,$(FS) $(BPF))

$(B)/unit/fs_%: $(OBJ)/test/unit/fs_%.o $(UNIT_FS_OBJS)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK) -o $@ $(filter %.o,$^) $(LDFLAGS_ALL) $(LIBS)

$(B)/unit/%: $(OBJ)/test/unit/%.o $(UNIT_OBJS)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK) -o $@ $(filter %.o,$^) $(LDFLAGS_ALL) $(LIBS)

$(O)/fuzz/%: $(OBJ)/test/fuzz/%.o $(UNIT_OBJS)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK) -o $@ $(filter %.o,$^) $(LDFLAGS_ALL) $(LIBS)

# A model of the journal, and what tries all that can happen in it: test/model/journal.h.
MODEL := $(wildcard test/model/*.c)

$(O)/model: $(MODEL) $(wildcard test/model/*.h) Makefile | $(O)/obj.flags
	$(call say,CC,$@)
	$(Q)gcc $(APP_CFLAGS) -I. -o $@ $(MODEL)

# A second, small file system on recover/ alone.
$(O)/memfs: $(call objects,$(MEMFS)) $(UNIT_OBJS)
	$(call say,LINK,$@)
	$(Q)$(LINK) -o $@ $(filter %.o,$^) $(LDFLAGS_ALL) $(LIBS)

# What the tests run on a mount are ordinary programs of the machine: they use its libc.
APP_CFLAGS := -std=gnu11 -O2 -g -Wall -Wextra -Werror -pthread -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64
APP_INCLUDE := -I. -isystem $(O)/deps/uapi -isystem $(O)/deps/include/fuse3

$(O)/app/%: test/app/%.c Makefile | $(O)/obj.flags
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)gcc $(APP_CFLAGS) $(APP_INCLUDE) -MMD -MP -MF $@.d -o $@ $<

MATRIX := $(wildcard test/matrix/*.c)

# Into the virtual machine goes what needs nothing there.
VM_APPS := $(addprefix $(O)/vm/,strict crowd killer look cost hostile difftest matrix)

$(O)/vm/difftest: $(DIFFTEST) $(wildcard test/difftest/*.h) Makefile | $(O)/obj.flags
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)gcc -static $(APP_CFLAGS) -s -o $@ $(DIFFTEST)

$(O)/vm/matrix: $(MATRIX) $(wildcard test/matrix/*.h recover/*.h) Makefile | $(O)/obj.flags
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)gcc -static $(APP_CFLAGS) -s $(APP_INCLUDE) -o $@ $(MATRIX)

$(O)/vm/%: test/app/%.c Makefile | $(O)/obj.flags
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)gcc -specs=$(DEPS)/specs $(APP_CFLAGS) -fPIE -static-pie -s $(APP_INCLUDE) -MMD -MP -MF $@.d -o $@ $<

$(O)/difftest: $(DIFFTEST) $(wildcard test/difftest/*.h) Makefile | $(O)/obj.flags
	$(call say,CC,$@)
	$(Q)gcc $(APP_CFLAGS) -o $@ $(DIFFTEST)

$(O)/matrix: $(MATRIX) $(wildcard test/matrix/*.h recover/*.h) Makefile | $(O)/obj.flags
	$(call say,CC,$@)
	$(Q)gcc $(APP_CFLAGS) $(APP_INCLUDE) -o $@ $(MATRIX)

.PHONY: unit apps vm-apps memfs fuzz-programs
unit: $(UNIT) $(if $(VARIANT),,$(O)/model) ; @:
fuzz-programs: $(FUZZ) ; @:
apps: $(APPS) $(O)/difftest $(O)/matrix memfs ; @:
vm-apps: $(VM_APPS) ; @:
memfs: $(O)/memfs ; @:
.SECONDARY:

# --- the same sources, built another way -------------------------------------------------------------------

.PHONY: asan tsan clang crash fuzzers cross
asan tsan clang: $(O)/obj.flags $(SKELS)
	+$(Q)$(MAKE) VARIANT=$@ $(if $(filter clang,$@),CC=clang) all unit
fuzzers: $(O)/obj.flags $(SKELS) packages-fuzz
	+$(Q)$(MAKE) VARIANT=fuzz CC=clang fuzz-programs
crash: $(O)/obj.flags $(SKELS)
	+$(Q)$(MAKE) VARIANT=crash all
cross: packages-cross-aarch64-linux-gnu
	+$(Q)$(MAKE) CROSS=aarch64-linux-gnu- O=$(O)/aarch64-linux-gnu all

# --- checks: each target gets its packages first ------------------------------------------------------------

.PHONY: check check-quick sidecar-check check-asan check-tsan check-clang lint difftest demo fuzz storm bench bench-recovery vm-check vm-check-full
RUN = O=$(O) test/run

#: check        all of the below: what has to pass before a commit
check: packages-check packages-storm packages-vm
	+$(Q)$(MAKE) all image previous unit apps vm-apps crash asan tsan clang fuzzers cross
	$(Q)FUZZ_SECONDS=$${FUZZ_SECONDS:-20} $(RUN) binary lint unit fuzz bats matrix difftest storm vm asan tsan

#: check-quick  the unit tests and the bats files
check-quick: packages-check
	+$(Q)$(MAKE) all image previous unit apps vm-apps crash
	$(Q)$(RUN) unit bats

#: sidecar-check  the image in containers: fxfs in one, applications in another; KILLS=200: of the whole container
sidecar-check: packages-check
	+$(Q)$(MAKE) all image previous apps vm-apps crash
	$(Q)ONLY=75-sidecar $(RUN) bats

#: check-asan   bats and difftest with AddressSanitizer and UBSan
#: check-tsan   the same with ThreadSanitizer, of bats what has threads
check-asan check-tsan: check-%: packages-check
	+$(Q)$(MAKE) all apps $*
	$(Q)$(RUN) $*

#: check-clang  compile everything with clang too
check-clang: clang

#: cross        the binary for aarch64, from x86-64
#: lint         formatting, static analysis, layers
lint: packages-check
	+$(Q)$(MAKE) all
	$(Q)$(RUN) lint

#: difftest     the same random operations on the source and on the mount
difftest: packages-check
	+$(Q)$(MAKE) all apps
	$(Q)$(RUN) difftest

#: demo         see it survive: ordinary programs at work while the server is killed
demo: packages-demo
	+$(Q)$(MAKE) all $(O)/app/killer $(O)/app/pulse
	$(Q)O=$(O) test/demo

#: fuzz         the fuzzers of test/fuzz, each for SECONDS=30
SECONDS ?= 30
fuzz: packages-fuzz
	+$(Q)$(MAKE) fuzzers
	$(Q)FUZZ_SECONDS=$(SECONDS) $(RUN) fuzz

#: storm        strict applications while server or monitor are killed KILLS=2000 times; PROGRAMS=1: real programs
storm: packages-storm$(if $(PROGRAMS),-programs)
	+$(Q)$(MAKE) all apps
	$(Q)O=$(O) test/storm

#: vm-check     Debian's kernels (KERNELS='6.1 6.12 7') in a virtual machine, and fxfs in them
#: vm-check-full  the same with all file systems, 500 kills and 1,200,000 looks for each kernel: hours
vm-check vm-check-full: packages-vm
	+$(Q)$(MAKE) all previous vm-apps
	$(Q)$(if $(filter %-full,$@),FULL=1) $(RUN) vm

#: bench-recovery  how long applications wait when the server is killed
bench-recovery: packages-bench-recovery
	+$(Q)$(MAKE) all apps
	$(Q)O=$(O) test/bench-recovery

#: bench        what everything costs: on the source, through fxfs, through others; QUICK=1, ONLY=NAMES: less
bench: packages-bench
	+$(Q)$(MAKE) all apps
	$(Q)O=$(O) test/bench

#: format       lay the C sources out as clang-format does
.PHONY: format
format: packages-check
	$(Q)clang-format -i $$(find . -path ./.git -prune -o -path ./$(O) -prune -o -path ./kernel/build -prune -o -name '*.[ch]' -print)

packages-%: FORCE
	@deps/install $*

# --- install, clean, help ----------------------------------------------------------------------------------

# mount(8) looks for its helpers in /sbin only.
SBINDIR ?= /usr/sbin
MANPAGES := $(wildcard doc/*.[1-8])
UNITS := $(wildcard doc/*.service)
UNITDIR = $(DESTDIR)$(PREFIX)/lib/systemd/system
.PHONY: install uninstall clean help

#: install      into DESTDIR and PREFIX, with units for systemd; mount.fxfs goes where mount(8) looks
install: all
	install -D -m 755 $(BIN) $(DESTDIR)$(PREFIX)/bin/fxfs
	install -d $(DESTDIR)$(SBINDIR)
	ln -sf $(PREFIX)/bin/fxfs $(DESTDIR)$(SBINDIR)/mount.fxfs
	$(foreach page,$(MANPAGES),install -D -m 644 $(page) \
		$(DESTDIR)$(PREFIX)/share/man/man$(subst .,,$(suffix $(page)))/$(notdir $(page)) &&) :
	$(foreach unit,$(UNITS),sed 's,/usr/local/bin/,$(PREFIX)/bin/,' $(unit) | \
		install -D -m 644 /dev/stdin $(UNITDIR)/$(notdir $(unit)) &&) :

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/fxfs $(DESTDIR)$(SBINDIR)/mount.fxfs
	$(foreach page,$(MANPAGES),rm -f \
		$(DESTDIR)$(PREFIX)/share/man/man$(subst .,,$(suffix $(page)))/$(notdir $(page)) &&) :
	$(foreach unit,$(UNITS),rm -f $(UNITDIR)/$(notdir $(unit)) &&) :

#: clean        remove what was built (the libraries stay cached)
clean:
	rm -rf $(addprefix $(O)/,obj crash-obj obj.flags crash-obj.flags asan tsan clang fuzz aarch64-linux-gnu bpf unit \
		app vm image image.tar previous module difftest matrix matrix.txt memfs model bench* \
		deps check.log fxfs fxfs.debug fxfs-crash fxfs-crash.debug) $(BIN)
	-@rmdir $(O) 2>/dev/null

help:
	@echo 'make              build ./fxfs'
	@sed -n 's/^#: /make /p' $(firstword $(MAKEFILE_LIST))
	@echo 'Variables: see the top of the Makefile.'

-include $(OBJS:.o=.d) $(patsubst %.c,$(OBJ)/%.d,$(MEMFS)) $(SKELS:.skel.h=.bpf.d) $(APPS:=.d) $(VM_APPS:=.d)
-include $(patsubst $(B)/unit/%,$(OBJ)/test/unit/%.d,$(UNIT)) $(patsubst $(O)/fuzz/%,$(OBJ)/test/fuzz/%.d,$(FUZZ))
