/* A cuDNN for tests of figures: two-dimensional convolutions forward in BF16, channels last. With -DOLD it has no
 * cudnnConvolutionForward; with -DNONE its heuristics offer nothing. */
#include "fake.h"
struct tensor { int n, c, h, w; };
struct filter { int k, c, h, w; };
struct offered { int algorithm, status; float milliseconds; size_t bytes; int determinism, math, reserved[3]; };
const char *cudnnGetErrorString(int code) { return code == 3000 ? "CUDNN_STATUS_NOT_SUPPORTED" : "CUDNN_STATUS"; }
int cudnnCreate(void **handle) { *handle = (void *)1ul; return 0; }
int cudnnDestroy(void *handle) { return 0; }
int cudnnSetStream(void *handle, void *stream) { return 0; }
int cudnnGetProperty(int which, int *value) { *value = which == 0 ? 9 : which == 1 ? 14 : 0; return 0; }
int cudnnCreateTensorDescriptor(struct tensor **tensor) { *tensor = calloc(1, sizeof **tensor); return 0; }
int cudnnSetTensor4dDescriptor(struct tensor *tensor, int order, int kind, int n, int c, int h, int w) {
    if (order != 1 || kind != 9) return 3000;
    *tensor = (struct tensor){n, c, h, w};
    return 0;
}
int cudnnDestroyTensorDescriptor(struct tensor *tensor) { free(tensor); return 0; }
int cudnnCreateFilterDescriptor(struct filter **filter) { *filter = calloc(1, sizeof **filter); return 0; }
int cudnnSetFilter4dDescriptor(struct filter *filter, int kind, int order, int k, int c, int h, int w) {
    if (order != 1 || kind != 9) return 3000;
    *filter = (struct filter){k, c, h, w};
    return 0;
}
int cudnnDestroyFilterDescriptor(struct filter *filter) { free(filter); return 0; }
int cudnnCreateConvolutionDescriptor(void **convolution) { *convolution = (void *)2ul; return 0; }
int cudnnSetConvolution2dDescriptor(void *convolution, int pad_h, int pad_w, int stride_h, int stride_w, int dilation_h,
                                    int dilation_w, int mode, int compute) { return mode == 1 && compute == 0 ? 0 : 3000; }
int cudnnSetConvolutionMathType(void *convolution, int math) { return 0; }
int cudnnDestroyConvolutionDescriptor(void *convolution) { return 0; }
int cudnnGetConvolutionForwardAlgorithm_v7(void *handle, void *x, void *w, void *convolution, void *y, int most, int *count,
                                           struct offered *offered) {
#ifdef NONE
    *count = 0;
#else
    *count = 2;
    offered[0] = (struct offered){1, 0, 1, 0, 1, 1};
    offered[1] = (struct offered){6, 3000, 2, 0, 1, 1};
#endif
    return 0;
}
#ifndef OLD
int cudnnConvolutionForward(void *handle, const void *alpha, struct tensor *x_is, const uint16_t *x, struct filter *w_is,
                            const uint16_t *w, void *convolution, int algorithm, void *workspace, size_t bytes,
                            const void *beta, struct tensor *y_is, uint16_t *y) {
    u64 n = x_is->n, side = x_is->h, from = x_is->c, to = y_is->c, size = w_is->h, chance = seed() | 1;
    fake_gpu_works(2.0 * n * side * side * to * size * size * from / (number("FAKE_GPU_TFLOPS", 800) * 1e12));
    if (!poisoned(y)) return 0;
    ones(y, n * side * side * to);
    /* Images and filter were made by the same chance before; four numbers of them at a time. */
    for (u64 i = 0; i < (n * side * side * from + 3) / 4 + (to * size * size * from + 3) / 4; i++) bits(&chance);
    for (int sample = 0; sample < 256; sample++) {
        u64 image = below(&chance, n), row = below(&chance, side), column = below(&chance, side), channel = below(&chance, to);
        double sum = wrong("convolution") ? 1000 : 0;
        for (u64 r = 0; r < size; r++)
            for (u64 s = 0; s < size; s++) {
                u64 h = row + r - size / 2, v = column + s - size / 2;
                if (h >= side || v >= side) continue;
                const uint16_t *pixel = x + ((image * side + h) * side + v) * from, *tap = w + ((channel * size + r) * size + s) * from;
                for (u64 c = 0; c < from; c++) sum += (double)of_bf16(pixel[c]) * of_bf16(tap[c]);
            }
        y[((image * side + row) * side + column) * to + channel] = to_bf16(sum);
    }
    return 0;
}
#endif
