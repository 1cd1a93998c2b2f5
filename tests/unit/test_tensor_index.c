/* safetensors headers: 73 good and bad files judged as tests/golden/safetensors/verdicts.tsv says, then every
 * file cut at every length and with every header byte flipped: refused or loaded, never a crash.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "planner/file.h"
#include "planner/tensor_index.h"
#include "tests/support/data.h"
#include "tests/unit/folders.h"

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
        check_refusal("mutant", st, CDP_BAD_MODEL, "mutant.safetensors");
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

/* A file of this header and n_data bytes of data. */
static cdp_status open_header(cdp_tensor_index **out, const char *header, size_t n_header, size_t n_data) {
    char path[300];
    const size_t n = 8 + n_header + n_data;
    char *bytes = calloc(n, 1);
    assert_non_null(bytes);
    for (int i = 0; i < 8; i++)
        bytes[i] = (char)((uint64_t)n_header >> 8 * i & 0xFF);
    memcpy(bytes + 8, header, n_header);
    write_bytes(test_temp_dir(), "made.safetensors", bytes, n);
    free(bytes);
    snprintf(path, sizeof path, "%s/made.safetensors", test_temp_dir());
    cdp_error_clear();
    return cdp_tensor_index_open_file(out, path);
}

typedef struct header_case {
    const char *header;
    size_t n_data;
    const char *holds; /* NULL: fine */
} header_case;

#define F32 "\"dtype\":\"F32\",\"shape\":"
#define AT "\"data_offsets\":"

static void test_headers(void **state) {
    (void)state;
    static const header_case cases[] = {
        {"{\"a\":{" F32 "[1]," AT "[0,4]}}", 4, NULL},
        {"{\"a\":{" F32 "[1]," AT "[0,4]}}", 5, "made.safetensors: 5 bytes of data, too long by 1 byte"},
        {"{\"a\":{" F32 "[1]," AT "[0,4]}}", 3, "3 bytes of data, too short by 1 byte"},
        {"{\"a\":{" F32 "[1]," AT "[0,4]}}", 9, "too long by 5 bytes"},
        {"{\"a\":{" F32 "[1,1,1,1,1,1,1,1]," AT "[0,4]}}", 4, NULL},
        {"{\"a\":{" F32 "[1,1,1,1,1,1,1,1,1]," AT "[0,4]}}", 4, "9 dimensions, at most 8"},
        {"{\"a\":{" F32 "[-0]," AT "[0,0]}}", 0, "tensor \"a\": shape is"},
        /* 2^59 + 1 values of 32 bits: 32 in 64-bit arithmetic that wraps */
        {"{\"a\":{" F32 "[315916329,1824726041]," AT "[0,4]}}", 4, "the bits of its shape pass 2^64"},
        {"{\"a\":{" F32 "[true]," AT "[0,4]}}", 4, "shape is"},
        {"{\"a\":{" F32 "[3]," AT "[0,4]}}", 4, "4 bytes by its data_offsets, but its shape of F32 needs 12"},
        {"{\"a\\nb\":{" F32 "[3]," AT "[0,4]}}", 4, "tensor \"a\\x0Ab\": 4 bytes"},
        {"{\"\\u001b[31m\":{" F32 "[1]," AT "[0,4]},\"b\":{" F32 "[1]," AT "[5,9]}}", 9,
         "tensor \"b\": data_offsets begin at 5, but \"\\x1B[31m\" ends at 4"},
        {"{\"b\":{" F32 "[1]," AT "[5,9]}}", 9, "begin at 5, but the data begin at 0"},
        {"{\"a\":{\"dtype\":\"F\\n2\",\"shape\":[]," AT "[0,4]}}", 4, "dtype \"F\\x0A2\" is unknown"},
        {"{\"a\":{\"Dtype\":\"F32\",\"shape\":[]," AT "[0,4]}}", 4, "dtype is missing"},
        {"{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[3]," AT "[0,3]}}", 3, NULL},
        {"{\"a\":{\"dtype\":\"F6_E2M3\",\"shape\":[4]," AT "[0,3]}}", 3, NULL},
        {"{\"a\":{\"dtype\":\"F6_E2M3\",\"shape\":[3]," AT "[0,3]}}", 3, "18 bits of F6_E2M3"},
        {"{\"a\":{" F32 "[0]," AT "[0,0]},\"b\":{" F32 "[1]," AT "[0,4]}}", 4, NULL},
        {"{2.0:{" F32 "[1]," AT "[0,4]}}", 4, "a number as a key"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cdp_tensor_index *index = NULL;
        const cdp_status st = open_header(&index, cases[i].header, strlen(cases[i].header), cases[i].n_data);
        if (cases[i].holds != NULL)
            check_refusal(cases[i].header, st, CDP_BAD_MODEL, cases[i].holds);
        else if (st != CDP_OK)
            fail_msg("%s: %s", cases[i].header, cdp_error_message());
        else /* the last by name is the last in the file here: it ends where the file does */
            assert_int_equal(index->tensors[index->n_tensors - 1].offset +
                                 index->tensors[index->n_tensors - 1].bytes,
                             index->files[0].bytes);
        cdp_tensor_index_close(index);
    }
}

/* A name of 1 MB, 1,000 dimensions, a million and one tensors, 64 MiB and a byte: refused by a limit or read.
 */
static void test_sizes(void **state) {
    (void)state;
    enum { BIG = 32 << 20 };
    char *text = malloc(BIG);
    cdp_tensor_index *index = NULL;
    size_t n = (size_t)sprintf(text, "{\"");
    memset(text + n, 'x', 1 << 20);
    n += 1 << 20;
    n += (size_t)sprintf(text + n, "\":{" F32 "[2]," AT "[0,4]}}");
    check_refusal("1 MB", open_header(&index, text, n, 4), CDP_BAD_MODEL, "xxx...\": 4 bytes");
    n = (size_t)sprintf(text, "{\"a\":{" F32 "[1");
    for (int i = 1; i < 1000; i++)
        n += (size_t)sprintf(text + n, ",1");
    n += (size_t)sprintf(text + n, "]," AT "[0,4]}}");
    check_refusal("dims", open_header(&index, text, n, 4), CDP_BAD_MODEL, "1000 dimensions, at most 8");
    n = (size_t)sprintf(text, "{\"0\":0");
    for (int i = 1; i <= 1000000; i++)
        n += (size_t)sprintf(text + n, ",\"%x\":0", i);
    n += (size_t)sprintf(text + n, "}");
    check_refusal("tensors", open_header(&index, text, n, 0), CDP_BAD_MODEL,
                  "made.safetensors: 1000001 tensors so far, at most 1000000");
    free(text);
    char path[300];
    write_bytes(test_temp_dir(), "long.safetensors", "\1\0\0\4\0\0\0\0", 8);
    snprintf(path, sizeof path, "%s/long.safetensors", test_temp_dir());
    assert_int_equal(truncate(path, (off_t)100 << 20), 0);
    check_refusal("bytes", cdp_tensor_index_open_file(&index, path), CDP_BAD_MODEL,
                  "header of 67108865 bytes, but the file has 104857600 and at most 67108864 are read");
}

/* The fingerprint is of header bytes and sizes, wherever the file lies. */
static void test_fingerprint(void **state) {
    (void)state;
    static const char *const headers[] = {"{\"a\":{" F32 "[1]," AT "[0,4]}}",
                                          "{\"a\":{" F32 "[1]," AT "[0,4]}} ",
                                          "{\"b\":{" F32 "[1]," AT "[0,4]}}"};
    uint64_t seen[4];
    for (int i = 0; i < 4; i++) {
        cdp_tensor_index *index = NULL;
        assert_int_equal(open_header(&index, headers[i % 3], strlen(headers[i % 3]), 4), CDP_OK);
        seen[i] = index->fingerprint;
        cdp_tensor_index_close(index);
    }
    assert_true(seen[0] == seen[3] && seen[0] != seen[1] && seen[0] != seen[2] && seen[1] != seen[2]);
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
        cmocka_unit_test(test_verdicts), cmocka_unit_test(test_mutants),     cmocka_unit_test(test_headers),
        cmocka_unit_test(test_sizes),    cmocka_unit_test(test_fingerprint), cmocka_unit_test(test_real),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
