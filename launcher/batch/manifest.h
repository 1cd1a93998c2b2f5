/* launcher/batch/manifest.h - OUT.manifest: what the records of OUT were made from and with.
 *
 * It is on disk before the first record. A resumed run writes down the same facts and compares: the first
 * member that differs refuses the run with both values, so that two models, two inputs or two temperatures
 * never mix. Nothing in it depends on ranks, chunks, threads or company, because the records do not either.
 */
#pragma once

#include "launcher/batch/disk.h"
#include <cjson/cJSON.h>

/* "OUT.manifest"; the caller frees it, NULL without memory. */
char *cdp_manifest_path(const char *output);

/* Read OUT.manifest. *out NULL when there is none; CDP_BAD_DATA when it is broken. The caller deletes *out.
 */
cdp_status cdp_manifest_read(cJSON **out, const char *output);

/* Durable when this returns. */
cdp_status cdp_manifest_write(const cdp_disk *disk, const char *output, const cJSON *facts);

/* CDP_BAD_DATA "OUT was begun with another temperature: its manifest has 0.7, this run has 1; ..." at
 * the first member that differs. */
cdp_status cdp_manifest_compare(const char *output, const cJSON *written, const cJSON *mine);
