/* Linked into every program of the sanitizer build. Open MPI leaks while it starts and ends, and unloads its
 * plugins before leaks are looked for, so that nothing says whose an allocation was. What MPI_Init and
 * MPI_Finalize allocate in their thread is no leak here; what MPI's own threads allocate can be named
 * (tests/support/lsan.supp) because plugins stay loaded. The other way, a whole unwound stack for every
 * malloc, made a run of two ranks four times as long.
 */
#include <mpi.h>

void __lsan_disable(void);
void __lsan_enable(void);

int MPI_Init_thread(int *argc, char ***argv, int required, int *provided) {
    __lsan_disable();
    const int error = PMPI_Init_thread(argc, argv, required, provided);
    __lsan_enable();
    return error;
}

int MPI_Finalize(void) {
    __lsan_disable();
    const int error = PMPI_Finalize();
    __lsan_enable();
    return error;
}

int dlclose(void *library) {
    (void)library;
    return 0;
}
