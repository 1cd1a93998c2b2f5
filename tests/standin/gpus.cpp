/* tests/standin/gpus.cpp - the fake GPUs of the environment, and faults on demand. */
#include <algorithm>
#include <atomic>
#include <mutex>
#include <stdlib.h>
#include <vector>

#include "tests/standin/inside.h"

namespace {

enum { STANDIN_NAME_BYTES = 48 };

struct fault {
    int rank; /* -1: any */
    std::string point, kind;
    long at;
    bool is_each;
};

struct setting {
    bool has_driver = true;
    std::vector<standin_gpu> gpus;
    std::vector<int> visible;
    std::vector<fault> faults;
    int n_queues = 8; /* as CUDA has without a word in the environment */
};

std::mutex pass_lock;
/* Of each thread, as in CUDA: GPU 0 until it chooses. */
thread_local int current = 0;
thread_local bool has_chosen = false;
std::atomic<int> last_chosen{0}; /* of the process, by any thread */

uint64_t read_bytes(const char *text, char **end) {
    uint64_t n = strtoull(text, end, 10);
    switch (**end) {
    case 'G':
        n <<= 10; /* fall through */
    case 'M':
        n <<= 10; /* fall through */
    case 'K':
        n <<= 10;
        (*end)++;
    }
    return n;
}

void make_name(int number, bool is_mig, char name[STANDIN_NAME_BYTES]) {
    snprintf(name, STANDIN_NAME_BYTES, "%s-5354414e-4449-4e00-0000-%012x", is_mig ? "MIG" : "GPU",
             (unsigned)number);
}

void refuse(const char *name, const char *value) {
    fprintf(stderr, "standin: %s=%s: not understood, see tests/standin/standin.h\n", name, value);
    _Exit(64);
}

void read_gpus(setting *s) {
    const char *const text = getenv("STANDIN_GPUS") != nullptr ? getenv("STANDIN_GPUS") : "2G";
    if (strcmp(text, "none") == 0) {
        s->has_driver = false;
        return;
    }
    const char *at = text;
    while (*at != 0) {
        char *end = nullptr;
        standin_gpu gpu = {};
        gpu.major = 9;
        gpu.total = gpu.free_at_start = read_bytes(at, &end);
        if (end == at)
            refuse("STANDIN_GPUS", text);
        if (*end == '/') {
            at = end + 1;
            gpu.free_at_start = read_bytes(at, &end);
        }
        gpu.is_mig = strncmp(end, ":mig", 4) == 0;
        end += gpu.is_mig ? 4 : 0;
        if (*end == '@') {
            gpu.major = (int)strtol(end + 1, &end, 10);
            gpu.minor = *end == '.' ? (int)strtol(end + 1, &end, 10) : 0;
        }
        s->gpus.push_back(gpu);
        at = *end == ',' ? end + 1 : end;
        if (*end != ',' && *end != 0)
            refuse("STANDIN_GPUS", text);
    }
}

/* The GPU a word of the list means: by its number, or by its name or the beginning of it, when no other
 * begins so. -1: none. */
int find_gpu(const setting &s, const std::string &word) {
    int found = -1;
    for (int i = 0; i < (int)s.gpus.size(); i++) {
        char name[STANDIN_NAME_BYTES];
        make_name(i, s.gpus[(size_t)i].is_mig, name);
        const bool is_begin = word.size() > 4 && strncmp(name, word.c_str(), word.size()) == 0;
        if (word == std::to_string(i) || (is_begin && found < 0))
            found = i;
        else if (is_begin)
            return -1;
    }
    return found;
}

/* CUDA_VISIBLE_DEVICES as the driver reads it: cut at the first word that means none, and at the first MIG
 * instance, of which a process gets one. */
void read_visible(setting *s) {
    const char *const text = getenv("CUDA_VISIBLE_DEVICES");
    std::string rest = text != nullptr ? text : "";
    for (int i = 0; text == nullptr && i < (int)s->gpus.size(); i++)
        rest += (i > 0 ? "," : "") + std::to_string(i);
    while (!rest.empty()) {
        const size_t n = std::min(rest.find(','), rest.size());
        const int number = find_gpu(*s, rest.substr(0, n));
        if (number < 0)
            return;
        s->visible.push_back(number);
        if (s->gpus[(size_t)number].is_mig)
            return;
        rest.erase(0, n + 1);
    }
}

fault read_one_fault(const std::string &text) {
    std::vector<std::string> words(1);
    for (const char c : text)
        if (c == ':')
            words.emplace_back();
        else
            words.back() += c;
    fault f = {-1, "", "", 1, false};
    size_t i = 0;
    if (words[0].find_first_not_of("0123456789") == std::string::npos)
        f.rank = atoi(words[i++].c_str());
    if (words.size() < i + 2 || words.size() > i + 3)
        refuse("STANDIN_FAULT", text.c_str());
    f.point = words[i];
    f.kind = words[i + 1];
    if (words.size() == i + 3)
        f.at = atol(words[i + 2].c_str());
    f.is_each = f.at == 0;
    return f;
}

void read_faults(setting *s) {
    const char *const text = getenv("STANDIN_FAULT");
    std::string rest = text != nullptr ? text : "";
    while (!rest.empty()) {
        const size_t n = std::min(rest.find(','), rest.size());
        s->faults.push_back(read_one_fault(rest.substr(0, n)));
        rest.erase(0, n + 1);
    }
}

setting &read_setting() {
    static setting *const standin_setting = [] {
        setting *const s = new setting;
        read_gpus(s);
        read_visible(s);
        read_faults(s);
        if (getenv("CUDA_DEVICE_MAX_CONNECTIONS") != nullptr)
            s->n_queues = atoi(getenv("CUDA_DEVICE_MAX_CONNECTIONS"));
        return s;
    }();
    return *standin_setting;
}

} // namespace

int standin_rank(void) {
    const char *const rank = getenv("OMPI_COMM_WORLD_RANK");
    return rank == nullptr ? 0 : atoi(rank);
}

int standin_n_gpus(void) {
    return read_setting().has_driver ? (int)read_setting().visible.size() : -1;
}

int standin_n_queues(void) {
    return read_setting().n_queues;
}

int standin_gpu_number(int visible) {
    return read_setting().visible[(size_t)visible];
}

standin_gpu *standin_gpu_at(int visible) {
    return &read_setting().gpus[(size_t)standin_gpu_number(visible)];
}

int standin_current(void) {
    return current;
}

void standin_set_current(int visible) {
    current = visible;
    has_chosen = true;
    last_chosen = visible;
}

bool standin_touch_context(const char *what) {
    if (has_chosen || last_chosen == 0)
        return true;
    standin_report("%s makes a context on GPU 0: the process uses GPU %d, but this thread has chosen none",
                   what, last_chosen.load());
    return false;
}

bool standin_fault_due(const char *point, const char *kind) {
    setting &s = read_setting();
    if (s.faults.empty())
        return false;
    std::lock_guard<std::mutex> hold(pass_lock);
    for (fault &f : s.faults)
        if ((f.rank < 0 || f.rank == standin_rank()) && f.point == point && f.kind == kind &&
            (f.is_each || --f.at == 0))
            return true;
    return false;
}

uint64_t standin_allocated(void) {
    return standin_n_gpus() > 0 ? standin_gpu_at(current)->allocated : 0;
}

uint64_t standin_peak(void) {
    return standin_n_gpus() > 0 ? standin_gpu_at(current)->peak : 0;
}
