/* launcher/text/json_walk.h - walk through the text of a JSON file without a tree.
 *
 * A vocabulary of 260,000 tokens and its 500,000 merges would be a tree of 150 MB; walked through, each text
 * is seen where it stands. As strict as planner/json.h about what it walks over.
 */
#pragma once

#include "kernels/status.h"
#include "launcher/text/buffer.h"

typedef struct cdp_walk {
    const char *name; /* opens messages */
    const char *text;
    size_t n, at;
    cdp_bytes decoded; /* room for a text with escapes */
} cdp_walk;

/* Skip white space; where `sign` is next, take it. */
bool cdp_walk_takes(cdp_walk *walk, char sign);

/* Take a sign that has to be there. */
cdp_status cdp_walk_expect(cdp_walk *walk, char sign);

/* After an entry of an array or object (`end` is its bracket): *more_out is true behind a comma, false behind
 * the bracket. At its beginning, ask cdp_walk_takes(walk, end) first. */
cdp_status cdp_walk_more(cdp_walk *walk, char end, bool *more_out);

/* Take a string. *text_out is good until the next string is taken; it may hold NULs. */
cdp_status cdp_walk_string(cdp_walk *walk, const char **text_out, size_t *n_out);

/* Take a number; *is_whole_out: a whole number from 0 to `most`, in *number_out. */
cdp_status cdp_walk_number(cdp_walk *walk, int64_t most, int64_t *number_out, bool *is_whole_out);

/* Pass over any value; only strings and brackets are looked at. */
cdp_status cdp_walk_skip(cdp_walk *walk);

cdp_status cdp_walk_fault(const cdp_walk *walk, const char *what);
