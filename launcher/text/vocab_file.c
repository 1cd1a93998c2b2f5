#include "launcher/text/vocab_file.h"

#include "launcher/text/json_walk.h"

static bool is_key(const char *text, size_t n, const char *key) {
    return n == strlen(key) && memcmp(text, key, n) == 0;
}

/* The next key of an object, its colon taken; false at the end, or where there is none. */
static bool next_key(cdp_walk *walk, bool is_first, const char **key, size_t *n) {
    if (!is_first && !cdp_walk_takes(walk, ','))
        return false;
    return cdp_walk_string(walk, key, n) == CDP_OK && cdp_walk_takes(walk, ':');
}

/* Pass over a value and say where it stands, if it opens with this bracket. */
static bool pass_value(cdp_walk *walk, char bracket, cdp_span *place) {
    const bool opens = cdp_walk_takes(walk, bracket);
    walk->at -= opens;
    const size_t begin = walk->at;
    if (cdp_walk_skip(walk) != CDP_OK)
        return false;
    if (opens && place->end == 0)
        *place = (cdp_span){begin, walk->at};
    return true;
}

static void find_in_model(cdp_walk *walk, cdp_big_values *out) {
    const char *key;
    size_t n;
    cdp_span nowhere = {0};
    for (bool is_first = true; next_key(walk, is_first, &key, &n); is_first = false) {
        cdp_span *place = is_key(key, n, "vocab")    ? &out->vocab
                          : is_key(key, n, "merges") ? &out->merges
                                                     : &nowhere;
        if (!pass_value(walk, place == &out->vocab ? '{' : '[', place))
            return;
    }
    (void)cdp_walk_takes(walk, '}');
}

cdp_big_values cdp_vocab_file_find(const char *text, size_t n) {
    cdp_walk walk = {.name = "", .text = text, .n = n};
    cdp_big_values found = {0};
    cdp_span nowhere;
    const char *key;
    size_t n_key;
    bool goes_on = cdp_walk_takes(&walk, '{');
    for (bool is_first = true; goes_on && next_key(&walk, is_first, &key, &n_key); is_first = false) {
        if (is_key(key, n_key, "model") && cdp_walk_takes(&walk, '{'))
            find_in_model(&walk, &found);
        else
            goes_on = pass_value(&walk, '{', &nowhere);
    }
    free(walk.decoded.data);
    cdp_error_clear(); /* what could not be followed is told by the reader of the rest */
    return found;
}

/* One token and its id. */
static cdp_status take_token(cdp_walk *walk, const char **text, size_t *n, int32_t *id) {
    int64_t number;
    bool is_whole;
    char shown[96];
    CDP_TRY(cdp_walk_string(walk, text, n));
    CDP_TRY(cdp_walk_expect(walk, ':'));
    CDP_TRY(cdp_walk_number(walk, CDP_MAX_TOKEN_ID - 1, &number, &is_whole));
    if (!is_whole || *n == 0)
        return cdp_fail(CDP_BAD_MODEL, "%s: vocab: token \"%s\" is empty or has no id from 0 to %d",
                        walk->name, cdp_escape(shown, sizeof shown, *text, *n), CDP_MAX_TOKEN_ID - 1);
    *id = (int32_t)number;
    return CDP_OK;
}

typedef cdp_status (*use_token)(void *to, const char *name, const char *text, size_t n, int32_t id);

static cdp_status each_token(cdp_walk *walk, use_token use, void *to) {
    const char *text;
    size_t n;
    int32_t id = 0;
    CDP_TRY(cdp_walk_expect(walk, '{'));
    for (bool more = !cdp_walk_takes(walk, '}'); more;) {
        CDP_TRY(take_token(walk, &text, &n, &id));
        CDP_TRY(use(to, walk->name, text, n, id));
        CDP_TRY(cdp_walk_more(walk, '}', &more));
    }
    return CDP_OK;
}

typedef struct counts {
    size_t n;
    int32_t n_tokens;
} counts;

static cdp_status count_token(void *to, const char *name, const char *text, size_t n, int32_t id) {
    counts *c = to;
    (void)text;
    (void)n;
    if (++c->n > CDP_MAX_TEXTS)
        return cdp_fail(CDP_BAD_MODEL, "%s: vocab: more than %d tokens", name, CDP_MAX_TEXTS);
    c->n_tokens = id >= c->n_tokens ? id + 1 : c->n_tokens;
    return CDP_OK;
}

cdp_status cdp_vocab_file_count(const char *name, const char *text, cdp_span vocab, size_t *n_out,
                                int *n_tokens_out) {
    cdp_walk walk = {.name = name, .text = text, .n = vocab.end, .at = vocab.begin};
    counts c = {0};
    const cdp_status st = each_token(&walk, count_token, &c);
    free(walk.decoded.data);
    *n_out = c.n;
    *n_tokens_out = c.n_tokens;
    return st;
}

static cdp_status set_token(void *to, const char *name, const char *text, size_t n, int32_t id) {
    cdp_vocabulary *vocabulary = to;
    char shown[96];
    if (vocabulary->tokens[id].is_there)
        return cdp_fail(CDP_BAD_MODEL, "%s: vocab: id %d of \"%s\" has another token already", name, id,
                        cdp_escape(shown, sizeof shown, text, n));
    if (cdp_vocabulary_find(vocabulary, text, n) >= 0)
        return cdp_fail(CDP_BAD_MODEL, "%s: vocab: \"%s\" appears twice", name,
                        cdp_escape(shown, sizeof shown, text, n));
    return cdp_vocabulary_set(vocabulary, id, text, n);
}

cdp_status cdp_vocab_file_read(cdp_vocabulary *out, const char *name, const char *text, cdp_span vocab) {
    cdp_walk walk = {.name = name, .text = text, .n = vocab.end, .at = vocab.begin};
    const cdp_status st = each_token(&walk, set_token, out);
    free(walk.decoded.data);
    return st;
}

/* A merge as it is read: both parts, one behind the other, and where the first ends. */
typedef struct parts {
    cdp_bytes joined;
    size_t n_left;
    int32_t rank;
} parts;

static cdp_status no_pair(const cdp_walk *walk, const parts *p) {
    return cdp_fail(CDP_BAD_MODEL, "%s: merge %d is no pair of texts", walk->name, p->rank);
}

/* ["a", "b"] */
static cdp_status take_pair(cdp_walk *walk, parts *p) {
    const char *text;
    size_t n;
    for (int i = 0; i < 2; i++) {
        if (cdp_walk_takes(walk, ']') || (i == 1 && !cdp_walk_takes(walk, ',')) || cdp_walk_takes(walk, '['))
            return no_pair(walk, p);
        CDP_TRY(cdp_walk_string(walk, &text, &n));
        cdp_bytes_add(&p->joined, text, n);
        p->n_left = i == 0 ? n : p->n_left;
    }
    return cdp_walk_takes(walk, ']') ? CDP_OK : no_pair(walk, p);
}

/* "a b" (older files). *is_version_out: a first line of merges.txt that got into some files. */
static cdp_status take_line(cdp_walk *walk, parts *p, bool *is_version_out) {
    static const char version[] = "#version";
    const char *text;
    size_t n;
    CDP_TRY(cdp_walk_string(walk, &text, &n));
    *is_version_out = n >= sizeof version - 1 && memcmp(text, version, sizeof version - 1) == 0;
    if (*is_version_out)
        return CDP_OK;
    const char *blank = memchr(text, ' ', n);
    if (blank == NULL || memchr(blank + 1, ' ', n - (size_t)(blank + 1 - text)) != NULL)
        return no_pair(walk, p);
    p->n_left = (size_t)(blank - text);
    cdp_bytes_add(&p->joined, text, p->n_left);
    cdp_bytes_add(&p->joined, blank + 1, n - p->n_left - 1);
    return CDP_OK;
}

static cdp_status add_merge(cdp_bpe *bpe, const cdp_walk *walk, const parts *p) {
    const char *text = p->joined.data;
    char shown[96];
    if (p->joined.is_failed)
        return cdp_fail(CDP_SYSTEM, "%s: no memory for merge %d", walk->name, p->rank);
    if (p->n_left == 0 || p->n_left == p->joined.n)
        return no_pair(walk, p);
    const int32_t left = cdp_vocabulary_find(bpe->vocabulary, text, p->n_left),
                  right = cdp_vocabulary_find(bpe->vocabulary, text + p->n_left, p->joined.n - p->n_left),
                  product = cdp_vocabulary_find(bpe->vocabulary, text, p->joined.n);
    if (left < 0 || right < 0 || product < 0)
        return cdp_fail(CDP_BAD_MODEL, "%s: merge %d: \"%s\" or a part of it is not in the vocabulary",
                        walk->name, p->rank, cdp_escape(shown, sizeof shown, text, p->joined.n));
    return cdp_bpe_add(bpe, left, right, p->rank, product);
}

static cdp_status each_merge(cdp_walk *walk, cdp_bpe *bpe, parts *p) {
    CDP_TRY(cdp_walk_expect(walk, '['));
    for (bool more = !cdp_walk_takes(walk, ']'); more;) {
        bool is_version = false;
        p->joined.n = 0;
        if (cdp_walk_takes(walk, '['))
            CDP_TRY(take_pair(walk, p));
        else
            CDP_TRY(take_line(walk, p, &is_version));
        if (!is_version) {
            if (p->rank == CDP_MAX_TEXTS)
                return cdp_fail(CDP_BAD_MODEL, "%s: more than %d merges", walk->name, CDP_MAX_TEXTS);
            CDP_TRY(add_merge(bpe, walk, p));
            p->rank++;
        }
        CDP_TRY(cdp_walk_more(walk, ']', &more));
    }
    return CDP_OK;
}

cdp_status cdp_merges_file_read(cdp_bpe *bpe, const char *name, const char *text, cdp_span merges) {
    cdp_walk walk = {.name = name, .text = text, .n = merges.end, .at = merges.begin};
    parts p = {0};
    const cdp_status st = each_merge(&walk, bpe, &p);
    free(p.joined.data);
    free(walk.decoded.data);
    return st;
}
