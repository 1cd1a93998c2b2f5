/* Any bytes as a chat template: refused with line and column, or rendered, the same twice.
 *
 * Held: what comes out is UTF-8; the spans of the template's own bytes are in order; no byte of the data is
 * in them. All texts of the data end in a sign of their own, which a template without it cannot write.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/template/template.h"
#include "launcher/text/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define SIGN "\xE4\xB8\xAD" /* U+4E2D has no other case */

static const char messages[] =
    "[{\"role\": \"user" SIGN "\", \"content\": \" Hi\\n<|im_end|> you" SIGN "\", \"n\": 1},"
    " {\"role\": \"assistant" SIGN "\", \"content\": null, \"reasoning_content\": \"a</think>b" SIGN "\","
    "  \"tool_calls\": [{\"function\": {\"name\": \"f" SIGN "\", \"arguments\": {\"x" SIGN
    "\": [1, 2.5, true]}}}]},"
    " {\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"two  words" SIGN "\"}]}]";
static const char tools[] =
    "[{\"type\": \"function\", \"function\": {\"name\": \"f" SIGN "\", \"description\": \"d" SIGN "\","
    " \"parameters\": {\"type\": \"object\", \"properties\": {\"x\": {\"type\": \"array\"}}}}}]";

static void expect(bool is_true, const char *what) {
    if (is_true)
        return;
    fprintf(stderr, "fuzz: %s; the message is \"%s\"\n", what, cdp_error_message());
    abort();
}

static cdp_variable variable(const char *name, const char *json, bool is_own) {
    return (cdp_variable){.name = name, .json = json, .n_json = strlen(json), .is_own = is_own};
}

static cdp_status render(const cdp_chat_template *t, cdp_rendered *out) {
    static const cdp_clock clock = {2026, 3, 7, 15, 4, 5};
    cdp_variable all[] = {variable("messages", messages, false),
                          variable("tools", tools, false),
                          variable("documents", "null", true),
                          variable("add_generation_prompt", "true", true),
                          variable("bos_token", "\"<s>\"", true),
                          variable("eos_token", "\"</s>\"", true),
                          variable("xs", "[3, 1, 2]", true),
                          variable("d", "{\"b\": 1, \"a\": \"two\", \"c\": null}", true),
                          variable("s", "\"Hello World\"", true),
                          variable("n", "7", true)};
    all[0].is_messages = true;
    const cdp_status st = cdp_chat_template_render(t, all, sizeof all / sizeof all[0], &clock, out);
    expect(st == CDP_OK || (st == CDP_BAD_DATA && cdp_error_message()[0] != '\0'), "no fault of the data");
    cdp_error_clear();
    return st;
}

static bool holds(const char *text, size_t n, const char *what) {
    return memmem(text, n, what, strlen(what)) != NULL;
}

static void check(const cdp_rendered *r, bool may_write_the_sign) {
    size_t at = 0, length;
    uint32_t code;
    for (size_t i = 0; i < r->n; i += length)
        expect(cdp_utf8_next((const unsigned char *)r->text + i, r->n - i, &length, &code) == CDP_UTF8_WHOLE,
               "the text is no UTF-8");
    for (size_t i = 0; i < r->own.n; i++) {
        const cdp_span span = r->own.data[i];
        expect(span.begin >= at && span.end > span.begin && span.end <= r->n, "spans out of order");
        expect(may_write_the_sign || !holds(r->text + span.begin, span.end - span.begin, SIGN),
               "a byte of the data is the template's own");
        at = span.end;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    cdp_chat_template *t = NULL;
    cdp_rendered one, two;
    char *text = malloc(n + 1);
    expect(text != NULL, "no memory");
    memcpy(text, data, n);
    text[n] = '\0';
    cdp_error_clear();
    const cdp_status st = cdp_chat_template_open(&t, "chat_template", text, n);
    expect((st == CDP_OK) == (t != NULL), "a status that does not fit");
    expect(st == CDP_OK || (st == CDP_BAD_MODEL && strstr(cdp_error_message(), ": line ") != NULL),
           "no fault with a place");
    cdp_error_clear();
    if (t != NULL) {
        const bool may_write = holds(text, n, SIGN) || holds(text, n, "4e2d") || holds(text, n, "4E2D") ||
                               holds(text, n, "4e2D") || holds(text, n, "4E2d") || holds(text, n, "\\x");
        const cdp_status first = render(t, &one);
        if (first == CDP_OK)
            check(&one, may_write);
        expect(render(t, &two) == first, "two renderings end differently");
        expect(one.n == two.n && (one.n == 0 || memcmp(one.text, two.text, one.n) == 0),
               "two renderings differ");
        cdp_rendered_close(&one);
        cdp_rendered_close(&two);
    }
    cdp_chat_template_close(t);
    free(text);
    return 0;
}
