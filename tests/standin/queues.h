/* tests/standin/queues.h - streams, events and graphs as the calls of the runtime drive them. Calls return
 * cudaSuccess or what the runtime would. The opaque types of the CUDA headers are these structs. */
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
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
    bool is_uploaded = false;
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

/* One thing in a stream's queue. */
struct standin_operation {
    uint64_t ticket = 0;
    double queued_ms = 0;
    std::string name;
    standin_work work; /* else: */
    std::shared_ptr<standin_mark> record, wait;
    double poll_ms = 0; /* not before */
};

struct CUstream_st {
    int gpu = 0;
    int priority = 0; /* lower goes first on a GPU */
    bool is_null = false, is_blocking = false, is_running = false;
    std::deque<standin_operation> queue;
    uint64_t wanted = 0; /* tickets up to here somebody asked for */
    standin_capture *capture = nullptr;
};

/* All queues. */
struct standin_state {
    std::mutex lock;
    std::condition_variable work_came, work_went;
    std::vector<CUstream_st *> streams;
    std::vector<CUstream_st *> null_streams; /* by visible GPU */
    uint64_t last_ticket = 0;
    uint64_t random = 1;
    standin_order order = STANDIN_ASCENDING;
    int late_ms = 1;
    std::vector<std::unique_ptr<standin_capture>> ended;
    cudaError_t sticky = cudaSuccess;
};

standin_state &standin_all(void);
/* The stream that a handle of the product means. */
CUstream_st *standin_real(cudaStream_t stream);
/* Ask for everything of a stream up to a ticket, and for what that has to wait for. The lock is held. */
void standin_want(standin_state *s, CUstream_st *stream, uint64_t ticket);
/* The lock is held. */
void standin_add(standin_state *s, CUstream_st *stream, standin_operation op);

cudaStream_t standin_stream_open(bool is_blocking, int priority);
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
