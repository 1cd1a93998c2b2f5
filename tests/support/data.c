#include "tests/support/data.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>

const char *test_path(const char *name) {
    static char paths[8][4096];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", CDPIPE_SOURCE_DIR, name);
    return path;
}

static char temp_dir[64];

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where) {
    (void)info;
    (void)kind;
    (void)where;
    return remove(path);
}

static void remove_temp_dir(void) {
    nftw(temp_dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
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
