/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Arguments, and what must be so before the test can say anything.
 */
#include "difftest.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct config config = {.check_every = 200};

static void usage(FILE *f)
{
	fprintf(f, "usage: difftest [options] A B\n"
		   "  Runs the same operations below A/difftest and B/difftest, which it makes, and compares.\n"
		   "  --seed N         the sequence of operations (default: random)\n"
		   "  --steps N        stop after N steps\n"
		   "  --seconds N      stop after N seconds (without either: 20000 steps)\n"
		   "  --check-every N  compare the whole trees each N steps (200)\n"
		   "  --other-side DIR the source below the mount B, to look at B's effects there\n"
		   "  --minimise       on a difference, look for the fewest steps that show it\n"
		   "  --skip LIST      leave out these operations and actors (root, 60001, 60002)\n"
		   "  --except LIST    skip only these kernel differences (default: all; \"none\")\n"
		   "  --list           print the operations and their weights\n"
		   "exceptions:\n");
	except_print(f);
}

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fprintf(stderr, "difftest: ");
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, "\n");
	va_end(ap);
	exit(EXIT_ENVIRONMENT);
}

static uint64_t number(const char *text)
{
	char *end;
	uint64_t n;

	errno = 0;
	n = strtoull(text, &end, 0);
	if (errno || end == text || *end)
		die("not a number: %s", text);
	return n;
}

static const char *directory(const char *path)
{
	char *resolved = realpath(path, NULL);

	if (!resolved)
		die("%s: %s", path, strerror(errno));
	return resolved;
}

static void options_parse(int argc, char **argv)
{
	static const struct option options[] = {
		{"seed", required_argument, NULL, 's'},
		{"steps", required_argument, NULL, 'n'},
		{"seconds", required_argument, NULL, 't'},
		{"check-every", required_argument, NULL, 'c'},
		{"other-side", required_argument, NULL, 'o'},
		{"except", required_argument, NULL, 'e'},
		{"minimise", no_argument, NULL, 'm'},
		{"list", no_argument, NULL, 'l'},
		{"skip", required_argument, NULL, 'k'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (c) {
		case 's':
			config.seed = number(optarg);
			break;
		case 'n':
			config.steps = number(optarg);
			break;
		case 't':
			config.seconds = number(optarg);
			break;
		case 'c':
			config.check_every = number(optarg);
			break;
		case 'o':
			config.source = directory(optarg);
			break;
		case 'k':
			config.skip = optarg;
			break;
		case 'm':
			config.minimise = true;
			break;
		case 'e':
			if (except_parse(optarg))
				die("unknown exception in: %s", optarg);
			break;
		case 'l':
			op_list_print(stdout);
			exit(0);
		case 'h':
			usage(stdout);
			exit(0);
		default:
			usage(stderr);
			exit(EXIT_ENVIRONMENT);
		}
}

static void shared_init(void)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		die("no memory: %s", strerror(errno));
}

int main(int argc, char **argv)
{
	if (!strcmp(argv[0], EXEC_NAME))
		return exec_child_main();
	config.seed = (uint64_t)time(NULL) * 100000 + getpid();
	options_parse(argc, argv);
	if (argc - optind != SIDE_N) {
		usage(stderr);
		return EXIT_ENVIRONMENT;
	}
	if (geteuid())
		die("must be run as root: its actors are three users");
	for (int i = 0; i < SIDE_N; i++)
		config.path[i] = directory(argv[optind + i]);
	if (!config.steps && !config.seconds)
		config.steps = 20000;
	if (!config.check_every)
		config.check_every = EPOCH_STEPS;
	shared_init();
	printf("difftest: seed %llu\n", (unsigned long long)config.seed);
	return watch_run();
}
