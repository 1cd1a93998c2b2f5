/* launcher/batch/input.h - the lines of a job: read once from end to end, then one by one as they are needed.
 *
 *     first pass   size and hash of the whole, 32 bytes a line (ledger.h); two lines of one id end the job
 *     later        a line by its index, read again from the file
 *
 * What was read at the start counts: the file may grow meanwhile; a line that has changed is found out by its
 * id. "-" is standard input, which is copied to a nameless temporary file first, as is anything that cannot
 * be read twice (a pipe). Blank lines are passed over; a byte order mark, CRLF and a missing last newline are
 * fine.
 */
#pragma once

#include "launcher/batch/ledger.h"
#include "launcher/batch/line.h"

typedef struct cdp_input {
    char *path; /* as given */
    int fd;
    uint64_t size;    /* bytes */
    cdp_hash128 hash; /* of all of them */
    cdp_ledger ledger;
    bool names_decoding; /* some line says itself how it is to be decoded */
    char *text;          /* the line read last */
    size_t room;
} cdp_input;

/* The first pass; on_block (may be NULL) is called now and then, because it may take long, and while a
 * pipe has nothing yet; it may end it. CDP_NO_INPUT for what cannot be read, CDP_BAD_DATA for two lines with
 * one id. The caller closes *out in every case. */
cdp_status cdp_input_open(cdp_input *out, const char *path, cdp_status (*on_block)(void *of), void *of);

/* Line `index` again, parsed up to its id. CDP_BAD_DATA: what is wrong with it, the fault of the line alone;
 * CDP_IO: the file is no longer what was read at the start. The caller closes *out in every case, before the
 * next call. */
cdp_status cdp_input_line(cdp_input *input, uint32_t index, cdp_line *out);

void cdp_input_close(cdp_input *input);
