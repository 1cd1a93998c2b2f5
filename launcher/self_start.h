/* launcher/self_start.h - `--np N` and `--num-gpus N` without mpirun: cdpipe starts itself under mpirun. */
#pragma once

#include "launcher/options/options.h"

/* True when these options ask for several processes and no launcher has started this one. */
bool cdp_self_start_wanted(const cdp_options *options);

/* Start `mpirun ... -np N` with the same arguments, pass Ctrl-C and SIGTERM on as a message (SIGUSR1, and a
 * second Ctrl-C as SIGUSR2, both of which mpirun forwards; a Ctrl-C of the terminal would end everything in
 * two seconds), wait, and return the exit code of the run in *exit_code_out. CDP_SYSTEM when mpirun cannot be
 * started. */
cdp_status cdp_self_start(int *exit_code_out, const cdp_options *options, int argc, char **argv);
