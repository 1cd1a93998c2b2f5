/* tests/standin/cudart_stream.cpp - the runtime's streams, events and graphs. */
#include "tests/standin/cudart.h"

extern "C" {

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority) {
    CONTEXT_OR_RETURN();
    *stream = standin_stream_open((flags & cudaStreamNonBlocking) == 0, priority);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
    return cudaStreamCreateWithPriority(stream, flags, 0);
}

cudaError_t cudaStreamCreate(cudaStream_t *stream) {
    return cudaStreamCreateWithPriority(stream, 0, 0);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    if (stream == nullptr)
        return standin_note(cudaErrorInvalidResourceHandle);
    standin_stream_close(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    UNCAPTURED_OR_RETURN();
    standin_stream_wait(stream);
    return standin_after_sync();
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
    UNCAPTURED_OR_RETURN();
    const bool is_idle = standin_stream_is_idle(stream);
    const cudaError_t code = standin_after_sync();
    return code != cudaSuccess ? code : is_idle ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    CONTEXT_OR_RETURN();
    return standin_note(standin_event_wait(event, stream));
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t call, void *argument) {
    CONTEXT_OR_RETURN();
    return standin_note(standin_queue_work(stream, "host function", [=] {
        call(argument);
        return STANDIN_DONE;
    }));
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
    CONTEXT_OR_RETURN();
    *event = new CUevent_st;
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event) {
    return cudaEventCreateWithFlags(event, 0);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    CONTEXT_OR_RETURN();
    return standin_note(standin_event_record(event, stream));
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    UNCAPTURED_OR_RETURN();
    const bool is_reached = standin_event_is_reached(event);
    const cudaError_t code = standin_after_sync();
    return code != cudaSuccess ? code : is_reached ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    UNCAPTURED_OR_RETURN();
    standin_event_sync(event);
    return standin_after_sync();
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end) {
    CONTEXT_OR_RETURN();
    if (start->mark == nullptr || end->mark == nullptr)
        return standin_note(cudaErrorInvalidResourceHandle);
    if (!start->mark->is_reached || !end->mark->is_reached)
        return standin_note(cudaErrorNotReady);
    *ms = (float)(end->mark->reached_ms - start->mark->reached_ms);
    return cudaSuccess;
}

/* ---- graphs ---- */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
    CONTEXT_OR_RETURN();
    return standin_note(standin_capture_begin(stream, mode));
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    return standin_note(standin_capture_end(stream, graph));
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status) {
    CONTEXT_OR_RETURN();
    *status = standin_is_capturing(stream) ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long) {
    CONTEXT_OR_RETURN();
    if (standin_fault_due("graph", "memory"))
        return standin_note(cudaErrorMemoryAllocation);
    static std::atomic<uint64_t> standin_graphs;
    if (!standin_load("a graph", "graph " + std::to_string(++standin_graphs)))
        return standin_note(cudaErrorLaunchTimeout);
    *exec = new CUgraphExec_st{graph->nodes};
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *exec, cudaGraph_t graph,
                                          unsigned long long flags) {
    return cudaGraphInstantiate(exec, graph, flags);
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
    CONTEXT_OR_RETURN();
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    CONTEXT_OR_RETURN();
    if (!exec->is_uploaded && standin_fault_due("graph", "upload"))
        return standin_note(cudaErrorMemoryAllocation);
    exec->is_uploaded = true;
    const auto nodes = std::make_shared<std::vector<standin_node>>(exec->nodes); /* outlives the graph */
    const auto at = std::make_shared<size_t>(0); /* who has not ended is asked again */
    return standin_note(standin_queue_work(stream, "graph", [nodes, at] {
        for (; *at < nodes->size(); ++*at) {
            const standin_progress how = (*nodes)[*at].work();
            if (how != STANDIN_DONE)
                return how;
        }
        return STANDIN_DONE;
    }));
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *n_nodes) {
    if (nodes != nullptr)
        return standin_note(cudaErrorNotSupported);
    *n_nodes = graph->nodes.size();
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    delete exec;
    return cudaSuccess;
}

} // extern "C"
