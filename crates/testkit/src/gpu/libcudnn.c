/* A cuDNN for tests of figures: two-dimensional convolutions forward in BF16, channels last. One is computed whole, since its every
 * number is looked at: the tests leave so little memory free that it is of one image. With -DOLD it has no
 * cudnnConvolutionForward; with -DNONE its heuristics offer nothing. */
#pragma GCC optimize("O3,fast-math")
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
    u64 n = x_is->n, side = x_is->h, from = x_is->c, to = y_is->c, size = w_is->h, chance = ~seed() | 1;
    fake_gpu_works(2.0 * n * side * side * to * size * size * from / (number("FAKE_GPU_TFLOPS", 800) * 1e12));
    if (fake_gpu_idles() || !poisoned(y)) return 0;
    /* The same again is what it was: the host's time is counted too. */
    static uint16_t *kept;
    static u64 of;
    u64 numbers = n * side * side * to, key = numbers;
    for (u64 i = 0; i < 4096; i++) key = key * 1000003 + x[i * (n * side * side * from / 4096)] * 65536ull + w[i * (to * size * size * from / 4096)];
    if (kept && of == key) {
        memcpy(y, kept, numbers * 2);
        return 0;
    }
    float *images = malloc(n * side * side * from * 4), *filters = malloc(to * size * size * from * 4);
    for (u64 i = 0; i < n * side * side * from; i++) images[i] = of_bf16(x[i]);
    for (u64 i = 0; i < to * size * size * from; i++) filters[i] = of_bf16(w[i]);
    for (u64 pixel = 0; pixel < n * side * side; pixel++)
        for (u64 channel = 0; channel < to; channel++) {
            u64 image = pixel / (side * side), row = pixel / side % side, column = pixel % side;
            float sum = wrong("convolution") ? 1000 : 0;
            for (u64 tap = 0; tap < size * size; tap++) {
                u64 h = row + tap / size - size / 2, v = column + tap % size - size / 2;
                if (h >= side || v >= side) continue;
                const float *a = images + ((image * side + h) * side + v) * from, *b = filters + (channel * size * size + tap) * from;
                for (u64 c = 0; c < from; c++) sum += a[c] * b[c];
            }
            y[pixel * to + channel] = to_bf16(sum);
        }
    free(images);
    free(filters);
    /* A few that no sample is likely to hit. */
    for (int i = 0; wrong("pixels") && i < 4; i++) y[below(&chance, n * side * side * to)] = to_bf16(1000);
    kept = realloc(kept, numbers * 2);
    memcpy(kept, y, numbers * 2);
    of = key;
    return 0;
}
#endif
