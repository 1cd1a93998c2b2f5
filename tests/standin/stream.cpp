/* tests/standin/stream.cpp - queues of work, worked off late.
 *
 *     stream A   [work 1][work 2][record e 4]    a head runs when somebody asked for it or for what is behind
 *     stream B   [wait e 5][work 6]              it, or when it is old; asking for B's end asks for e, too
 *
 * One worker thread runs everything, so two pieces of work never overlap; which of two streams goes first is
 * a legal choice that the order setting makes. The NULL stream waits for all blocking streams and they for
 * it.
 */
#include <algorithm>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <stdlib.h>
#include <thread>
#include <vector>

#include "tests/standin/queues.h"

namespace {

struct operation {
    uint64_t ticket = 0;
    double queued_ms = 0;
    std::string name;
    standin_work work; /* else: */
    std::shared_ptr<standin_mark> record, wait;
    double poll_ms = 0; /* not before */
};

} // namespace

struct CUstream_st {
    int gpu = 0;
    bool is_null = false, is_blocking = false, is_running = false;
    std::deque<operation> queue;
    uint64_t wanted = 0; /* tickets up to here somebody asked for */
    standin_capture *capture = nullptr;
};

namespace {

struct state {
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

void work_forever(state *s);

void read_order(state *s) {
    const char *const late = getenv("STANDIN_LATE_MS"), *const order = getenv("STANDIN_ORDER");
    if (late != nullptr)
        s->late_ms = atoi(late);
    if (order == nullptr)
        return;
    s->order = strncmp(order, "desc", 4) == 0   ? STANDIN_DESCENDING
               : strncmp(order, "shuf", 4) == 0 ? STANDIN_SHUFFLED
                                                : STANDIN_ASCENDING;
    s->random = strchr(order, ':') != nullptr ? strtoull(strchr(order, ':') + 1, nullptr, 10) : 1;
    standin_set_block_order(s->order, s->random);
}

/* Never torn down: the worker may still run while the process ends. */
state &all() {
    static state *const standin_state = [] {
        state *const s = new state;
        read_order(s);
        for (int i = 0; i < standin_n_gpus(); i++) {
            CUstream_st *const stream = new CUstream_st;
            stream->gpu = i;
            stream->is_null = true;
            s->streams.push_back(stream);
            s->null_streams.push_back(stream);
        }
        std::thread(work_forever, s).detach();
        return s;
    }();
    return *standin_state;
}

CUstream_st *real(cudaStream_t stream) {
    if (stream == nullptr || stream == cudaStreamLegacy || stream == cudaStreamPerThread)
        return all().null_streams[(size_t)standin_current()];
    return stream;
}

/* Ask for everything of a stream up to a ticket, and for what that has to wait for. The lock is held. */
void want(state *s, CUstream_st *stream, uint64_t ticket) {
    if (stream->wanted >= ticket)
        return;
    stream->wanted = ticket;
    for (const operation &op : stream->queue)
        if (op.ticket <= ticket && op.wait != nullptr && !op.wait->is_reached)
            want(s, op.wait->stream, op.wait->ticket);
    if (stream->is_null || stream->is_blocking)
        for (CUstream_st *other : s->streams)
            if (other->gpu == stream->gpu && (stream->is_null ? other->is_blocking : other->is_null) &&
                !other->queue.empty() && other->queue.front().ticket < ticket)
                want(s, other, ticket - 1);
}

/* Whether the NULL stream's rule holds the head of this stream back. */
bool is_held(const state *s, const CUstream_st *stream) {
    if (!stream->is_null && !stream->is_blocking)
        return false;
    for (const CUstream_st *other : s->streams)
        if (other->gpu == stream->gpu && (stream->is_null ? other->is_blocking : other->is_null) &&
            !other->queue.empty() && other->queue.front().ticket < stream->queue.front().ticket)
            return true;
    return false;
}

/* The stream whose head runs next, or NULL; *wait_ms is how long nothing can change by itself. */
CUstream_st *choose(state *s, double *wait_ms) {
    std::vector<CUstream_st *> asked, old;
    const double now = standin_now_ms();
    *wait_ms = 1000;
    for (CUstream_st *stream : s->streams) {
        if (stream->queue.empty() || is_held(s, stream))
            continue;
        const operation &head = stream->queue.front();
        if (head.wait != nullptr && !head.wait->is_reached) {
            if (head.ticket <= stream->wanted || now >= head.queued_ms + s->late_ms)
                want(s, head.wait->stream, head.wait->ticket);
            continue;
        }
        const bool is_asked = head.ticket <= stream->wanted;
        const double due = std::max(head.poll_ms, is_asked ? 0 : head.queued_ms + s->late_ms);
        if (now < due)
            *wait_ms = std::min(*wait_ms, due - now);
        else
            (is_asked ? asked : old).push_back(stream);
    }
    std::vector<CUstream_st *> &list = asked.empty() ? old : asked;
    if (list.empty())
        return nullptr;
    s->random = s->random * 6364136223846793005u + 1442695040888963407u;
    return s->order == STANDIN_ASCENDING    ? list.front()
           : s->order == STANDIN_DESCENDING ? list.back()
                                            : list[(s->random >> 33) % list.size()];
}

/* Drop all work: the context is dead, and nobody must wait for it. The lock is held. */
void drop_all(state *s, std::vector<operation> *dropped) {
    for (CUstream_st *stream : s->streams) {
        for (operation &op : stream->queue) {
            if (op.record != nullptr)
                op.record->is_reached = true;
            dropped->push_back(std::move(op));
        }
        stream->queue.clear();
    }
}

void finish(state *s, CUstream_st *stream, std::unique_lock<std::mutex> &hold, standin_progress how) {
    std::vector<operation> dropped;
    if (how == STANDIN_NOT_YET) {
        stream->queue.front().poll_ms = standin_now_ms() + 0.05;
        return;
    }
    if (how == STANDIN_FAILED) {
        s->sticky = s->sticky == cudaSuccess ? cudaErrorLaunchFailure : s->sticky;
        drop_all(s, &dropped);
    } else {
        dropped.push_back(std::move(stream->queue.front()));
        stream->queue.pop_front();
    }
    s->work_went.notify_all();
    hold.unlock();
    dropped.clear(); /* arguments are freed without the lock */
    hold.lock();
}

void work_forever(state *s) {
    std::unique_lock<std::mutex> hold(s->lock);
    for (;;) {
        double wait_ms = 0;
        CUstream_st *const stream = choose(s, &wait_ms);
        if (stream == nullptr) {
            s->work_came.wait_for(hold, std::chrono::duration<double, std::milli>(wait_ms));
            continue;
        }
        operation &head = stream->queue.front(); /* a deque: stays where it is while others are added */
        if (!head.work) {
            if (head.record != nullptr) {
                standin_memory_close();
                head.record->is_reached = true;
                head.record->reached_ms = standin_now_ms();
            }
            finish(s, stream, hold, STANDIN_DONE);
            continue;
        }
        stream->is_running = true;
        hold.unlock();
        standin_memory_open();
        const standin_progress how = head.work();
        hold.lock();
        stream->is_running = false;
        if (!stream->queue.empty()) /* an error elsewhere may have dropped everything */
            finish(s, stream, hold, how);
        bool is_idle = true;
        for (const CUstream_st *other : s->streams)
            is_idle = is_idle && other->queue.empty();
        if (is_idle) {
            standin_memory_close();
            s->work_went.notify_all();
        }
    }
}

void add(state *s, CUstream_st *stream, operation op) {
    op.ticket = ++s->last_ticket;
    op.queued_ms = standin_now_ms();
    stream->queue.push_back(std::move(op));
    s->work_came.notify_one();
}

} // namespace

/* ---- work ---- */

cudaError_t standin_sticky(void) {
    state &s = all();
    std::lock_guard<std::mutex> hold(s.lock);
    return s.sticky;
}

void standin_make_sticky(cudaError_t code) {
    state &s = all();
    std::vector<operation> dropped;
    std::unique_lock<std::mutex> hold(s.lock);
    s.sticky = code;
    for (CUstream_st *stream : s.streams) /* what runs now stays at its head until it is done */
        while (stream->queue.size() > (stream->is_running ? 1 : 0)) {
            if (stream->queue.back().record != nullptr)
                stream->queue.back().record->is_reached = true;
            dropped.push_back(std::move(stream->queue.back()));
            stream->queue.pop_back();
        }
    s.work_went.notify_all();
}

void standin_recover(void) {
    state &s = all();
    std::lock_guard<std::mutex> hold(s.lock);
    s.sticky = cudaSuccess;
}

cudaError_t standin_queue_work(cudaStream_t stream, const char *name, standin_work work) {
    state &s = all();
    CUstream_st *const at = real(stream);
    std::lock_guard<std::mutex> hold(s.lock);
    if (s.sticky != cudaSuccess)
        return s.sticky;
    if (at->capture != nullptr) {
        at->capture->graph->nodes.push_back({name, std::move(work)});
        at->capture->unjoined.insert(at);
        return cudaSuccess;
    }
    operation op;
    op.name = name;
    op.work = std::move(work);
    add(&s, at, std::move(op));
    return cudaSuccess;
}

cudaError_t standin_enqueue(cudaStream_t stream, const char *name, standin_progress (*run)(void *),
                            void *argument, void (*drop)(void *)) {
    const std::shared_ptr<void> owned(
        argument, drop != nullptr ? drop : [](void *) {});
    if (real(stream)->capture != nullptr)
        return cudaErrorStreamCaptureUnsupported;
    return standin_queue_work(stream, name, [run, owned] { return run(owned.get()); });
}

/* ---- streams ---- */

cudaStream_t standin_stream_open(bool is_blocking) {
    state &s = all();
    std::lock_guard<std::mutex> hold(s.lock);
    CUstream_st *const stream = new CUstream_st;
    stream->gpu = standin_current();
    stream->is_blocking = is_blocking;
    s.streams.push_back(stream);
    return stream;
}

bool standin_stream_is_idle(cudaStream_t stream) {
    state &s = all();
    CUstream_st *const at = real(stream);
    std::lock_guard<std::mutex> hold(s.lock);
    want(&s, at, s.last_ticket);
    s.work_came.notify_one();
    return at->queue.empty();
}

void standin_stream_wait(cudaStream_t stream) {
    state &s = all();
    CUstream_st *const at = real(stream);
    std::unique_lock<std::mutex> hold(s.lock);
    const uint64_t last = s.last_ticket;
    want(&s, at, last);
    s.work_came.notify_one();
    s.work_went.wait(hold, [&] { return at->queue.empty() || at->queue.front().ticket > last; });
}

void standin_wait_all(void) {
    state &s = all();
    std::unique_lock<std::mutex> hold(s.lock);
    const uint64_t last = s.last_ticket;
    for (CUstream_st *stream : s.streams)
        want(&s, stream, last);
    s.work_came.notify_one();
    s.work_went.wait(hold, [&] {
        for (const CUstream_st *stream : s.streams)
            if (!stream->queue.empty() && stream->queue.front().ticket <= last)
                return false;
        return true;
    });
    hold.unlock();
    standin_memory_close();
}

void standin_stream_close(cudaStream_t stream) {
    standin_stream_wait(stream);
    state &s = all();
    std::lock_guard<std::mutex> hold(s.lock);
    s.streams.erase(std::remove(s.streams.begin(), s.streams.end(), stream), s.streams.end());
    delete stream;
}

void standin_set_order(standin_order order, uint64_t seed) {
    standin_wait_all();
    state &s = all();
    std::lock_guard<std::mutex> hold(s.lock);
    s.order = order;
    s.random = seed;
    standin_set_block_order(order, seed);
}

void standin_set_late_ms(int ms) {
    state &s = all();
    std::lock_guard<std::mutex> hold(s.lock);
    s.late_ms = ms;
}

/* ---- events ---- */

cudaError_t standin_event_record(CUevent_st *event, cudaStream_t stream) {
    state &s = all();
    CUstream_st *const at = real(stream);
    std::lock_guard<std::mutex> hold(s.lock);
    if (s.sticky != cudaSuccess)
        return s.sticky;
    event->capture = at->capture;
    if (at->capture != nullptr) {
        event->recorded_in = at;
        return cudaSuccess;
    }
    event->mark = std::make_shared<standin_mark>();
    operation op;
    op.name = "record";
    op.record = event->mark;
    event->mark->stream = at;
    add(&s, at, std::move(op));
    event->mark->ticket = s.last_ticket;
    return cudaSuccess;
}

cudaError_t standin_event_wait(CUevent_st *event, cudaStream_t stream) {
    state &s = all();
    CUstream_st *const at = real(stream);
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
    operation op;
    op.name = "wait";
    op.wait = event->mark;
    add(&s, at, std::move(op));
    return cudaSuccess;
}

bool standin_event_is_reached(CUevent_st *event) {
    state &s = all();
    std::lock_guard<std::mutex> hold(s.lock);
    if (event->mark == nullptr || event->mark->is_reached)
        return true;
    want(&s, event->mark->stream, event->mark->ticket);
    s.work_came.notify_one();
    return false;
}

void standin_event_sync(CUevent_st *event) {
    const std::shared_ptr<standin_mark> mark = event->mark;
    state &s = all();
    std::unique_lock<std::mutex> hold(s.lock);
    if (mark == nullptr || mark->is_reached)
        return;
    want(&s, mark->stream, mark->ticket);
    s.work_came.notify_one();
    s.work_went.wait(hold, [&] { return mark->is_reached; });
}

/* ---- capture ---- */

/* A capture in global mode forbids such calls to every thread, one in thread-local mode to its own. */
cudaError_t standin_forbidden_in_capture(void) {
    state &s = all();
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
    state &s = all();
    CUstream_st *const at = real(stream);
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
    state &s = all();
    CUstream_st *const at = real(stream);
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
    state &s = all();
    CUstream_st *const at = real(stream);
    std::lock_guard<std::mutex> hold(s.lock);
    return at->capture != nullptr;
}
