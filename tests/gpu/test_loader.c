/* Weights on their way from file to memory, of the host and of a GPU: what is read is what the file holds,
 * converted where the dtypes differ, and pages beyond the room for them do not stay in the system's cache.
 *
 * What it catches: blocks at the wrong place, a tail that is lost, a host whose memory fills with files.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "planner/memory.h"
#include "stage/loader.h"
#include "tests/support/data.h"
#ifdef CDP_STANDIN
#include "tests/standin/standin.h"
#endif

enum { N = (20 << 20) + 5, HEADER = 64 }; /* bf16 values: six blocks for a GPU, the last one short */

static char path[512];

static uint16_t value_of(size_t i) {
    return (uint16_t)(0x3f80 + (i * 2654435761u >> 20 & 0x7f)); /* between 1 and 2 */
}

static int write_file(void **state) {
    (void)state;
    snprintf(path, sizeof path, "%s/weights", test_temp_dir());
    FILE *file = fopen(path, "wb");
    uint16_t *values = malloc((size_t)N * sizeof *values);
    static const char header[HEADER];
    assert_non_null(file);
    assert_non_null(values);
    for (size_t i = 0; i < N; i++)
        values[i] = value_of(i);
    assert_int_equal(fwrite(header, 1, HEADER, file), HEADER);
    assert_int_equal(fwrite(values, sizeof *values, N, file), N);
    assert_int_equal(fflush(file), 0);
    assert_int_equal(fsync(fileno(file)), 0); /* pages that wait to be written cannot be dropped */
    fclose(file);
    free(values);
    return 0;
}

static cdp_device *open_device(cdp_device_kind kind) {
    cdp_device *device = NULL;
    const cdp_status st =
        kind == CDP_DEVICE_CUDA
            ? cdp_device_open_cuda(&device, &(cdp_cuda_options){.index = 0})
            : cdp_device_open_cpu(&device, &(cdp_cpu_options){.n_threads = 1, .tier = CDP_TIER_PLAIN});
    if (st != CDP_OK)
        fail_msg("%s", cdp_error_message());
    return device;
}

static void read_all(cdp_loader *loader) {
    bool is_done = false;
    uint64_t n_read, n_total;
    assert_int_equal(cdp_loader_start(loader), CDP_OK);
    while (!is_done) {
        if (cdp_loader_poll(loader, &is_done) != CDP_OK)
            fail_msg("%s", cdp_error_message());
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    cdp_loader_progress(loader, &n_read, &n_total);
    assert_int_equal(n_read, 2 * (uint64_t)N);
    assert_int_equal(n_total, n_read);
}

/* The file's tensor into memory of a device, and back. */
static void load(cdp_device_kind kind, cdp_dtype dtype, uint64_t cache_bytes) {
    cdp_device *device = open_device(kind);
    cdp_loader *loader = NULL;
    char name[] = "weight";
    cdp_tensor_file file = {path, HEADER + 2 * (uint64_t)N};
    cdp_tensor_entry entry = {.name = name,
                              .is_float = true,
                              .dtype = CDP_BF16,
                              .n_dims = 1,
                              .offset = HEADER,
                              .bytes = 2 * (uint64_t)N};
    const cdp_tensor_index index = {.n_files = 1, .files = &file, .n_tensors = 1, .tensors = &entry};
    const cdp_loader_options options = {.n_readers = CDP_LOAD_READERS, .cache_bytes = cache_bytes};
    const size_t n_bytes = (size_t)N * cdp_dtype_bytes(dtype);
    cdp_tensor to = {.dtype = dtype, .rows = 1, .cols = N};
    void *back = NULL;
    assert_int_equal(cdp_device_alloc(device, &to.data, n_bytes), CDP_OK);
    assert_int_equal(cdp_device_host_alloc(device, &back, n_bytes), CDP_OK);
    assert_int_equal(cdp_loader_open(&loader, device, &index, &options), CDP_OK);
    assert_int_equal(cdp_loader_add(loader, &entry, &to, 0), CDP_OK);
    read_all(loader);
    cdp_loader_close(loader);
#ifdef CDP_STANDIN
    assert_int_equal(standin_n_streams(),
                     kind == CDP_DEVICE_CUDA); /* the queue; the readers' lanes are gone */
#endif
    assert_int_equal(cdp_device_copy_out(device, back, to.data, n_bytes), CDP_OK);
    cdp_device_drain(device);
    for (size_t i = 0; i < N; i++) {
        const uint16_t want = value_of(i);
        if (cdp_load(back, dtype, i) != cdp_load(&want, CDP_BF16, 0))
            fail_msg("value %zu is %g", i, (double)cdp_load(back, dtype, i));
    }
    cdp_device_host_free(device, back);
    cdp_device_free(device, to.data);
    cdp_device_close(device);
}

static void every_value_arrives(void **state) {
    (void)state;
    load(CDP_DEVICE_CPU, CDP_BF16, UINT64_MAX);
    load(CDP_DEVICE_CPU, CDP_F32, UINT64_MAX);
    load(CDP_DEVICE_CUDA, CDP_BF16, UINT64_MAX);
    load(CDP_DEVICE_CUDA, CDP_F32, UINT64_MAX);
}

/* The share of the file's pages that lie in the page cache. */
static double cached(void) {
    const size_t n_bytes = HEADER + 2 * (size_t)N, page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t n_pages = (n_bytes + page - 1) / page;
    unsigned char *is_in = calloc(n_pages, 1);
    const int fd = open(path, O_RDONLY);
    void *map = mmap(NULL, n_bytes, PROT_READ, MAP_SHARED, fd, 0);
    assert_true(map != MAP_FAILED);
    assert_int_equal(mincore(map, n_bytes, is_in), 0);
    size_t n = 0;
    for (size_t i = 0; i < n_pages; i++)
        n += is_in[i] & 1;
    munmap(map, n_bytes);
    close(fd);
    free(is_in);
    return (double)n / (double)n_pages;
}

static void pages_stay_while_there_is_room(void **state) {
    (void)state;
    load(CDP_DEVICE_CPU, CDP_BF16, UINT64_MAX);
    const int fd = open(path, O_RDONLY);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    if (cached() > 0.5) {
        print_message("this file system keeps its pages\n"); /* one of memory */
        skip();
    }
    load(CDP_DEVICE_CUDA, CDP_BF16, UINT64_MAX);
    assert_true(cached() > 0.9);
    load(CDP_DEVICE_CUDA, CDP_BF16, 0);
    assert_true(cached() < 0.1);
    load(CDP_DEVICE_CPU, CDP_BF16, 2 * (uint64_t)N / 2); /* of many blocks, half are kept */
    assert_true(cached() > 0.2 && cached() < 0.9);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_value_arrives),
        cmocka_unit_test(pages_stay_while_there_is_room),
    };
    return cmocka_run_group_tests(tests, write_file, NULL);
}
