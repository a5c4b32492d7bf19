/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* `fxfs --health`: does the mount answer? */
#ifndef RECOVER_HEALTH_H
#define RECOVER_HEALTH_H

#include "recover/limit.h"

/*
 * Says whether the mount of the file system `name` at `mountpoint` answers within `seconds`: code 0 if it does. Otherwise 1
 * and no other code, which is what container engines know.
 */
void health_ask(const char *mountpoint, const char *name, double seconds, struct outcome *outcome);

#endif
