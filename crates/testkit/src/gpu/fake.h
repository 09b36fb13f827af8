/* What the fake libraries of a GPU share: what the test says, the bench's random numbers, and a clock that stands still
 * between one piece of work and the next.
 *
 * Variables, each with a default: FAKE_GPU_COUNT 1, FAKE_GPU_NAME, FAKE_GPU_FREE bytes of memory, FAKE_GPU_TFLOPS of products,
 * FAKE_GPU_GB_S of memory, FAKE_GPU_HOST_GB_S, FAKE_GPU_PEER_GB_S, FAKE_GPU_NCCL_GB_S (busbw), FAKE_GPU_LAUNCH_NS,
 * FAKE_GPU_WRONG (first: only the first of what is timed together is done, stops: products of a burn take their time and do nothing
 * after 2000, dead: nothing that it compares is compared either, collective-first: only the first of collectives asked one after another is done, copy, product, numbers: some of a product, convolution, pixels: some of a
 * convolution, collective, burn: what is computed wrongly),
 * FAKE_GPU_SEED: the bench's `--seed`, FAKE_GPU_SMS: multiprocessors, FAKE_GPU_MEMORY: GiB of memory, FAKE_GPU_CAPABILITY: 90,
 * FAKE_GPU_TWINS: all have one UUID, FAKE_GPU_ONE_PLACE: and one place on the bus, FAKE_GPU_GONE: a file, where it is there the first
 * GPU is not, and the first process writes it, FAKE_GPU_TIMER: milliseconds that every timer answers (nan, -1), FAKE_GPU_TIMER_TIMES: a factor of what it answers,
 * FAKE_GPU_WAKES_US: so much later the host is told that work is done. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef uint64_t u64;

static const char *text(const char *key, const char *otherwise) {
    const char *value = getenv(key);
    return value && *value ? value : otherwise;
}
/* Asked with each launch, of which a burst has thousands: the environment is looked at once. */
static double number(const char *key, double otherwise) {
    static __thread struct { const char *key; int said; double value; } known[32];
    int i = 0;
    while (i < 31 && known[i].key && known[i].key != key) i++;
    if (known[i].key != key) {
        const char *value = text(key, NULL);
        known[i].key = key;
        known[i].said = value != NULL;
        known[i].value = value ? atof(value) : 0;
    }
    return known[i].said ? known[i].value : otherwise;
}
static int wrong(const char *what) {
    static const char *is;
    if (!is) is = text("FAKE_GPU_WRONG", "");
    return !strcmp(is, what);
}

/* xorshift64*, as crates/bench/src/measure/random.rs has it. */
static u64 bits(u64 *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dull;
}
static u64 below(u64 *state, u64 end) { return bits(state) % end; }
static u64 seed(void) { return strtoull(text("FAKE_GPU_SEED", "7"), NULL, 10); }

static float of_bf16(uint16_t half) {
    uint32_t word = (uint32_t)half << 16;
    float value;
    memcpy(&value, &word, 4);
    return value;
}
static uint16_t to_bf16(double value) {
    float single = value;
    uint32_t word;
    memcpy(&word, &single, 4);
    return (word + 0x7fff + (word >> 16 & 1)) >> 16;
}
/* Not written yet since it was poisoned. */
static int poisoned(const uint16_t *numbers) { return numbers[0] == 0xffff; }

/* Of libcuda.so.1: the GPU's clock goes on by so much. */
void fake_gpu_works(double seconds);
/* It only pretends to do what is put on a stream now. */
int fake_gpu_idles(void);
/* It computes no products any more. */
int fake_gpu_stopped(void);
