#include "launcher/visible.h"

#include <stdio.h>
#include <string.h>

typedef enum entry_form { NUMBER, GPU_NAME, MIG_NAME, OTHER } entry_form;

/* One entry of the list, blanks around it left out; it points into the variable. */
typedef struct entry {
    const char *text;
    size_t n;
} entry;

static const char blanks[] = " \t";

static entry_form form_of(entry e) {
    if (e.n >= 4 && memcmp(e.text, "GPU-", 4) == 0)
        return GPU_NAME;
    if (e.n >= 4 && memcmp(e.text, "MIG-", 4) == 0)
        return MIG_NAME;
    return e.n > 0 && strspn(e.text, "0123456789") >= e.n ? NUMBER : OTHER;
}

/* The entry at *at, which moves behind it; false at the end of the list. */
static bool take_entry(const char **at, entry *out) {
    if (*at == NULL)
        return false;
    const size_t n = strcspn(*at, ",");
    const char *text = *at + strspn(*at, blanks);
    size_t length = text < *at + n ? (size_t)(*at + n - text) : 0;
    while (length > 0 && strchr(blanks, text[length - 1]) != NULL)
        length--;
    *out = (entry){text, length};
    *at = (*at)[n] == ',' ? *at + n + 1 : NULL;
    return true;
}

static bool is_same(entry a, entry b) {
    return a.n == b.n && memcmp(a.text, b.text, a.n) == 0;
}

static cdp_status refuse(const char *text, entry e, const char *why) {
    char all[256], shown[96];
    return cdp_fail(CDP_UNAVAILABLE, "CUDA_VISIBLE_DEVICES=%s: entry %s %s",
                    cdp_escape(all, sizeof all, text, strlen(text)),
                    e.n > 0 ? cdp_escape(shown, sizeof shown, e.text, e.n) : "\"\"", why);
}

/* What is wrong with an entry by its looks: alone, and among those before it. */
static cdp_status check_looks(const char *text, entry e, entry first) {
    if (form_of(e) == OTHER)
        return refuse(text, e,
                      "is neither an index nor a GPU- or MIG- name; CUDA ignores it and all after it");
    if (form_of(e) != form_of(first))
        return refuse(text, e, "is of another form than the first one; CUDA takes a list of one form");
    entry before;
    for (const char *at = text; take_entry(&at, &before) && before.text != e.text;)
        if (is_same(before, e))
            return refuse(text, e, "stands there twice");
    return CDP_OK;
}

static bool is_empty(const char *text) {
    return text[strspn(text, blanks)] == '\0';
}

cdp_status cdp_visible_check(const char *text, int n_shown) {
    entry e, first = {0};
    int n = 0;
    if (text == NULL)
        return CDP_OK;
    if (is_empty(text))
        return cdp_fail(CDP_UNAVAILABLE,
                        "CUDA_VISIBLE_DEVICES is empty: no GPU visible (--device cpu works)");
    for (const char *at = text; take_entry(&at, &e); n++) {
        first = n == 0 ? e : first;
        CDP_TRY(check_looks(text, e, first));
    }
    n = 0;
    for (const char *at = text; take_entry(&at, &e); n++)
        /* Of several MIG instances CUDA shows a process the first one. */
        if (n >= n_shown && (n == 0 || form_of(e) != MIG_NAME))
            return refuse(text, e, "does not exist; CUDA ignores it and all after it");
    return CDP_OK;
}

const char *cdp_visible_words(char *out, size_t n_bytes, const char *text) {
    if (text == NULL)
        return "not set";
    if (!is_empty(text))
        return cdp_escape(out, n_bytes, text, strlen(text));
    snprintf(out, n_bytes, "\"%s\" (no GPU is visible)", text);
    return out;
}
