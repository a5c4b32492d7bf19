// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * manyopen DIRECTORY COUNT: opens the files 0, 1, ... COUNT - 1 of DIRECTORY, makes them where they are not there, says
 * `open`, and keeps them open until TERM.
 */
#include <err.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc != 3)
		errx(2, "usage: manyopen DIRECTORY COUNT");
	if (chdir(argv[1]))
		err(1, "%s", argv[1]);
	for (int i = 0; i < atoi(argv[2]); i++) {
		char name[16];

		snprintf(name, sizeof(name), "%d", i);
		if (open(name, O_RDWR | O_CREAT, 0600) < 0)
			err(1, "%s", name);
	}
	puts("open");
	fflush(stdout);
	for (;;)
		pause();
}
