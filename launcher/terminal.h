/* launcher/terminal.h - the person's terminal stays with the one who talks: rank 0.
 *
 * Under mpirun a rank's streams are pipes. A cdpipe that starts itself tells its ranks where the terminal is,
 * and rank 0 takes it for the streams that were the terminal's, and with it Ctrl-C. When the run is over the
 * cdpipe that started it takes the terminal back, in the state it was in.
 */
#pragma once

#include "kernels/status.h"

/* In the process that starts mpirun, before it does: name the terminal to the ranks, remember its state.
 * Nothing happens where standard input is no terminal. */
void cdp_terminal_lend(void);

/* The same process, when mpirun has ended. */
void cdp_terminal_take_back(void);

/* On every rank, before anything is printed: rank 0's streams become the terminal that was lent, if any. */
void cdp_terminal_take(void);
