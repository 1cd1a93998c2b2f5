/* planner/tensor_index_parts.h - building an index file by file: shared by tensor_index.c (one header) and
 * shards.c (a folder). */
#pragma once

#include "planner/tensor_index.h"

/* An empty index. */
cdp_status cdp_tensor_index_new(cdp_tensor_index **out);

/* Read the header of one file into it. */
cdp_status cdp_tensor_index_add_file(cdp_tensor_index *index, const char *path);

/* After the last file: sort by name; a name in two files is refused. */
cdp_status cdp_tensor_index_sort(cdp_tensor_index *index);
