#include "launcher/version.h"

#include <cjson/cJSON.h>
#include <mpi.h>
#include <string.h>

const char *cdp_version(void) {
    return CDPIPE_VERSION " (" CDPIPE_COMMIT ")";
}

static const char *found(const char *version) {
    return *version != '\0' ? version : "not found at build";
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
    fprintf(to, "CUDA      %s\n", found(CDPIPE_CUDA_VERSION));
    fprintf(to, "NCCL      %s\n", found(CDPIPE_NCCL_VERSION));
}
