// A libcuda.so.1 whose devices are this process's own memory. It knows what copies need, and no kernels.
// WRONG: one byte of what is copied back to ordinary memory is another. NONE: there is no device. CRASHES: whoever waits dies.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifndef DEVICES
#define DEVICES 1
#endif

typedef int R;
typedef uint64_t P;

R cuInit(unsigned flags) {
#ifdef NONE
  return 100;
#endif
  return 0;
}
R cuGetErrorName(R code, const char **text) { *text = "CUDA_ERROR_NO_DEVICE"; return code == 100 ? 0 : 1; }
R cuGetErrorString(R code, const char **text) { *text = "no CUDA-capable device is detected"; return code == 100 ? 0 : 1; }
R cuDriverGetVersion(int *v) { *v = 13000; return 0; }
R cuDeviceGetCount(int *n) { *n = DEVICES; return 0; }
R cuDeviceGet(int *d, int n) { *d = n; return 0; }
R cuDeviceGetName(char *s, int n, int d) { snprintf(s, n, "NVIDIA H100 80GB HBM3"); return 0; }
R cuDeviceGetAttribute(int *v, int which, int d) {
  *v = which == 75 ? 9 : which == 76 ? 0 : which == 16 ? 132 : 50 << 20;
  return 0;
}
R cuDeviceTotalMem_v2(size_t *n, int d) { *n = (size_t)80 << 30; return 0; }
R cuDeviceCanAccessPeer(int *can, int a, int b) { *can = 1; return 0; }
R cuDevicePrimaryCtxRetain(void **c, int d) { *c = (void *)(intptr_t)(d + 1); return 0; }
R cuDevicePrimaryCtxRelease_v2(int d) { return 0; }
R cuCtxSetCurrent(void *c) { return 0; }
R cuCtxSynchronize(void) { return 0; }
R cuCtxEnablePeerAccess(void *c, unsigned f) { return 0; }
R cuMemGetInfo_v2(size_t *a, size_t *b) { *a = *b = (size_t)80 << 30; return 0; }
R cuMemAlloc_v2(P *p, size_t n) { *p = (P)malloc(n); return *p ? 0 : 2; }
R cuMemFree_v2(P p) { free((void *)p); return 0; }
R cuMemHostAlloc(void **p, size_t n, unsigned f) { *p = malloc(n); return *p ? 0 : 2; }
R cuMemFreeHost(void *p) { free(p); return 0; }
R cuMemcpyHtoD_v2(P to, const void *from, size_t n) { memcpy((void *)to, from, n); return 0; }
R cuMemcpyDtoH_v2(void *to, P from, size_t n) {
  memcpy(to, (void *)from, n);
#ifdef WRONG
  ((char *)to)[n / 2] ^= 4;
#endif
  return 0;
}
R cuMemcpyHtoDAsync_v2(P to, const void *from, size_t n, void *s) { return cuMemcpyHtoD_v2(to, from, n); }
R cuMemcpyDtoHAsync_v2(void *to, P from, size_t n, void *s) { memcpy(to, (void *)from, n); return 0; }
R cuMemcpyDtoDAsync_v2(P to, P from, size_t n, void *s) { memcpy((void *)to, (void *)from, n); return 0; }
R cuMemcpyPeerAsync(P to, void *a, P from, void *b, size_t n, void *s) { memcpy((void *)to, (void *)from, n); return 0; }
R cuMemsetD8Async(P to, uint8_t v, size_t n, void *s) { memset((void *)to, v, n); return 0; }
R cuStreamCreate(void **s, unsigned f) { *s = (void *)1; return 0; }
R cuStreamDestroy_v2(void *s) { return 0; }
R cuStreamSynchronize(void *s) { return 0; }
R cuStreamWaitEvent(void *s, void *e, unsigned f) { return 0; }
R cuEventCreate(void **e, unsigned f) { *e = calloc(1, sizeof(struct timespec)); return 0; }
R cuEventDestroy_v2(void *e) { free(e); return 0; }
R cuEventRecord(void *e, void *s) { clock_gettime(CLOCK_MONOTONIC, e); return 0; }
R cuEventSynchronize(void *e) {
#ifdef CRASHES
  abort();
#endif
  return 0;
}
R cuEventElapsedTime(float *ms, void *a, void *b) {
  struct timespec *x = a, *y = b;
  *ms = (y->tv_sec - x->tv_sec) * 1e3 + (y->tv_nsec - x->tv_nsec) / 1e6;
  return 0;
}
