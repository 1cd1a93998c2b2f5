/* The durable files of a batch job, without a model: records, lock, manifest, torn tails; and every call on
 * the disk failing once, for k = 1, 2, 3... until nothing fails.
 *
 * What it catches: a record that is lost or written twice after any single failure, one that was called
 * durable and is gone, a partial file with the name of a whole one, a manifest that mixes two jobs.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "launcher/batch/ledger.h"
#include "launcher/batch/manifest.h"
#include "launcher/batch/output.h"
#include "launcher/batch/record.h"
#include "tests/support/data.h"

enum { N_LINES = 12 };

/* The disk that fails: its k-th call does, or does half and fails, or the process "dies" in it. */
typedef enum fault_kind { REFUSES, TEARS, DIES, N_KINDS } fault_kind;
static int n_calls, fail_at;
static fault_kind kind;
static cdp_output output; /* of the play that is on */
enum { DEATH = 100 };     /* exit code of a process that died, and what it had made durable */

static bool is_hit(void) {
    if (++n_calls != fail_at)
        return false;
    if (kind == DIES)
        _exit(DEATH + (int)output.n_synced);
    errno = EIO;
    return true;
}

/* A disk that is full takes half of the bytes and says so, and only the next call tells why. */
static ssize_t bad_write(int fd, const void *bytes, size_t n) {
    const bool tears = n_calls + 2 == fail_at || (n_calls + 1 == fail_at && kind == DIES);
    if (tears && kind != REFUSES && n > 1) {
        const ssize_t half = write(fd, bytes, n / 2);
        return is_hit() ? -1 : half;
    }
    if (!is_hit())
        return write(fd, bytes, n);
    errno = ENOSPC;
    return -1;
}

/* Nobody cuts the power here: a sync that goes well does nothing, and takes no time. */
static int no_sync(int fd) {
    (void)fd;
    return 0;
}

static int bad_sync(int fd) {
    return is_hit() ? -1 : no_sync(fd);
}

static int bad_rename(const char *from, const char *to) {
    return is_hit() ? -1 : rename(from, to);
}

static int bad_truncate(int fd, off_t n) {
    return is_hit() ? -1 : ftruncate(fd, n);
}

/* Every write is short, and none fails. */
static ssize_t short_write(int fd, const void *bytes, size_t n) {
    return write(fd, bytes, n < 7 ? n : 7);
}

static const cdp_disk bad_disk = {bad_write, bad_sync, bad_rename, bad_truncate};
static const cdp_disk good_disk = {write, no_sync, rename, ftruncate};

static char folder[256], out_path[300];

static void fresh(void) {
    static int number;
    snprintf(folder, sizeof folder, "%s/job%d", test_temp_dir(), number++);
    assert_int_equal(mkdir(folder, 0700), 0);
    snprintf(out_path, sizeof out_path, "%s/out.jsonl", folder);
}

static void record_text(char *out, size_t size, int i) {
    snprintf(out, size, "{\"id\": \"r%d\", \"text\": \"%0*d\"}\n", i, 1 + i * 7 % 40, i);
}

static void fill_ledger(cdp_ledger *l) {
    uint32_t first, second;
    for (uint32_t i = 0; i < N_LINES; i++) {
        char id[8];
        snprintf(id, sizeof id, "r%u", i);
        assert_int_equal(cdp_ledger_add(l, cdp_id_hash(id, strlen(id)), i, i + 1, 0), CDP_OK);
    }
    assert_true(cdp_ledger_sort(l, &first, &second));
}

static cdp_status on_record(void *of, const char *text, size_t n, uint64_t number) {
    cdp_ledger *l = of;
    cdp_hash128 id;
    bool is_error;
    CDP_TRY(cdp_record_identify(&id, &is_error, text, n, number));
    const int64_t index = cdp_ledger_find(l, id);
    if (index == CDP_NO_LINE || !cdp_ledger_mark_done(l, (uint32_t)index, is_error))
        return cdp_fail(CDP_BAD_DATA, "record %d is strange", (int)number);
    return CDP_OK;
}

/* What the job does with its files, in its order. */
static cdp_status play(const cdp_disk *disk, cdp_output *out, cdp_ledger *l, double temperature) {
    uint64_t n_torn = 0;
    cJSON *written = NULL, *facts = cJSON_CreateObject();
    cJSON_AddNumberToObject(cJSON_AddObjectToObject(facts, "sampling"), "temperature", temperature);
    cdp_status st = cdp_output_open(out, disk, out_path);
    if (st == CDP_OK)
        st = cdp_manifest_read(&written, out_path);
    if (st == CDP_OK)
        st = written != NULL ? cdp_manifest_compare(out_path, written, facts)
                             : cdp_manifest_write(disk, out_path, facts);
    cJSON_Delete(written);
    cJSON_Delete(facts);
    CDP_TRY(st);
    CDP_TRY(cdp_output_read(out, on_record, l, &n_torn));
    if (n_torn > 0)
        CDP_TRY(cdp_output_cut(out));
    for (uint32_t i = 0; i < l->n; i++) {
        char text[128];
        if (cdp_ledger_marks(l, i) & CDP_LEDGER_DONE)
            continue;
        record_text(text, sizeof text, (int)i);
        CDP_TRY(cdp_output_add(out, text, strlen(text)));
        cdp_ledger_mark_done(l, i, false);
    }
    CDP_TRY(cdp_output_sync(out, true));
    return cdp_output_complete(out);
}

static uint64_t n_durable; /* what the last play called durable */

static cdp_status play_here(const cdp_disk *disk, double temperature) {
    cdp_ledger l = {0};
    fill_ledger(&l);
    output = (cdp_output){.fd = -1};
    cdp_error_clear();
    const cdp_status st = play(disk, &output, &l, temperature);
    n_durable = output.n_synced;
    cdp_output_close(&output);
    cdp_ledger_close(&l);
    return st;
}

/* Who is to die does so in a process of its own. */
static cdp_status play_once(const cdp_disk *disk, double temperature) {
    int status = 0;
    if (disk != &bad_disk || kind != DIES)
        return play_here(disk, temperature);
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0)
        _exit(play_here(disk, temperature) == CDP_OK ? 0 : 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    n_durable = WEXITSTATUS(status) >= DEATH ? (uint64_t)(WEXITSTATUS(status) - DEATH) : 0;
    return WEXITSTATUS(status) == 0 ? CDP_OK : CDP_INTERNAL;
}

static char *read_file(const char *path, size_t *n_out) {
    FILE *from = fopen(path, "rb");
    if (from == NULL)
        return NULL;
    char *text = calloc(1, 1 << 16);
    *n_out = fread(text, 1, 1 << 16, from);
    fclose(from);
    return text;
}

static uint64_t count_lines(const char *text, size_t n) {
    uint64_t lines = 0;
    for (size_t i = 0; i < n; i++)
        lines += text[i] == '\n';
    return lines;
}

/* OUT holds each record once, whole, and nothing else is left of it but the manifest. */
static void check_complete(const char *what) {
    char part[320], text[128];
    size_t n = 0;
    snprintf(part, sizeof part, "%s.part", out_path);
    if (access(part, F_OK) == 0)
        fail_msg("%s: %s is still there", what, part);
    char *all = read_file(out_path, &n);
    if (all == NULL || count_lines(all, n) != N_LINES)
        fail_msg("%s: %d lines, expected %d", what, all == NULL ? -1 : (int)count_lines(all, n), N_LINES);
    for (int i = 0; i < N_LINES; i++) {
        record_text(text, sizeof text, i);
        if (strstr(all, text) == NULL)
            fail_msg("%s: record %d is not whole", what, i);
    }
    free(all);
}

static void test_every_call_fails(void **state) {
    (void)state;
    int n_faults = 0;
    for (kind = REFUSES; kind < N_KINDS; kind++) {
        for (fail_at = 1;; fail_at++) {
            char what[64], part[320];
            size_t n = 0;
            snprintf(what, sizeof what, "kind %d, call %d", (int)kind, fail_at);
            fresh();
            n_calls = 0;
            const cdp_status st = play_once(&bad_disk, 1);
            if (st == CDP_OK)
                break;
            n_faults++;
            if (kind != DIES && st != CDP_IO)
                fail_msg("%s: status %d, %s", what, st, cdp_error_message());
            snprintf(part, sizeof part, "%s.part", out_path);
            char *left = read_file(part, &n); /* unless the rename was the last thing that went well */
            if (left != NULL && count_lines(left, n) < n_durable)
                fail_msg("%s: %d records were durable, %d are there", what, (int)n_durable,
                         (int)count_lines(left, n));
            free(left);
            if (play_once(&good_disk, 1) != CDP_OK)
                fail_msg("%s: the second run: %s", what, cdp_error_message());
            check_complete(what);
        }
        assert_true(fail_at > 2 * N_LINES);
    }
    print_message("    %d single faults\n", n_faults);
}

static void test_short_writes(void **state) {
    (void)state;
    static const cdp_disk short_disk = {short_write, no_sync, rename, ftruncate};
    fresh();
    assert_int_equal(play_once(&short_disk, 1), CDP_OK);
    check_complete("short writes");
}

/* A job that is cut at every byte, and a tail of NULs as after a power loss. */
static void test_torn_tail(void **state) {
    (void)state;
    size_t n = 0;
    char part[320];
    fresh();
    assert_int_equal(play_once(&good_disk, 1), CDP_OK);
    char *whole = read_file(out_path, &n);
    for (size_t cut = n - 120; cut <= n; cut++) {
        snprintf(part, sizeof part, "%s.part", out_path);
        assert_int_equal(unlink(out_path), 0);
        FILE *to = fopen(part, "wb");
        fwrite(whole, 1, cut, to);
        for (int i = 0; cut % 2 == 1 && i < 100; i++)
            fputc('\0', to);
        fclose(to);
        assert_int_equal(play_once(&good_disk, 1), CDP_OK);
        check_complete("torn");
    }
    free(whole);
}

static void write_part(const char *text) {
    char part[320];
    snprintf(part, sizeof part, "%s.part", out_path);
    FILE *to = fopen(part, "wb");
    fputs(text, to);
    fclose(to);
}

/* A broken line that is not the last one is somebody's doing: nothing is changed. */
static void test_broken_middle(void **state) {
    (void)state;
    static const char *const parts[] = {"{\"id\": \"r0\"}\n{\"id\": \"r1\n{\"id\": \"r2\"}\n",
                                        "{\"id\": \"r0\"}\n{\"id\": \"r0\"}\n",
                                        "{\"id\": \"r0\"}\n{\"id\": \"rx\"}\n",
                                        "{\"id\": \"r0\"}\n\n",
                                        "[]\n",
                                        "{\"text\": \"a\"}\n"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        char part[320];
        size_t n = 0;
        fresh();
        write_part(parts[i]);
        if (play_once(&good_disk, 1) != CDP_BAD_DATA || strstr(cdp_error_message(), "record") == NULL)
            fail_msg("part %d: %s", (int)i, cdp_error_message());
        snprintf(part, sizeof part, "%s.part", out_path);
        char *left = read_file(part, &n);
        assert_string_equal(left, parts[i]);
        free(left);
    }
}

static void test_manifest(void **state) {
    (void)state;
    fresh();
    fail_at = 20;
    kind = DIES;
    n_calls = 0;
    assert_int_equal(play_once(&bad_disk, 0.5), CDP_INTERNAL);
    assert_int_equal(play_once(&good_disk, 0.75), CDP_BAD_DATA);
    assert_non_null(strstr(cdp_error_message(), "sampling.temperature"));
    assert_non_null(strstr(cdp_error_message(), "has 0.5, this run has 0.75"));
    assert_int_equal(play_once(&good_disk, 0.5), CDP_OK);
    check_complete("manifest");
    char path[320];
    snprintf(path, sizeof path, "%s.manifest", out_path);
    FILE *to = fopen(path, "wb");
    fputs("{\"sampling\": ", to);
    fclose(to);
    assert_int_equal(play_once(&good_disk, 0.5), CDP_BAD_DATA);
}

static void test_lock(void **state) {
    (void)state;
    cdp_output first, second;
    bool is_held;
    fresh();
    assert_int_equal(cdp_output_look(&first, out_path, &is_held), CDP_NO_INPUT);
    cdp_output_close(&first);
    cdp_error_clear();
    assert_int_equal(cdp_output_open(&first, &good_disk, out_path), CDP_OK);
    assert_int_equal(cdp_output_open(&second, &good_disk, out_path), CDP_STOPPED);
    cdp_output_close(&second);
    assert_int_equal(cdp_output_look(&second, out_path, &is_held), CDP_OK);
    assert_true(is_held && second.state == CDP_OUTPUT_PART);
    cdp_output_close(&second);
    assert_int_equal(cdp_output_complete(&first), CDP_OK);
    assert_int_equal(cdp_output_open(&second, &good_disk, out_path), CDP_OK); /* the name has moved on */
    assert_int_equal(second.state, CDP_OUTPUT_WHOLE);
    cdp_output_close(&second);
    cdp_output_close(&first);
    assert_int_equal(cdp_output_look(&first, out_path, &is_held), CDP_OK);
    assert_false(is_held);
    cdp_output_close(&first);
    write_part("");
    assert_int_equal(cdp_output_open(&first, &good_disk, out_path), CDP_BAD_DATA); /* both are there */
    cdp_output_close(&first);
}

/* A slow disk gathers records, and calls none durable before its group is. */
static void test_groups(void **state) {
    (void)state;
    cdp_output out;
    fresh();
    assert_int_equal(cdp_output_open(&out, &good_disk, out_path), CDP_OK);
    out.sync_ns = INT64_C(20000000);
    for (int i = 0; i < 3; i++)
        assert_int_equal(cdp_output_add(&out, "{}\n", 3), CDP_OK);
    assert_int_equal(out.n_added, 3);
    assert_int_equal(out.n_synced, 0);
    usleep(60000);
    assert_int_equal(cdp_output_sync(&out, false), CDP_OK);
    assert_int_equal(out.n_synced, 3);
    cdp_output_close(&out);
}

/* The linker puts this in the place of flock (tests/CMakeLists.txt): between our open and our lock the run
 * before us has come to its end. */
static bool ends_meanwhile;
static int locked_fd = -1;
int __real_flock(int fd, int operation);
int __wrap_flock(int fd, int operation);
int __wrap_flock(int fd, int operation) {
    char part[320];
    snprintf(part, sizeof part, "%s.part", out_path);
    if (ends_meanwhile && rename(part, out_path) == 0)
        locked_fd = fd;
    ends_meanwhile = false;
    return __real_flock(fd, operation);
}

/* The lock that came too late is given back: the file that was OUT.part is OUT now. */
static void test_late_lock(void **state) {
    (void)state;
    cdp_output out;
    struct stat about;
    unlink(out_path);
    ends_meanwhile = true;
    assert_int_equal(cdp_output_open(&out, &cdp_disk_real, out_path), CDP_OK);
    assert_int_equal(out.state, CDP_OUTPUT_WHOLE);
    assert_true(locked_fd >= 0);
    assert_int_equal(fstat(out.fd, &about), 0);
    assert_true(out.fd == locked_fd || fcntl(locked_fd, F_GETFD) < 0);
    cdp_output_close(&out);
    assert_true(fcntl(locked_fd, F_GETFD) < 0);
    unlink(out_path);
}

/* A number of a line that no line can have. */
static void test_odd_line_numbers(void **state) {
    (void)state;
    static const char *const numbers[] = {"-1", "0", "4294967296", "1e300", "1.5", "\"1\""};
    cdp_hash128 id;
    bool is_error;
    char text[128];
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        snprintf(text, sizeof text, "{\"line\": %s, \"error\": {\"type\": \"x\"}}", numbers[i]);
        cdp_error_clear();
        assert_int_equal(cdp_record_identify(&id, &is_error, text, strlen(text), 3), CDP_BAD_DATA);
        assert_string_equal(cdp_error_message(), "record 3 has no id");
    }
    snprintf(text, sizeof text, "{\"line\": 4294967295, \"error\": {\"type\": \"x\"}}");
    assert_int_equal(cdp_record_identify(&id, &is_error, text, strlen(text), 3), CDP_OK);
    assert_int_equal(cdp_hash_compare(id, cdp_line_hash(UINT32_MAX)), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_call_fails), cmocka_unit_test(test_short_writes),
        cmocka_unit_test(test_torn_tail),        cmocka_unit_test(test_broken_middle),
        cmocka_unit_test(test_manifest),         cmocka_unit_test(test_lock),
        cmocka_unit_test(test_groups),           cmocka_unit_test(test_late_lock),
        cmocka_unit_test(test_odd_line_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
