#include "planner/sizes.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static cdp_status bad(const char *text, size_t n, const char *why) {
    char shown[96];
    return cdp_fail(CDP_USAGE, "size \"%s\": %s", cdp_escape(shown, sizeof shown, text, n), why);
}

static const char ask[] = "expected a size as in 20GiB, 1.5GB, 512MiB, 85% or 0";

/* 1024^k or 1000^k of a unit (without its number); 0 when it is none. */
static double unit_factor(const char *unit, size_t n) {
    static const char letters[] = "kmgt";
    if (n == 0)
        return 1;
    const char *at = strchr(letters, tolower((unsigned char)unit[0]));
    if (at == NULL || *at == '\0')
        return 0;
    const double k = (double)(at - letters + 1);
    if (n == 1 ||
        (n == 3 && tolower((unsigned char)unit[1]) == 'i' && tolower((unsigned char)unit[2]) == 'b'))
        return pow(1024, k);
    return n == 2 && unit[1] == 'B' ? pow(1000, k) : 0;
}

static cdp_status parse(cdp_size *out, const char *text, size_t n) {
    size_t at = 0, end = n;
    char number[64] = "";
    while (at < end && isspace((unsigned char)text[at]))
        at++;
    while (end > at && isspace((unsigned char)text[end - 1]))
        end--;
    size_t digits = at;
    while (digits < end && (isdigit((unsigned char)text[digits]) || text[digits] == '.' ||
                            ((text[digits] == 'e' || text[digits] == 'E') && digits > at &&
                             digits + 1 < end && isdigit((unsigned char)text[digits + 1]))))
        digits++;
    if (digits == at || digits - at >= sizeof number)
        return bad(text, n, ask);
    memcpy(number, text + at, digits - at);
    char *rest;
    const double value = strtod(number, &rest);
    if (*rest != '\0' || !isfinite(value))
        return bad(text, n, ask);
    while (digits < end && isspace((unsigned char)text[digits]))
        digits++;
    const char *unit = text + digits;
    const size_t n_unit = end - digits;
    if (n_unit == 1 && *unit == '%') {
        if (value > 100)
            return bad(text, n, "a share is at most 100%");
        *out = (cdp_size){.is_share = true, .share = value / 100};
        return CDP_OK;
    }
    if (n_unit == 2 && unit[1] == 'b')
        return bad(text, n, "a small b means bits elsewhere; write GB (1000) or GiB (1024) for bytes");
    const double bytes = value * unit_factor(unit, n_unit);
    if (unit_factor(unit, n_unit) == 0 || (n_unit == 0 && strchr(number, '.') != NULL))
        return bad(text, n, ask);
    if (bytes >= 0x1p63)
        return bad(text, n, "more than 2^63 bytes");
    *out = (cdp_size){.bytes = (uint64_t)bytes};
    return CDP_OK;
}

cdp_status cdp_size_parse(cdp_size *out, const char *text) {
    return parse(out, text, strlen(text));
}

cdp_status cdp_size_parse_list(cdp_size *out, int max, int *n_out, const char *text) {
    *n_out = 0;
    for (const char *at = text;; at++) {
        const size_t n = strcspn(at, ",");
        const size_t digits = strspn(at, "0123456789");
        long repeat = 1;
        const char *size = at;
        if (digits > 0 && digits < n && (at[digits] == 'x' || at[digits] == 'X')) {
            repeat = strtol(at, NULL, 10);
            size = at + digits + 1;
        }
        cdp_size one;
        CDP_TRY(parse(&one, size, n - (size_t)(size - at)));
        if (repeat < 1 || repeat > max - *n_out)
            return cdp_fail(CDP_USAGE, "size list \"%.60s\" has more than %d entries", text, max);
        while (repeat-- > 0)
            out[(*n_out)++] = one;
        at += n;
        if (*at == '\0')
            return CDP_OK;
    }
}

const char *cdp_size_text(char *out, size_t out_size, uint64_t bytes) {
    snprintf(out, out_size, "%.2f GiB", (double)bytes / 0x1p30);
    return out;
}
