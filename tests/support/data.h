/* tests/support/data.h - where the tests find their files. */
#pragma once

#include <stddef.h>

/* "SOURCE_DIR/name" in a buffer that lasts until the next call but seven. */
const char *test_path(const char *name);

/* A fresh temporary folder, removed at exit with all it holds. */
const char *test_temp_dir(void);

/* Remove a folder with all it holds. Who is still dying in there may write a last file between the others'
 * removal and the folder's: tried for up to 2 s. */
void test_remove_folder(const char *path);
