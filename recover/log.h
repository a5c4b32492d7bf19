/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Messages to people: standard error in the foreground, syslog (RFC 3164, /dev/log) once detached.
 * Lower case, what failed, on what, and why. Nothing per request above LOG_DEBUG.
 */
#ifndef RECOVER_LOG_H
#define RECOVER_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <syslog.h>

/* Messages begin with `name`, which is kept; `debug` lets LOG_DEBUG through, `foreground` LOG_INFO. */
void log_open(const char *name, bool debug, bool foreground);

/*
 * Opens the way to syslog and returns its descriptor (to be kept by every process), or -1 where there is none.
 * Messages take it once *detached is not zero: a word shared by all processes of the mount.
 */
int log_connect(const uint32_t *detached);

__attribute__((format(printf, 2, 3))) void log_message(int priority, const char *format, ...);

#define log_error(...) log_message(LOG_ERR, __VA_ARGS__)
#define log_warning(...) log_message(LOG_WARNING, __VA_ARGS__)
#define log_info(...) log_message(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_message(LOG_DEBUG, __VA_ARGS__)

/* We are wrong, not our environment: says so and aborts. In the server the monitor starts another. */
__attribute__((noreturn, format(printf, 1, 2))) void bug(const char *format, ...);

#endif
