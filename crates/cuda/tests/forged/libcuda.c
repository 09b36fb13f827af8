/* Stands in for libcuda in tests: memory of the "device" is the process's own, a launch computes at once, and so does a copy. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#ifndef WRONG
#define WRONG 0
#endif
#ifndef DEVICES
#define DEVICES 2
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
    *count = DEVICES;
#endif
    return 0;
}
int cuDeviceGet(int *device, int ordinal) { NEEDS(ready); if (ordinal >= DEVICES) return 101; *device = ordinal + 40; return 0; }
int cuDeviceGetName(char *text, int length, int device) {
#ifdef H100
    snprintf(text, length, "NVIDIA H100 80GB HBM3");
#else
    memset(text, 'A' + device - 40, length);
#endif
    return 0;
}
int cuDeviceGetAttribute(int *value, int which, int device) {
    if (device < 40) return 101;
    *value = which == 75 ? 9 : which == 76 ? 0 : which == 16 ? 132 : which == 38 ? 50 << 20 : -1;
    return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 80ul << 30; return 0; }
int cuDeviceCanAccessPeer(int *can, int device, int peer) { *can = 1; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { retained++; *context = (void *)7ul; return 0; }
int cuDevicePrimaryCtxRelease_v2(int device) { retained--; current = 0; return allocated ? 1 : 0; }
int cuCtxSetCurrent(void *context) { NEEDS(retained && context == (void *)7ul); current = 1; return 0; }
int cuCtxEnablePeerAccess(void *peer, unsigned flags) { return 0; }
int cuModuleLoadData(void **module, const void *image) {
    NEEDS(current);
    if (strcmp(image, "code for sm_90")) return 209;
    *module = (void *)8ul;
    return 0;
}
int cuModuleUnload(void *module) { return module == (void *)8ul ? 0 : 1; }
int cuModuleGetFunction(void **function, void *module, const char *name) {
    if (strcmp(name, "sconce_saxpy")) return 500;
    *function = (void *)9ul;
    return 0;
}
int cuMemGetInfo_v2(size_t *available, size_t *all) { *available = *all = 80ul << 30; return 0; }
int cuMemAlloc_v2(unsigned long *pointer, size_t bytes) {
    NEEDS(current);
#ifdef FULL
    return 2;
#endif
    allocated++;
    *pointer = (unsigned long)malloc(bytes);
    return 0;
}
int cuMemFree_v2(unsigned long pointer) { allocated--; free((void *)pointer); return 0; }
int cuMemHostAlloc(void **pointer, size_t bytes, unsigned flags) { *pointer = malloc(bytes); return 0; }
int cuMemFreeHost(void *pointer) { free(pointer); return 0; }
int cuMemcpyHtoD_v2(unsigned long to, const void *from, size_t bytes) { memcpy((void *)to, from, bytes); return 0; }
#ifndef OLD
int cuMemcpyDtoH_v2(void *to, unsigned long from, size_t bytes) {
    memcpy(to, (void *)from, bytes);
#ifdef FLIPS
    ((char *)to)[bytes / 2] ^= 4;
#endif
    return 0;
}
#endif
int cuMemcpyHtoDAsync_v2(unsigned long to, const void *from, size_t bytes, void *stream) { memcpy((void *)to, from, bytes); return 0; }
int cuMemcpyDtoHAsync_v2(void *to, unsigned long from, size_t bytes, void *stream) { memcpy(to, (void *)from, bytes); return 0; }
int cuMemcpyDtoDAsync_v2(unsigned long to, unsigned long from, size_t bytes, void *stream) { memcpy((void *)to, (void *)from, bytes); return 0; }
int cuMemcpyPeerAsync(unsigned long to, void *there, unsigned long from, void *here, size_t bytes, void *stream) {
    memcpy((void *)to, (void *)from, bytes);
    return 0;
}
int cuMemsetD8Async(unsigned long to, unsigned char value, size_t bytes, void *stream) { memset((void *)to, value, bytes); return 0; }
int cuStreamCreate(void **stream, unsigned flags) { NEEDS(current); *stream = (void *)6ul; return 0; }
int cuStreamDestroy_v2(void *stream) { return 0; }
int cuStreamSynchronize(void *stream) { NEEDS(current && stream == (void *)6ul); return 0; }
int cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return 0; }
int cuEventCreate(void **event, unsigned flags) { *event = calloc(1, sizeof(struct timespec)); return 0; }
int cuEventDestroy_v2(void *event) { free(event); return 0; }
int cuEventRecord(void *event, void *stream) { return clock_gettime(CLOCK_MONOTONIC, event); }
int cuEventSynchronize(void *event) {
#ifdef DIES
    abort();
#endif
    return 0;
}
int cuEventElapsedTime(float *milliseconds, void *start, void *end) {
#ifdef TIMER
    *milliseconds = TIMER;
    return 0;
#endif
    struct timespec *from = start, *to = end;
    *milliseconds = (to->tv_sec - from->tv_sec) * 1e3 + (to->tv_nsec - from->tv_nsec) / 1e6;
    return 0;
}
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **parameters, void **extra) {
    if (function != (void *)9ul || extra || gy != 1 || gz != 1 || by != 1 || bz != 1) return 1;
    float a = *(float *)parameters[0], *x = *(float **)parameters[1], *y = *(float **)parameters[2];
    int n = *(int *)parameters[3];
    for (unsigned i = 0; i < gx * bx; i++) if (i < n) y[i] = a * x[i] + y[i] + WRONG;
    return 0;
}
int cuCtxSynchronize(void) { NEEDS(current); return 0; }
