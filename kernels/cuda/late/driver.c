/* kernels/cuda/late/driver.c - calls of the driver itself, which the runtime has opened by then.
 *
 * Linked the usual way its library would have to be there where no GPU is. Where it is missing they return
 * CUDA_ERROR_NOT_INITIALIZED.
 */
#include <cuda.h>
#include <dlfcn.h>

/* The driver's own function, or NULL. */
static void *find(const char *name) {
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
    if (library == NULL)
        return NULL;
    void *found = dlsym(library, name);
    dlclose(library); /* the runtime holds it */
    return found;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    __typeof__(cuDeviceGet) *own;
    *(void **)&own = find("cuDeviceGet");
    return own == NULL ? CUDA_ERROR_NOT_INITIALIZED : own(device, ordinal);
}

/* Since CUDA 11.4. */
CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device) {
    __typeof__(cuDeviceGetUuid_v2) *own;
    *(void **)&own = find("cuDeviceGetUuid_v2");
    return own == NULL ? CUDA_ERROR_NOT_INITIALIZED : own(uuid, device);
}
