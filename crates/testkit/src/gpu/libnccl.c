/* An NCCL for tests of figures, of one process. What ranks ask, from one thread for all or from one for each, is done when
 * all have asked: computed where it is small, and in the time that its busbw gives, by the host's clock. */
#include "fake.h"
#include <pthread.h>
enum { ALL_REDUCE, REDUCE_SCATTER, ALL_GATHER, BROADCAST, SEND, RECEIVE };
struct asked { int what, rank, peer; const float *from; float *to; u64 count; };
enum { MOST = 512, RANKS = 16, WAITING = 128 };
/* What a thread asks until its group ends. */
static __thread struct asked mine[MOST];
static __thread int mine_count;
/* What each rank has asked that others have not yet, the oldest first. */
struct group { struct asked list[2 * RANKS]; int count; };
static struct group waiting[RANKS][WAITING];
static int first[RANKS], waits[RANKS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* What is done now. */
static struct asked list[MOST];
static int asked_for, ranks;
static int ask(int what, const void *from, void *to, u64 count, int peer, void *rank) {
    if (mine_count == MOST) return 3;
    mine[mine_count++] = (struct asked){what, (int)(u64)rank - 1, peer, from, to, count};
    return 0;
}
const char *ncclGetErrorString(int code) { return "ncclError"; }
int ncclGetVersion(int *version) { *version = 22907; return 0; }
int ncclCommInitAll(void **ranks_are, int count, const int *devices) {
    if (count > RANKS) return 4;
    ranks = count;
    for (int i = 0; i < count; i++) ranks_are[i] = (void *)(i + 1ul);
    return 0;
}
int ncclCommDestroy(void *rank) { return 0; }
int ncclGroupStart(void) { mine_count = 0; return 0; }
int ncclAllReduce(const void *from, void *to, u64 count, int kind, int sum, void *rank, void *stream) { return ask(ALL_REDUCE, from, to, count, 0, rank); }
int ncclReduceScatter(const void *from, void *to, u64 count, int kind, int sum, void *rank, void *stream) { return ask(REDUCE_SCATTER, from, to, count, 0, rank); }
int ncclAllGather(const void *from, void *to, u64 count, int kind, void *rank, void *stream) { return ask(ALL_GATHER, from, to, count, 0, rank); }
int ncclBroadcast(const void *from, void *to, u64 count, int kind, int root, void *rank, void *stream) { return ask(BROADCAST, from, to, count, root, rank); }
int ncclSend(const void *from, u64 count, int kind, int peer, void *rank, void *stream) { return ask(SEND, from, NULL, count, peer, rank); }
int ncclRecv(void *to, u64 count, int kind, int peer, void *rank, void *stream) { return ask(RECEIVE, NULL, to, count, peer, rank); }

static struct asked *of(int what, int rank) {
    for (int i = 0; i < asked_for; i++) if (list[i].what == what && list[i].rank == rank) return list + i;
    return NULL;
}
static void compute(struct asked *one) {
    u64 n = one->count;
    switch (one->what) {
    case ALL_REDUCE:
    case REDUCE_SCATTER:
        for (u64 i = 0; i < n; i++) {
            float sum = 0;
            for (int r = 0; r < ranks; r++) sum += of(one->what, r)->from[i + (one->what == REDUCE_SCATTER ? one->rank * n : 0)];
            one->to[i] = sum;
        }
        break;
    case ALL_GATHER:
        for (int r = 0; r < ranks; r++) memcpy(one->to + r * n, of(ALL_GATHER, r)->from, n * 4);
        break;
    case BROADCAST: memcpy(one->to, of(BROADCAST, one->peer)->from, n * 4); break;
    case RECEIVE:
        for (int i = 0; i < asked_for; i++)
            if (list[i].what == SEND && list[i].rank == one->peer && list[i].peer == one->rank) memcpy(one->to, list[i].from, n * 4);
        break;
    }
    if (one->to && wrong("collective")) one->to[n / 2] += 1;
}
static void work(void) {
    u64 count = 0, parts = list[0].what == ALL_GATHER || list[0].what == REDUCE_SCATTER ? ranks : 1;
    for (int i = 0; i < asked_for; i++) if (list[i].rank == 0 && list[i].what != RECEIVE) count += list[i].count * parts;
    /* A large one where what it gives is looked at afterwards: over what was poisoned, and then where it sends from another place. */
    static const float *sent_from;
    static int looked_at;
    float *to = NULL;
    for (int i = 0; i < asked_for && !to; i++) to = list[i].to;
    int poisoned = to && *(uint32_t *)to == 0xffffffff, moved = looked_at && list[0].from != sent_from;
    looked_at = poisoned || looked_at && !moved;
    static int sent = -1, again;
    again = sent == list[0].what && again < 1 << 20 ? again + 1 : 0;
    sent = list[0].what;
    int idles = wrong("collective-first") && again > 0;
    if (!idles && (count <= 1 << 20 || poisoned || moved)) for (int i = 0; i < asked_for; i++) compute(list + i);
    sent_from = list[0].from;
    /* Of two ranks an all-reduce's busbw is what it moves, and a gather's half. */
    double bytes = count * 4.0 * (parts > 1 ? (ranks - 1.0) / ranks : list[0].what == ALL_REDUCE ? 2 * (ranks - 1.0) / ranks : 1);
    double seconds = bytes / (number("FAKE_GPU_NCCL_GB_S", 327) * 1e9) + 5e-6;
    /* Slept, and not spun: a busy machine gives sleepers their turn. One that wakes late is the sooner done with the next. */
    static double due;
    struct timespec clock;
    clock_gettime(CLOCK_MONOTONIC, &clock);
    double now = clock.tv_sec + clock.tv_nsec / 1e9;
    due = (now - due > 5e-4 ? now : due) + seconds;
    clock = (struct timespec){due, (due - (long)due) * 1e9};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &clock, NULL)) {}
}
int ncclGroupEnd(void) {
    pthread_mutex_lock(&lock);
    int failed = 0;
    for (int r = 0; r < ranks; r++) {
        struct group *one = &waiting[r][(first[r] + waits[r]) % WAITING];
        one->count = 0;
        for (int i = 0; i < mine_count; i++)
            if (mine[i].rank == r && one->count < 2 * RANKS) one->list[one->count++] = mine[i];
        if (one->count && waits[r] == WAITING - 1) failed = 3;
        else if (one->count) waits[r]++;
    }
    int all = 1;
    for (int r = 0; r < ranks; r++) all = all && waits[r];
    if (all) {
        asked_for = 0;
        for (int r = 0; r < ranks; r++) {
            struct group *one = &waiting[r][first[r]];
            for (int i = 0; i < one->count; i++) list[asked_for++] = one->list[i];
            first[r] = (first[r] + 1) % WAITING;
            waits[r]--;
        }
        work();
    }
    pthread_mutex_unlock(&lock);
    return failed;
}
