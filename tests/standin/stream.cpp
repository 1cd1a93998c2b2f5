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
#include <stdlib.h>
#include <string.h>

#include "tests/standin/queues.h"

namespace {

void work_forever(standin_state *s);

void read_order(standin_state *s) {
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

/* Whether the NULL stream's rule holds the head of this stream back. */
bool is_held(const standin_state *s, const CUstream_st *stream) {
    if (!stream->is_null && !stream->is_blocking)
        return false;
    for (const CUstream_st *other : s->streams)
        if (other->gpu == stream->gpu && (stream->is_null ? other->is_blocking : other->is_null) &&
            !other->queue.empty() && other->queue.front().ticket < stream->queue.front().ticket)
            return true;
    return false;
}

/* The stream whose head runs next, or NULL; *wait_ms is how long nothing can change by itself. */
CUstream_st *choose(standin_state *s, double *wait_ms) {
    std::vector<CUstream_st *> asked, old;
    const double now = standin_now_ms();
    *wait_ms = 1000;
    for (CUstream_st *stream : s->streams) {
        if (stream->queue.empty() || is_held(s, stream))
            continue;
        const standin_operation &head = stream->queue.front();
        if (head.wait != nullptr && !head.wait->is_reached) {
            if (head.ticket <= stream->wanted || now >= head.queued_ms + s->late_ms)
                standin_want(s, head.wait->stream, head.wait->ticket);
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
void drop_all(standin_state *s, std::vector<standin_operation> *dropped) {
    for (CUstream_st *stream : s->streams) {
        for (standin_operation &op : stream->queue) {
            if (op.record != nullptr)
                op.record->is_reached = true;
            dropped->push_back(std::move(op));
        }
        stream->queue.clear();
    }
}

void finish(standin_state *s, CUstream_st *stream, std::unique_lock<std::mutex> &hold, standin_progress how) {
    std::vector<standin_operation> dropped;
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

void work_forever(standin_state *s) {
    std::unique_lock<std::mutex> hold(s->lock);
    for (;;) {
        double wait_ms = 0;
        CUstream_st *const stream = choose(s, &wait_ms);
        if (stream == nullptr) {
            s->work_came.wait_for(hold, std::chrono::duration<double, std::milli>(wait_ms));
            continue;
        }
        /* In a deque it stays where it is while others are added. */
        standin_operation &head = stream->queue.front();
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

} // namespace

/* ---- work ---- */

/* Never torn down: the worker may still run while the process ends. */
standin_state &standin_all(void) {
    static standin_state *const made = [] {
        standin_state *const s = new standin_state;
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
    return *made;
}

CUstream_st *standin_real(cudaStream_t stream) {
    if (stream == nullptr || stream == cudaStreamLegacy || stream == cudaStreamPerThread)
        return standin_all().null_streams[(size_t)standin_current()];
    return stream;
}

void standin_want(standin_state *s, CUstream_st *stream, uint64_t ticket) {
    if (stream->wanted >= ticket)
        return;
    stream->wanted = ticket;
    for (const standin_operation &op : stream->queue)
        if (op.ticket <= ticket && op.wait != nullptr && !op.wait->is_reached)
            standin_want(s, op.wait->stream, op.wait->ticket);
    if (stream->is_null || stream->is_blocking)
        for (CUstream_st *other : s->streams)
            if (other->gpu == stream->gpu && (stream->is_null ? other->is_blocking : other->is_null) &&
                !other->queue.empty() && other->queue.front().ticket < ticket)
                standin_want(s, other, ticket - 1);
}

void standin_add(standin_state *s, CUstream_st *stream, standin_operation op) {
    op.ticket = ++s->last_ticket;
    op.queued_ms = standin_now_ms();
    stream->queue.push_back(std::move(op));
    s->work_came.notify_one();
}

cudaError_t standin_sticky(void) {
    standin_state &s = standin_all();
    std::lock_guard<std::mutex> hold(s.lock);
    return s.sticky;
}

void standin_make_sticky(cudaError_t code) {
    standin_state &s = standin_all();
    std::vector<standin_operation> dropped;
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
    standin_state &s = standin_all();
    std::lock_guard<std::mutex> hold(s.lock);
    s.sticky = cudaSuccess;
}

cudaError_t standin_queue_work(cudaStream_t stream, const char *name, standin_work work) {
    standin_state &s = standin_all();
    CUstream_st *const at = standin_real(stream);
    std::lock_guard<std::mutex> hold(s.lock);
    if (s.sticky != cudaSuccess)
        return s.sticky;
    if (at->capture != nullptr) {
        if (at->capture->is_broken)
            return cudaErrorStreamCaptureInvalidated;
        if (standin_fault_due("capture", "refused")) {
            at->capture->is_broken = true;
            return cudaErrorInvalidResourceHandle;
        }
        at->capture->graph->nodes.push_back({name, std::move(work)});
        at->capture->unjoined.insert(at);
        return cudaSuccess;
    }
    standin_operation op;
    op.name = name;
    op.work = std::move(work);
    standin_add(&s, at, std::move(op));
    return cudaSuccess;
}

cudaError_t standin_enqueue(cudaStream_t stream, const char *name, standin_progress (*run)(void *),
                            void *argument, void (*drop)(void *)) {
    const std::shared_ptr<void> owned(
        argument, drop != nullptr ? drop : [](void *) {});
    if (standin_real(stream)->capture != nullptr)
        return cudaErrorStreamCaptureUnsupported;
    return standin_queue_work(stream, name, [run, owned] { return run(owned.get()); });
}

/* ---- streams ---- */

cudaStream_t standin_stream_open(bool is_blocking, int priority) {
    standin_state &s = standin_all();
    std::lock_guard<std::mutex> hold(s.lock);
    CUstream_st *const stream = new CUstream_st;
    stream->gpu = standin_current();
    stream->is_blocking = is_blocking;
    stream->priority = priority;
    s.streams.push_back(stream);
    return stream;
}

bool standin_stream_is_idle(cudaStream_t stream) {
    standin_state &s = standin_all();
    CUstream_st *const at = standin_real(stream);
    std::lock_guard<std::mutex> hold(s.lock);
    standin_want(&s, at, s.last_ticket);
    s.work_came.notify_one();
    return at->queue.empty();
}

void standin_stream_wait(cudaStream_t stream) {
    standin_state &s = standin_all();
    CUstream_st *const at = standin_real(stream);
    std::unique_lock<std::mutex> hold(s.lock);
    const uint64_t last = s.last_ticket;
    standin_want(&s, at, last);
    s.work_came.notify_one();
    s.work_went.wait(hold, [&] { return at->queue.empty() || at->queue.front().ticket > last; });
}

bool standin_wait_all(double most_ms) {
    standin_state &s = standin_all();
    std::unique_lock<std::mutex> hold(s.lock);
    const uint64_t last = s.last_ticket;
    for (CUstream_st *stream : s.streams)
        standin_want(&s, stream, last);
    s.work_came.notify_one();
    const auto is_over = [&] {
        for (const CUstream_st *stream : s.streams)
            if (!stream->queue.empty() && stream->queue.front().ticket <= last)
                return false;
        return true;
    };
    if (!s.work_went.wait_for(hold, std::chrono::duration<double, std::milli>(most_ms), is_over))
        return false;
    hold.unlock();
    standin_memory_close();
    return true;
}

int standin_n_streams(void) {
    standin_state &s = standin_all();
    std::lock_guard<std::mutex> hold(s.lock);
    return (int)(s.streams.size() - s.null_streams.size());
}

int standin_priority(cudaStream_t stream) {
    return standin_real(stream)->priority;
}

void standin_stream_close(cudaStream_t stream) {
    standin_stream_wait(stream);
    standin_state &s = standin_all();
    std::lock_guard<std::mutex> hold(s.lock);
    s.streams.erase(std::remove(s.streams.begin(), s.streams.end(), stream), s.streams.end());
    delete stream;
}

void standin_set_order(standin_order order, uint64_t seed) {
    standin_wait_all();
    standin_state &s = standin_all();
    std::lock_guard<std::mutex> hold(s.lock);
    s.order = order;
    s.random = seed;
    standin_set_block_order(order, seed);
}

void standin_set_late_ms(int ms) {
    standin_state &s = standin_all();
    std::lock_guard<std::mutex> hold(s.lock);
    s.late_ms = ms;
}
