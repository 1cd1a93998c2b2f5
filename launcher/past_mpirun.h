/* launcher/past_mpirun.h - rank 0 writes where its mpirun writes.
 *
 *     rank 0 --> mpirun --> the terminal, pipe or file that mpirun was given
 *     rank 0 -------------> the same
 *
 * mpirun of Open MPI 5 keeps a line until it is whole: text that comes token by token stands still, and what
 * is unfinished of stdout goes to stderr with the next line there. Open MPI 4 hands all on as it comes.
 */
#pragma once

/* In rank 0 of a mpirun of Open MPI 5 or newer on this host: stdout and stderr become mpirun's own. Nothing
 * changes where mpirun was told what to do with output (--output, --tag-output ...), or where the kernel does
 * not give out its descriptors. `first_word` is this program's first argument, or NULL: behind it mpirun's
 * command line is ours, whose --output is another. Before anything is written. */
void cdp_write_past_mpirun(const char *first_word);
