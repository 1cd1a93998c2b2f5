/* launcher/bar.h - a progress bar: one line on stderr that is written over and over.
 *
 *     [#######.................] 120 of 1000 done
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* True where stderr is a terminal, ours or that of the cdpipe that started mpirun. */
bool cdp_bar_is_due(void);

/* Draw it: n_done of n_total, and what it says. */
void cdp_bar_show(uint64_t n_done, uint64_t n_total, const char *text);

/* The line is empty again. */
void cdp_bar_clear(void);
