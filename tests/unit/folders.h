/* tests/unit/folders.h - model folders made on the spot, and what every message of a loader must look like.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "kernels/status.h"
#include "tests/support/data.h"

/* A new empty folder; lasts as long as the program. */
static inline const char *new_folder(void) {
    static char path[300];
    static int number;
    snprintf(path, sizeof path, "%s/folder-%d", test_temp_dir(), number++);
    assert_int_equal(mkdir(path, 0755), 0);
    return path;
}

static inline void write_bytes(const char *dir, const char *name, const void *bytes, size_t n) {
    char path[4500];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static inline void write_text(const char *dir, const char *name, const char *text) {
    write_bytes(dir, name, text, strlen(text));
}

/* The same, and the folders that `name` names on the way. */
static inline void write_deep(const char *dir, const char *name, const char *text) {
    char path[4500];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    for (char *at = strchr(path + strlen(dir) + 1, '/'); at != NULL; at = strchr(at + 1, '/')) {
        *at = '\0';
        mkdir(path, 0755);
        *at = '/';
    }
    write_text(dir, name, text);
}

/* The status, words of the message, and one printable line whatever bytes the file held. */
static inline void check_refusal(const char *what, cdp_status st, cdp_status want, const char *holds) {
    const char *message = cdp_error_message();
    if (st != want || strstr(message, holds) == NULL)
        fail_msg("%s: status %d (expected %d), \"%s\" does not hold \"%s\"", what, st, want, message, holds);
    for (const char *c = message; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7F)
            fail_msg("%s: a control byte %02X in \"%s\"", what, *c, message);
    cdp_error_clear();
}
