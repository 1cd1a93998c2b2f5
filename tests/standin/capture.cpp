/* tests/standin/capture.cpp - events, and captures: what is queued meanwhile becomes a graph. */
#include "tests/standin/queues.h"

/* ---- events ---- */

cudaError_t standin_event_record(CUevent_st *event, cudaStream_t stream) {
    standin_state &s = standin_all();
    CUstream_st *const at = standin_real(stream);
    std::lock_guard<std::mutex> hold(s.lock);
    if (s.sticky != cudaSuccess)
        return s.sticky;
    event->capture = at->capture;
    if (at->capture != nullptr) {
        event->recorded_in = at;
        return cudaSuccess;
    }
    event->mark = std::make_shared<standin_mark>();
    standin_operation op;
    op.name = "record";
    op.record = event->mark;
    event->mark->stream = at;
    standin_add(&s, at, std::move(op));
    event->mark->ticket = s.last_ticket;
    return cudaSuccess;
}

cudaError_t standin_event_wait(CUevent_st *event, cudaStream_t stream) {
    standin_state &s = standin_all();
    CUstream_st *const at = standin_real(stream);
    std::lock_guard<std::mutex> hold(s.lock);
    if (s.sticky != cudaSuccess)
        return s.sticky;
    if (event->capture != nullptr && event->capture->graph == nullptr)
        return cudaErrorCapturedEvent;
    if (event->capture != nullptr) { /* the stream joins the capture, or the origin takes a branch back */
        if (at->capture != nullptr && at->capture != event->capture)
            return cudaErrorStreamCaptureMerge;
        if (at->capture == nullptr) {
            at->capture = event->capture;
            at->capture->members.insert(at);
        }
        if (event->recorded_in != at)
            at->capture->unjoined.erase(static_cast<CUstream_st *>(event->recorded_in));
        at->capture->unjoined.insert(at);
        return cudaSuccess;
    }
    if (at->capture != nullptr) /* what happened before the capture began cannot be waited for in it */
        return cudaErrorStreamCaptureIsolation;
    if (event->mark == nullptr || event->mark->is_reached)
        return cudaSuccess;
    standin_operation op;
    op.name = "wait";
    op.wait = event->mark;
    standin_add(&s, at, std::move(op));
    return cudaSuccess;
}

bool standin_event_is_reached(CUevent_st *event) {
    standin_state &s = standin_all();
    std::lock_guard<std::mutex> hold(s.lock);
    if (event->mark == nullptr || event->mark->is_reached)
        return true;
    standin_want(&s, event->mark->stream, event->mark->ticket);
    s.work_came.notify_one();
    return false;
}

void standin_event_sync(CUevent_st *event) {
    const std::shared_ptr<standin_mark> mark = event->mark;
    standin_state &s = standin_all();
    std::unique_lock<std::mutex> hold(s.lock);
    if (mark == nullptr || mark->is_reached)
        return;
    standin_want(&s, mark->stream, mark->ticket);
    s.work_came.notify_one();
    s.work_went.wait(hold, [&] { return mark->is_reached; });
}

/* ---- capture ---- */

/* A capture in global mode forbids such calls to every thread, one in thread-local mode to its own. */
cudaError_t standin_forbidden_in_capture(void) {
    standin_state &s = standin_all();
    std::lock_guard<std::mutex> hold(s.lock);
    cudaError_t code = cudaSuccess;
    for (CUstream_st *stream : s.streams) {
        standin_capture *const capture = stream->capture;
        if (capture == nullptr || capture->mode == cudaStreamCaptureModeRelaxed ||
            (capture->mode == cudaStreamCaptureModeThreadLocal &&
             capture->thread != std::this_thread::get_id()))
            continue;
        capture->is_broken = true;
        code = cudaErrorStreamCaptureUnsupported;
    }
    return code;
}

cudaError_t standin_capture_begin(cudaStream_t stream, cudaStreamCaptureMode mode) {
    standin_state &s = standin_all();
    CUstream_st *const at = standin_real(stream);
    std::lock_guard<std::mutex> hold(s.lock);
    if (at->is_null || at->capture != nullptr)
        return at->is_null ? cudaErrorStreamCaptureUnsupported : cudaErrorIllegalState;
    at->capture = new standin_capture;
    at->capture->origin = at;
    at->capture->graph = new CUgraph_st;
    at->capture->members.insert(at);
    at->capture->mode = mode;
    at->capture->thread = std::this_thread::get_id();
    return cudaSuccess;
}

cudaError_t standin_capture_end(cudaStream_t stream, CUgraph_st **graph_out) {
    standin_state &s = standin_all();
    CUstream_st *const at = standin_real(stream);
    std::lock_guard<std::mutex> hold(s.lock);
    *graph_out = nullptr;
    standin_capture *const capture = at->capture;
    if (capture == nullptr)
        return cudaErrorIllegalState;
    if (capture->origin != at)
        return cudaErrorStreamCaptureUnmatched;
    capture->unjoined.erase(at);
    const cudaError_t code = capture->is_broken           ? cudaErrorStreamCaptureInvalidated
                             : !capture->unjoined.empty() ? cudaErrorStreamCaptureUnjoined
                                                          : cudaSuccess;
    for (void *member : capture->members)
        static_cast<CUstream_st *>(member)->capture = nullptr;
    if (code == cudaSuccess)
        *graph_out = capture->graph;
    else
        delete capture->graph;
    capture->graph = nullptr;
    s.ended.emplace_back(capture); /* events may still point at it */
    return code;
}

bool standin_is_capturing(cudaStream_t stream) {
    standin_state &s = standin_all();
    CUstream_st *const at = standin_real(stream);
    std::lock_guard<std::mutex> hold(s.lock);
    return at->capture != nullptr;
}
