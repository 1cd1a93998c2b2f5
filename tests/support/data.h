/* tests/support/data.h - where the tests find their files. */
#pragma once

#include <stddef.h>

/* "SOURCE_DIR/name" in a buffer that lasts until the next call but seven. */
const char *test_path(const char *name);

/* A fresh temporary folder, removed at exit with all it holds. */
const char *test_temp_dir(void);
