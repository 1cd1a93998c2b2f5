#include "tests/support/data.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

const char *test_path(const char *name) {
    static char paths[8][4096];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", CDPIPE_SOURCE_DIR, name);
    return path;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where) {
    (void)info, (void)kind, (void)where;
    remove(path); /* what stays is tried again */
    return 0;
}

void test_remove_folder(const char *path) {
    for (int turn = 0; turn < 100 && access(path, F_OK) == 0; turn++) {
        if (turn > 0)
            usleep(20000);
        nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    }
}

static char temp_dir[64];

static void remove_temp_dir(void) {
    test_remove_folder(temp_dir);
}

const char *test_temp_dir(void) {
    if (temp_dir[0] == '\0') {
        snprintf(temp_dir, sizeof temp_dir, "/tmp/cdpipe-test-XXXXXX");
        if (mkdtemp(temp_dir) == NULL)
            abort();
        atexit(remove_temp_dir);
    }
    return temp_dir;
}
