/* Chat templates against the reference's environment: every case of tests/golden/templates, byte for byte.
 *
 * What it catches: a blank or newline taken or left by a tag, a name that outlives its loop, a number or list
 * printed otherwise than Python does, a template that should have refused a conversation.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>

#include <cjson/cJSON.h>

#include "launcher/template/template.h"
#include "planner/file.h"
#include "planner/json_members.h"
#include "tests/support/data.h"

/* The clock of the reference when the cases were made. */
static const cdp_clock clock_of_cases = {2026, 3, 7, 15, 4, 5};

/* The members of a case, each by the text it has there. */
typedef struct members {
    cdp_variable data[16];
    int n;
} members;

static void members_open(members *out, const char *json, size_t n) {
    cdp_json_member member;
    out->n = 0;
    for (const char *at = json; cdp_json_next_member(&member, &at, json + n);) {
        assert_in_range(out->n, 0, sizeof out->data / sizeof out->data[0] - 1);
        out->data[out->n++] = (cdp_variable){.name = strndup(member.key + 1, member.n_key - 2),
                                             .json = member.value,
                                             .n_json = member.n_value};
    }
}

static void members_close(members *all) {
    for (int i = 0; i < all->n; i++)
        free((char *)all->data[i].name);
}

static const cdp_variable *find(const members *all, const char *name) {
    for (int i = 0; i < all->n; i++)
        if (strcmp(all->data[i].name, name) == 0)
            return &all->data[i];
    return NULL;
}

/* A member's text; the caller frees it. NULL when it is not there. */
static char *text_of(const members *all, const char *name) {
    const cdp_variable *v = find(all, name);
    if (v == NULL)
        return NULL;
    cJSON *json = cJSON_ParseWithLength(v->json, v->n_json);
    assert_true(cJSON_IsString(json));
    char *text = strdup(json->valuestring);
    cJSON_Delete(json);
    return text;
}

typedef struct outcome {
    cdp_status st;
    cdp_rendered rendered;
    char message[1100];
} outcome;

static outcome run(const char *name, const char *template, const cdp_variable *variables, int n) {
    outcome o = {0};
    cdp_chat_template *t = NULL;
    cdp_error_clear();
    o.st = cdp_chat_template_open(&t, name, template, strlen(template));
    if (o.st == CDP_OK)
        o.st = cdp_chat_template_render(t, variables, n, &clock_of_cases, &o.rendered);
    snprintf(o.message, sizeof o.message, "%s", cdp_error_message());
    cdp_error_clear();
    cdp_chat_template_close(t);
    return o;
}

/* 1 when the outcome is what the case says. */
static int check(const char *where, const members *one, const outcome *o) {
    char *expected = text_of(one, "expected"), *error = text_of(one, "error"), *kind = text_of(one, "kind");
    const cdp_variable *rare = find(one, "rare");
    const bool may_refuse = rare != NULL && strncmp(rare->json + strspn(rare->json, " "), "true", 4) == 0;
    bool is_right;
    if (expected != NULL)
        is_right = o->st == CDP_OK ? o->rendered.n == strlen(expected) &&
                                         memcmp(o->rendered.text, expected, o->rendered.n) == 0
                                   : may_refuse;
    else
        is_right = o->st != CDP_OK && (strcmp(kind, "raise") != 0 || strcmp(o->message, error) == 0);
    if (!is_right)
        print_error("%s:\n  got      %d |%s| %s\n  expected |%s| %s\n", where, o->st,
                    o->rendered.text != NULL ? o->rendered.text : "", o->message,
                    expected != NULL ? expected : "", error != NULL ? error : "");
    free(expected);
    free(error);
    free(kind);
    return is_right;
}

static char *read_golden(const char *name, size_t *n_out) {
    char path[512];
    char *text = NULL;
    snprintf(path, sizeof path, "tests/golden/templates/%s", name);
    assert_int_equal(cdp_file_read_text(&text, n_out, test_path(path), 1 << 24), CDP_OK);
    return text;
}

/* Calls `each` for every element of a JSON array of objects, with its text. */
typedef void (*case_check)(void *of, const char *json, size_t n);
static void each_case(const cdp_variable *array, case_check each, void *of) {
    int depth = 0;
    bool is_inside = false;
    size_t begin = 0;
    for (size_t i = 0; i < array->n_json; i++) {
        const char c = array->json[i];
        if (is_inside) {
            i += c == '\\';
            is_inside = c != '"';
        } else if (c == '"') {
            is_inside = true;
        } else if (c == '{' || c == '[') {
            if (++depth == 2)
                begin = i;
        } else if ((c == '}' || c == ']') && depth-- == 2) {
            each(of, array->json + begin, i + 1 - begin);
        }
    }
}

typedef struct tally {
    const char *file;
    char *template;
    members shared;
    int n, n_right;
} tally;

static void check_conversation(void *of, const char *json, size_t n) {
    tally *t = of;
    members one;
    char where[512];
    members_open(&one, json, n);
    char *name = text_of(&one, "name");
    outcome o = run(t->file, t->template, one.data, one.n);
    snprintf(where, sizeof where, "%s, case %s", t->file, name);
    t->n_right += check(where, &one, &o);
    t->n++;
    cdp_rendered_close(&o.rendered);
    free(name);
    members_close(&one);
}

static void conversations_render_as_the_reference(void **state) {
    (void)state;
    tally t = {0};
    DIR *dir = opendir(test_path("tests/golden/templates"));
    int n_files = 0;
    assert_non_null(dir);
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        size_t n;
        members file;
        if (strstr(entry->d_name, ".json") == NULL || strcmp(entry->d_name, "micro.json") == 0)
            continue;
        char *text = read_golden(entry->d_name, &n);
        members_open(&file, text, n);
        t.file = entry->d_name;
        t.template = text_of(&file, "template");
        each_case(find(&file, "cases"), check_conversation, &t);
        free(t.template);
        members_close(&file);
        free(text);
        n_files++;
    }
    closedir(dir);
    print_message("%d of %d conversations of %d templates\n", t.n_right, t.n, n_files);
    assert_int_equal(n_files, 41);
    assert_int_equal(t.n, 930);
    assert_int_equal(t.n_right, t.n);
}

static void check_micro(void *of, const char *json, size_t n) {
    tally *t = of;
    members one;
    members_open(&one, json, n);
    char *template = text_of(&one, "template");
    outcome o = run("micro", template, t->shared.data, t->shared.n);
    t->n_right += check(template, &one, &o);
    t->n++;
    cdp_rendered_close(&o.rendered);
    free(template);
    members_close(&one);
}

static void small_templates_do_as_the_reference(void **state) {
    (void)state;
    tally t = {0};
    size_t n;
    members file;
    char *text = read_golden("micro.json", &n);
    members_open(&file, text, n);
    const cdp_variable *variables = find(&file, "variables");
    members_open(&t.shared, variables->json, variables->n_json);
    each_case(find(&file, "cases"), check_micro, &t);
    print_message("%d of %d small templates\n", t.n_right, t.n);
    members_close(&t.shared);
    members_close(&file);
    free(text);
    assert_int_equal(t.n, 264);
    assert_int_equal(t.n_right, t.n);
}

/* The rendered text with what is the template's own in brackets. */
static char *marked(const char *template, const char *variables, const char *own_variable) {
    members all;
    char *out = NULL;
    size_t n = 0, at = 0;
    members_open(&all, variables, strlen(variables));
    for (int i = 0; i < all.n; i++)
        all.data[i].is_own = strcmp(all.data[i].name, own_variable) == 0;
    outcome o = run("marked", template, all.data, all.n);
    assert_string_equal(o.message, "");
    FILE *stream = open_memstream(&out, &n);
    for (size_t i = 0; i < o.rendered.own.n; i++) {
        const cdp_span span = o.rendered.own.data[i];
        assert_true(span.begin >= at && span.end > span.begin && span.end <= o.rendered.n);
        fprintf(stream, "%.*s[%.*s]", (int)(span.begin - at), o.rendered.text + at,
                (int)(span.end - span.begin), o.rendered.text + span.begin);
        at = span.end;
    }
    fprintf(stream, "%s", o.rendered.text + at);
    fclose(stream);
    cdp_rendered_close(&o.rendered);
    members_close(&all);
    return out;
}

/* One byte of a user's text taken for the template's own, and a message may hold control tokens. */
static void every_byte_knows_where_it_comes_from(void **state) {
    static const char *const cases[][2] = {
        {"<s>{{ u }}</s>", "[<s>]Ab c<x>[</s>]"},
        {"{{ bos }}{{ u }}", "[<B>]Ab c<x>"},
        {"{{ '<s>' + u + '</s>' }}", "[<s>]Ab c<x>[</s>]"},
        {"{{ '<' ~ u ~ '>' ~ 1 ~ n ~ (n + 1) }}", "[<]Ab c<x>[>1]78"},
        {"{{ ('<' + u + '>') | upper }}", "[<]AB C<X>[>]"},
        {"{{ ('<' + u + '>')[1:-1] }}|{{ ('ab' + u)[1] }}|{{ ('ab' + u)[2:3] }}", "Ab c<x>[|b|]A"},
        {"{{ ('<' + u + '>')[::-1] }}", "[>]>x<c bA[<]"},
        {"{{ u | replace('<x>', '<y>') }}", "Ab c[<y>]"},
        {"{{ 'a-b' | replace('-', u) }}", "[a]Ab c<x>[b]"},
        {"{{ [u, '<s>'] | join('|') }}", "Ab c<x>[|<s>]"},
        {"{{ u.split(' ') | join('<sep>') }}", "Ab[<sep>]c<x>"},
        {"{{ (u + '<s>').split('<') }}", "[[]'Ab c'[, ]'x>'[, ]'[s>]'[]]"},
        {"{{ '%s</s>%s' % (u, 'z') }}|{{ '<{}>'.format(u) }}", "Ab c<x>[</s>z|<]Ab c<x>[>]"},
        {"{{ u | indent(1, true) }}{{ '<s>' * 2 }}{{ u[:1] * 2 }}", "[ ]Ab c<x>[<s><s>]AA"},
        {"{% set x %}<a>{{ u }}</a>{% endset %}{{ x }}", "[<a>]Ab c<x>[</a>]"},
        {"{% macro m(a) %}<a>{{ a }}{% endmacro %}{{ m(u) }}", "[<a>]Ab c<x>"},
        {"{% set ns = namespace(t='<a>') %}{% set ns.t = ns.t + u %}{{ ns.t }}", "[<a>]Ab c<x>"},
        {"{{ {'<k>': u}.items() | list | first | join }}", "[<k>]Ab c<x>"},
        {"{{ d | tojson }}", "{\"<k>\": \"<v>\"}"},
        {"{{ {'a': u, 'b': '<s>'} | tojson }}", "[{\"a\": ]\"Ab c<x>\"[, \"b\": \"<s>\"}]"},
        {"{% for c in u[:2] %}{{ c }}{{ loop.index }}{% endfor %}", "A[1]b[2]"},
        {"{{ ('<|' + u + '|>').strip('<|>') }}|{{ u.title() }}", "Ab c<x[|]Ab C<X>"},
        {"{{ ('\\xe9' + u) | capitalize }}", "[\xc3\x89]ab c<x>"},
        {"{{ d }}{{ u is string }}", "{'<k>': '<v>'}[True]"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *got =
            marked(cases[i][0], "{\"u\": \"Ab c<x>\", \"n\": 7, \"d\": {\"<k>\": \"<v>\"}, \"bos\": \"<B>\"}",
                   "bos");
        if (strcmp(got, cases[i][1]) != 0)
            fail_msg("%s: |%s|, expected |%s|", cases[i][0], got, cases[i][1]);
        free(got);
    }
}

/* What a template may not do, each with its place. */
static void faults_say_where(void **state) {
    static const char *const cases[][2] = {
        {"a\n  {% include 'x' %}", "t: line 2, column 6: the tag 'include' is not supported"},
        {"{% import 'x' as y %}", "t: line 1, column 4: the tag 'import'"},
        {"\n\n{{ x | nofilter }}", "t: line 3, column 8: there is no filter named 'nofilter'"},
        {"{{ x | urlize }}", "t: line 1, column 8: the filter 'urlize' is not supported"},
        {"{% if true %}\n{{ 1 is notest }}{% endif %}", "t: line 2, column 6: there is no test named"},
        {"{{ ''.__class__.__mro__ }}", "t: line 1, column 16: attribute '__class__' of str is not safe"},
        {"{{ [].append(1) }}", "t: line 1, column 13: attribute 'append' of list is not safe"},
        {"\xc3\xa9\xc3\xa9 {{ 1 + }}", "t: line 1, column 11: expected an expression, found '}}'"},
        {"{{ 'a' + 1 }}", "t: line 1, column 8: '+' does not work between str and int"},
        {"{% for x in 3 %}{% endfor %}", "t: line 1, column 8: int cannot be iterated"},
        {"{% for x in [1] %}", "t: line 1, column 4: 'for' without its end"},
        {"{{ x.y }}", "t: line 1, column 5: 'x' is undefined"},
        {"{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}", "nested too deeply"},
        {"{% set r = range(100000) %}{% for i in r %}{% if r == r %}{% endif %}{% endfor %}",
         "more than 20000000 steps"},
        {"{{ 'ab' * 100000000 }}", "more than 32 MiB"},
        {"{% set ns = namespace(s='abcdefgh') %}{% for i in range(40) %}{% set ns.s = ns.s + ns.s %}{% "
         "endfor %}",
         "more than 32 MiB"},
        {"{% set ns = namespace(l=[1]) %}{% for i in range(40) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
         "memory"},
        {"{% set ns = namespace(l=[]) %}{% for i in range(90000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ "
         "ns.l }}",
         "nested too deeply"},
        {"{{ 9223372036854775807 + 1 }}", "beyond 64 bits"},
        {"{{ range(100001) }}", "range of more than 100000"},
        {"{{ 1 // 0 }}", "division by zero"},
        {"{{ raise_exception(nobody) }}", "refuses the conversation without a word"},
        {"{{ \"\\ud800\" }}", "is no character"},
        {"a\nb\xff", "t: line 2, column 2: byte 3 is no UTF-8 text"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        outcome o = run("t", cases[i][0], NULL, 0);
        if (o.st == CDP_OK || strstr(o.message, cases[i][1]) == NULL)
            fail_msg("%s: %d |%s|, expected |%s|", cases[i][0], o.st, o.message, cases[i][1]);
        cdp_rendered_close(&o.rendered);
    }
}

/* Brackets and blocks as deep as a stack of calls would like least. */
static void nested_sources_are_refused(void **state) {
    static const char *const openers[] = {"(",    "[",     "{1:", "-",      "not ",
                                          "a.b(", "1 if ", "x[",  "1 ** -", "1 }}{% if 1 %}{{ "};
    enum { N = 20000 };
    (void)state;
    for (size_t i = 0; i < sizeof openers / sizeof openers[0]; i++) {
        const size_t n = strlen(openers[i]);
        char *text = malloc(n * N + 16);
        size_t at = (size_t)sprintf(text, "{{ ");
        for (int k = 0; k < N; k++, at += n)
            memcpy(text + at, openers[i], n);
        strcpy(text + at, "1 }}");
        outcome o = run("t", text, NULL, 0);
        /* By the parser; a chain is no nesting to it, but one to who walks the tree. */
        assert_int_equal(o.st, strncmp(openers[i], "1 ", 2) == 0 && openers[i][2] != '}' ? CDP_BAD_DATA
                                                                                         : CDP_BAD_MODEL);
        assert_non_null(strstr(o.message, "nested too deeply"));
        cdp_rendered_close(&o.rendered);
        free(text);
    }
}

/* Variables keep what cJSON would round or lose. */
static void numbers_keep_their_form(void **state) {
    (void)state;
    char *got = marked(
        "{{ x }} {{ x | tojson }}",
        "{\"x\": [9007199254740993, 1.0, 1, 1e3, -0.0, true, null, \"\\u00e9\\ud83d\\ude00\", {\"b\": 1, "
        "\"a\": 2, \"b\": 3}]}",
        "");
    assert_string_equal(
        got,
        "[9007199254740993, 1.0, 1, 1000.0, -0.0, True, None, '\u00e9\U0001F600', {'b': 3, 'a': 2}][ ]"
        "[9007199254740993, 1.0, 1, 1000.0, -0.0, true, null, \"\u00e9\U0001F600\", {\"b\": 3, \"a\": 2}]");
    free(got);
}

static void clocks_are_read(void **state) {
    cdp_clock clock;
    (void)state;
    setenv("CDPIPE_NOW", "2026-03-07T15:04:05", 1);
    assert_int_equal(cdp_clock_read(&clock), CDP_OK);
    assert_memory_equal(&clock, &clock_of_cases, sizeof clock);
    static const char *const wrong[] = {"now", "2026-13-07T15:04:05", "2026-03-07", "2026-03-07T15:04:05Z"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        setenv("CDPIPE_NOW", wrong[i], 1);
        assert_int_equal(cdp_clock_read(&clock), CDP_USAGE);
        cdp_error_clear();
    }
    unsetenv("CDPIPE_NOW");
    assert_int_equal(cdp_clock_read(&clock), CDP_OK);
    assert_true(clock.year >= 2026);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conversations_render_as_the_reference),
        cmocka_unit_test(small_templates_do_as_the_reference),
        cmocka_unit_test(every_byte_knows_where_it_comes_from),
        cmocka_unit_test(faults_say_where),
        cmocka_unit_test(nested_sources_are_refused),
        cmocka_unit_test(numbers_keep_their_form),
        cmocka_unit_test(clocks_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
