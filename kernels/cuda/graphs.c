#include "kernels/cuda/graphs.h"

#include <stdlib.h>

#include "kernels/log.h"

typedef struct graph_entry {
    const void *owner, *seat; /* seat: its slot array */
    int n_rows;
    int n_seen;            /* steps of this key so far */
    cudaGraphExec_t graph; /* NULL: not recorded yet */
    bool is_plain;         /* it cannot be recorded */
} graph_entry;

struct cuda_graphs {
    graph_entry *entries;
    int n_entries, room;
    graph_entry *recording; /* between begin and end of a recorded step, else NULL */
};

cdp_status cuda_graphs_open(cuda_graphs **out) {
    *out = calloc(1, sizeof **out);
    return *out != NULL ? CDP_OK : cdp_fail(CDP_SYSTEM, "no memory for the graphs");
}

void cuda_graphs_close(cuda_graphs *graphs) {
    if (graphs == NULL)
        return;
    for (int i = 0; i < graphs->n_entries; i++)
        if (graphs->entries[i].graph != NULL)
            cudaGraphExecDestroy(graphs->entries[i].graph);
    free(graphs->entries);
    free(graphs);
}

/* The entry of this key, made where it is new. */
static cdp_status find(cuda_graphs *graphs, const void *owner, const cdp_step_view *step, graph_entry **out) {
    for (int i = 0; i < graphs->n_entries; i++) {
        graph_entry *e = &graphs->entries[i];
        if (e->owner == owner && e->seat == step->slot && e->n_rows == step->n_rows) {
            *out = e;
            return CDP_OK;
        }
    }
    if (graphs->n_entries == graphs->room) {
        const int room = graphs->room == 0 ? 16 : 2 * graphs->room;
        graph_entry *entries = realloc(graphs->entries, (size_t)room * sizeof *entries);
        if (entries == NULL)
            return cdp_fail(CDP_SYSTEM, "no memory for %d graphs", room);
        graphs->entries = entries;
        graphs->room = room;
    }
    *out = &graphs->entries[graphs->n_entries++];
    **out = (graph_entry){.owner = owner, .seat = step->slot, .n_rows = step->n_rows};
    return CDP_OK;
}

/* Steps of this key are queued launch by launch from now on. A context that is dead has nothing to do with
 * recording, and is an error. */
static cdp_status stay_plain(graph_entry *entry, cdp_device *device, const char *why) {
    cdp_note("steps of %d rows cannot be recorded (%s): they are queued launch by launch, slower",
             entry->n_rows, why);
    cudaGetLastError(); /* a refusal is over once it is told */
    cdp_error_clear();
    if (entry->graph != NULL)
        cudaGraphExecDestroy(entry->graph);
    entry->graph = NULL;
    entry->is_plain = true;
    const cudaError_t code = cudaStreamQuery(cdp_cuda_stream_peek(device));
    return code == cudaErrorNotReady ? CDP_OK : cdp_cuda_keep(device, code, "a recorded step");
}

cdp_status cuda_graphs_begin(cuda_graphs *graphs, cdp_device *device, const void *owner,
                             const cdp_step_view *step, bool *is_replayed_out) {
    *is_replayed_out = false;
    graph_entry *entry = NULL;
    CDP_TRY(find(graphs, owner, step, &entry));
    if (entry->graph != NULL) {
        *is_replayed_out = true;
        return cdp_cuda_keep(device, cudaGraphLaunch(entry->graph, cdp_cuda_stream(device)),
                             "launch of a recorded step");
    }
    if (entry->is_plain || entry->n_seen++ == 0)
        return CDP_OK;
    /* Other threads (the loader's, NCCL's) may call what they like meanwhile. */
    const cudaError_t code =
        cudaStreamBeginCapture(cdp_cuda_stream(device), cudaStreamCaptureModeThreadLocal);
    if (code != cudaSuccess)
        return stay_plain(entry, device, cudaGetErrorName(code));
    graphs->recording = entry;
    return CDP_OK;
}

/* Both may find no memory on the GPU: the first launch brings the graph there. */
static cudaError_t make_and_launch(graph_entry *entry, cudaGraph_t graph, cdp_device *device) {
    const cudaError_t made = cudaGraphInstantiate(&entry->graph, graph, 0);
    if (made == cudaSuccess)
        return cudaGraphLaunch(entry->graph, cdp_cuda_stream(device));
    entry->graph = NULL;
    return made;
}

cdp_status cuda_graphs_end(cuda_graphs *graphs, cdp_device *device, cdp_status launched,
                           bool *is_queued_out) {
    graph_entry *entry = graphs->recording;
    *is_queued_out = true;
    if (entry == NULL)
        return launched;
    graphs->recording = NULL;
    cudaGraph_t graph = NULL;
    cudaError_t code = cudaStreamEndCapture(cdp_cuda_stream(device), &graph);
    if (code == cudaSuccess && launched == CDP_OK)
        code = make_and_launch(entry, graph, device);
    if (graph != NULL)
        cudaGraphDestroy(graph);
    if (code == cudaSuccess && launched == CDP_OK)
        return CDP_OK;
    *is_queued_out = false;
    return stay_plain(entry, device, launched != CDP_OK ? cdp_error_message() : cudaGetErrorName(code));
}
