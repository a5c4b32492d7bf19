/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libelf's messages stay untranslated: no catalogue is ever opened. */
#define gettext(msg) ((char *)(msg))
#define dgettext(domain, msg) ((char *)(msg))
#define bindtextdomain(domain, dir) (dir)
