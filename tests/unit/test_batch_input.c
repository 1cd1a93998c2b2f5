/* The first pass over a batch input, and its lines read again; the ledger of 32 bytes a line.
 *
 * What it catches: a line lost at the border of two blocks, an id that is not found again, two lines of one
 * id, a line that has changed, memory that grows with the length of lines.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "launcher/batch/input.h"
#include "tests/support/data.h"
#include "tests/support/random.h"

static char path[256];

static void write_bytes(const char *bytes, size_t n) {
    snprintf(path, sizeof path, "%s/in.jsonl", test_temp_dir());
    FILE *to = fopen(path, "wb");
    assert_non_null(to);
    assert_int_equal(fwrite(bytes, 1, n, to), n);
    assert_int_equal(fclose(to), 0);
}

static void write_text(const char *text) {
    write_bytes(text, strlen(text));
}

static cdp_status open_input(cdp_input *in) {
    cdp_error_clear();
    return cdp_input_open(in, path, NULL, NULL);
}

static void test_small_things(void **state) {
    (void)state;
    cdp_input in;
    cdp_line line;
    write_text("\xEF\xBB\xBF{\"id\":\"a\",\"prompt\":\"1\"}\r\n\n   \t\r\nnot json\n{\"prompt\":\"2\"}");
    assert_int_equal(open_input(&in), CDP_OK);
    assert_int_equal(in.ledger.n, 3);
    assert_int_equal(cdp_input_line(&in, 0, &line), CDP_OK);
    assert_string_equal(line.id, "a");
    cdp_line_close(&line);
    assert_int_equal(cdp_input_line(&in, 1, &line), CDP_BAD_DATA);
    assert_int_equal(line.number, 4);
    assert_null(line.id);
    cdp_line_close(&line);
    cdp_error_clear();
    assert_int_equal(cdp_input_line(&in, 2, &line), CDP_OK); /* no newline at the end */
    assert_string_equal(line.id, "5");
    cdp_line_close(&line);
    assert_int_equal(cdp_ledger_find(&in.ledger, cdp_id_hash("a", 1)), 0);
    assert_int_equal(cdp_ledger_find(&in.ledger, cdp_line_hash(4)), 1);
    assert_int_equal(cdp_ledger_find(&in.ledger, cdp_id_hash("4", 1)), CDP_NO_LINE);
    cdp_input_close(&in);
    write_text("");
    assert_int_equal(open_input(&in), CDP_OK);
    assert_int_equal(in.ledger.n, 0);
    cdp_input_close(&in);
}

static void test_refused(void **state) {
    (void)state;
    cdp_input in;
    write_text("{\"id\":\"x\"}\n{\"id\":\"y\"}\n\n{\"id\":\"x\"}\n");
    assert_int_equal(open_input(&in), CDP_BAD_DATA);
    assert_non_null(strstr(cdp_error_message(), "lines 1 and 4 have the same id \"x\""));
    cdp_input_close(&in);
    write_text("{\"id\":\"2\"}\n{}\n"); /* the second has its number for an id */
    assert_int_equal(open_input(&in), CDP_BAD_DATA);
    cdp_input_close(&in);
    write_text("{\"id\":\"2\"}\nbad\n"); /* a broken line must not take a good one's id */
    assert_int_equal(open_input(&in), CDP_OK);
    cdp_input_close(&in);
    snprintf(path, sizeof path, "%s/nothing", test_temp_dir());
    assert_int_equal(open_input(&in), CDP_NO_INPUT);
    cdp_input_close(&in);
    snprintf(path, sizeof path, "%s", test_temp_dir());
    assert_int_equal(open_input(&in), CDP_NO_INPUT);
    cdp_input_close(&in);
}

/* Random lengths around the border of a block, so that lines are cut there in every way. */
static void test_many_lines(void **state) {
    (void)state;
    enum { N = 20000 };
    test_random r = {42};
    char *text = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);
    for (int i = 0; i < N; i++)
        fprintf(to, "{\"id\":\"k%d\",\"prompt\":\"%0*d\"}\n", i * 7919 % N, 1 + test_random_below(&r, 300),
                i);
    fclose(to);
    write_bytes(text, n);
    free(text);
    cdp_input in;
    assert_int_equal(open_input(&in), CDP_OK);
    assert_int_equal(in.ledger.n, N);
    assert_int_equal(in.size, n);
    for (int i = 0; i < N; i++) {
        char id[16];
        cdp_line line;
        const int index = test_random_below(&r, N);
        assert_int_equal(cdp_input_line(&in, (uint32_t)index, &line), CDP_OK);
        assert_int_equal(atoi(line.tree->child->next->valuestring), index);
        snprintf(id, sizeof id, "k%d", index * 7919 % N);
        assert_string_equal(line.id, id);
        assert_int_equal(cdp_ledger_find(&in.ledger, cdp_id_hash(id, strlen(id))), index);
        assert_int_equal(cdp_ledger_find_line(&in.ledger, (uint32_t)index + 1), index);
        cdp_line_close(&line);
    }
    assert_true(sizeof *in.ledger.ids + sizeof *in.ledger.places + sizeof *in.ledger.lines +
                    sizeof *in.ledger.by_hash <=
                32);
    cdp_input_close(&in);
}

/* One line that is longer than all lines may be, between two good ones. */
static void test_long_line(void **state) {
    (void)state;
    cdp_input in;
    cdp_line line;
    write_text("{\"id\":\"a\",\"prompt\":\"1\"}\n");
    FILE *to = fopen(path, "ab");
    char *block = malloc(1 << 20);
    memset(block, 'x', 1 << 20);
    for (int i = 0; i < 17; i++)
        fwrite(block, 1, 1 << 20, to);
    fputs("\n{\"id\":\"b\",\"prompt\":\"1\"}\n", to);
    fclose(to);
    free(block);
    assert_int_equal(open_input(&in), CDP_OK);
    assert_int_equal(in.ledger.n, 3);
    assert_int_equal(cdp_input_line(&in, 1, &line), CDP_BAD_DATA);
    assert_non_null(strstr(cdp_error_message(), "line 2 is longer than 16777216 bytes"));
    cdp_line_close(&line);
    cdp_error_clear();
    assert_int_equal(cdp_input_line(&in, 2, &line), CDP_OK);
    assert_string_equal(line.id, "b");
    cdp_line_close(&line);
    assert_true(in.room < 26u << 20);
    cdp_input_close(&in);
}

static void test_changes(void **state) {
    (void)state;
    cdp_input in, other;
    cdp_line line;
    write_text("{\"id\":\"a\",\"prompt\":\"1\"}\n{\"id\":\"b\",\"prompt\":\"2\"}\n");
    assert_int_equal(open_input(&in), CDP_OK);
    const int fd = open(path, O_RDWR | O_APPEND);
    assert_int_equal(write(fd, "more\n", 5), 5); /* it may grow */
    assert_int_equal(cdp_input_line(&in, 1, &line), CDP_OK);
    cdp_line_close(&line);
    assert_int_equal(open_input(&other), CDP_OK);
    assert_int_equal(other.ledger.n, 3);
    assert_int_not_equal(cdp_hash_compare(in.hash, other.hash), 0);
    cdp_input_close(&other);
    assert_int_equal(ftruncate(fd, 30), 0);
    close(fd);
    assert_int_equal(cdp_input_line(&in, 1, &line), CDP_IO);
    assert_non_null(strstr(cdp_error_message(), "line 2 has changed"));
    cdp_line_close(&line);
    cdp_input_close(&in);
}

/* A pipe is copied first, because it cannot be read twice. */
static void test_pipe(void **state) {
    (void)state;
    cdp_input in;
    cdp_line line;
    snprintf(path, sizeof path, "%s/fifo", test_temp_dir());
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    const pid_t child = fork();
    if (child == 0) {
        FILE *to = fopen(path, "w");
        fputs("{\"id\":\"p\",\"prompt\":\"1\"}\n{\"id\":\"q\",\"prompt\":\"2\"}\n", to);
        fclose(to);
        _exit(0);
    }
    assert_int_equal(open_input(&in), CDP_OK);
    assert_int_equal(in.ledger.n, 2);
    assert_int_equal(cdp_input_line(&in, 0, &line), CDP_OK);
    assert_string_equal(line.id, "p");
    cdp_line_close(&line);
    cdp_input_close(&in);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_things), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_many_lines),   cmocka_unit_test(test_long_line),
        cmocka_unit_test(test_changes),      cmocka_unit_test(test_pipe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
