/* kernels/log.h - the `#` lines on stderr. Rank 0 speaks for all; --quiet silences it. */
#pragma once

#include <stdbool.h>

/* Who may speak from here on. Before the first call nobody does. */
void cdp_log_open(bool speaks);

/* True when cdp_note prints: lets a caller skip work whose only use is a line. */
bool cdp_log_speaks(void);

/* `is_ready` is asked before each line from here on; where it says no, the line is left out. It may wait for
 * the reader. NULL: lines are written, and block. */
void cdp_log_set_ready(bool (*is_ready)(void));

/* Print "# " + text + newline to stderr by one write, printf style. */
void cdp_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
