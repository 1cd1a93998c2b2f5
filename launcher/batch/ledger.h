/* launcher/batch/ledger.h - what a job remembers of each line of its input: 32 bytes, whatever the line
 * holds.
 *
 *     16  hash of its id          find a line by the id of a record
 *      8  place in the file, and marks (done, ...)
 *      4  line number
 *      4  its place in the order of hashes
 *
 * Lines are numbered by index here, 0 .. n-1, in the order of the file; blank ones have none.
 */
#pragma once

#include "kernels/status.h"
#include "launcher/batch/hash.h"

enum {
    CDP_LEDGER_DONE = 1,   /* its record is in the output */
    CDP_LEDGER_FAILED = 2, /* and says what was wrong */
    CDP_LEDGER_NO_ID = 4,  /* it is known by its number, because no id could be read from it */
};

typedef struct cdp_ledger {
    cdp_hash128 *ids;  /* (n) */
    uint64_t *places;  /* (n) offset << 8 | marks */
    uint32_t *lines;   /* (n) ascending, the first line of a file is 1 */
    uint32_t *by_hash; /* (n) once sorted */
    uint32_t n, room;
    uint32_t n_done, n_failed;
} cdp_ledger;

/* A zeroed ledger is empty. One more line; CDP_SYSTEM without memory, CDP_BAD_DATA above 2^31 - 1 lines. */
cdp_status cdp_ledger_add(cdp_ledger *ledger, cdp_hash128 id, uint64_t offset, uint32_t line, unsigned marks);

/* All lines are there: make them findable. Two of one id: *first_out, *second_out are their indexes in the
 * order of the file, and false. In place: no further memory. */
bool cdp_ledger_sort(cdp_ledger *ledger, uint32_t *first_out, uint32_t *second_out);

enum { CDP_NO_LINE = -1 };
/* The index of an id, or of a line number; CDP_NO_LINE when there is none. */
int64_t cdp_ledger_find(const cdp_ledger *ledger, cdp_hash128 id);
int64_t cdp_ledger_find_line(const cdp_ledger *ledger, uint32_t line);

/* Its record is written. False when it was before. */
bool cdp_ledger_mark_done(cdp_ledger *ledger, uint32_t index, bool is_failed);

uint64_t cdp_ledger_offset(const cdp_ledger *ledger, uint32_t index);
unsigned cdp_ledger_marks(const cdp_ledger *ledger, uint32_t index);

void cdp_ledger_close(cdp_ledger *ledger);

/* What stands for an id, and for a line whose id cannot be read. The two never meet. */
cdp_hash128 cdp_id_hash(const char *id, size_t n);
cdp_hash128 cdp_line_hash(uint32_t line);
