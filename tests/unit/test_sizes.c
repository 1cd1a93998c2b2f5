/* Size strings: every row of the table of spellings, and what must not pass for a size. */
#include "planner/sizes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_sizes(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } rows[] = {
        {"20GiB", 21474836480},
        {"20gib", 21474836480},
        {"20 GiB", 21474836480},
        {"  20GiB", 21474836480},
        {"\t20GiB \n", 21474836480},
        {"2GiB", 2147483648},
        {"512KiB", 524288},
        {"1e1GiB", 10737418240},
        {"1.5E1MiB", 15728640},
        {"1.5GB", 1500000000},
        {"1.gB", 1000000000},
        {".5gB", 500000000},
        {"100MB", 100000000},
        {"100KB", 100000},
        {"0MB", 0},
        {"500", 500},
        {"1TiB", 1099511627776},
        {"1TB", 1000000000000},
        {"20G", 21474836480},
        {"20g", 21474836480},
        {"3M", 3145728},
        {"3k", 3072},
        {"2T", 2199023255552},
        {"20", 20},
        {"0", 0},
        {"0.3GB", 300000000},
        {"0.0000001KB", 0},
        {"9007199254740993", 9007199254740993}, /* 2^53 + 1: not through a double */
        {"9223372036854775807", INT64_MAX},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        cdp_size size = {.is_share = true, .bytes = 1};
        if (cdp_size_parse(&size, rows[i].text) != CDP_OK || size.is_share || size.bytes != rows[i].bytes)
            fail_msg("\"%s\" is %llu, expected %llu: %s", rows[i].text, (unsigned long long)size.bytes,
                     (unsigned long long)rows[i].bytes, cdp_error_message());
    }
}

static void test_shares(void **state) {
    (void)state;
    static const struct {
        const char *text;
        double share;
    } rows[] = {{"85%", 0.85}, {"85 %", 0.85}, {"100%", 1}, {"0%", 0}, {"12.5%", 0.125}, {"1e1%", 0.1}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        cdp_size size;
        assert_int_equal(cdp_size_parse(&size, rows[i].text), CDP_OK);
        assert_true(size.is_share);
        assert_float_equal(size.share, rows[i].share, 1e-12);
    }
}

static void test_refused(void **state) {
    (void)state;
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"20gb", "Gb means Gbits elsewhere; write GB"},
        {"20Gb", "Gb means Gbits elsewhere; write GB"},
        {"20 mb", "Mb means Mbits elsewhere; write MB"},
        {"5MBB", "expected a size"},
        {"5k0MB", "expected a size"},
        {"-1GB", "expected a size"},
        {"+1GB", "expected a size"},
        {"", "expected a size"},
        {"  ", "expected a size"},
        {"GiB", "expected a size"},
        {".", "expected a size"},
        {".GiB", "expected a size"},
        {"1.5", "expected a size"},
        {"1e3", "expected a size"},
        {"1e-3GiB", "expected a size"},
        {"0x10", "expected a size"},
        {"0x10GiB", "expected a size"},
        {"1,5GiB", "expected a size"},
        {"20b", "expected a size"},
        {"20B", "expected a size"},
        {"20 Gi B", "expected a size"},
        {"20PiB", "expected a size"},
        {"nan", "expected a size"},
        {"nanGiB", "expected a size"},
        {"inf", "expected a size"},
        {"infGiB", "expected a size"},
        {"1e999GiB", "expected a size"},
        {"1e999%", "at most 100%"},
        {"101%", "at most 100%"},
        {"-5%", "expected a size"},
        {"8388608TiB", "more than 2^63"},
        {"1e30GiB", "more than 2^63"},
        {"9223372036854775808", "more than 2^63"},
        {"99999999999999999999999", "more than 2^63"},
        {"20GiB\x01", "\\x01"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        cdp_size size;
        cdp_error_clear();
        if (cdp_size_parse(&size, rows[i].text) != CDP_USAGE ||
            strstr(cdp_error_message(), rows[i].why) == NULL)
            fail_msg("\"%s\" said \"%s\", expected \"%s\"", rows[i].text, cdp_error_message(), rows[i].why);
    }
}

static void test_lists(void **state) {
    (void)state;
    cdp_size list[5];
    int n = -1;
    assert_int_equal(cdp_size_parse_list(list, 5, &n, "24GiB, 85% ,2x1000 , 0"), CDP_OK);
    assert_int_equal(n, 5);
    assert_int_equal(list[0].bytes, UINT64_C(24) << 30);
    assert_true(list[1].is_share);
    assert_int_equal(list[2].bytes, 1000);
    assert_int_equal(list[3].bytes, 1000);
    assert_true(!list[4].is_share && list[4].bytes == 0);
    assert_int_equal(cdp_size_parse_list(list, 5, &n, "3x24GiB"), CDP_OK);
    assert_int_equal(n, 3);
    assert_int_equal(cdp_size_parse_list(list, 5, &n, "1X1"), CDP_OK);
    assert_int_equal(n, 1);
    static const char *const refused[] = {
        "",    ",",       "1GiB,", ",1GiB",  "1GiB,,2GiB", "6x1GiB", "3x1,3x1",
        "0x1", "2x2x1GB", "x1GB",  "2x-1GB", "2x20Gb",     "1;2",    "99999999999999999999x1"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        if (cdp_size_parse_list(list, 5, &n, refused[i]) != CDP_USAGE)
            fail_msg("\"%s\" passes for a list", refused[i]);
}

static void test_texts(void **state) {
    (void)state;
    char text[32];
    assert_string_equal(cdp_size_text(text, sizeof text, UINT64_C(20) << 30), "20.00 GiB");
    assert_string_equal(cdp_size_text(text, sizeof text, UINT64_C(3) << 29), "1.50 GiB");
    assert_string_equal(cdp_size_text(text, sizeof text, UINT64_C(512) << 20), "512.00 MiB");
    assert_string_equal(cdp_size_text(text, sizeof text, 4096), "4.00 KiB");
    assert_string_equal(cdp_size_text(text, sizeof text, 1023), "1023 bytes");
    assert_string_equal(cdp_size_text(text, sizeof text, 0), "0 bytes");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes), cmocka_unit_test(test_shares), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_lists), cmocka_unit_test(test_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
