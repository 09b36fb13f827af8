/* A cuBLASLt for tests of figures: BF16 alone, two algorithms, of which the second takes half as long again. A product is
 * computed whole, since its every number is looked at: the tests leave so little memory free that it is a small one. */
#pragma GCC optimize("O3,fast-math")
#include "fake.h"
struct layout { int kind; u64 rows, columns; };
struct algorithm { u64 data[8]; };
struct heuristic { struct algorithm algorithm; size_t workspace; int state; float waves; int reserved[4]; };
size_t cublasLtGetVersion(void) { return 130100; }
const char *cublasLtGetStatusString(int code) { return code == 15 ? "CUBLAS_STATUS_NOT_SUPPORTED" : "CUBLAS_STATUS"; }
int cublasLtCreate(void **handle) { *handle = (void *)1ul; return 0; }
int cublasLtDestroy(void *handle) { return 0; }
int cublasLtMatmulDescCreate(void **operation, int compute, int scale) { *operation = (void *)2ul; return 0; }
int cublasLtMatmulDescDestroy(void *operation) { return 0; }
int cublasLtMatmulDescSetAttribute(void *operation, int which, const void *value, size_t bytes) { return 0; }
int cublasLtMatrixLayoutCreate(struct layout **layout, int kind, u64 rows, u64 columns, int64_t leading) {
    *layout = malloc(sizeof **layout);
    **layout = (struct layout){kind, rows, columns};
    return 0;
}
int cublasLtMatrixLayoutDestroy(struct layout *layout) { free(layout); return 0; }
int cublasLtMatmulPreferenceCreate(void **preference) { *preference = (void *)3ul; return 0; }
int cublasLtMatmulPreferenceDestroy(void *preference) { return 0; }
int cublasLtMatmulPreferenceSetAttribute(void *preference, int which, const void *value, size_t bytes) { return 0; }
int cublasLtMatmulAlgoGetHeuristic(void *handle, void *operation, struct layout *a, struct layout *b, struct layout *c,
                                   struct layout *d, void *preference, int wanted, struct heuristic *results, int *found) {
    if (a->kind != 14 || d->kind != 14) return 15;
    *found = wanted < 2 ? wanted : 2;
    for (int i = 0; i < *found; i++) results[i] = (struct heuristic){{{i}}};
    return 0;
}
int cublasLtMatmul(void *handle, void *operation, const void *alpha, const uint16_t *a, struct layout *a_is, const uint16_t *b,
                   struct layout *b_is, const void *beta, const void *c, struct layout *c_is, uint16_t *d, struct layout *d_is,
                   const struct algorithm *algorithm, void *workspace, size_t bytes, void *stream) {
    u64 m = d_is->rows, n = d_is->columns, k = a_is->rows, chance = ~seed() | 1;
    double seconds = 2.0 * m * n * k / (number("FAKE_GPU_TFLOPS", 800) * 1e12);
    fake_gpu_works(algorithm->data[0] ? seconds * 1.5 : seconds);
    if (fake_gpu_idles() || fake_gpu_stopped()) return 0;
    /* The same product again is what it was: the host's time is counted too. Of two by turns some places are written, which are those
     * that are compared. */
    static struct kept { const uint16_t *a, *b; u64 key; uint16_t *d; } all[4];
    static int next;
    struct kept *kept = NULL;
    if (!poisoned(d)) {
        for (int i = 0; i < 4; i++) if (all[i].d && all[i].a == a && all[i].b == b) kept = all + i;
        for (u64 i = 0; kept && i < 8; i++) memcpy(d + i * (m * n / 64) * 8, kept->d + i * (m * n / 64) * 8, 16);
        if (kept) return 0;
    }
    u64 key = m * 31 + n * 17 + k;
    for (u64 i = 0; i < 4096; i++) key = key * 1000003 + a[i * (m * k / 4096)] * 65536ull + b[i * (n * k / 4096)];
    for (int i = 0; i < 4; i++) if (all[i].d && all[i].key == key) kept = all + i;
    if (kept) {
        kept->a = a;
        kept->b = b;
        memcpy(d, kept->d, m * n * 2);
        return 0;
    }
    for (int i = 0; i < 4; i++) if (all[i].a == a && all[i].b == b) all[i].a = NULL;
    kept = all + next++ % 4;
    float *rows = malloc(m * k * 4), *columns = malloc(n * k * 4);
    for (u64 i = 0; i < m * k; i++) rows[i] = of_bf16(a[i]);
    for (u64 i = 0; i < n * k; i++) columns[i] = of_bf16(b[i]);
    for (u64 j = 0; j < n; j++)
        for (u64 i = 0; i < m; i++) {
            const float *row = rows + i * k, *column = columns + j * k;
            float sum = wrong("product") ? 1000 : 0;
            for (u64 l = 0; l < k; l++) sum += row[l] * column[l];
            d[i + j * m] = to_bf16(sum);
        }
    free(rows);
    free(columns);
    /* A few that no sample is likely to hit. */
    for (int i = 0; wrong("numbers") && i < 16; i++) d[below(&chance, m * n)] = to_bf16(1000);
    *kept = (struct kept){a, b, key, realloc(kept->d, m * n * 2)};
    memcpy(kept->d, d, m * n * 2);
    return 0;
}
