/* launcher/completion/answer.h - the text of an answer as it grows: whole characters leave at once, what
 * could be the beginning of a stop text is held back until it is known not to be. */
#pragma once

#include "launcher/text/tokenizer.h"
#include <stdio.h>

typedef struct cdp_answer {
    cdp_detokenizer stream;
    bool has_tokenizer;
    FILE *to; /* NULL: nothing is printed */
    const char *const *stops;
    int n_stops;
    size_t longest_stop;
    char *text; /* all of it, ends before a stop text */
    size_t n_text, room, n_printed;
    bool is_stopped; /* a stop text was found */
} cdp_answer;

/* tokenizer NULL: ids are printed instead of text, separated by blanks. */
void cdp_answer_start(cdp_answer *out, const cdp_tokenizer *tokenizer, FILE *to, const char *const *stops,
                      int n_stops);

/* One more token. is_hidden: it counts but has no text (the final eos). CDP_IO when nobody reads. */
cdp_status cdp_answer_add(cdp_answer *answer, int32_t id, bool is_hidden);

/* Print what is held back, and the newline. */
cdp_status cdp_answer_end(cdp_answer *answer);

void cdp_answer_close(cdp_answer *answer);
