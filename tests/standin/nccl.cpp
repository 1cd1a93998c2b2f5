/* tests/standin/nccl.cpp - the calls of NCCL that the product makes, between processes of one host.
 *
 *     sender   id -> listens        accept       [length][bytes] --->
 *     receiver              connect                              ---> into device memory
 *
 * A communicator has two ranks and one Unix socket with a name that no folder holds. Like the real one it
 * never blocks: making it, and every operation, stay in progress for a while, and operations end in the order
 * of their stream. A peer that is gone is an error of the communicator, while the operation itself goes
 * on waiting, as a kernel would.
 *
 * Faults (standin.h), counted in messages of this process:
 *
 *     nccl-init:absent     never takes part: the peer waits        nccl-init:refused   an error at once
 *     nccl-send:corrupt    the byte in the middle arrives changed  nccl-send:lost      never leaves, no error
 *     nccl-send:error      the communicator has an error           nccl-send:gone      the connection breaks
 *     nccl-abort:hang      ncclCommAbort never comes back
 *
 * STANDIN_NCCL_FOLDER=DIR puts the sockets there: other network namespaces see them, too.
 * STANDIN_NCCL_VERSION=N is another version, as 21903 for 2.19.3; none: what comm/late answers without NCCL.
 */
#include <errno.h>
#include <fcntl.h>
#include <nccl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>

#include "tests/standin/meet.h"

namespace {

/* Times a caller hears "in progress" before an operation is on its stream: the first one, later ones. */
enum { CONNECT_TURNS = 3, CALL_TURNS = 1 };

/* What an id holds: who listens, under which name. */
struct id_content {
    char name[64];
    long pid;
    int listen_fd;
};
static_assert(sizeof(id_content) <= sizeof(ncclUniqueId), "an id holds it");

/* Shared by the handle and the operations on their way. */
struct channel {
    std::mutex lock; /* guards error and text */
    ncclResult_t error = ncclSuccess;
    std::string text;
    int rank = 0, listen_fd = -1;
    std::atomic<int> fd{-1};
    sockaddr_un address = {};
    socklen_t address_bytes = 0;
    bool is_absent = false;
    std::atomic<bool> is_aborted{false};

    ~channel() {
        if (fd >= 0)
            close(fd);
        if (listen_fd >= 0)
            close(listen_fd);
    }
    void fail(ncclResult_t code, const std::string &what) {
        const std::lock_guard<std::mutex> hold(lock);
        if (error == ncclSuccess) {
            error = code;
            text = what;
        }
    }
};

/* A send or receive on its way. In launch order (below) a number, else 0. */
struct transfer {
    uint64_t turn = 0;
    std::shared_ptr<channel> with;
    char *memory = nullptr;
    uint64_t n_bytes = 0, n_moved = 0, length = 0;
    size_t n_length = 0; /* bytes of the length that have moved */
    bool is_send = false, corrupts = false, is_lost = false;
};

} // namespace

struct ncclComm {
    std::shared_ptr<channel> with;
    bool is_connected = false;
    int turns_left = 0;
    transfer *called = nullptr; /* not on its stream yet */
    cudaStream_t stream = nullptr;
};

namespace {

/* NCCL_LAUNCH_ORDER_IMPLICIT: an operation of any communicator begins when the one called before it has
 * begun; where CUDA is too old for that, when it has ended. */
bool is_in_order() {
    const char *const asked = getenv("NCCL_LAUNCH_ORDER_IMPLICIT");
    return asked != nullptr && atoi(asked) == 1;
}
bool is_serial() {
    int driver = 0;
    return cudaDriverGetVersion(&driver) == cudaSuccess && driver < 12030;
}
std::atomic<uint64_t> last_turn, turns_begun, turns_over;

/* On the worker thread, when the operation is at the head of its stream. */
bool may_begin(const transfer *t) {
    if (t->turn == 0 || t->turn <= turns_begun)
        return true;
    if (t->turn > (is_serial() ? turns_over : turns_begun) + 1)
        return false;
    turns_begun = t->turn;
    return true;
}

std::atomic<int> n_called; /* operations in progress: to NCCL 2.26 those of one thread are one group */

/* Whose call was in progress last. To NCCL 2.25 the call is over when this one is used again, and a call of
 * another one before that is a crash. */
std::atomic<const ncclComm *> unended;
bool is_unended(const ncclComm *besides) {
    const ncclComm *const last = unended;
    if (last == nullptr || last == besides)
        return false;
    standin_report("NCCL: a call while another communicator's last one is not over: it was not used since");
    return true;
}

void end_call(const ncclComm *of) {
    unended.compare_exchange_strong(of, nullptr);
}

/* STANDIN_NCCL_VERSION=none: what comm/late answers on a machine without NCCL. */
bool is_missing() {
    const char *const version = getenv("STANDIN_NCCL_VERSION");
    return version != nullptr && strcmp(version, "none") == 0;
}

thread_local std::string last_text; /* of the thread's last failure without a communicator */

void set_nonblocking(int fd) {
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* One look whether the other side is there. */
void look_for_peer(channel *c) {
    if (c->fd >= 0 || c->is_absent)
        return;
    int fd = -1;
    if (c->rank == 0) {
        fd = accept4(c->listen_fd, nullptr, nullptr, SOCK_CLOEXEC);
    } else {
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, reinterpret_cast<const sockaddr *>(&c->address), c->address_bytes) != 0) {
            close(fd);
            fd = -1;
        }
    }
    if (fd < 0)
        return;
    set_nonblocking(fd);
    c->fd = fd;
}

/* Move bytes of one piece; the number moved, 0: not now, -1: the peer is gone. */
ssize_t move(channel *c, void *memory, size_t n, bool is_send) {
    const ssize_t done = is_send ? send(c->fd, memory, n, MSG_NOSIGNAL) : recv(c->fd, memory, n, 0);
    if (done > 0)
        return done;
    if (done < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    c->fail(ncclRemoteError, std::string("the peer closed the connection") +
                                 (done < 0 ? std::string(": ") + strerror(errno) : std::string()));
    return -1;
}

standin_progress move_length(transfer *t) {
    while (t->n_length < sizeof t->length) {
        const ssize_t done = move(t->with.get(), reinterpret_cast<char *>(&t->length) + t->n_length,
                                  sizeof t->length - t->n_length, t->is_send);
        if (done <= 0)
            return STANDIN_NOT_YET;
        t->n_length += (size_t)done;
    }
    if (t->length == t->n_bytes)
        return STANDIN_DONE;
    t->with->fail(ncclInternalError, "a message of " + std::to_string(t->length) + " bytes, " +
                                         std::to_string(t->n_bytes) + " were expected");
    return STANDIN_NOT_YET;
}

/* The byte in the middle goes out changed, and is put right again. */
ssize_t move_piece(transfer *t) {
    const uint64_t middle = t->n_bytes / 2;
    size_t n = (size_t)(t->n_bytes - t->n_moved);
    const bool is_now = t->corrupts && t->n_moved == middle;
    if (t->corrupts && t->n_moved <= middle)
        n = is_now ? 1 : (size_t)(middle - t->n_moved);
    if (!is_now)
        return move(t->with.get(), t->memory + t->n_moved, n, t->is_send);
    char changed = (char)(t->memory[middle] ^ 0x10);
    return move(t->with.get(), &changed, 1, true);
}

/* A kernel of NCCL: it ends when its bytes have moved or the communicator is aborted, and for nothing else.
 */
standin_progress run_transfer(void *argument) {
    transfer *const t = static_cast<transfer *>(argument);
    if (t->with->is_aborted)
        return STANDIN_DONE;
    if (!may_begin(t) || t->is_lost || t->with->fd < 0 || move_length(t) != STANDIN_DONE)
        return STANDIN_NOT_YET;
    while (t->n_moved < t->n_bytes) {
        const ssize_t done = move_piece(t);
        if (done <= 0)
            return STANDIN_NOT_YET;
        t->n_moved += (uint64_t)done;
    }
    return STANDIN_DONE;
}

void drop_transfer(void *argument) {
    transfer *const t = static_cast<transfer *>(argument);
    turns_over += t->turn != 0;
    standin_receives -= !t->is_send;
    delete t;
}

ncclResult_t enqueue(transfer *t, cudaStream_t stream) {
    const char *const name = t->is_send ? "ncclSend" : "ncclRecv";
    return standin_enqueue(stream, name, run_transfer, t, drop_transfer) == cudaSuccess
               ? ncclSuccess
               : ncclUnhandledCudaError;
}

void break_as_asked(transfer *t) {
    channel *const c = t->with.get();
    t->corrupts = standin_fault_due("nccl-send", "corrupt");
    t->is_lost = standin_fault_due("nccl-send", "lost");
    if (standin_fault_due("nccl-send", "error"))
        c->fail(ncclSystemError, "an error on demand");
    if (standin_fault_due("nccl-send", "gone"))
        shutdown(c->fd, SHUT_RDWR);
}

ncclResult_t begin(ncclComm_t comm, void *memory, size_t n, bool is_send, cudaStream_t stream) {
    if (!standin_touch_context(is_send ? "ncclSend" : "ncclRecv"))
        return ncclUnhandledCudaError;
    if (!standin_memory_has(memory, n)) {
        standin_report("%s: %zu bytes at %p are not device memory", is_send ? "ncclSend" : "ncclRecv", n,
                       memory);
        return ncclInvalidArgument;
    }
    if (standin_priority(stream) >= 0)
        standin_report(
            "NCCL: a stream of no priority, whose kernels wait behind every grid that fills the GPU");
    if (n_called > 0) {
        standin_report("NCCL: a call while another one is in progress");
        return ncclInvalidUsage;
    }
    if (is_unended(comm))
        return ncclInvalidUsage;
    if (!comm->is_connected && standin_receives > 0) {
        standin_report("NCCL: a first message connects, while another edge's receive waits");
        return ncclInvalidUsage;
    }
    standin_receives += !is_send;
    transfer *const t = new transfer;
    t->with = comm->with;
    t->memory = static_cast<char *>(memory);
    t->n_bytes = n;
    t->length = is_send ? n : 0;
    t->is_send = is_send;
    t->turn = is_in_order() ? ++last_turn : 0;
    if (is_send)
        break_as_asked(t);
    comm->turns_left = comm->is_connected ? CALL_TURNS : CONNECT_TURNS;
    comm->is_connected = true;
    comm->called = t;
    comm->stream = stream;
    unended = comm;
    n_called++;
    return ncclInProgress;
}

} // namespace

extern "C" {

ncclResult_t ncclGetVersion(int *version) {
    if (is_missing())
        return ncclSystemError;
    *version =
        getenv("STANDIN_NCCL_VERSION") != nullptr ? atoi(getenv("STANDIN_NCCL_VERSION")) : NCCL_VERSION_CODE;
    return ncclSuccess;
}

/* To 2.21 on stdout, whichever file the log is; then in the log. */
static void show_version(void) {
    int version = 0;
    ncclGetVersion(&version);
    if (getenv("NCCL_DEBUG") != nullptr && version < 22200) {
        printf("NCCL version %d\n", version);
        fflush(stdout);
    }
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *out) {
    static std::atomic<int> number;
    id_content content = {};
    socklen_t n = 0;
    snprintf(content.name, sizeof content.name, "standin-nccl-%ld-%d", (long)getpid(), number++);
    content.pid = getpid();
    if (!standin_has_interface()) {
        last_text = std::string("no socket interface found: ") + getenv("NCCL_SOCKET_IFNAME");
        return ncclInternalError;
    }
    content.listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_un address = standin_address_of(content.name, &n);
    if (content.listen_fd < 0 ||
        bind(content.listen_fd, reinterpret_cast<const sockaddr *>(&address), n) != 0 ||
        listen(content.listen_fd, 1) != 0) {
        last_text = std::string("a socket: ") + strerror(errno);
        return ncclSystemError;
    }
    set_nonblocking(content.listen_fd);
    memset(out, 0, sizeof *out);
    memcpy(out, &content, sizeof content);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int n_ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t *config) {
    *out = nullptr;
    id_content content;
    memcpy(&content, &id, sizeof content);
    if (n_ranks != 2 || rank < 0 || rank > 1 || config == nullptr || config->blocking != 0) {
        last_text = "the stand-in makes communicators of two ranks that do not block";
        return ncclInvalidArgument;
    }
    if (!standin_touch_context("ncclCommInitRankConfig"))
        return ncclUnhandledCudaError;
    if (standin_n_queues() < 32)
        standin_report("NCCL: %d hardware queues: a send may share one with a receive that waits",
                       standin_n_queues());
    if (rank == 0)
        show_version();
    if (standin_fault_due("nccl-init", "refused")) {
        last_text = "refused on demand";
        return ncclSystemError;
    }
    if (is_unended(nullptr))
        return ncclInvalidUsage;
    const std::shared_ptr<channel> c = std::make_shared<channel>();
    c->rank = rank;
    c->listen_fd = rank == 0 && content.pid == getpid() ? content.listen_fd : -1;
    c->address = standin_address_of(content.name, &c->address_bytes);
    c->is_absent = standin_fault_due("nccl-init", "absent");
    ncclComm *const comm = new ncclComm;
    comm->with = c;
    unended = comm;
    *out = comm;
    return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *state) {
    channel *const c = comm->with.get();
    look_for_peer(c);
    if (comm->called != nullptr && --comm->turns_left == 0) {
        transfer *const called = comm->called;
        comm->called = nullptr;
        n_called--;
        const ncclResult_t code = enqueue(called, comm->stream);
        if (code != ncclSuccess)
            c->fail(code, "the stream takes nothing");
    }
    const std::lock_guard<std::mutex> hold(c->lock);
    *state = c->error != ncclSuccess                ? c->error
             : c->fd < 0 || comm->called != nullptr ? ncclInProgress
                                                    : ncclSuccess;
    return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int *count) {
    if (comm->with->fd < 0 || comm->called != nullptr)
        return ncclInvalidArgument;
    end_call(comm);
    *count = 2;
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
    standin_touch_context("ncclCommAbort");
    if (standin_fault_due("nccl-abort", "hang"))
        for (standin_is_aborting = true;;)
            pause();
    comm->with->is_aborted = true;
    end_call(comm);
    if (comm->called != nullptr) {
        drop_transfer(comm->called);
        n_called--;
    }
    delete comm;
    return ncclSuccess;
}

ncclResult_t ncclSend(const void *from, size_t n, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
    if (type != ncclUint8 || peer == comm->with->rank)
        return ncclInvalidArgument;
    return begin(comm, const_cast<void *>(from), n, true, stream);
}

ncclResult_t ncclRecv(void *to, size_t n, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
    if (type != ncclUint8 || peer == comm->with->rank)
        return ncclInvalidArgument;
    return begin(comm, to, n, false, stream);
}

const char *ncclGetErrorString(ncclResult_t code) {
    if (is_missing())
        return "libnccl.so.2 is not there";
    switch (code) {
    case ncclSuccess:
        return "no error";
    case ncclInProgress:
        return "in progress";
    case ncclRemoteError:
        return "remote process exited or there was a network error";
    case ncclSystemError:
        return "unhandled system error";
    case ncclInternalError:
        return "internal error";
    default:
        return "invalid usage or argument";
    }
}

const char *ncclGetLastError(ncclComm_t comm) {
    static thread_local std::string text;
    text = last_text;
    if (comm != nullptr) {
        const std::lock_guard<std::mutex> hold(comm->with->lock);
        text = comm->with->text;
    }
    return text.c_str();
}

} // extern "C"
