/* A loader that gets no memory closes what it has opened, and nothing else: not standard input. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "stage/loader.h"

/* The linker puts this in the place of calloc (tests/CMakeLists.txt). */
static int n_until_refused;
void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size) {
    return --n_until_refused == 0 ? NULL : __real_calloc(n, size);
}

static void test_no_memory(void **state) {
    (void)state;
    char name[] = "no such file";
    cdp_tensor_file file = {name, 1};
    const cdp_tensor_index index = {.n_files = 1, .files = &file};
    const cdp_loader_options options = {.n_readers = 1};
    for (int k = 1; k <= 3; k++) {
        cdp_loader *loader = NULL;
        cdp_error_clear();
        n_until_refused = k;
        assert_int_equal(cdp_loader_open(&loader, /*device=*/NULL, &index, &options), CDP_SYSTEM);
        assert_null(loader);
        assert_true(fcntl(STDIN_FILENO, F_GETFD) >= 0);
    }
}

int main(void) {
    if (fcntl(STDIN_FILENO, F_GETFD) < 0 && open("/dev/null", O_RDONLY) != STDIN_FILENO)
        return 2;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_no_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
