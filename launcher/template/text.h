/* launcher/template/text.h - texts that know where each byte comes from, and how they grow.
 *
 * Positions are bytes at the borders of characters unless a name says otherwise. A slice shares the bytes of
 * the text it is cut from.
 */
#pragma once

#include "launcher/template/value.h"

/* Characters of a text. */
size_t tpl_text_length(tpl_machine *m, tpl_value text);
/* Where the character after the one at `at` begins; and the one before. */
size_t tpl_text_next(tpl_value text, size_t at);
size_t tpl_text_before(tpl_value text, size_t at);
uint32_t tpl_text_code(tpl_value text, size_t at);
/* The byte where character number `character` begins, at most n. */
size_t tpl_text_offset(tpl_value text, size_t character);

/* [begin, end) */
tpl_value tpl_text_slice(tpl_value text, size_t begin, size_t end);

/* Where `what` is found first at or after `from` (last at or before `until` for rfind); SIZE_MAX: nowhere. */
size_t tpl_text_find(tpl_value text, tpl_value what, size_t from);
size_t tpl_text_rfind(tpl_value text, tpl_value what, size_t until);

/* White space as Python's str.isspace has it. */
bool tpl_is_space(uint32_t code);

/* A text that grows in the arena. */
typedef struct tpl_builder {
    tpl_machine *m;
    char *bytes;
    unsigned char *marks; /* NULL while all bytes are alike */
    size_t n, room;
    bool is_own; /* of all bytes so far, while marks is NULL */
} tpl_builder;

static inline tpl_builder tpl_builder_of(tpl_machine *m) {
    return (tpl_builder){.m = m};
}
void tpl_add_bytes(tpl_builder *b, const char *bytes, size_t n, bool is_own);
void tpl_add_text(tpl_builder *b, tpl_value text);
void tpl_add_slice(tpl_builder *b, tpl_value text, size_t begin, size_t end);
void tpl_add_code(tpl_builder *b, uint32_t code, bool is_own);
void tpl_add_word(tpl_builder *b, const char *word, bool is_own);
/* n blanks, or n times `fill`. */
void tpl_add_repeated(tpl_builder *b, tpl_value fill, size_t n);
tpl_value tpl_built(const tpl_builder *b);

/* True when the byte at `at` is the template's own. */
bool tpl_is_own_at(tpl_value text, size_t at);

/* Capitals and small letters, as Python has them. Title: the first letter of every word. */
tpl_value tpl_upper(tpl_machine *m, tpl_value text);
tpl_value tpl_lower(tpl_machine *m, tpl_value text);
tpl_value tpl_capitalize(tpl_machine *m, tpl_value text);
tpl_value tpl_title(tpl_machine *m, tpl_value text);       /* str.title: words are runs of letters */
tpl_value tpl_title_words(tpl_machine *m, tpl_value text); /* the filter: words end at blanks - ( { [ < */
tpl_value tpl_swapcase(tpl_machine *m, tpl_value text);
bool tpl_is_cased(uint32_t code);

/* & < > " ' as entities; a safe text stays. The result is safe. */
tpl_value tpl_escape(tpl_machine *m, tpl_value text);
