/* A folder of weights: one file or shards by an index, links, and all that may stand where a file should.
 * Catches: a path that leaves the folder, a loader that waits for a FIFO, two shards that disagree.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "planner/file.h"
#include "planner/tensor_index.h"
#include "tests/unit/folders.h"

/* A safetensors file of F32 scalars with these names, comma between. */
static void write_shard(const char *dir, const char *file, const char *names) {
    char header[2000], bytes[3000];
    int n = 0, end = 0;
    size_t used = (size_t)snprintf(header, sizeof header, "{");
    char copy[500], *rest = copy;
    snprintf(copy, sizeof copy, "%s", names);
    for (char *name; (name = strsep(&rest, ",")) != NULL; n++, end += 4)
        used += (size_t)snprintf(header + used, sizeof header - used,
                                 "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[%d,%d]}",
                                 n > 0 ? "," : "", name, end, end + 4);
    used += (size_t)snprintf(header + used, sizeof header - used, "}");
    memset(bytes, 0, sizeof bytes);
    bytes[0] = (char)(used & 0xFF);
    bytes[1] = (char)(used >> 8);
    memcpy(bytes + 8, header, used);
    write_bytes(dir, file, bytes, 8 + used + (size_t)end);
}

static cdp_status open_folder(cdp_tensor_index **out, const char *dir) {
    cdp_error_clear();
    return cdp_tensor_index_open(out, dir);
}

static void check_folder(const char *what, const char *dir, cdp_status want, const char *holds) {
    cdp_tensor_index *index = NULL;
    check_refusal(what, open_folder(&index, dir), want, holds);
    assert_null(index);
}

#define INDEX "model.safetensors.index.json"

/* Two shards, a.safetensors (x, y) and b.safetensors (z), and an index. */
static const char *two_shards(const char *index) {
    const char *dir = new_folder();
    write_shard(dir, "a.safetensors", "x,y");
    write_shard(dir, "b.safetensors", "z");
    write_text(dir, INDEX, index);
    return dir;
}

static void test_shards(void **state) {
    (void)state;
    cdp_tensor_index *index = NULL;
    static const char *const good[] = {
        "{\"weight_map\": {\"z\": \"b.safetensors\", \"x\": \"a.safetensors\", \"y\": \"a.safetensors\"}}",
        "{\"metadata\": {\"total_size\": \"much\"}, \"weight_map\":"
        " {\"z\": \"b.safetensors\", \"x\": \"a.safetensors\", \"y\": \"a.safetensors\"}}",
        "{\"metadata\": {\"total_size\": -1}, \"weight_map\": {\"z\": \"b.safetensors\", \"x\": "
        "\"a.safetensors\"}}",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        if (open_folder(&index, two_shards(good[i])) != CDP_OK)
            fail_msg("%s: %s", good[i], cdp_error_message());
        assert_int_equal(index->n_files, 2);
        assert_int_equal(index->n_tensors, 3);
        const cdp_tensor_entry *z = cdp_tensor_index_find(index, "z"), *x = cdp_tensor_index_find(index, "x");
        assert_true(z != NULL && x != NULL && z->file != x->file && z->bytes == 4 && z->n_dims == 0);
        assert_non_null(strstr(index->files[z->file].path, "/b.safetensors"));
        cdp_tensor_index_close(index);
    }
}

typedef struct index_case {
    const char *text;
    int code;
    const char *holds;
} index_case;

static void test_bad_index(void **state) {
    (void)state;
    static const index_case cases[] = {
        {"", 78, "not JSON"},
        {"[]", 78, "weight_map is missing"},
        {"{}", 78, "weight_map is missing"},
        {"{\"weight_map\": null}", 78, "weight_map is of another type"},
        {"{\"weight_map\": [\"a.safetensors\"]}", 78, "weight_map is of another type"},
        {"{\"weight_map\": {\"x\": 7}}", 78, "\"x\" is no string"},
        {"{\"weight_map\": {\"x\": \"\"}}", 78, "\"x\" is \"\", expected a plain file name"},
        {"{\"weight_map\": {\"x\": \"..\"}}", 78, "\"x\" is \"..\""},
        {"{\"weight_map\": {\"x\": \".safetensors\"}}", 78, "plain file name"},
        {"{\"weight_map\": {\"x\": \"../a.safetensors\"}}", 78, "\"../a.safetensors\""},
        {"{\"weight_map\": {\"x\": \"/etc/a.safetensors\"}}", 78, "\"/etc/a.safetensors\""},
        {"{\"weight_map\": {\"x\": \"sub/a.safetensors\"}}", 78, "\"sub/a.safetensors\""},
        {"{\"weight_map\": {\"x\": \"sub\\\\a.safetensors\"}}", 78, "plain file name"},
        {"{\"weight_map\": {\"x\": \"a.bin\"}}", 78, "\"a.bin\""},
        {"{\"weight_map\": {\"x\": \"a\\u0000.safetensors\"}}", 78, "NUL"},
        {"{\"weight_map\": {\"x\": \"a.safetensors\", \"x\": \"b.safetensors\"}}", 78, "\"x\" appears twice"},
        {"{\"weight_map\": {\"x\": \"gone.safetensors\", \"y\": \"gone.safetensors\"}}", 66,
         "gone.safetensors: shard is missing"},
        {"{\"weight_map\": {\"x\": \"gone.safetensors\", \"y\": \"gone.safetensors\"}}", 66,
         "it holds \"x\" and 1 more"},
        {"{\"weight_map\": {\"x\": \"go\\nne.safetensors\"}}", 66, "go\\x0Ane.safetensors: shard is missing"},
        {"{\"weight_map\": {\"w\": \"a.safetensors\"}}", 78, "tensor \"w\" is not in shard a.safetensors"},
        {"{\"weight_map\": {\"z\": \"a.safetensors\", \"x\": \"b.safetensors\"}}", 78,
         "tensor \"z\" is not in shard a.safetensors"},
        {"{\"weight_map\": {\"x\": \"a.safetensors\", \"z\": \"c.safetensors\"}}", 78, "\"x\" appears twice"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *dir = two_shards(cases[i].text);
        write_shard(dir, "c.safetensors", "z,x"); /* x lies in a too */
        check_folder(cases[i].text, dir, (cdp_status)cases[i].code, cases[i].holds);
    }
}

/* Both forms: the index wins, whatever the single file holds. */
static void test_both(void **state) {
    (void)state;
    cdp_tensor_index *index = NULL;
    const char *dir = two_shards("{\"weight_map\": {\"z\": \"b.safetensors\"}}");
    write_text(dir, "model.safetensors", "not read");
    assert_int_equal(open_folder(&index, dir), CDP_OK);
    assert_int_equal(index->n_tensors, 1);
    cdp_tensor_index_close(index);
}

/* Caches hold links to links; a link whose target is gone is a download that did not end. */
static void test_links(void **state) {
    (void)state;
    char path[4500], blob[4500];
    cdp_tensor_index *index = NULL;
    const char *dir = new_folder();
    write_shard(dir, "blob", "x");
    snprintf(path, sizeof path, "%s/middle", dir);
    assert_int_equal(symlink("blob", path), 0);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    assert_int_equal(symlink("middle", path), 0);
    assert_int_equal(open_folder(&index, dir), CDP_OK);
    cdp_tensor_index_close(index);
    snprintf(blob, sizeof blob, "%s/blob", dir);
    assert_int_equal(unlink(blob), 0);
    check_folder("dangling link", dir, CDP_NO_INPUT, "model.safetensors: No such file");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("model.safetensors", path), 0);
    check_folder("a link to itself", dir, CDP_NO_INPUT, "model.safetensors: ");
}

/* A path of n bytes is bound as a socket. */
static void make_socket(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_true(strlen(path) < sizeof address.sun_path);
    strcpy(address.sun_path, path);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    close(fd);
}

/* None of these may hang a loader: each is refused at once. */
static void test_no_files(void **state) {
    (void)state;
    char path[4500];
    const char *dir = new_folder();
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    alarm(5);
    assert_int_equal(mkfifo(path, 0644), 0);
    check_folder("FIFO", dir, CDP_NO_INPUT, "not a regular file");
    assert_int_equal(unlink(path), 0);
    make_socket(path);
    check_folder("socket", dir, CDP_NO_INPUT, "not a regular file");
    static const char *const devices[] = {"/dev/zero", "/dev/random", "/dev/full", "."};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(unlink(path), 0);
        assert_int_equal(symlink(devices[i], path), 0);
        check_folder(devices[i], dir, CDP_NO_INPUT, "not a regular file");
    }
    alarm(0);
    if (geteuid() != 0) { /* root reads everything */
        assert_int_equal(unlink(path), 0);
        write_shard(dir, "model.safetensors", "x");
        assert_int_equal(chmod(path, 0), 0);
        check_folder("mode 000", dir, CDP_NO_INPUT, "Permission denied");
    }
}

static void test_nothing(void **state) {
    (void)state;
    const char *dir = new_folder();
    check_folder("empty", dir, CDP_NO_INPUT, "neither model.safetensors nor model.safetensors.index.json");
    write_text(dir, "notes.txt", "");
    check_folder("notes", dir, CDP_NO_INPUT, "no weights");
    write_text(dir, "py\ntorch_model.bin", "");
    check_folder("bin", dir, CDP_BAD_MODEL, "only py\\x0Atorch_model.bin: convert to safetensors");
}

/* The size is looked at before anything is read; a file that shrank says so. */
static void test_reading(void **state) {
    (void)state;
    char path[4500], *text = NULL, buffer[16];
    size_t n = 7;
    uint64_t size;
    int fd;
    const char *dir = new_folder();
    write_text(dir, "t\nxt", "0123456789");
    snprintf(path, sizeof path, "%s/t\nxt", dir);
    cdp_error_clear();
    check_refusal("too long", cdp_file_read_text(&text, &n, path, 9), CDP_BAD_MODEL,
                  "t\\x0Axt: 10 bytes, at most 9");
    assert_null(text);
    assert_int_equal(cdp_file_read_text(&text, &n, path, 10), CDP_OK);
    assert_int_equal(n, 10);
    assert_string_equal(text, "0123456789");
    free(text);
    assert_int_equal(cdp_file_open(&fd, &size, path), CDP_OK);
    assert_int_equal(size, 10);
    assert_int_equal(cdp_file_read_at(fd, path, buffer, 4, 6), CDP_OK);
    assert_memory_equal(buffer, "6789", 4);
    assert_int_equal(truncate(path, 8), 0);
    check_refusal("cut", cdp_file_read_at(fd, path, buffer, 4, 6), CDP_BAD_MODEL,
                  "t\\x0Axt: changed while being read: it ends at byte 8, expected 2 more");
    close(fd);
    char small[8];
    assert_true(cdp_file_join(small, sizeof small, "abc", "efg"));
    assert_false(cdp_file_join(small, sizeof small, "abc", "efgh"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shards),  cmocka_unit_test(test_bad_index), cmocka_unit_test(test_both),
        cmocka_unit_test(test_links),   cmocka_unit_test(test_no_files),  cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_reading),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
