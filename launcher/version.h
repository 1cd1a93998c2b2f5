/* launcher/version.h - what this program was built from and with. */
#pragma once

#include <stdio.h>

/* Version and commit, for comparing ranks. */
const char *cdp_version(void);

/* --version: version, commit, compiler, and what was found at build and at run. */
void cdp_version_print(FILE *to);
