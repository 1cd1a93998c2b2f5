#include "launcher/version.h"

#include <cjson/cJSON.h>
#include <mpi.h>
#include <string.h>

const char *cdp_version(void) {
    return CDPIPE_VERSION " (" CDPIPE_COMMIT ")";
}

/* What CMake saw; the stages of this version compute on CPUs whatever it is. */
static void print_seen(FILE *to, const char *name, const char *version) {
    if (*version != '\0')
        fprintf(to, "%-9s %s found at build, not used: this version computes on CPUs\n", name, version);
    else
        fprintf(to, "%-9s not found at build\n", name);
}

void cdp_version_print(FILE *to) {
    char library[MPI_MAX_LIBRARY_VERSION_STRING];
    int n = 0;
    MPI_Get_library_version(library, &n); /* allowed before MPI_Init */
    library[strcspn(library, ",\n")] = '\0';
    fprintf(to, "cdpipe %s\n", cdp_version());
    fprintf(to, "compiler  gcc-compatible %s\n", __VERSION__);
    fprintf(to, "MPI       built with %d.%d, running %s\n", MPI_VERSION, MPI_SUBVERSION, library);
    fprintf(to, "cJSON     built with %d.%d.%d, running %s\n", CJSON_VERSION_MAJOR, CJSON_VERSION_MINOR,
            CJSON_VERSION_PATCH, cJSON_Version());
    print_seen(to, "CUDA", CDPIPE_CUDA_VERSION);
    print_seen(to, "NCCL", CDPIPE_NCCL_VERSION);
}
