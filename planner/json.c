#include "planner/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/utf8.h"
#include "planner/file.h"

enum { MIB = 1 << 20 };
const cdp_json_limits cdp_json_config_limits = {MIB, 100000, 64, false, CDP_BAD_MODEL};
const cdp_json_limits cdp_json_index_limits = {64 * MIB, 2000000, 64, false, CDP_BAD_MODEL};
const cdp_json_limits cdp_json_header_limits = {64 * MIB, 8000000, 128, true, CDP_BAD_MODEL};
const cdp_json_limits cdp_json_tokenizer_limits = {256 * MIB, 16000000, 64, true, CDP_BAD_MODEL};

/* The first pass: raw text, no tree. */
typedef struct scan {
    unsigned char *text;  /* a copy: whole_numbers rewrites it */
    unsigned char *whole; /* a bit a number, in the order of the text: written as a whole number? */
    size_t n, at, n_nodes, n_numbers;
    int depth;
    const cdp_json_limits *limits;
    const char *name;
} scan;

static cdp_status fault(const scan *s, const char *what) {
    return cdp_fail(s->limits->fault_code, "%s: byte %zu: not JSON as we read it: %s", s->name, s->at, what);
}

/* Length of the character at the cursor; 0 where there is none. */
static size_t utf8_at(const scan *s) {
    size_t length;
    uint32_t code;
    if (s->text[s->at] < 0x80) /* nearly all: no call for each byte of a tokenizer */
        return 1;
    return cdp_utf8_next(s->text + s->at, s->n - s->at, &length, &code) == CDP_UTF8_WHOLE ? length : 0;
}

static cdp_status scan_string(scan *s) {
    for (s->at++; s->at < s->n && s->text[s->at] != '"';) {
        const unsigned char c = s->text[s->at];
        if (c < 0x20)
            return fault(s, "a control byte in a string");
        if (c == '\\') {
            if (s->n - s->at >= 6 && memcmp(s->text + s->at, "\\u0000", 6) == 0)
                return fault(s, "\\u0000 (NUL) in a string");
            s->at += 2;
            continue;
        }
        const size_t length = utf8_at(s);
        if (length == 0)
            return fault(s, "bytes that are not UTF-8");
        s->at += length;
    }
    if (s->at >= s->n)
        return fault(s, "a string without an end");
    s->at++;
    return CDP_OK;
}

/* The end of a number token; whether it is JSON's own syntax (no leading zero, digits around the point), and
 * whether it is a whole number that a double holds. "-0" is none: it is a float to every other reader. */
static size_t number_end(const scan *s, bool *is_good, bool *is_whole) {
    const unsigned char *t = s->text;
    size_t i = s->at + (t[s->at] == '-');
    const size_t first = i;
    while (i < s->n && t[i] >= '0' && t[i] <= '9')
        i++;
    *is_good = i > first && (t[first] != '0' || i - first == 1);
    *is_whole = *is_good && i - first <= 15; /* 15 digits are below 2^53 */
    if (*is_good && i - first == 16)         /* digits of equal length compare like numbers */
        *is_whole = memcmp(t + first, "9007199254740992", 16) <= 0;
    if (t[s->at] == '-' && t[first] == '0')
        *is_whole = false;
    if (i < s->n && t[i] == '.') {
        const size_t point = i++;
        while (i < s->n && t[i] >= '0' && t[i] <= '9')
            i++;
        *is_good = *is_good && i > point + 1;
        *is_whole = false;
    }
    if (i < s->n && (t[i] == 'e' || t[i] == 'E')) {
        i++;
        i += i < s->n && (t[i] == '+' || t[i] == '-');
        const size_t digits = i;
        while (i < s->n && t[i] >= '0' && t[i] <= '9')
            i++;
        *is_good = *is_good && i > digits;
        *is_whole = false;
    }
    return i;
}

/* A key that is no string: the rewriting below would make it one. */
static bool is_key(const scan *s, size_t end) {
    while (end < s->n && strchr(" \t\r\n", s->text[end]) != NULL && s->text[end] != '\0')
        end++;
    return end < s->n && s->text[end] == ':';
}

static cdp_status scan_number(scan *s) {
    bool is_good, is_whole;
    const size_t end = number_end(s, &is_good, &is_whole);
    if (is_key(s, end))
        return fault(s, "a number as a key");
    if (s->limits->whole_numbers && !is_whole && end - s->at >= 2) {
        s->text[s->at] = '"';
        s->text[end - 1] = '"';
    } else if (!is_good) {
        return fault(s, "a number with a leading zero or without digits");
    } else {
        s->whole[s->n_numbers / 8] |= (unsigned char)(is_whole << s->n_numbers % 8);
        s->n_numbers++;
    }
    s->at = end;
    return CDP_OK;
}

/* One pass over everything; the grammar itself is cJSON's business. */
static cdp_status scan_text(scan *s) {
    while (s->at < s->n) {
        const unsigned char c = s->text[s->at];
        if (c == '"') {
            CDP_TRY(scan_string(s));
            continue;
        }
        if (c == '-' || (c >= '0' && c <= '9')) {
            CDP_TRY(scan_number(s));
            continue;
        }
        if (c == '[' || c == '{') {
            if (++s->depth > s->limits->max_depth)
                return fault(s, "nested too deeply");
            s->n_nodes++;
        }
        s->depth -= c == ']' || c == '}';
        s->n_nodes += c == ',';
        if (s->n_nodes > s->limits->max_nodes)
            return fault(s, "too many values");
        if (c == 0 || c >= 0x80 || (c < 0x20 && c != '\n' && c != '\r' && c != '\t'))
            return fault(s, c >= 0x80 ? "bytes outside a string (a byte order mark?)" : "a control byte");
        s->at++;
    }
    return CDP_OK;
}

/* A bit of cJSON's `type` that cJSON leaves alone: this number was not written as a whole number. */
enum { NOT_WHOLE = 1 << 16, FEW_KEYS = 16 };

static cdp_status fault_twice(const scan *s, const char *key) {
    char shown[256];
    return cdp_fail(s->limits->fault_code, "%s: \"%s\" appears twice", s->name,
                    cdp_escape(shown, sizeof shown, key, strlen(key)));
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sorted neighbours: a vocabulary has 100,000 keys, and their order in a file is a stranger's choice. */
static cdp_status check_many_keys(const cJSON *object, const scan *s, size_t n) {
    const char **keys = malloc(n * sizeof *keys);
    const cJSON *child;
    if (keys == NULL)
        return cdp_fail(CDP_SYSTEM, "%s: no memory to check %zu keys", s->name, n);
    n = 0;
    cJSON_ArrayForEach(child, object) keys[n++] = child->string;
    qsort(keys, n, sizeof *keys, by_text);
    cdp_status st = CDP_OK;
    for (size_t i = 1; st == CDP_OK && i < n; i++)
        if (strcmp(keys[i - 1], keys[i]) == 0)
            st = fault_twice(s, keys[i]);
    free(keys);
    return st;
}

/* Small objects (a tensor has three keys) are compared pair by pair; keys in rising order are no work. */
static cdp_status check_keys(const cJSON *object, const scan *s) {
    size_t n = 0;
    const cJSON *child;
    bool is_sorted = true;
    cJSON_ArrayForEach(child, object) {
        n++;
        is_sorted = is_sorted && (child->next == NULL || strcmp(child->string, child->next->string) < 0);
    }
    if (is_sorted)
        return CDP_OK;
    if (n > FEW_KEYS)
        return check_many_keys(object, s, n);
    for (child = object->child; child != NULL; child = child->next)
        for (const cJSON *other = child->next; other != NULL; other = other->next)
            if (strcmp(child->string, other->string) == 0)
                return fault_twice(s, child->string);
    return CDP_OK;
}

/* Children stand in the order of the text, so the n-th number met here is the n-th number scanned. Depth is
 * bounded by the scan. */
static cdp_status check_tree(cJSON *node, scan *s) {
    if (cJSON_IsObject(node))
        CDP_TRY(check_keys(node, s));
    if (cJSON_IsNumber(node)) {
        if (!isfinite(node->valuedouble))
            return cdp_fail(s->limits->fault_code, "%s: a number that is too large", s->name);
        if ((s->whole[s->n_numbers / 8] >> s->n_numbers % 8 & 1) == 0)
            node->type |= NOT_WHOLE;
        s->n_numbers++;
    }
    cJSON *child;
    cJSON_ArrayForEach(child, node) CDP_TRY(check_tree(child, s));
    return CDP_OK;
}

static cdp_status parse_scanned(cJSON **out, scan *s) {
    const char *text = (const char *)s->text, *end = NULL;
    cJSON *root = cJSON_ParseWithLengthOpts(text, s->n, &end, 0);
    if (root == NULL)
        return cdp_fail(s->limits->fault_code, "%s: byte %zu: not JSON", s->name,
                        end != NULL ? (size_t)(end - text) : 0);
    cdp_status st = CDP_OK;
    for (size_t i = (size_t)(end - text); st == CDP_OK && i < s->n; i++)
        if (strchr(" \t\r\n", text[i]) == NULL || text[i] == '\0')
            st = cdp_fail(s->limits->fault_code, "%s: byte %zu: more after the end of the JSON text", s->name,
                          i);
    s->n_numbers = 0;
    if (st == CDP_OK)
        st = check_tree(root, s);
    if (st != CDP_OK)
        cJSON_Delete(root);
    else
        *out = root;
    return st;
}

cdp_status cdp_json_parse(cJSON **out, const char *name, const char *text, size_t n,
                          const cdp_json_limits *limits) {
    *out = NULL;
    if (n > limits->max_bytes)
        return cdp_fail(limits->fault_code, "%s: %zu bytes of JSON, at most %zu are read", name, n,
                        limits->max_bytes);
    scan s = {.text = malloc(n + 1), .whole = calloc(n / 8 + 1, 1), .n = n, .limits = limits, .name = name};
    cdp_status st = CDP_OK;
    if (s.text == NULL || s.whole == NULL) {
        st = cdp_fail(CDP_SYSTEM, "%s: no memory for %zu bytes of JSON", name, n);
        goto done;
    }
    memcpy(s.text, text, n);
    s.text[n] = '\0';
    CDP_TRY_GOTO(scan_text(&s), st, done);
    CDP_TRY_GOTO(parse_scanned(out, &s), st, done);
done:
    free(s.whole);
    free(s.text);
    return st;
}

cdp_status cdp_json_read(cJSON **out, const char *path, const cdp_json_limits *limits) {
    char *text;
    size_t n;
    *out = NULL;
    CDP_TRY(cdp_file_read_text(&text, &n, path, limits->max_bytes));
    char shown[CDP_SHOWN_PATH];
    const cdp_status st =
        cdp_json_parse(out, cdp_escape(shown, sizeof shown, path, strlen(path)), text, n, limits);
    free(text);
    return st;
}

const cJSON *cdp_json_get(const cJSON *object, const char *key) {
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

bool cdp_json_is_whole(const cJSON *item) {
    return cJSON_IsNumber(item) && (item->type & NOT_WHOLE) == 0;
}

const char *cdp_json_shown(char *out, size_t out_size, const cJSON *item) {
    char *text = cJSON_PrintUnformatted(item);
    cdp_escape(out, out_size, text != NULL ? text : "?", text != NULL ? strlen(text) : 1);
    cJSON_free(text);
    return out;
}

cdp_status cdp_json_int(const cJSON *object, const char *name, const char *key, int64_t low, int64_t high,
                        int64_t *value) {
    const cJSON *item = cdp_json_get(object, key);
    char shown[96];
    if (item == NULL || cJSON_IsNull(item))
        return CDP_OK;
    if (!cdp_json_is_whole(item) || item->valuedouble < (double)low || item->valuedouble > (double)high)
        return cdp_fail(CDP_BAD_MODEL, "%s: %s is %s%s, expected a whole number from %lld to %lld", name, key,
                        cdp_json_shown(shown, sizeof shown, item),
                        cJSON_IsNumber(item) && !cdp_json_is_whole(item) ? " (not written as a whole number)"
                                                                         : "",
                        (long long)low, (long long)high);
    *value = (int64_t)item->valuedouble;
    return CDP_OK;
}

cdp_status cdp_json_double(const cJSON *object, const char *name, const char *key, double low, double high,
                           double *value) {
    const cJSON *item = cdp_json_get(object, key);
    char shown[96];
    if (item == NULL || cJSON_IsNull(item))
        return CDP_OK;
    if (!cJSON_IsNumber(item) || item->valuedouble < low || item->valuedouble > high)
        return cdp_fail(CDP_BAD_MODEL, "%s: %s is %s, expected a number from %g to %g", name, key,
                        cdp_json_shown(shown, sizeof shown, item), low, high);
    *value = item->valuedouble;
    return CDP_OK;
}

cdp_status cdp_json_bool(const cJSON *object, const char *name, const char *key, bool *value) {
    const cJSON *item = cdp_json_get(object, key);
    char shown[96];
    if (item == NULL || cJSON_IsNull(item))
        return CDP_OK;
    if (!cJSON_IsBool(item))
        return cdp_fail(CDP_BAD_MODEL, "%s: %s is %s, expected true or false", name, key,
                        cdp_json_shown(shown, sizeof shown, item));
    *value = cJSON_IsTrue(item);
    return CDP_OK;
}

void cdp_json_write_quoted(FILE *stream, const char *text, size_t n) {
    scan s = {.text = (unsigned char *)(uintptr_t)text, .n = n};
    fputc('"', stream);
    while (s.at < n) {
        const unsigned char c = s.text[s.at];
        const size_t length = utf8_at(&s);
        if (c == '"' || c == '\\')
            fprintf(stream, "\\%c", c);
        else if (c == '\n')
            fputs("\\n", stream);
        else if (c == '\t')
            fputs("\\t", stream);
        else if (c < 0x20 || c == 0x7F)
            fprintf(stream, "\\u%04x", c);
        else if (length == 0)
            fputs("\xEF\xBF\xBD", stream);
        else
            fwrite(s.text + s.at, 1, length, stream);
        s.at += length == 0 ? 1 : length;
    }
    fputc('"', stream);
}
