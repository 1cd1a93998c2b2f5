#include "launcher/version.h"

#include <cjson/cJSON.h>
#include <mpi.h>
#include <string.h>

#include "comm/link.h"
#include "kernels/gpu.h"

const char *cdp_version(void) {
    return CDPIPE_VERSION " (" CDPIPE_COMMIT ")";
}

static void print_cuda(FILE *to) {
    const cdp_cuda_versions v = cdp_cuda_versions_of();
    if (v.build == 0) {
        fprintf(to, "CUDA      not in this build%s\n",
                *CDPIPE_CUDA_VERSION != '\0' ? ", though the toolkit was found" : "");
        return;
    }
    fprintf(to, "CUDA      built with %d.%d, running %d.%d, ", v.build / 1000, v.build % 1000 / 10,
            v.runtime / 1000, v.runtime % 1000 / 10);
    if (v.driver > 0)
        fprintf(to, "driver for up to %d.%d\n", v.driver / 1000, v.driver % 1000 / 10);
    else
        fprintf(to, "no driver on this machine\n");
}

static void print_nccl(FILE *to) {
    int build, run;
    cdp_nccl_versions(&build, &run);
    if (build == 0)
        fprintf(to, "NCCL      not in this build\n");
    else
        fprintf(to, "NCCL      built with %d.%d.%d, running %d.%d.%d\n", build / 10000, build / 100 % 100,
                build % 100, run / 10000, run / 100 % 100, run % 100);
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
    print_cuda(to);
    print_nccl(to);
}
