/* A libcublasLt whose product number LIES_AT (the environment) has one wrong byte; all else is the real one's, REAL.
 *
 *     cc -shared -fPIC -O1 -o DIR/libcublasLt.so.13 benches/liar/cublaslt.c
 *     LD_LIBRARY_PATH=DIR REAL=/path/libcublasLt.so.13 LIES_AT=500 sconce bench --host --burn 10s
 *
 * With it scripts/gpu-bench.sh shows on a real GPU that a burn finds one wrong byte. x86-64 only. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#define FORWARD(name)                                                                                                            \
    void *real_##name;                                                                                                           \
    __attribute__((naked)) void name(void) { __asm__("mov real_" #name "@GOTPCREL(%rip), %r11; jmp *(%r11)"); }

#define ALL(each)                                                                                                                \
    each(cublasLtCreate) each(cublasLtDestroy) each(cublasLtMatmulDescCreate) each(cublasLtMatmulDescDestroy)                    \
        each(cublasLtMatmulDescSetAttribute) each(cublasLtMatrixLayoutCreate) each(cublasLtMatrixLayoutDestroy)                  \
            each(cublasLtMatmulPreferenceCreate) each(cublasLtMatmulPreferenceDestroy)                                           \
                each(cublasLtMatmulPreferenceSetAttribute) each(cublasLtMatmulAlgoGetHeuristic)                                  \
                    each(cublasLtGetVersion) each(cublasLtGetStatusString)

ALL(FORWARD)

typedef int (*Matmul)(void *, void *, const void *, const void *, void *, const void *, void *, const void *, const void *,
                      void *, void *, void *, const void *, void *, size_t, void *);
typedef int (*Memset)(unsigned long long, unsigned char, size_t, void *);
static Matmul matmul;
static Memset memset_async;
static long lies_at, calls;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("REAL"), *at = getenv("LIES_AT");
    void *real = dlopen(path ? path : "", RTLD_NOW | RTLD_LOCAL), *driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (!real || !driver) {
        fprintf(stderr, "liar: %s\n", dlerror());
        abort();
    }
#define FIND(name) real_##name = dlsym(real, #name);
    ALL(FIND)
    matmul = (Matmul)dlsym(real, "cublasLtMatmul");
    memset_async = (Memset)dlsym(driver, "cuMemsetD8Async");
    lies_at = at ? atol(at) : 0;
}

int cublasLtMatmul(void *handle, void *operation, const void *alpha, const void *a, void *al, const void *b, void *bl,
                   const void *beta, const void *c, void *cl, void *d, void *dl, const void *algorithm, void *workspace,
                   size_t bytes, void *stream) {
    int code = matmul(handle, operation, alpha, a, al, b, bl, beta, c, cl, d, dl, algorithm, workspace, bytes, stream);
    if (code == 0 && ++calls == lies_at) code = memset_async((unsigned long long)d + 1234567, 0x55, 1, stream);
    return code;
}
