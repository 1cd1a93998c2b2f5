/* CUDA_VISIBLE_DEVICES: CUDA cuts the list short without a word; every such list is refused by the entry's
 * name. */
#include "launcher/visible.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void lists_that_work(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int n_shown;
    } cases[] = {
        {NULL, 4},
        {NULL, 0}, /* no GPU at all is not the list's fault */
        {"0", 1},
        {"3,1,0", 3},
        {" 0 , 2 ", 2},
        {"GPU-8932f937-d72c", 1}, /* a prefix is a name */
        {"GPU-8932f937-d72c,GPU-11", 2},
        {"MIG-3c6c,MIG-77aa", 1}, /* of several instances a process sees the first */
        {"10,11,12", INT32_MAX},  /* no driver: only the looks are judged */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (cdp_visible_check(cases[i].text, cases[i].n_shown) != CDP_OK)
            fail_msg("case %zu: %s", i, cdp_error_message());
}

static void lists_that_cuda_cuts_name_the_entry(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int n_shown;
        const char *message;
    } cases[] = {
        {"", 0, "CUDA_VISIBLE_DEVICES is empty: no GPU visible"},
        {"  ", 0, "CUDA_VISIBLE_DEVICES is empty: no GPU visible"},
        {"", INT32_MAX, "CUDA_VISIBLE_DEVICES is empty: no GPU visible"},
        {"0,7", 1, "=0,7: entry 7 does not exist; CUDA ignores it and all after it"},
        {"0,1,2,3", 2, "entry 2 does not exist"},
        {"9", 0, "entry 9 does not exist"},
        {"0,0", 0, "entry 0 stands there twice"},
        {"0,0", 2, "entry 0 stands there twice"},
        {"1,0, 1", 3, "entry 1 stands there twice"},
        {"0,-1,1", 1, "entry -1 is neither an index nor"},
        {"-1", 0, "entry -1 is neither"},
        {"0,,1", 1, "entry \"\" is neither"},
        {"0,", 1, "entry \"\" is neither"},
        {"all", 0, "entry all is neither"},
        {"0x1", 1, "entry 0x1 is neither"},
        {"GPU-dead", 0, "entry GPU-dead does not exist"},
        {"GPU-dead,GPU-dead", 0, "entry GPU-dead stands there twice"},
        {"0,GPU-8932f937", 1, "entry GPU-8932f937 is of another form than the first one"},
        {"GPU-8932f937,1", 2, "entry 1 is of another form"},
        {"MIG-bad", 0, "entry MIG-bad does not exist"},
        {"0,a\nb", 1, "entry a\\x0Ab is neither"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cdp_error_clear();
        assert_int_equal(cdp_visible_check(cases[i].text, cases[i].n_shown), CDP_UNAVAILABLE);
        if (strstr(cdp_error_message(), cases[i].message) == NULL)
            fail_msg("case %zu: got \"%s\", expected \"%s\"", i, cdp_error_message(), cases[i].message);
    }
    cdp_error_clear();
}

static void what_lines_show(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {NULL, "not set"},
        {"", "\"\" (no GPU is visible)"},
        {" ", "\" \" (no GPU is visible)"},
        {"0,2", "0,2"},
        {"0\n", "0\\x0A"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char words[64];
        assert_string_equal(cdp_visible_words(words, sizeof words, cases[i][0]), cases[i][1]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_that_work),
        cmocka_unit_test(what_lines_show),
        cmocka_unit_test(lists_that_cuda_cuts_name_the_entry),
    };
    return cmocka_run_group_tests_name("visible", tests, NULL, NULL);
}
