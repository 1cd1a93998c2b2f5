/* safetensors headers: 73 good and bad files judged as tests/golden/safetensors/verdicts.tsv says, then every
 * file cut at every length and with every header byte flipped: refused or loaded, never a crash.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "planner/file.h"
#include "planner/tensor_index.h"
#include "tests/support/data.h"

static const char *golden(const char *name) {
    char path[512];
    snprintf(path, sizeof path, "tests/golden/safetensors/%s", name);
    return test_path(path);
}

typedef void (*verdict_check)(const char *file, bool is_good, const char *holds);

/* Every line of verdicts.tsv: file, reference, its error, want, stricter, hidden by cJSON, message_holds. */
static int each_verdict(verdict_check check) {
    FILE *list = fopen(golden("verdicts.tsv"), "r");
    char line[512], file[128], want[32], holds[128];
    int n = 0;
    assert_non_null(list);
    assert_non_null(fgets(line, sizeof line, list));
    while (fgets(line, sizeof line, list) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        assert_int_equal(sscanf(line, "%127[^\t]\t%*[^\t]\t%*[^\t]\t%31[^\t]\t%*[^\t]\t%*[^\t]\t%127[^\n]",
                                file, want, holds),
                         3);
        check(file, strcmp(want, "accept") == 0, holds);
        n++;
    }
    fclose(list);
    return n;
}

static void check_verdict(const char *file, bool is_good, const char *holds) {
    cdp_tensor_index *index = NULL;
    cdp_error_clear();
    const cdp_status st = cdp_tensor_index_open_file(&index, golden(file));
    if (st != (is_good ? CDP_OK : CDP_BAD_MODEL))
        fail_msg("%s: status %d: %s", file, st, cdp_error_message());
    if (!is_good && strcmp(holds, "-") != 0 && strstr(cdp_error_message(), holds) == NULL)
        fail_msg("%s: \"%s\" does not hold \"%s\"", file, cdp_error_message(), holds);
    if (!is_good && strstr(cdp_error_message(), file) == NULL)
        fail_msg("%s is not named in \"%s\"", file, cdp_error_message());
    cdp_tensor_index_close(index);
}

static void test_verdicts(void **state) {
    (void)state;
    assert_int_equal(each_verdict(check_verdict), 73);
    cdp_error_clear();
}

/* Write n bytes and open them; whatever comes out is fine, as long as something comes out. */
static void open_bytes(const char *bytes, size_t n) {
    char path[300];
    cdp_tensor_index *index = NULL;
    snprintf(path, sizeof path, "%s/mutant.safetensors", test_temp_dir());
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    fclose(file);
    cdp_error_clear();
    const cdp_status st = cdp_tensor_index_open_file(&index, path);
    if (st != CDP_OK) {
        assert_int_equal(st, CDP_BAD_MODEL);
        assert_true(cdp_error_message()[0] != '\0');
        assert_null(index);
    }
    cdp_tensor_index_close(index);
}

static void mutate(const char *file, bool is_good, const char *holds) {
    char *bytes;
    size_t n;
    (void)is_good;
    (void)holds;
    assert_int_equal(cdp_file_read_text(&bytes, &n, golden(file), 1 << 20), CDP_OK);
    for (size_t length = 0; length < n; length++)
        open_bytes(bytes, length);
    for (size_t i = 0; i < n; i++) {
        const char kept = bytes[i];
        bytes[i] = (char)(kept ^ (1 << (i % 8)));
        open_bytes(bytes, n);
        bytes[i] = (char)~kept;
        open_bytes(bytes, n);
        bytes[i] = kept;
    }
    free(bytes);
}

static void test_mutants(void **state) {
    (void)state;
    each_verdict(mutate);
    cdp_error_clear();
}

/* A real file: names sorted, found, at places that lie inside. */
static void test_real(void **state) {
    (void)state;
    cdp_tensor_index *index = NULL;
    assert_int_equal(cdp_tensor_index_open(&index, test_path("tests/golden/models/llama")), CDP_OK);
    for (size_t i = 0; i < index->n_tensors; i++) {
        const cdp_tensor_entry *t = &index->tensors[i];
        assert_ptr_equal(cdp_tensor_index_find(index, t->name), t);
        assert_true(t->offset + t->bytes <= index->files[t->file].bytes);
    }
    assert_null(cdp_tensor_index_find(index, "model.layers.0"));
    const cdp_tensor_entry *head = cdp_tensor_index_find(index, "lm_head.weight");
    assert_non_null(head);
    assert_int_equal(head->n_dims, 2);
    assert_int_equal(head->shape[0], 384);
    assert_int_equal(head->dtype, CDP_BF16);
    const uint64_t fingerprint = index->fingerprint;
    cdp_tensor_index_close(index);
    assert_int_equal(cdp_tensor_index_open(&index, test_path("tests/golden/models/qwen3")), CDP_OK);
    assert_true(index->fingerprint != fingerprint);
    cdp_tensor_index_close(index);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_mutants),
        cmocka_unit_test(test_real),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
