/* kernels/cpu/nodes.h - memory on the NUMA node of the worker that will mostly read it.
 *
 *     a matrix     [ worker 0 | worker 1 | worker 2 | worker 3 ]     ranges of rows, as in queue.h
 *     its pages    [       node 0        |       node 1        ]
 *
 * The kernel is asked and not forced: where a node is full, or a container may not ask, pages lie where they
 * would have been anyway.
 */
#pragma once

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>

/* The node of each of n_workers workers, pinned one by one to the processors of `cpus` in ascending order.
 * False when all have the same one, or the kernel does not say. `root` is "" but in tests. */
bool cdp_nodes_read(int *node_of, int n_workers, const cpu_set_t *cpus, const char *root);

/* Ask for pages of these bytes on the node; whole pages inside them. Nothing has been written there yet. */
void cdp_node_prefer(void *begin, size_t n_bytes, int node);

/* Give each worker's share of n_bytes to its node by `prefer` (cdp_node_prefer), neighbours of one node at
 * once. */
typedef void (*cdp_node_preferer)(void *begin, size_t n_bytes, int node);
void cdp_nodes_place(void *memory, size_t n_bytes, const int *node_of, int n_workers,
                     cdp_node_preferer prefer);
