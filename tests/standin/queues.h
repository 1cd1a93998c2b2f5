/* tests/standin/queues.h - streams, events and graphs as cudart.cpp drives them. Calls return cudaSuccess or
 * what the runtime would. The opaque types of the CUDA headers are these structs. */
#pragma once

#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "tests/standin/inside.h"

/* A place in a stream's queue. */
struct standin_mark {
    bool is_reached = false;
    CUstream_st *stream = nullptr;
    uint64_t ticket = 0;
    double reached_ms = 0;
};

struct standin_node {
    std::string name;
    standin_work work;
};

struct CUgraph_st {
    std::vector<standin_node> nodes; /* in the order of capture, which is a legal one */
};

struct CUgraphExec_st {
    std::vector<standin_node> nodes;
};

struct standin_capture {
    CUstream_st *origin = nullptr;
    CUgraph_st *graph = nullptr;
    std::set<void *> members;  /* streams that take part */
    std::set<void *> unjoined; /* those with work the origin has not waited for yet */
    cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
    std::thread::id thread; /* that began it */
    bool is_broken = false;
};

struct CUevent_st {
    std::shared_ptr<standin_mark> mark; /* of the last record; NULL: never recorded */
    standin_capture *capture = nullptr;
    void *recorded_in = nullptr;
};

cudaStream_t standin_stream_open(bool is_blocking);
void standin_stream_close(cudaStream_t stream);
bool standin_stream_is_idle(cudaStream_t stream); /* asks for everything in it */
void standin_stream_wait(cudaStream_t stream);

cudaError_t standin_event_record(CUevent_st *event, cudaStream_t stream);
cudaError_t standin_event_wait(CUevent_st *event, cudaStream_t stream);
bool standin_event_is_reached(CUevent_st *event); /* asks for it */
void standin_event_sync(CUevent_st *event);

cudaError_t standin_capture_begin(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t standin_capture_end(cudaStream_t stream, CUgraph_st **graph_out);
bool standin_is_capturing(cudaStream_t stream);
