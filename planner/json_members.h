/* planner/json_members.h - the members of a JSON object by the text they have. A tree of doubles (json.h)
 * loses digits of a seed of 64 bits and of the long numbers in a conversation, and that 1.0 is not 1.
 *
 * Nothing is checked: a strict reader has passed the text.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the object's text. */
typedef struct cdp_json_member {
    const char *key;
    size_t n_key; /* with its quotes, escapes as they are written */
    const char *value;
    size_t n_value; /* without blanks around it */
} cdp_json_member;

/* The next member. *at is the object's text at first and moves on; false behind the last one. */
bool cdp_json_next_member(cdp_json_member *out, const char **at, const char *end);

/* The first member of this key. False when there is none by that spelling. */
bool cdp_json_find_member(cdp_json_member *out, const char *object, size_t n, const char *key);
