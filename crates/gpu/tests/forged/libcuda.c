/* Stands in for libcuda in tests: memory of the "device" is the process's own, a launch computes at once. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifndef WRONG
#define WRONG 0
#endif
static int ready, retained, current, allocated;
#define NEEDS(what) if (!(what)) return 201
int cuInit(unsigned int flags) {
#ifdef CRASHES
    abort();
#endif
#ifdef BLOCKS
    for (;;) sleep(1);
#endif
#ifdef NO_DEVICE
    return 100;
#endif
    if (flags) return 1;
    ready = 1;
    return 0;
}
int cuGetErrorName(int code, const char **text) {
    if (code != 100) return 1;
    *text = "CUDA_ERROR_NO_DEVICE";
    return 0;
}
int cuGetErrorString(int code, const char **text) { *text = "no CUDA-capable device is detected"; return code != 100; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuDeviceGetCount(int *count) {
    NEEDS(ready);
#ifdef LIES
    *count = 2000000000;
#else
    *count = 2;
#endif
    return 0;
}
int cuDeviceGet(int *device, int ordinal) { NEEDS(ready); if (ordinal > 1) return 101; *device = ordinal + 40; return 0; }
int cuDeviceGetName(char *text, int length, int device) { memset(text, 'A' + device - 40, length); return 0; }
int cuDeviceGetAttribute(int *value, int which, int device) {
    if (device < 40) return 101;
    *value = which == 75 ? 9 : which == 76 ? 0 : -1;
    return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 80ul << 30; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { retained++; *context = (void *)7ul; return 0; }
int cuDevicePrimaryCtxRelease_v2(int device) { retained--; current = 0; return allocated ? 1 : 0; }
int cuCtxSetCurrent(void *context) { NEEDS(retained && context == (void *)7ul); current = 1; return 0; }
int cuModuleLoadData(void **module, const void *image) {
    NEEDS(current);
    if (strcmp(image, "code for sm_90")) return 209;
    *module = (void *)8ul;
    return 0;
}
int cuModuleGetFunction(void **function, void *module, const char *name) {
    if (strcmp(name, "sconce_saxpy")) return 500;
    *function = (void *)9ul;
    return 0;
}
int cuMemAlloc_v2(unsigned long *pointer, size_t bytes) {
    NEEDS(current);
#ifdef FULL
    return 2;
#endif
    allocated++;
    *pointer = (unsigned long)malloc(bytes);
    return 0;
}
#ifndef OLD
int cuMemFree_v2(unsigned long pointer) { allocated--; free((void *)pointer); return 0; }
#endif
int cuMemcpyHtoD_v2(unsigned long to, const void *from, size_t bytes) { memcpy((void *)to, from, bytes); return 0; }
int cuMemcpyDtoH_v2(void *to, unsigned long from, size_t bytes) { memcpy(to, (void *)from, bytes); return 0; }
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **parameters, void **extra) {
    if (function != (void *)9ul || extra || gy != 1 || gz != 1 || by != 1 || bz != 1) return 1;
    float a = *(float *)parameters[0], *x = *(float **)parameters[1], *y = *(float **)parameters[2];
    int n = *(int *)parameters[3];
    for (unsigned i = 0; i < gx * bx; i++) if (i < n) y[i] = a * x[i] + y[i] + WRONG;
    return 0;
}
int cuCtxSynchronize(void) { NEEDS(current); return 0; }
