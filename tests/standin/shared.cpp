/* tests/standin/shared.cpp - where the static shared memory of kernels lies.
 *
 * Under the host compiler `__shared__ float tile[64]` is a static variable of its function. Its symbol,
 * _ZZ..., names the function, so the program's own symbol table tells which variables a kernel has. They are
 * filled with a poison of ones (NaN in every float format, -1 as an index) before each block: what a kernel
 * reads without having written shows.
 */
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <map>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include "tests/standin/inside.h"

namespace {

struct variable {
    char *address;
    size_t n_bytes;
    std::string function; /* mangled, without _Z */
};

struct table {
    std::vector<variable> variables;
    std::map<const void *, std::string> functions; /* kernels by address */
};

/* Where the program itself was loaded: the first object of the list. */
int first_object(dl_phdr_info *info, size_t, void *base) {
    *static_cast<uintptr_t *>(base) = info->dlpi_addr;
    return 1;
}

/* _ZZ <function> E <variable>: the function's name ends where its own encoding does; the longest known
 * function that is a prefix is it, so here only the text behind _ZZ is kept. */
void read_symbols(const char *image, table *out) {
    const auto *const header = reinterpret_cast<const ElfW(Ehdr) *>(image);
    const auto *const sections = reinterpret_cast<const ElfW(Shdr) *>(image + header->e_shoff);
    uintptr_t base = 0;
    dl_iterate_phdr(first_object, &base);
    for (int s = 0; s < header->e_shnum; s++) {
        if (sections[s].sh_type != SHT_SYMTAB)
            continue;
        const char *const names = image + sections[sections[s].sh_link].sh_offset;
        const auto *const symbols = reinterpret_cast<const ElfW(Sym) *>(image + sections[s].sh_offset);
        for (size_t i = 0; i < sections[s].sh_size / sizeof *symbols; i++) {
            const ElfW(Sym) &symbol = symbols[i];
            const char *const name = names + symbol.st_name;
            char *const address = reinterpret_cast<char *>(base + symbol.st_value);
            const int type = ELF64_ST_TYPE(symbol.st_info);
            if (symbol.st_shndx == SHN_UNDEF || symbol.st_shndx >= header->e_shnum)
                continue;
            const bool is_writable = (sections[symbol.st_shndx].sh_flags & SHF_WRITE) != 0;
            if (type == STT_OBJECT && is_writable && strncmp(name, "_ZZ", 3) == 0 &&
                strstr(name, "standin") == nullptr)
                out->variables.push_back({address, symbol.st_size, name + 3});
            else if (type == STT_FUNC && strncmp(name, "_Z", 2) == 0 && strstr(name, "_kernel") != nullptr)
                out->functions[address] = name + 2;
        }
    }
}

const table &symbols() {
    static table *const standin_table = [] {
        table *const t = new table;
        const int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
        struct stat facts;
        if (file < 0 || fstat(file, &facts) != 0)
            abort();
        void *const image = mmap(nullptr, (size_t)facts.st_size, PROT_READ, MAP_PRIVATE, file, 0);
        close(file);
        if (image == MAP_FAILED)
            abort();
        read_symbols(static_cast<const char *>(image), t);
        munmap(image, (size_t)facts.st_size);
        return t;
    }();
    return *standin_table;
}

bool belongs_to(const variable &v, const std::string &function) {
    return v.function.compare(0, function.size(), function) == 0 && v.function[function.size()] == 'E';
}

/* The variables a kernel may use: its own, and those of functions that are no kernels. */
const std::vector<variable> &variables_of(const void *kernel) {
    static std::map<const void *, std::vector<variable>> *const standin_known =
        new std::map<const void *, std::vector<variable>>;
    const auto found = standin_known->find(kernel);
    if (found != standin_known->end())
        return found->second;
    std::vector<variable> mine;
    for (const variable &v : symbols().variables) {
        bool is_others = false;
        for (const auto &f : symbols().functions)
            is_others = is_others || (f.first != kernel && belongs_to(v, f.second));
        if (!is_others)
            mine.push_back(v);
    }
    return (*standin_known)[kernel] = mine;
}

/* Not memset: with the address sanitizer that would look at the zones around each variable. */
__attribute__((no_sanitize("address"))) void fill(char *at, size_t n_bytes) {
    size_t i = 0;
    for (; i + 8 <= n_bytes && reinterpret_cast<uintptr_t>(at) % 8 == 0; i += 8)
        *reinterpret_cast<volatile uint64_t *>(at + i) = ~(uint64_t)0;
    for (; i < n_bytes; i++)
        *reinterpret_cast<volatile char *>(at + i) = (char)0xFF;
}

const std::vector<variable> *in_use;

} // namespace

void standin_use_shared(const void *kernel) {
    in_use = &variables_of(kernel);
}

void standin_poison_shared(void) {
    for (const variable &v : *in_use)
        fill(v.address, v.n_bytes);
}

size_t standin_shared_bytes(const void *kernel) {
    const auto own = symbols().functions.find(kernel);
    size_t n_bytes = 0;
    if (own != symbols().functions.end())
        for (const variable &v : symbols().variables)
            n_bytes += belongs_to(v, own->second) ? v.n_bytes : 0;
    return n_bytes;
}
