/* A libcuda.so.1 for tests of figures: memory of the GPU is the process's own, and work takes the time that the test says. */
#include "fake.h"

static double now;
static u64 taken;
static const char *kernels[] = {"", "nothing", "read_all", "write_all", "copy_all", "triad", "read_again", "differ"};
enum { NOTHING = 1, READ, WRITE, COPY, TRIAD, AGAIN, DIFFER };

/* What was put on a stream since the last event: with FAKE_GPU_WRONG=first, all after the first take their time and do nothing. */
static int launched;
int fake_gpu_idles(void) { return ++launched > 1 && wrong("first"); }
/* A GPU that computes no more after a while. */
static u64 products_done;
int fake_gpu_stopped(void) { return ++products_done > 2000 && (wrong("stops") || wrong("dead")); }

/* Two of five bursts of products takes so much longer; what is before finds out which algorithm, and how many make a burst. */
static int bursts;
void fake_gpu_works(double seconds) {
    double slow = number("FAKE_GPU_SLOW", 0);
    now += slow && bursts > 16 && bursts / 2 % 5 < 2 ? seconds / slow : seconds;
}
static void moves(double bytes, const char *key, double otherwise) { now += bytes / (number(key, otherwise) * 1e9); }
static void spins(double nanoseconds) {
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do clock_gettime(CLOCK_MONOTONIC, &end);
    while ((end.tv_sec - begin.tv_sec) * 1e9 + (end.tv_nsec - begin.tv_nsec) < nanoseconds);
}
static u64 room(void) { return number("FAKE_GPU_FREE", 1200e6); }

int cuInit(unsigned flags) {
    if (getenv("FAKE_GPU_HANGS")) for (;;) sleep(1);
    return 0;
}
int cuGetErrorName(int code, const char **name) {
    *name = code == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR";
    return 0;
}
int cuGetErrorString(int code, const char **words) { *words = code == 2 ? "out of memory" : "an error"; return 0; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
/* Whether the GPUs were listed by an earlier process: then FAKE_GPU_GONE, a file, is there. */
static int listed(void) {
    static int was = -1;
    if (was < 0) {
        was = !access(getenv("FAKE_GPU_GONE"), F_OK);
        fclose(fopen(getenv("FAKE_GPU_GONE"), "w"));
    }
    return was;
}
/* CUDA_VISIBLE_DEVICES, of which the fake knows numbers alone. */
static int visible(int *list) {
    int count = number("FAKE_GPU_COUNT", 1), found = 0, gone = getenv("FAKE_GPU_GONE") ? listed() : 0;
    const char *given = getenv("CUDA_VISIBLE_DEVICES");
    if (!given) for (; found < count - gone; found++) list[found] = found + gone;
    for (; given && *given; given += strcspn(given, ","), given += *given == ',') {
        int gpu = atoi(given);
        if (gpu >= count) break;
        list[found++] = gpu;
    }
    return found;
}
int cuDeviceGetCount(int *count) { int list[64]; *count = visible(list); return *count ? 0 : 100; }
int cuDeviceGet(int *device, int ordinal) {
    int list[64];
    if (ordinal >= visible(list)) return 101;
    *device = list[ordinal];
    return 0;
}
int cuDeviceGetName(char *name, int length, int device) {
    snprintf(name, length, "%s", text("FAKE_GPU_NAME", "NVIDIA H100 80GB HBM3"));
    return 0;
}
int cuDeviceGetAttribute(int *value, int which, int device) {
    int capability = number("FAKE_GPU_CAPABILITY", 90);
    *value = which == 75 ? capability / 10 : which == 76 ? capability % 10 : which == 16 ? number("FAKE_GPU_SMS", 132)
           : which == 38 ? 50 << 20 : 1;
    return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    /* As much as the product has by its name. */
    double named = strstr(text("FAKE_GPU_NAME", "H100"), "H200") ? 141 : 80;
    *bytes = number("FAKE_GPU_MEMORY", named) * (1ul << 30);
    return 0;
}
int cuDeviceGetUuid_v2(unsigned char *uuid, int device) {
    memset(uuid, 0, 16);
    uuid[15] = getenv("FAKE_GPU_TWINS") ? 0 : device;
    return 0;
}
int cuDeviceGetPCIBusId(char *id, int length, int device) { snprintf(id, length, "0000:%02X:00.0", 0x18 + (getenv("FAKE_GPU_ONE_PLACE") ? 0 : device)); return 0; }
int cuDeviceCanAccessPeer(int *can, int device, int peer) { *can = 1; return getenv("FAKE_GPU_PEER_FAILS") ? 101 : 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = (void *)(device + 1ul); return 0; }
int cuDevicePrimaryCtxRelease_v2(int device) { return 0; }
int cuCtxSetCurrent(void *context) { return 0; }
/* What is waited for takes as long by the host's clock as it does by the GPU's: timers are held against each other. */
static double before, since;
/* What begins when all is done begins now: a GPU that had a pause does nothing ahead. */
static void begins(void) {
    struct timespec clock;
    clock_gettime(CLOCK_MONOTONIC, &clock);
    double here = clock.tv_sec + clock.tv_nsec / 1e9;
    if (since + (now - before) >= here) return;
    before = now;
    since = here;
}
static int waited(void) {
    struct timespec clock;
    clock_gettime(CLOCK_MONOTONIC, &clock);
    double here = clock.tv_sec + clock.tv_nsec / 1e9, wanted = since + (now - before);
    if (since > 0 && wanted > here) {
        clock.tv_sec = wanted;
        clock.tv_nsec = (wanted - clock.tv_sec) * 1e9;
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &clock, NULL)) {}
        if (number("FAKE_GPU_WAKES_US", 0)) usleep(number("FAKE_GPU_WAKES_US", 0));
        here = wanted;
    }
    before = now;
    since = here;
    return 0;
}
int cuCtxSynchronize(void) { return waited(); }
int cuCtxEnablePeerAccess(void *peer, unsigned flags) { return 0; }

int cuMemGetInfo_v2(size_t *available, size_t *all) { *available = taken < room() ? room() - taken : 0; *all = 80ul << 30; return 0; }
/* A size is kept before what is given. */
int cuMemAlloc_v2(u64 *pointer, size_t bytes) {
    if (bytes + taken > 2 * room()) return 2; /* What is free is never all that can be had. */
    u64 *place = malloc(bytes + 16);
    *place = bytes;
    taken += bytes;
    *pointer = (u64)(place + 2);
    spins(20000);
    return 0;
}
/* What moves memory is done when nobody takes the time: the host's is counted too, and the fake is slow. What is written again,
 * and was read by nothing in between, is left out. */
struct move { int kind; char *to; const char *from, *more; size_t bytes; float by; };
enum { COPIES, WRITES, SCALES };
static struct move moves_left[64];
static int left;
static void copied(void *to, const void *from, size_t bytes);
static void done(void) {
    for (int i = 0; i < left; i++) {
        struct move *one = moves_left + i;
        u64 count = one->bytes / 4;
        if (one->kind == COPIES) copied(one->to, one->from, one->bytes);
        if (one->kind == WRITES) {
            uint32_t *to = (uint32_t *)one->to, value;
            memcpy(&value, &one->by, 4);
            if (*to != value) for (u64 at = 0; at < count; at++) to[at] = value;
        }
        if (one->kind == SCALES) {
            float *a = (float *)one->to, s = one->by;
            const float *b = (const float *)one->from, *c = (const float *)one->more;
            for (u64 at = 0; at < count; at++) a[at] = b[at] + s * c[at];
        }
    }
    left = 0;
}
static void later(struct move one) {
    if (fake_gpu_idles()) return;
    int kept = 0, read = 0;
    for (int i = 0; i < left; i++) read |= moves_left[i].from == one.to || moves_left[i].more == one.to;
    for (int i = 0; i < left; i++)
        if (read || moves_left[i].to != one.to) moves_left[kept++] = moves_left[i];
    left = kept;
    if (left == 64) done();
    moves_left[left++] = one;
}
int cuMemFree_v2(u64 pointer) {
    done();
    u64 *place = (u64 *)pointer - 2;
    taken -= *place;
    free(place);
    return 0;
}
int cuMemHostAlloc(void **pointer, size_t bytes, unsigned flags) { *pointer = malloc(bytes); return 0; }
int cuMemFreeHost(void *pointer) { done(); free(pointer); return 0; }
/* Copied if it looks different: the same is copied again and again, and only its time counts. */
static void copied(void *to, const void *from, size_t bytes) {
    int same = bytes > 4096;
    for (size_t part = 0; same && part < 32; part++) {
        size_t at = part * ((bytes - 64) / 31);
        same = !memcmp((char *)to + at, (const char *)from + at, 64);
    }
    if (!same) memcpy(to, from, bytes);
    if (wrong("copy") && bytes > 4096) ((char *)to)[bytes / 2] = ((const char *)from)[bytes / 2] ^ 4;
}
int cuMemcpyHtoD_v2(u64 to, const void *from, size_t bytes) { done(); memcpy((void *)to, from, bytes); spins(bytes / 20.0); return 0; }
int cuMemcpyDtoH_v2(void *to, u64 from, size_t bytes) { done(); memcpy(to, (void *)from, bytes); return 0; }
int cuMemcpyHtoDAsync_v2(u64 to, const void *from, size_t bytes, void *stream) {
    later((struct move){COPIES, (char *)to, from, NULL, bytes});
    moves(bytes, "FAKE_GPU_HOST_GB_S", 55);
    return 0;
}
int cuMemcpyDtoHAsync_v2(void *to, u64 from, size_t bytes, void *stream) {
    later((struct move){COPIES, to, (char *)from, NULL, bytes});
    moves(bytes, "FAKE_GPU_HOST_GB_S", 55);
    return 0;
}
int cuMemcpyDtoDAsync_v2(u64 to, u64 from, size_t bytes, void *stream) {
    later((struct move){COPIES, (char *)to, (char *)from, NULL, bytes});
    moves(2.0 * bytes, "FAKE_GPU_GB_S", 3000);
    return 0;
}
int cuMemcpyPeerAsync(u64 to, void *there, u64 from, void *here, size_t bytes, void *stream) {
    later((struct move){COPIES, (char *)to, (char *)from, NULL, bytes});
    /* The second GPU's link to where it copies is slow. */
    moves(getenv("FAKE_GPU_PEER_SLOW") && here == (void *)2ul ? bytes * 20.0 : bytes, "FAKE_GPU_PEER_GB_S", 390);
    return 0;
}
int cuMemsetD8Async(u64 to, unsigned char value, size_t bytes, void *stream) { done(); memset((void *)to, value, bytes); return 0; }

int cuStreamCreate(void **stream, unsigned flags) { *stream = (void *)6ul; return 0; }
int cuStreamDestroy_v2(void *stream) { return 0; }
int cuStreamSynchronize(void *stream) { waited(); done(); return 0; }
int cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return 0; }
int cuStreamBeginCapture_v2(void *stream, int mode) { return 0; }
int cuStreamEndCapture(void *stream, void **graph) { *graph = (void *)3ul; return 0; }
int cuGraphInstantiateWithFlags(void **executable, void *graph, u64 flags) { *executable = (void *)4ul; return 0; }
int cuGraphLaunch(void *executable, void *stream) { spins(500 * number("FAKE_GPU_LAUNCH_NS", 3000) / 3); return 0; }
int cuGraphExecDestroy(void *executable) { return 0; }
int cuGraphDestroy(void *graph) { return 0; }
int cuEventCreate(void **event, unsigned flags) { *event = calloc(1, sizeof now); return 0; }
int cuEventDestroy_v2(void *event) { free(event); return 0; }
int cuEventRecord(double *event, void *stream) { begins(); *event = now; launched = 0; bursts++; return 0; }
int cuEventSynchronize(void *event) { return waited(); }
int cuEventElapsedTime(float *milliseconds, double *begin, double *end) {
    *milliseconds = getenv("FAKE_GPU_TIMER") ? number("FAKE_GPU_TIMER", 0) : (*end - *begin) * 1e3 * number("FAKE_GPU_TIMER_TIMES", 1);
    done();
    return 0;
}

int cuModuleLoadData(void **module, const void *image) { *module = (void *)8ul; return 0; }
int cuModuleUnload(void *module) { return 0; }
int cuModuleGetFunction(void **function, void *module, const char *name) {
    for (u64 i = 1; i < sizeof kernels / sizeof *kernels; i++)
        if (!strcmp(kernels[i], name)) { *function = (void *)i; return 0; }
    return 500;
}
static uint32_t sum(const uint32_t *words, u64 count) {
    static const uint32_t *last;
    static uint32_t first, value;
    if (last != words || first != words[0]) {
        value = 0;
        for (u64 i = 0; i < count; i++) value += words[i];
    }
    last = words;
    first = words[0];
    return value;
}
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **given, void **extra) {
    static u64 compared;
#define POINTER(i) (*(void **)given[i])
#define COUNT(i) (*(u64 *)given[i])
    double bytes = 0;
    switch ((u64)function) {
    case NOTHING: spins(number("FAKE_GPU_LAUNCH_NS", 3000)); return 0;
    case READ: if (!fake_gpu_idles()) *(uint32_t *)POINTER(2) += sum(POINTER(0), COUNT(1) * 4); bytes = COUNT(1) * 16.0; break;
    case WRITE: later((struct move){WRITES, POINTER(0), NULL, NULL, COUNT(1) * 16, *(float *)given[2]}); bytes = COUNT(1) * 16.0; break;
    case COPY: later((struct move){COPIES, POINTER(1), POINTER(0), NULL, COUNT(2) * 16}); bytes = COUNT(2) * 32.0; break;
    case TRIAD:
        later((struct move){SCALES, POINTER(0), POINTER(1), POINTER(2), COUNT(4) * 16, *(float *)given[3]});
        bytes = COUNT(4) * 48.0;
        break;
    case AGAIN: {
        uint32_t times = 0, more = 0;
        for (u64 i = 0; i < COUNT(2); i++) times = (times + 1) * 31, more = more * 31 + 1;
        if (!fake_gpu_idles()) *(uint32_t *)POINTER(3) += times * sum(POINTER(0), COUNT(1) * 4) + more * gx * bx;
        bytes = COUNT(1) * 16.0 * COUNT(2) / 2;
        break;
    }
    case DIFFER: {
        /* Some places of all: the host's time is counted too. */
        u64 n = COUNT(2), *found = POINTER(3), other = ++compared > 1000 && wrong("burn");
        if (products_done > 2000 && wrong("dead")) return 0;
        for (u64 i = 0; i < 8; i++) other += memcmp((char *)POINTER(0) + i * (n / 8) * 16, (char *)POINTER(1) + i * (n / 8) * 16, 16) != 0;
        found[0] += other;
        found[1] += n - other;
        return 0;
    }
    default: return 1;
    }
    moves(bytes, "FAKE_GPU_GB_S", 3000);
    return 0;
}
