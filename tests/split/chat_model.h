/* tests/split/chat_model.h - the embedded model with a chat template: links to its files in a folder of the
 * test's own. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/support/data.h"

static inline void chat_model_file(const char *dir, const char *name, const char *text) {
    char path[600];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    unlink(path);
    FILE *to = fopen(path, "w");
    if (to == NULL || fputs(text, to) == EOF || fclose(to) != 0)
        abort();
}

/* The folder; made at the first call. */
static inline const char *chat_model(const char *template) {
    static const char *const files[] = {"config.json", "generation_config.json", "model.safetensors",
                                        "tokenizer.json", "tokenizer_config.json"};
    static char dir[300];
    snprintf(dir, sizeof dir, "%s", test_temp_dir());
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char from[600], to[600];
        snprintf(from, sizeof from, "examples/shakespeare/%s", files[i]);
        snprintf(to, sizeof to, "%s/%s", dir, files[i]);
        unlink(to);
        if (symlink(test_path(from), to) != 0)
            abort();
    }
    chat_model_file(dir, "chat_template.jinja", template);
    return dir;
}
