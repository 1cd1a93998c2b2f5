#include "launcher/text/json_walk.h"

#include <ctype.h>

#include "launcher/text/utf8.h"

cdp_status cdp_walk_fault(const cdp_walk *walk, const char *what) {
    return cdp_fail(CDP_BAD_MODEL, "%s: byte %zu: not JSON as we read it: %s", walk->name, walk->at, what);
}

static bool is_blank(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static char peek(cdp_walk *walk) {
    while (walk->at < walk->n && is_blank(walk->text[walk->at]))
        walk->at++;
    return walk->at < walk->n ? walk->text[walk->at] : '\0';
}

bool cdp_walk_takes(cdp_walk *walk, char sign) {
    const bool is_there = peek(walk) == sign;
    walk->at += is_there;
    return is_there;
}

cdp_status cdp_walk_expect(cdp_walk *walk, char sign) {
    char what[32] = "expected ' '";
    what[10] = sign;
    return cdp_walk_takes(walk, sign) ? CDP_OK : cdp_walk_fault(walk, what);
}

cdp_status cdp_walk_more(cdp_walk *walk, char end, bool *more_out) {
    *more_out = cdp_walk_takes(walk, ',');
    return *more_out ? CDP_OK : cdp_walk_expect(walk, end);
}

/* Four hex digits at the cursor. */
static cdp_status take_hex(cdp_walk *walk, uint32_t *code_out) {
    *code_out = 0;
    for (int i = 0; i < 4; i++, walk->at++) {
        const char c = walk->at < walk->n ? walk->text[walk->at] : '\0';
        if (!isxdigit((unsigned char)c))
            return cdp_walk_fault(walk, "\\u without four hex digits");
        *code_out = *code_out << 4 | (uint32_t)(isdigit((unsigned char)c) ? c - '0' : (c | 32) - 'a' + 10);
    }
    return CDP_OK;
}

/* What follows "\u": one code point, maybe of two halves. */
static cdp_status take_code(cdp_walk *walk) {
    uint32_t code, low = 0;
    CDP_TRY(take_hex(walk, &code));
    if (code >= 0xDC00 && code <= 0xDFFF)
        return cdp_walk_fault(walk, "half of a surrogate pair");
    if (code >= 0xD800 && code <= 0xDBFF) {
        if (walk->n - walk->at < 6 || walk->text[walk->at] != '\\' || walk->text[walk->at + 1] != 'u')
            return cdp_walk_fault(walk, "half of a surrogate pair");
        walk->at += 2;
        CDP_TRY(take_hex(walk, &low));
        if (low < 0xDC00 || low > 0xDFFF)
            return cdp_walk_fault(walk, "half of a surrogate pair");
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    cdp_utf8_add(&walk->decoded, code);
    return CDP_OK;
}

static cdp_status take_escape(cdp_walk *walk) {
    static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    const char letter = walk->at + 1 < walk->n ? walk->text[walk->at + 1] : '\0';
    const char *found = letter != '\0' ? strchr(letters, letter) : NULL;
    if (letter != 'u' && found == NULL)
        return cdp_walk_fault(walk, "an escape that JSON does not have");
    walk->at += 2;
    if (letter == 'u')
        return take_code(walk);
    cdp_bytes_add(&walk->decoded, &meant[found - letters], 1);
    return CDP_OK;
}

/* Pass over characters that stand for themselves. */
static cdp_status pass_plain(cdp_walk *walk) {
    while (walk->at < walk->n) {
        const unsigned char c = (unsigned char)walk->text[walk->at];
        size_t length = 1;
        uint32_t code;
        if (c == '"' || c == '\\')
            return CDP_OK;
        if (c < 0x20)
            return cdp_walk_fault(walk, "a control byte in a string");
        if (c >= 0x80 && cdp_utf8_next((const unsigned char *)walk->text + walk->at, walk->n - walk->at,
                                       &length, &code) != CDP_UTF8_WHOLE)
            return cdp_walk_fault(walk, "bytes that are not UTF-8");
        walk->at += length;
    }
    return cdp_walk_fault(walk, "a string without an end");
}

cdp_status cdp_walk_string(cdp_walk *walk, const char **text_out, size_t *n_out) {
    if (peek(walk) != '"')
        return cdp_walk_fault(walk, "expected a string");
    const size_t first = ++walk->at;
    CDP_TRY(pass_plain(walk));
    *text_out = walk->text + first;
    *n_out = walk->at - first;
    if (walk->text[walk->at] == '"') { /* no escapes: the text as it stands */
        walk->at++;
        return CDP_OK;
    }
    walk->decoded.n = 0;
    cdp_bytes_add(&walk->decoded, *text_out, *n_out);
    while (walk->text[walk->at] == '\\') {
        CDP_TRY(take_escape(walk));
        const size_t begin = walk->at;
        CDP_TRY(pass_plain(walk));
        cdp_bytes_add(&walk->decoded, walk->text + begin, walk->at - begin);
    }
    walk->at++;
    *text_out = walk->decoded.data;
    *n_out = walk->decoded.n;
    return walk->decoded.is_failed ? cdp_fail(CDP_SYSTEM, "%s: no memory for a string", walk->name) : CDP_OK;
}

cdp_status cdp_walk_number(cdp_walk *walk, int64_t most, int64_t *number_out, bool *is_whole_out) {
    const char first = peek(walk);
    const size_t begin = walk->at;
    int64_t number = 0;
    while (walk->at < walk->n && isdigit((unsigned char)walk->text[walk->at]) && number <= most)
        number = 10 * number + (walk->text[walk->at++] - '0');
    const char next = peek(walk);
    const bool ends = next == ',' || next == '}' || next == ']';
    *is_whole_out = walk->at > begin && number <= most && ends && (first != '0' || number == 0) &&
                    (first != '0' || !isdigit((unsigned char)walk->text[begin + 1]));
    *number_out = number;
    if (!*is_whole_out) {
        walk->at = begin;
        return cdp_walk_skip(walk);
    }
    return CDP_OK;
}

static cdp_status skip_string(cdp_walk *walk) {
    for (walk->at++; walk->at < walk->n; walk->at++) {
        if (walk->text[walk->at] == '\\')
            walk->at++;
        else if (walk->text[walk->at] == '"') {
            walk->at++;
            return CDP_OK;
        }
    }
    return cdp_walk_fault(walk, "a string without an end");
}

cdp_status cdp_walk_skip(cdp_walk *walk) {
    int64_t depth = 0;
    peek(walk);
    const size_t begin = walk->at;
    while (walk->at < walk->n) {
        const char c = walk->text[walk->at];
        if (c == '"') {
            CDP_TRY(skip_string(walk));
            if (depth == 0)
                return CDP_OK;
            continue;
        }
        if (depth == 0 && walk->at > begin && (c == ',' || c == '}' || c == ']' || is_blank(c)))
            return CDP_OK;
        depth += c == '{' || c == '[';
        depth -= c == '}' || c == ']';
        if (depth < 0)
            break;
        walk->at++;
        if (depth == 0 && (c == '}' || c == ']'))
            return CDP_OK;
    }
    return cdp_walk_fault(walk, "expected a value");
}
