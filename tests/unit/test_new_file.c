/* Files that are there whole or not at all.
 *
 * What it catches: a link that gives way to a file, a file that was dropped and yet replaces the old one or
 * stays beside it, a write that failed in the middle and is forgotten at the end.
 */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "planner/file.h"
#include "planner/new_file.h"
#include "tests/support/data.h"

static char folder[300], path[320];

/* A folder of its own with one file in it. */
static void fresh(const char *old) {
    static int number;
    snprintf(folder, sizeof folder, "%s/new-%d", test_temp_dir(), number++);
    snprintf(path, sizeof path, "%s/f", folder);
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_int_equal(cdp_file_replace(path, old), CDP_OK);
}

static void expect(const char *what, const char *text, int n_files) {
    char *is;
    size_t n;
    int n_is = -2; /* . and .. */
    DIR *at = opendir(folder);
    while (readdir(at) != NULL)
        n_is++;
    closedir(at);
    assert_int_equal(cdp_file_read_text(&is, &n, path, 1 << 20), CDP_OK);
    if (strcmp(is, text) != 0 || n_is != n_files)
        fail_msg("%s: %d files, in f \"%s\", expected %d and \"%s\"", what, n_is, is, n_files, text);
    free(is);
}

static void test_end_and_drop(void **state) {
    (void)state;
    cdp_new_file file;
    fresh("old");
    assert_int_equal(cdp_new_file_open(&file, path), CDP_OK);
    fputs("new\n", file.to);
    cdp_new_file_close(&file);
    expect("dropped", "old\n", 1);
    assert_int_equal(cdp_new_file_open(&file, path), CDP_OK);
    fputs("new\n", file.to);
    expect("not at its end", "old\n", 2);
    assert_int_equal(cdp_new_file_end(&file, /*is_durable=*/true), CDP_OK);
    expect("at its end", "new\n", 1);
    cdp_new_file_close(&file);
    expect("closed behind its end", "new\n", 1);
}

static void test_link(void **state) {
    (void)state;
    char link_path[320];
    struct stat about;
    fresh("old");
    snprintf(link_path, sizeof link_path, "%s/link", folder);
    assert_int_equal(symlink("f", link_path), 0);
    assert_int_equal(cdp_file_replace(link_path, "new"), CDP_OK);
    expect("by a link", "new\n", 2);
    assert_int_equal(lstat(link_path, &about), 0);
    assert_true(S_ISLNK(about.st_mode));
}

/* stdio forgets the bytes that it could not write, and goes on with the next. */
static void test_failed_in_the_middle(void **state) {
    (void)state;
    cdp_new_file file;
    fresh("old");
    assert_int_equal(cdp_new_file_open(&file, path), CDP_OK);
    const int kept = dup(fileno(file.to)), full = open("/dev/full", O_WRONLY);
    fputs("lost\n", file.to);
    dup2(full, fileno(file.to));
    fflush(file.to);
    dup2(kept, fileno(file.to));
    fputs("new\n", file.to);
    assert_int_equal(cdp_new_file_end(&file, /*is_durable=*/false), CDP_IO);
    cdp_new_file_close(&file);
    expect("failed", "old\n", 1);
    close(kept);
    close(full);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_end_and_drop),
        cmocka_unit_test(test_link),
        cmocka_unit_test(test_failed_in_the_middle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
