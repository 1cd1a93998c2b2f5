/* launcher/text/added_tokens.h - tokens that are found in the text before anything else happens to it.
 *
 * Leftmost, then longest, never overlapping. single_word: both neighbours are no word characters; lstrip and
 * rstrip: the blanks beside it belong to it.
 */
#pragma once

#include "kernels/status.h"
#include "launcher/text/vocabulary.h"

typedef struct cdp_added_token {
    int32_t id;
    bool single_word, lstrip, rstrip;
    bool is_special; /* never found in foreign bytes */
} cdp_added_token;

/* One set: the tokens that match the raw text, or those that match the normalised one. */
typedef struct cdp_added_set {
    cdp_vocabulary texts; /* text -> number in tokens */
    cdp_added_token *tokens;
    int n_tokens, room;
    uint32_t *lengths[256]; /* by first byte: lengths that occur, longest first */
    int n_lengths[256];
} cdp_added_set;

/* Room for `room` tokens. Closed also after a failure. */
cdp_status cdp_added_open(cdp_added_set *out, int room);
void cdp_added_close(cdp_added_set *set);
cdp_status cdp_added_add(cdp_added_set *set, const cdp_added_token *token, const char *text, size_t n);

/* The token of exactly this text, NULL when there is none. */
const cdp_added_token *cdp_added_find(const cdp_added_set *set, const char *text, size_t n);

/* How far a search has come: {0} at the beginning of a text. The blanks that a token takes are searched for
 * tokens all the same, so `at` may lie before `done`. */
typedef struct cdp_added_search {
    size_t at;       /* where the next token may begin */
    size_t done;     /* the end of the place of the last one */
    cdp_span blanks; /* the run behind a token that was looked through last: not once more for each in it */
} cdp_added_search;

/* The next token in the text: its place (with the blanks it takes, foreign ones too) and the token; NULL when
 * there is none. */
const cdp_added_token *cdp_added_next(const cdp_added_set *set, cdp_text text, cdp_added_search *search,
                                      cdp_span *place_out);
