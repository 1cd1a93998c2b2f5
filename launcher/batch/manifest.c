#include "launcher/batch/manifest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "planner/file.h"
#include "planner/json.h"

static const cdp_json_limits limits = {1 << 20, 100000, 16, false, CDP_BAD_DATA};

char *cdp_manifest_path(const char *output) {
    char *path = NULL;
    return asprintf(&path, "%s.manifest", output) < 0 ? NULL : path;
}

cdp_status cdp_manifest_read(cJSON **out, const char *output) {
    *out = NULL;
    char *path = cdp_manifest_path(output);
    if (path == NULL)
        return cdp_fail(CDP_SYSTEM, "no memory for a path");
    const cdp_status st = cdp_file_exists(path) ? cdp_json_read(out, path, &limits) : CDP_OK;
    free(path);
    return st;
}

cdp_status cdp_manifest_write(const cdp_disk *disk, const char *output, const cJSON *facts) {
    char *path = cdp_manifest_path(output), *text = cJSON_Print(facts), *line = NULL;
    cdp_status st = CDP_OK;
    if (path == NULL || text == NULL || asprintf(&line, "%s\n", text) < 0)
        st = cdp_fail(CDP_SYSTEM, "no memory for the manifest");
    if (st == CDP_OK)
        st = cdp_disk_replace(disk, path, line, strlen(line), /*is_durable=*/true);
    free(line);
    cJSON_free(text);
    free(path);
    return st;
}

/* "input" + "bytes" */
static void extend(char *out, size_t out_size, const char *prefix, const char *name) {
    snprintf(out, out_size, "%s%s%s", prefix, prefix[0] != '\0' ? "." : "", name);
}

static cdp_status compare(const char *output, const char *prefix, const cJSON *written, const cJSON *mine) {
    const cJSON *item;
    cJSON_ArrayForEach(item, mine) {
        char name[128], theirs_shown[160], mine_shown[160], path[CDP_SHOWN_PATH];
        const cJSON *theirs = cdp_json_get(written, item->string);
        extend(name, sizeof name, prefix, item->string);
        if (cJSON_IsObject(item) && cJSON_IsObject(theirs)) {
            CDP_TRY(compare(output, name, theirs, item));
            continue;
        }
        if (theirs != NULL && cJSON_Compare(theirs, item, /*case_sensitive=*/true))
            continue;
        return cdp_fail(
            CDP_BAD_DATA,
            "%s was begun with another %s: its manifest has %s, this run has %s; go on with the old "
            "one, or choose another --output",
            cdp_escape(path, sizeof path, output, strlen(output)), name,
            theirs != NULL ? cdp_json_shown(theirs_shown, sizeof theirs_shown, theirs) : "nothing",
            cdp_json_shown(mine_shown, sizeof mine_shown, item));
    }
    return CDP_OK;
}

cdp_status cdp_manifest_compare(const char *output, const cJSON *written, const cJSON *mine) {
    return compare(output, "", written, mine);
}
