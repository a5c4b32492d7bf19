/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fxfs: arguments -> what to do -> exit code. Options stand in one table (options[]), which drives the parser and
 * --help; a test checks that the man page names each.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <link.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/answer.h"
#include "fs/fs.h"
#include "recover/crash.h"
#include "recover/health.h"
#include "recover/hold.h"
#include "recover/log.h"
#include "recover/mounted.h"
#include "recover/recover.h"
#include "recover/status.h"
#include "recover/umount.h"

/* mount(8) */
enum { EXIT_OK = 0, EXIT_USAGE = 1, EXIT_SYSTEM = 2, EXIT_BUG = 4, EXIT_INTERRUPTED = 8, EXIT_MOUNT = 32 };

#define TTL_DEFAULT 1.0
#define WATCHDOG_DEFAULT 60
#define WATCHDOG_MAX 86400
#define TIMEOUT_MAX 86400

enum command {
	COMMAND_MOUNT,
	COMMAND_STATUS,
	COMMAND_UPGRADE,
	COMMAND_HEALTH,
	COMMAND_UMOUNT,
	COMMAND_HOLD,
	COMMAND_N
};

static const struct {
	int operands;
	const char *wanted; /* what is said of another number of operands */
	double timeout;	    /* default, in seconds; 0: has none */
} commands[COMMAND_N] = {
	[COMMAND_MOUNT] = {2, "SOURCE and MOUNTPOINT are needed (fxfs --help)", 0},
	[COMMAND_STATUS] = {1, "--status needs MOUNTPOINT", 0},
	[COMMAND_UPGRADE] = {1, "--upgrade needs MOUNTPOINT", 0},
	[COMMAND_HEALTH] = {1, "--health needs MOUNTPOINT", 2},
	[COMMAND_UMOUNT] = {1, "--umount needs MOUNTPOINT", 10},
	[COMMAND_HOLD] = {1, "--hold needs SOCKET", 0},
};

struct config {
	const char *source_argument, *mountpoint_argument;
	char source[PATH_MAX], mountpoint[PATH_MAX];
	unsigned long flags_set, flags_clear; /* MS_* that were asked for */
	const char *state_path;
	const char *metrics;
	const char *hold; /* NULL: no holder */
	bool hold_manager;
	struct held held;
	struct stat source_stat;
	const char *name;   /* shown instead of the source */
	const char *device; /* NULL: whichever there is */
	const char *cache;
	struct idmaps ids;
	bool idmap;
	double ttl;
	bool watch;
	bool cache_bpf;
	int bpf; /* BPF_* of fs/answer.h */
	unsigned bpf_entries;
	bool passthrough;
	enum { LOCKS_AUTO, LOCKS_SHARED, LOCKS_LOCAL } locks;
	unsigned workers;
	enum witness witness;
	enum wake wake;
	enum contain contain;
	unsigned watchdog;
	enum command command;
	double timeout; /* 0: the command's own */
	bool foreground, debug, json, force, sloppy, fake;
	int adopt_fd, check_fd; /* -1: no; see recover/exec.c */
	char **arguments;
	bool helper; /* called by mount(8) as mount.fxfs */
};

/* 0, or -EINVAL: the value is not one of those allowed; for lists -EEXIST: it overlaps, -E2BIG: there are too many. */
typedef int option_parse(struct config *config, const char *value);

static int parse_cache(struct config *config, const char *value)
{
	char *end;

	config->watch = config->cache_bpf = false;
	if (strcmp(value, "none") == 0) {
		config->ttl = 0;
	} else if (strcmp(value, "always") == 0) {
		config->ttl = TTL_UNLIMITED;
	} else if (strncmp(value, "ttl=", 4) == 0) {
		config->ttl = strtod(value + 4, &end);
		if (end == value + 4 || *end || !(config->ttl >= 0 && config->ttl <= TTL_UNLIMITED))
			return -EINVAL;
	} else if (strcmp(value, "ttl") == 0) {
		config->ttl = TTL_DEFAULT;
	} else if (strcmp(value, "watch") == 0 || strcmp(value, "bpf") == 0 || strcmp(value, "auto") == 0) {
		config->ttl = TTL_DEFAULT;
		config->watch = true;
		config->cache_bpf = strcmp(value, "watch") != 0;
		value = "watch"; /* until there is BPF */
	} else {
		return -EINVAL;
	}
	config->cache = value;
	return 0;
}

static int parse_passthrough(struct config *config, const char *value)
{
	config->passthrough = strcmp(value, "off") != 0;
	return strcmp(value, "auto") && strcmp(value, "on") && strcmp(value, "off") ? -EINVAL : 0;
}

static int parse_bpf(struct config *config, const char *value)
{
	config->bpf = strcmp(value, "on") == 0 ? BPF_ON : strcmp(value, "off") == 0 ? BPF_OFF : BPF_AUTO;
	return config->bpf == BPF_AUTO && strcmp(value, "auto") ? -EINVAL : 0;
}

static int parse_locks(struct config *config, const char *value)
{
	config->locks = strcmp(value, "local") == 0 ? LOCKS_LOCAL : strcmp(value, "auto") ? LOCKS_SHARED : LOCKS_AUTO;
	return strcmp(value, "auto") && strcmp(value, "local") && strcmp(value, "shared") ? -EINVAL : 0;
}

static int parse_count(const char *value, unsigned long least, unsigned long most, unsigned *count)
{
	char *end;
	unsigned long n = strtoul(value, &end, 10);

	if (*value < '0' || *value > '9' || *end || n < least || n > most)
		return -EINVAL;
	*count = (unsigned)n;
	return 0;
}

static int parse_bpf_entries(struct config *config, const char *value)
{
	int err = parse_count(value, ANSWER_ENTRIES_MIN, ANSWER_ENTRIES_MAX, &config->bpf_entries);

	return err || config->bpf_entries & (config->bpf_entries - 1) ? -EINVAL : 0;
}

static int parse_workers(struct config *config, const char *value)
{
	return parse_count(value, 1, STATE_WORKERS_MAX, &config->workers);
}

static int parse_witness(struct config *config, const char *value)
{
	for (enum witness witness = WITNESS_REGISTERS; witness < WITNESS_N; witness++)
		if (strcmp(value, witness_name(witness)) == 0) {
			config->witness = witness;
			return 0;
		}
	config->witness = WITNESS_AUTO;
	return strcmp(value, "auto") ? -EINVAL : 0;
}

static int parse_wake(struct config *config, const char *value)
{
	for (config->wake = WAKE_AUTO; config->wake < WAKE_N; config->wake++)
		if (strcmp(value, wake_name(config->wake)) == 0)
			return 0;
	return -EINVAL;
}

static int parse_contain(struct config *config, const char *value)
{
	config->contain = strcmp(value, "off") == 0 ? CONTAIN_OFF : CONTAIN_AUTO;
	return strcmp(value, "auto") && strcmp(value, "off") ? -EINVAL : 0;
}

static int parse_watchdog(struct config *config, const char *value)
{
	return parse_count(value, 0, WATCHDOG_MAX, &config->watchdog);
}

static int parse_timeout(struct config *config, const char *value)
{
	char *end;

	config->timeout = strtod(value, &end);
	return end == value || *end || !(config->timeout > 0 && config->timeout <= TIMEOUT_MAX) ? -EINVAL : 0;
}

static int parse_absolute(const char **path, const char *value)
{
	*path = value;
	return *value == '/' ? 0 : -EINVAL;
}

static int parse_state(struct config *config, const char *value)
{
	return parse_absolute(&config->state_path, value);
}

static int parse_metrics(struct config *config, const char *value)
{
	return parse_absolute(&config->metrics, value);
}

static int parse_hold(struct config *config, const char *value)
{
	config->hold_manager = strcmp(value, "systemd") == 0;
	config->hold = config->hold_manager ? NULL : value;
	return config->hold_manager || *value == '/' ? 0 : -EINVAL;
}

static int parse_device(struct config *config, const char *value)
{
	config->device = strcmp(value, "fuse") == 0 ? "/dev/fuse" : strcmp(value, "fxfuse") == 0 ? "/dev/fxfuse" : NULL;
	return config->device || strcmp(value, "auto") == 0 ? 0 : -EINVAL;
}

static int parse_uidmap(struct config *config, const char *value)
{
	return idmap_add(&config->ids.uids, value);
}

static int parse_gidmap(struct config *config, const char *value)
{
	return idmap_add(&config->ids.gids, value);
}

static int parse_idmap(struct config *config, const char *value)
{
	config->idmap = strcmp(value, "on") == 0;
	return strcmp(value, "on") && strcmp(value, "off") ? -EINVAL : 0;
}

static int parse_fsname(struct config *config, const char *value)
{
	config->name = value;
	return 0;
}

struct option_entry {
	const char *name;
	const char *argument;	  /* for --help; NULL: takes none */
	option_parse *parse;	  /* of an option with an argument */
	unsigned long set, clear; /* MS_* of a generic option */
	const char *help;	  /* NULL: one of the generic options listed in one line */
};

static const struct option_entry options[] = {
	{"cache", "auto|bpf|watch|none|ttl|ttl=SECONDS|always", parse_cache, 0, 0,
	 "how long names and attributes are cached: bpf: a BPF program in the kernel answers as long as they are true;\n"
	 "                      watch: until the source says that they changed; ttl: 1 second; auto: the first of these\n"
	 "                      that can be had"},
	{"bpf", "auto|on|off", parse_bpf, 0, 0,
	 "cache=bpf where it can be had (module fxfuse, Linux 6.12), or no mount without it, or never"},
	{"passthrough", "auto|on|off", parse_passthrough, 0, 0,
	 "let the kernel read and write the source's files itself (Linux 6.9)"},
	{"bpf_entries", "N", parse_bpf_entries, 0, 0,
	 "answers that BPF has room for, of each kind: a power of 2 from 16 to 16777216; default: 65536"},
	{"locks", "auto|shared|local", parse_locks, 0, 0,
	 "locks are those of the source, or the kernel's own: then closing sends nothing, with ro nor does opening;\n"
	 "                      auto: local with ro"},
	{"workers", "N", parse_workers, 0, 0, "threads that serve requests, 1 to 64; default: by the number of cores"},
	{"witness", "auto|registers|evidence", parse_witness, 0, 0,
	 "how an interrupted system call is judged: by the registers of the dying thread (ptrace) or by what it left"},
	{"wake", "auto|plain|hold", parse_wake, 0, 0,
	 "keep idle cores awake while requests come fast (/dev/cpu_dma_latency); auto: where that helps"},
	{"contain", "auto|off", parse_contain, 0, 0,
	 "once it serves, the server keeps no more capabilities and system calls than it uses"},
	{"watchdog", "SECONDS", parse_watchdog, 0, 0,
	 "replace a server that makes no progress on a request for so long; default: 60, 0: never"},
	{"device", "auto|fuse|fxfuse", parse_device, 0, 0,
	 "the kernel's own /dev/fuse, or /dev/fxfuse, of the module fxfuse; auto: the latter where it is there"},
	{"state", "PATH", parse_state, 0, 0, "where the state is kept; default: /run/fxfs/<device>.state"},
	{"metrics", "PATH", parse_metrics, 0, 0,
	 "OpenMetrics: a file, written every 15 s, if PATH ends in .prom (node exporter), else a unix socket"},
	{"hold", "SOCKET|systemd", parse_hold, 0, 0,
	 "who keeps the mount when all of its processes die at once: a holder, see --hold, or the service manager"},
	{"uidmap", "SOURCE:MOUNT[:COUNT]", parse_uidmap, 0, 0,
	 "on the mount user SOURCE is user MOUNT, and so are the COUNT - 1 after them; given again for more. All others\n"
	 "                      are nobody"},
	{"gidmap", "SOURCE:MOUNT[:COUNT]", parse_gidmap, 0, 0, "the same for groups"},
	{"idmap", "on|off", parse_idmap, 0, 0,
	 "the mount may be idmapped (Linux 6.12); the kernel then tells of callers only where they make something"},
	{"fsname", "NAME", parse_fsname, 0, 0, "name shown as the source of the mount; default: SOURCE"},
	{"ro", NULL, NULL, MS_RDONLY, 0, NULL},
	{"rw", NULL, NULL, 0, MS_RDONLY, NULL},
	{"nosuid", NULL, NULL, MS_NOSUID, 0, NULL},
	{"suid", NULL, NULL, 0, MS_NOSUID, NULL},
	{"nodev", NULL, NULL, MS_NODEV, 0, NULL},
	{"dev", NULL, NULL, 0, MS_NODEV, NULL},
	{"noexec", NULL, NULL, MS_NOEXEC, 0, NULL},
	{"exec", NULL, NULL, 0, MS_NOEXEC, NULL},
	{"noatime", NULL, NULL, MS_NOATIME, 0, NULL},
	{"atime", NULL, NULL, 0, MS_NOATIME, NULL},
	{"nodiratime", NULL, NULL, MS_NODIRATIME, 0, NULL},
	{"diratime", NULL, NULL, 0, MS_NODIRATIME, NULL},
	{"relatime", NULL, NULL, MS_RELATIME, 0, NULL},
	{"norelatime", NULL, NULL, 0, MS_RELATIME, NULL},
	{"strictatime", NULL, NULL, MS_STRICTATIME, 0, NULL},
	{"sync", NULL, NULL, MS_SYNCHRONOUS, 0, NULL},
	{"async", NULL, NULL, 0, MS_SYNCHRONOUS, NULL},
	{"dirsync", NULL, NULL, MS_DIRSYNC, 0, NULL},
	{"allow_other", NULL, NULL, 0, 0, NULL},	 /* always so */
	{"default_permissions", NULL, NULL, 0, 0, NULL}, /* always so */
	{"defaults", NULL, NULL, 0, 0, NULL},
	{"auto", NULL, NULL, 0, 0, NULL},
	{"noauto", NULL, NULL, 0, 0, NULL},
	{"user", NULL, NULL, 0, 0, NULL},
	{"nouser", NULL, NULL, 0, 0, NULL},
	{"users", NULL, NULL, 0, 0, NULL},
	{"owner", NULL, NULL, 0, 0, NULL},
	{"group", NULL, NULL, 0, 0, NULL},
	{"nofail", NULL, NULL, 0, 0, NULL},
	{"_netdev", NULL, NULL, 0, 0, NULL},
};

#define OPTIONS_N (sizeof(options) / sizeof(options[0]))

static void usage(FILE *to)
{
	fprintf(to,
		"usage: fxfs [options] SOURCE MOUNTPOINT\n"
		"       fxfs --status MOUNTPOINT [--json]\n"
		"       fxfs --upgrade MOUNTPOINT\n"
		"       fxfs --health MOUNTPOINT [--timeout SECONDS]\n"
		"       fxfs --umount MOUNTPOINT [--force] [--timeout SECONDS]\n"
		"       fxfs --hold SOCKET\n"
		"\n"
		"Mounts the directory SOURCE at MOUNTPOINT, as a file system that survives the death of its server.\n"
		"MOUNTPOINT may be /dev/fd/N: a descriptor of /dev/fuse that is mounted already.\n"
		"\n"
		"  -f, --foreground    do not go to the background\n"
		"  -d, --debug         say more, in the foreground\n"
		"  -o OPTION[,...]     mount options, see below\n"
		"      --status        what the mount is doing; reads the state, never the mount\n"
		"      --upgrade       put this program under a running mount; open files stay open\n"
		"      --json          the same as JSON\n"
		"      --health        one line: does the mount answer in time; exit code 0 if it does, 1 if not\n"
		"      --umount        unmount, also what is dead; does nothing where nothing is mounted\n"
		"      --force         with errors for those who use it\n"
		"      --hold          keep mounts whose processes die, for fxfs -o hold=SOCKET to go on with\n"
		"      --timeout SECONDS\n"
		"                      when --health (2) and --umount (10) give up\n"
		"  -h, --help          this text\n"
		"  -V, --version       version of fxfs\n"
		"\n"
		"options:\n");
	for (size_t i = 0; i < OPTIONS_N; i++)
		if (options[i].help)
			fprintf(to, "  -o %s=%s\n                      %s\n", options[i].name, options[i].argument,
				options[i].help);
	fprintf(to, "and those of mount(8):\n ");
	for (size_t i = 0; i < OPTIONS_N; i++)
		if (!options[i].help)
			fprintf(to, " %s", options[i].name);
	fprintf(to,
		"\n\nWithout options the mount has the flags (ro, nosuid, nodev, noexec) that SOURCE's own has.\n"
		"Exit codes are those of mount(8): 0 mounted, 1 usage, 2 system, 4 bug, 8 interrupted, 32 mount failed.\n");
}

static const struct option_entry *option_find(const char *name, size_t length)
{
	for (size_t i = 0; i < OPTIONS_N; i++)
		if (strlen(options[i].name) == length && strncmp(options[i].name, name, length) == 0)
			return &options[i];
	return NULL;
}

/* Options for others than us: x-* (systemd), comment= (fstab). */
static bool option_ignored(const char *text)
{
	return strncmp(text, "x-", 2) == 0 || strncmp(text, "X-", 2) == 0 || strncmp(text, "comment=", 8) == 0;
}

static int option_apply(struct config *config, char *text)
{
	size_t length = strcspn(text, "=");
	const struct option_entry *entry = option_find(text, length);
	const char *value = text[length] ? text + length + 1 : NULL;
	int err;

	if (!*text || option_ignored(text))
		return 0;
	if (!entry) {
		if (config->sloppy)
			return 0;
		log_error("unknown option -o %s (fxfs --help lists them)", text);
		return -EINVAL;
	}
	if (!entry->argument != !value) {
		log_error("option -o %s %s", entry->name, value ? "takes no value" : "needs a value");
		return -EINVAL;
	}
	config->flags_set = (config->flags_set | entry->set) & ~entry->clear;
	config->flags_clear = (config->flags_clear | entry->clear) & ~entry->set;
	err = value ? entry->parse(config, value) : 0;
	if (err == -EEXIST)
		log_error("option -o %s: %s overlaps another one", entry->name, value);
	else if (err == -E2BIG)
		log_error("option -o %s: %s is one more than there is room for", entry->name, value);
	else if (err)
		log_error("option -o %s: %s is not one of %s", entry->name, value, entry->argument);
	return err;
}

/* The arguments stay whole: the next program under the mount gets them too (recover/exec.c). */
static int options_apply(struct config *config, const char *list)
{
	char *copy = strdup(list), *save, *text;

	if (!copy)
		return -ENOMEM;
	for (text = strtok_r(copy, ",", &save); text; text = strtok_r(NULL, ",", &save))
		if (option_apply(config, text))
			return -EINVAL;
	return 0;
}

/* What is wrong with the command line as a whole; NULL: nothing. */
static const char *command_wrong(const struct config *config, int operands)
{
	if (operands != commands[config->command].operands)
		return commands[config->command].wanted;
	if (config->force && config->command != COMMAND_UMOUNT)
		return "--force needs --umount";
	if (config->timeout > 0 && !(commands[config->command].timeout > 0))
		return "--timeout needs --health or --umount";
	return NULL;
}

/* mount(8) passes the operands first, and -f to a helper means: only pretend. */
static int arguments_parse(struct config *config, int argc, char **argv)
{
	static const struct option longs[] = {
		{"foreground", no_argument, NULL, 'f'},
		{"debug", no_argument, NULL, 'd'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{"status", no_argument, NULL, 'S'},
		{"json", no_argument, NULL, 'J'},
		{"upgrade", no_argument, NULL, 'U'},
		{"health", no_argument, NULL, 'H'},
		{"umount", no_argument, NULL, 'M'},
		{"force", no_argument, NULL, 'F'},
		{"hold", no_argument, NULL, 'K'},
		{"timeout", required_argument, NULL, 'T'},
		{"adopt", required_argument, NULL, 'A'}, /* of ourselves */
		{"check-state", required_argument, NULL, 'C'},
#ifdef FXFS_CRASH_POINTS
		{"crash-points", no_argument, NULL, 'P'}, /* of tests */
#endif
		{NULL, 0, NULL, 0},
	};
	const char *wrong;
	int option;

	while ((option = getopt_long(argc, argv, "fdho:VsnvN:t:", longs, NULL)) != -1) {
		switch (option) {
		case 'f':
			if (config->helper)
				config->fake = true;
			else
				config->foreground = true;
			break;
		case 'd':
			config->debug = config->foreground = true;
			break;
		case 'o':
			if (options_apply(config, optarg))
				return EXIT_USAGE;
			break;
		case 's':
			config->sloppy = true;
			break;
		case 'S':
			config->command = COMMAND_STATUS;
			break;
		case 'J':
			config->json = true;
			break;
		case 'U':
			config->command = COMMAND_UPGRADE;
			break;
		case 'H':
			config->command = COMMAND_HEALTH;
			break;
		case 'M':
			config->command = COMMAND_UMOUNT;
			break;
		case 'F':
			config->force = true;
			break;
		case 'K':
			config->command = COMMAND_HOLD;
			break;
		case 'T':
			if (parse_timeout(config, optarg)) {
				log_error("--timeout %s: not a number of seconds up to %d", optarg, TIMEOUT_MAX);
				return EXIT_USAGE;
			}
			break;
		case 'A':
			config->adopt_fd = atoi(optarg);
			break;
		case 'C':
			config->check_fd = atoi(optarg);
			return EXIT_OK;
		case 'n':
		case 'v':
		case 'N':
		case 't':
			break; /* of mount(8), mean nothing here */
		case 'h':
			usage(stdout);
			exit(EXIT_OK);
#ifdef FXFS_CRASH_POINTS
		case 'P':
			crash_list();
			exit(EXIT_OK);
#endif
		case 'V':
			printf("fxfs %s\n", FXFS_VERSION);
			exit(EXIT_OK);
		default:
			usage(stderr);
			return EXIT_USAGE;
		}
	}
	wrong = command_wrong(config, argc - optind);
	if (wrong) {
		log_error("%s", wrong);
		return EXIT_USAGE;
	}
	config->source_argument = argv[optind];
	config->mountpoint_argument = argv[argc - 1];
	return EXIT_OK;
}

static bool path_below(const char *path, const char *directory)
{
	size_t length = strlen(directory);

	if (strcmp(directory, "/") == 0)
		return path[1] != 0;
	return strncmp(path, directory, length) == 0 && path[length] == '/';
}

/* realpath(3), which with some C libraries takes what no system call does. */
static bool path_resolve(const char *argument, char path[PATH_MAX])
{
	if (strlen(argument) < PATH_MAX)
		return realpath(argument, path);
	errno = ENAMETOOLONG;
	return false;
}

/* Absolute paths, before the working directory changes; mounting a directory over itself is fine. */
static int paths_resolve(struct config *config)
{
	if (!path_resolve(config->source_argument, config->source)) {
		log_error("cannot open source %.4095s: %s", config->source_argument, strerror(errno));
		return EXIT_MOUNT;
	}
	if (strncmp(config->mountpoint_argument, "/dev/fd/", 8) == 0) {
		snprintf(config->mountpoint, sizeof(config->mountpoint), "%s", config->mountpoint_argument);
		return EXIT_OK;
	}
	if (!path_resolve(config->mountpoint_argument, config->mountpoint)) {
		log_error("cannot use mountpoint %.4095s: %s", config->mountpoint_argument, strerror(errno));
		return EXIT_MOUNT;
	}
	if (path_below(config->mountpoint, config->source)) {
		log_error("mountpoint %s is inside source %s: the mount would show itself", config->mountpoint,
			  config->source);
		return EXIT_MOUNT;
	}
	if (path_below(config->source, config->mountpoint)) {
		log_error("source %s is inside mountpoint %s, which would hide it", config->source, config->mountpoint);
		return EXIT_MOUNT;
	}
	return EXIT_OK;
}

/* A descriptor of a device that somebody else has mounted. */
static bool is_passed(const struct config *config)
{
	return strncmp(config->mountpoint, "/dev/fd/", 8) == 0;
}

static int source_open(const struct config *config)
{
	int fd = open(config->source, O_RDONLY | O_DIRECTORY);

	if (fd < 0)
		log_error("cannot open source %s: %s", config->source, strerror(errno));
	return fd;
}

/* mount(2): whoever passes a descriptor has done that. */
static int privilege_check(const struct config *config)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}};

	if (is_passed(config) || syscall(SYS_capget, &header, data) || data[0].effective & 1u << CAP_SYS_ADMIN)
		return EXIT_OK;
	log_error("cannot mount %s on %s: only root may (CAP_SYS_ADMIN), also of a user namespace (unshare -Urm)",
		  config->source, config->mountpoint);
	return EXIT_MOUNT;
}

/* A dead mount of ours that nobody keeps is only in the way. */
static void mountpoint_clear(const struct config *config)
{
	static struct outcome outcome;

	if (!umount_is_dead(config->mountpoint))
		return;
	umount_ask(config->mountpoint, fxfs.name, false, commands[COMMAND_UMOUNT].timeout, &outcome);
	log_warning("the mount on %s is dead: %s", config->mountpoint, outcome.text);
}

static int mountpoint_check(const struct config *config)
{
	struct stat st;
	int err;

	if (is_passed(config))
		return EXIT_OK;
	if (!config->fake)
		mountpoint_clear(config);
	err = stat(config->mountpoint, &st) ? errno : S_ISDIR(st.st_mode) ? 0 : ENOTDIR;
	if (!err)
		return EXIT_OK;
	log_error("cannot use mountpoint %s: %s", config->mountpoint, strerror(err));
	return EXIT_MOUNT;
}

/* The flags of the source's own mount, but for what was asked for. */
static unsigned long mount_flags(const struct config *config, int source_fd)
{
	static const struct {
		unsigned long st, ms;
	} inherited[] = {{ST_RDONLY, MS_RDONLY}, {ST_NOSUID, MS_NOSUID}, {ST_NODEV, MS_NODEV}, {ST_NOEXEC, MS_NOEXEC}};
	unsigned long flags = 0;
	struct statvfs st;

	if (fstatvfs(source_fd, &st) == 0)
		for (size_t i = 0; i < sizeof(inherited) / sizeof(inherited[0]); i++)
			if (st.f_flag & inherited[i].st)
				flags |= inherited[i].ms;
	return (flags | config->flags_set) & ~config->flags_clear;
}

static void limits_raise(void)
{
	static const int raised[] = {RLIMIT_NOFILE, RLIMIT_FSIZE};
	struct rlimit limit;

	for (size_t i = 0; i < sizeof(raised) / sizeof(raised[0]); i++)
		if (getrlimit(raised[i], &limit) == 0) {
			limit.rlim_cur = limit.rlim_max;
			setrlimit(raised[i], &limit);
		}
}

/* Descriptors 0 to 2 are somebody's messages: never ours to use for anything else. */
static void stdio_open(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= 2);
	if (fd > 2)
		close(fd);
}

/*
 * What is killed as a whole, a service or a container, has ended when the last of its processes has, and a watcher may wait, in
 * a notification, for a server that is only started anew then.
 */
static void watch_choose(struct config *config)
{
	bool service = config->hold_manager || (!config->hold && recover_is_offered());
	bool container = config->hold && getpid() == 1;

	if (!config->watch || (!service && !container))
		return;
	log_warning("cache=watch: off: a %s that is killed could not end before it is started anew: ttl instead",
		    service ? "service" : "container");
	config->watch = false;
	config->cache = "ttl";
}

static int run(struct config *config, int source_fd, int notify_fd)
{
	struct recover_options recover = {
		.source = config->name ? config->name : config->source,
		.mountpoint = config->mountpoint,
		.state_path = config->state_path,
		.version = FXFS_VERSION,
		.device = config->device,
		.workers = config->workers,
		.metrics = config->metrics,
		.hold = config->hold,
		.hold_manager = config->hold_manager,
		.held = &config->held,
		.source_device = config->source_stat.st_dev,
		.source_number = config->source_stat.st_ino,
		.witness = config->witness,
		.wake = config->wake,
		.contain = config->contain,
		.init_flags = config->idmap ? FUSE_ALLOW_IDMAP : 0,
		.mount_flags = source_fd < 0 ? 0 : mount_flags(config, source_fd),
		.cache = config->cache,
		.foreground = config->foreground,
		.debug = config->debug,
		.watchdog = config->watchdog,
		.arguments = config->arguments,
		.notify_fd = notify_fd,
	};
	struct fs *fs = fs_new(source_fd);

	if (!fs)
		return EXIT_SYSTEM;
	fs->ids = config->ids;
	fs->idmap_wanted = config->idmap;
	fs->ttl = config->ttl;
	fs->watch_wanted = config->watch;
	fs->bpf = config->bpf == BPF_AUTO && !config->cache_bpf ? BPF_OFF : config->bpf;
	fs->bpf_entries = config->bpf_entries;
	fs->passthrough_wanted = config->passthrough;
	/* what somebody else has mounted may be writable */
	fs->read_only = recover.mount_flags & MS_RDONLY && !is_passed(config);
	fs->locks_local = config->locks == LOCKS_LOCAL || (config->locks == LOCKS_AUTO && fs->read_only);
	limits_raise();
	umask(0);
	if (config->adopt_fd >= 0)
		return recover_adopt(&fxfs, &recover, fs, config->adopt_fd);
	return recover_run(&fxfs, &recover, fs);
}

/* The parent's part: waits until the mount answers, or the monitor says why it does not. */
static int wait_for_mount(int from, pid_t monitor)
{
	unsigned char code;
	int status;

	if (read(from, &code, 1) == 1)
		return code;
	if (waitpid(monitor, &status, 0) == monitor && WIFEXITED(status) && WEXITSTATUS(status))
		return WEXITSTATUS(status);
	return EXIT_BUG;
}

/* Before there is a mount of ours; there may be one that nobody serves yet. */
static bool mountpoint_is_automounted(const struct config *config)
{
	struct statfs st;

	return !config->held.n && statfs(config->mountpoint, &st) == 0 && st.f_type == AUTOFS_SUPER_MAGIC;
}

/* `body` runs in the background, and is given a descriptor to say its exit code to when it is ready. */
static int run_in_background(struct config *config, int (*body)(struct config *config, int source_fd, int notify_fd),
			     int source_fd)
{
	int notify[2];
	pid_t pid;

	if (pipe(notify))
		return EXIT_SYSTEM;
	pid = fork();
	if (pid < 0) {
		log_error("cannot go to the background: %s", strerror(errno));
		return EXIT_SYSTEM;
	}
	if (pid) {
		close(notify[1]);
		return wait_for_mount(notify[0], pid);
	}
	close(notify[0]);
	/* an automounter lets nobody mount and unmount but who is of its process group: others wait for it, as it does for us */
	if (!mountpoint_is_automounted(config))
		setsid();
	if (chdir("/"))
		return EXIT_SYSTEM;
	return body(config, source_fd, notify[1]);
}

/* --status and --upgrade */
static int ask_state(struct config *config)
{
	char path[PATH_MAX];
	int err = mounted_name(config->mountpoint_argument, config->mountpoint);

	if (err) {
		log_error("cannot find %s: %s", config->mountpoint_argument, strerror(-err));
		return EXIT_SYSTEM;
	}
	if (config->command == COMMAND_STATUS)
		return status_print(&fxfs, config->mountpoint, config->state_path, config->json);
	if (config->state_path)
		return recover_upgrade(config->state_path);
	return status_path(config->mountpoint, path, sizeof(path)) ? EXIT_USAGE : recover_upgrade(path);
}

/* --health and --umount: one line. An answer of --health goes to standard output whatever it is. */
static int ask_mount(const struct config *config)
{
	double timeout = config->timeout > 0 ? config->timeout : commands[config->command].timeout;
	static struct outcome outcome;

	if (config->command == COMMAND_HEALTH)
		health_ask(config->mountpoint_argument, fxfs.name, timeout, &outcome);
	else
		umount_ask(config->mountpoint_argument, fxfs.name, config->force, timeout, &outcome);
	if (config->command == COMMAND_UMOUNT && outcome.code)
		log_error("%s", outcome.text);
	else
		puts(outcome.text);
	return outcome.code;
}

static int hold(struct config *config, int source_fd, int notify_fd)
{
	(void)source_fd;
	limits_raise();
	return hold_run(config->mountpoint, notify_fd);
}

/* The directory may be asked for by any name: from the background only an absolute one is right. */
static int hold_start(struct config *config)
{
	int err = mounted_name(config->mountpoint_argument, config->mountpoint);

	if (err) {
		log_error("cannot hold at %s: %s", config->mountpoint_argument, strerror(-err));
		return EXIT_SYSTEM;
	}
	return config->foreground ? hold(config, -1, -1) : run_in_background(config, hold, -1);
}

/* SOURCE, and what was kept of a mount of it: before the mountpoint is looked at, where nobody may answer. */
static int source_find(struct config *config)
{
	int fd = source_open(config);

	if (fd < 0 || fstat(fd, &config->source_stat))
		return -1;
	if (!is_passed(config))
		recover_find_held(&config->held, config->hold, &config->source_stat, config->mountpoint);
	return fd;
}

static int relro_protect(struct dl_phdr_info *info, size_t size, void *data)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

	(void)size, (void)data;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		uintptr_t from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
		uintptr_t to = from + info->dlpi_phdr[i].p_memsz;

		if (info->dlpi_phdr[i].p_type == PT_GNU_RELRO)
			return mprotect((void *)(from & -page), (to & -page) - (from & -page), PROT_READ);
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct config config = {.cache = "watch",
				.ttl = TTL_DEFAULT,
				.watch = true,
				.cache_bpf = true,
				.bpf_entries = ANSWER_ENTRIES,
				.passthrough = true,
				.watchdog = WATCHDOG_DEFAULT,
				.adopt_fd = -1,
				.check_fd = -1,
				.arguments = argv};
	const char *name = strrchr(argv[0] ? argv[0] : "fxfs", '/');
	int code, source_fd;

	dl_iterate_phdr(relro_protect, NULL); /* musl's static-PIE start does not */
	config.helper = strncmp(name ? name + 1 : argv[0], "mount.", 6) == 0;
	stdio_open();
	log_open("fxfs", false, true);
	code = arguments_parse(&config, argc, argv);
	if (code)
		return code;
	if (getpid() == 1) /* when it ends, so do all processes of its pid namespace */
		config.foreground = true;
	log_open("fxfs", config.debug, config.foreground);
	if (config.check_fd >= 0)
		return recover_check(&fxfs, fs_new(-1), config.check_fd);
	if (config.adopt_fd >= 0)
		return run(&config, -1, -1);
	if (config.command == COMMAND_HOLD)
		return hold_start(&config);
	if (config.command == COMMAND_STATUS || config.command == COMMAND_UPGRADE)
		return ask_state(&config);
	if (config.command != COMMAND_MOUNT)
		return ask_mount(&config);
	code = paths_resolve(&config);
	if (code)
		return code;
	source_fd = source_find(&config);
	if (source_fd < 0)
		return EXIT_MOUNT;
	if (!config.held.n)
		code = mountpoint_check(&config);
	if (code || config.fake)
		return code;
	code = privilege_check(&config);
	if (code)
		return code;
	watch_choose(&config);
	return config.foreground ? run(&config, source_fd, -1) : run_in_background(&config, run, source_fd);
}
