/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Messages to people. One line per event is formatted on the stack and written
 * with one system call, so that lines of several processes do not mix.
 */
#include "recover/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define LOG_LINE 9216 /* two paths and some words */

static const char *log_name = "fxfs";
static bool log_with_debug;
static bool log_in_foreground;
static int log_socket = -1;
static const uint32_t *log_detached;

void log_open(const char *name, bool debug, bool foreground)
{
	log_name = name;
	log_with_debug = debug;
	log_in_foreground = foreground;
}

static int log_reconnect(void)
{
	static const struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};

	return connect(log_socket, (const struct sockaddr *)&address, sizeof(address));
}

/* syslog(3) opens its socket when it likes; ours must be known to the mount, so it is our own. */
int log_connect(const uint32_t *detached)
{
	log_detached = detached;
	log_socket = socket(AF_UNIX, SOCK_DGRAM, 0);
	if (log_socket >= 0)
		log_reconnect();
	return log_socket;
}

static void log_send(int priority, const char *message)
{
	char line[LOG_LINE + 128];
	int used;

	if (log_socket < 0)
		return;
	used = snprintf(line, sizeof(line), "<%d>%s[%d]: %s", LOG_DAEMON | priority, log_name, getpid(), message);

	if (used >= (int)sizeof(line))
		used = sizeof(line) - 1;
	if (send(log_socket, line, (size_t)used, MSG_NOSIGNAL) < 0 && log_reconnect() == 0)
		send(log_socket, line, (size_t)used, MSG_NOSIGNAL);
}

static void log_write(int priority, const char *format, va_list arguments)
{
	char line[LOG_LINE];
	int used;

	if (priority == LOG_DEBUG && !log_with_debug)
		return;
	if ((log_detached && *log_detached) || (priority == LOG_INFO && !log_in_foreground)) {
		vsnprintf(line, sizeof(line), format, arguments);
		log_send(priority, line);
		return;
	}
	used = snprintf(line, sizeof(line), "%s: ", log_name);
	used += vsnprintf(line + used, sizeof(line) - (size_t)used - 1, format, arguments);
	if (used > (int)sizeof(line) - 2)
		used = sizeof(line) - 2;
	line[used++] = '\n';
	if (write(STDERR_FILENO, line, (size_t)used) < 0)
		return; /* nobody is listening: there is no better place to say so */
}

void log_message(int priority, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	log_write(priority, format, arguments);
	va_end(arguments);
}

void bug(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	log_write(LOG_CRIT, format, arguments);
	va_end(arguments);
	abort();
}
