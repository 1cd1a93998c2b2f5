#include "planner/sizes.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/checked.h"

/* The text as it was given: a part of a list is no string of its own. */
typedef struct piece {
    const char *at;
    size_t n;
} piece;

static cdp_status bad(piece text, const char *why) {
    char shown[96];
    return cdp_fail(CDP_USAGE, "size \"%s\": %s", cdp_escape(shown, sizeof shown, text.at, text.n), why);
}

static const char ask[] = "expected a size as in 20GiB, 1.5GB, 512MiB, 85% or 0";

static piece trim(piece text) {
    while (text.n > 0 && isspace((unsigned char)text.at[0]))
        text = (piece){text.at + 1, text.n - 1};
    while (text.n > 0 && isspace((unsigned char)text.at[text.n - 1]))
        text.n--;
    return text;
}

static size_t count_digits(piece text) {
    size_t n = 0;
    while (n < text.n && isdigit((unsigned char)text.at[n]))
        n++;
    return n;
}

/* Length of the number that opens the text: digits, a point, an exponent. 0: there is none. */
static size_t number_length(piece text) {
    size_t n = count_digits(text);
    if (n < text.n && text.at[n] == '.') {
        const size_t after = count_digits((piece){text.at + n + 1, text.n - n - 1});
        if (n + after == 0)
            return 0;
        n += 1 + after;
    }
    if (n == 0 || n + 1 >= text.n || tolower((unsigned char)text.at[n]) != 'e')
        return n;
    const size_t exponent = count_digits((piece){text.at + n + 1, text.n - n - 1});
    return exponent > 0 ? n + 1 + exponent : n;
}

/* 1024^k or 1000^k of a unit (without its number); 0 when it is none. */
static double unit_factor(piece unit) {
    static const char letters[] = "kmgt";
    const char *at = unit.n > 0 ? strchr(letters, tolower((unsigned char)unit.at[0])) : NULL;
    if (at == NULL || *at == '\0')
        return 0;
    const double k = (double)(at - letters + 1);
    const bool is_binary =
        unit.n == 3 && tolower((unsigned char)unit.at[1]) == 'i' && tolower((unsigned char)unit.at[2]) == 'b';
    if (unit.n == 1 || is_binary)
        return pow(1024, k);
    return unit.n == 2 && unit.at[1] == 'B' ? pow(1000, k) : 0;
}

/* A bare number is bytes, every one of them: a double would round above 2^53. */
static cdp_status parse_bytes(cdp_size *out, piece text) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < text.n; i++)
        if (!isdigit((unsigned char)text.at[i]))
            return bad(text, ask);
        else if (!cdp_mul_u64(bytes, 10, &bytes) || !cdp_add_u64(bytes, (uint64_t)(text.at[i] - '0'), &bytes))
            return bad(text, "more than 2^63 bytes");
    if (bytes > INT64_MAX)
        return bad(text, "more than 2^63 bytes");
    *out = (cdp_size){.bytes = bytes};
    return CDP_OK;
}

/* "20gb" with a small b at the end of a decimal unit. */
static bool means_bits(piece unit) {
    return unit.n == 2 && unit.at[1] == 'b' && unit_factor((piece){unit.at, 1}) > 0;
}

static cdp_status parse_unit(cdp_size *out, piece text, double value, piece unit) {
    if (unit.n == 1 && unit.at[0] == '%') {
        if (value > 100)
            return bad(text, "a share is at most 100%");
        *out = (cdp_size){.is_share = true, .share = value / 100};
        return CDP_OK;
    }
    if (means_bits(unit)) {
        char why[96];
        const char letter = (char)toupper((unsigned char)unit.at[0]);
        snprintf(why, sizeof why, "%cb means %cbits elsewhere; write %cB (1000) or %ciB (1024)", letter,
                 letter, letter, letter);
        return bad(text, why);
    }
    const double bytes = value * unit_factor(unit);
    if (unit_factor(unit) == 0 || !isfinite(value))
        return bad(text, ask);
    if (bytes >= 0x1p63)
        return bad(text, "more than 2^63 bytes");
    *out = (cdp_size){.bytes = (uint64_t)bytes};
    return CDP_OK;
}

static cdp_status parse(cdp_size *out, piece given) {
    char number[64] = "";
    const piece text = trim(given);
    const size_t n = number_length(text);
    if (n == 0 || n >= sizeof number)
        return bad(text, ask);
    const piece unit = trim((piece){text.at + n, text.n - n});
    if (unit.n == 0)
        return parse_bytes(out, text);
    memcpy(number, text.at, n);
    return parse_unit(out, text, strtod(number, NULL), unit);
}

/* "3x24GiB" is three entries of 24GiB; *size_out is what is repeated. 0: the count is beyond `max`. */
static int repeats(piece entry, int max, piece *size_out) {
    const piece text = trim(entry);
    const size_t digits = count_digits(text);
    *size_out = text;
    if (digits == 0 || digits == text.n || tolower((unsigned char)text.at[digits]) != 'x')
        return 1;
    *size_out = (piece){text.at + digits + 1, text.n - digits - 1};
    const long n = digits < 9 ? strtol(text.at, NULL, 10) : 0;
    return n <= max ? (int)n : 0;
}

cdp_status cdp_size_parse(cdp_size *out, const char *text) {
    return parse(out, (piece){text, strlen(text)});
}

cdp_status cdp_size_parse_list(cdp_size *out, int max, int *n_out, const char *text) {
    *n_out = 0;
    for (const char *at = text;; at++) {
        const piece entry = {at, strcspn(at, ",")};
        piece size;
        cdp_size one;
        const int n = repeats(entry, max, &size);
        CDP_TRY(parse(&one, size));
        if (n < 1 || n > max - *n_out) {
            char why[64];
            snprintf(why, sizeof why, "a list holds 1 to %d sizes", max);
            return bad(entry, why);
        }
        for (int i = 0; i < n; i++)
            out[(*n_out)++] = one;
        at += entry.n;
        if (*at == '\0')
            return CDP_OK;
    }
}

const char *cdp_size_text(char *out, size_t out_size, uint64_t bytes) {
    const double value = (double)bytes;
    if (bytes >= UINT64_C(1) << 30)
        snprintf(out, out_size, "%.2f GiB", value / 0x1p30);
    else if (bytes >= UINT64_C(1) << 20)
        snprintf(out, out_size, "%.2f MiB", value / 0x1p20);
    else if (bytes >= UINT64_C(1) << 10)
        snprintf(out, out_size, "%.2f KiB", value / 0x1p10);
    else
        snprintf(out, out_size, "%llu bytes", (unsigned long long)bytes);
    return out;
}
