/* A libnvidia-ml.so for tests: NVML's C interface, answered from a world file.
 *
 * The file that FAKE_NVML_WORLD names has lines `key value`. `gpu.3.power_mw 72500` is GPU 3's, `gpu.*.power_mw` that of
 * all that have none of their own; a key that is not there is answered with NOT_SUPPORTED. It is read anew when it
 * changes, so that a test makes a GPU fall away by writing another. `lost 15`, of all or of one GPU, is the code that
 * every call about it answers; `clocks_before_lost`, of a GPU: so many clocks are answered, and
 * then every call about it is answered with 15; `clock_lost`, of a GPU: that one of its clocks alone is answered with 15; `lost_call NAME`: every call of this function is answered with 15; `init_crash 1`: nvmlInit aborts the process; `init_once FILE`: it starts where that file is not there yet, and makes it; `block_ms` is how long each one takes, `init_block_ms` the first of all. Structures are those of NVIDIA's public nvml.h.
 * `gpm_alone 1`: the process is aborted where two threads are in GPM at once, or NVML is ended while one is; `gpm_us`: how
 * long a call of GPM takes; `gpm_block_ms`, of a GPU: how long a sample of it takes. `clocks_before_hang`, of a GPU: so many clocks
 * are answered, and the next hangs without end. `whole_end 1`: the library's
 * destructor aborts the process where a call is under way. With -DOLD newer symbols are missing. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef unsigned int u32;
typedef unsigned long long u64;
typedef int code;
enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, TIMEOUT = 10 };

struct row { char *key, *value; };
static struct row *rows;
static size_t count;
static struct stat seen;
static int sessions, delivered;
static int within, in_gpm, gpm_alone, whole_end; /* atomically */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static const char *find(const char *key);
static void load(void) {
    const char *path = getenv("FAKE_NVML_WORLD");
    struct stat now;
    if (!path || stat(path, &now)) return;
    if (rows && now.st_size == seen.st_size && now.st_ino == seen.st_ino
        && now.st_mtim.tv_sec == seen.st_mtim.tv_sec && now.st_mtim.tv_nsec == seen.st_mtim.tv_nsec) return;
    FILE *file = fopen(path, "r");
    if (!file) return;
    seen = now;
    rows = NULL; /* What older rows hold may be in use by another thread: left, a test is short. */
    count = 0;
    size_t room = 0;
    char line[65536];
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        char *space = strchr(line, ' ');
        if (!space || line[0] == '#') continue;
        *space = 0;
        if (count == room) rows = realloc(rows, (room = room ? room * 2 : 256) * sizeof *rows);
        rows[count++] = (struct row){strdup(line), strdup(space + 1)};
    }
    fclose(file);
    gpm_alone = find("gpm_alone") != NULL;
    whole_end = find("whole_end") != NULL;
}

static const char *find(const char *key) {
    for (size_t i = count; i-- > 0;)
        if (!strcmp(rows[i].key, key)) return rows[i].value;
    return NULL;
}

static const char *global(const char *key) {
    pthread_mutex_lock(&lock);
    load();
    const char *value = find(key);
    pthread_mutex_unlock(&lock);
    return value;
}

/* A device is a GPU's number and one, and from bit 16 an instance's and one. */
static int gpu_of(void *device) { return (int)((unsigned long)device & 0xffff) - 1; }
static int instance_of(void *device) { return (int)((unsigned long)device >> 16) - 1; }

static const char *of(void *device, const char *key) {
    char name[256];
    const char *value;
    pthread_mutex_lock(&lock);
    load();
    if (instance_of(device) >= 0) {
        snprintf(name, sizeof name, "gpu.%d.mig.%d.%s", gpu_of(device), instance_of(device), key);
        value = find(name);
    } else {
        snprintf(name, sizeof name, "gpu.%d.%s", gpu_of(device), key);
        value = find(name);
        if (!value) {
            snprintf(name, sizeof name, "gpu.*.%s", key);
            value = find(name);
        }
    }
    pthread_mutex_unlock(&lock);
    return value && strcmp(value, "-") ? value : NULL;
}

/* Whether the device answers at all. */
static code gone;
static code reach(void *device) {
    if (!sessions) return UNINITIALIZED;
    if (gone) return gone;
    const char *block = of(device, "block_ms");
    __sync_add_and_fetch(&within, 1);
    if (block) usleep(1000 * atoi(block));
    __sync_sub_and_fetch(&within, 1);
    const char *lost = of(device, "lost");
    if (!lost) lost = global("lost");
    return lost ? atoi(lost) : OK;
}

/* Whether this function alone says that the GPU is lost. */
static int is_lost(const char *name) {
    const char *lost = global("lost_call");
    return lost && !strcmp(lost, name);
}
#define LOST_HERE if (is_lost(__func__)) return 15

static code number(void *device, const char *key, u64 *value) {
    code c = reach(device);
    if (c) return c;
    const char *text = of(device, key);
    if (!text) return NOT_SUPPORTED;
    *value = strtoull(text, NULL, 0);
    return OK;
}

static code small(void *device, const char *key, u32 *value) {
    u64 wide = 0;
    code c = number(device, key, &wide);
    if (!c) *value = (u32)wide;
    return c;
}

static code text(void *device, const char *key, char *buffer, u32 length) {
    code c = reach(device);
    if (c) return c;
    const char *value = of(device, key);
    if (!value) return NOT_SUPPORTED;
    memset(buffer, 0, length);
    memcpy(buffer, value, strlen(value) < length ? strlen(value) : length); /* a full buffer has no NUL */
    return OK;
}

static void fail(const char *why) {
    fprintf(stderr, "fake NVML: %s\n", why);
    abort();
}
__attribute__((destructor)) static void ends(void) {
    if (whole_end && (within || in_gpm)) fail("the process ends inside a call");
}

code nvmlInit_v2(void) {
    const char *refuse = global("init");
    const char *block = global("init_block_ms");
    if (refuse) return atoi(refuse);
    const char *once = global("init_once");
    if (once && !access(once, F_OK)) return 9;
    if (once) fclose(fopen(once, "w"));
    if (global("init_crash")) fail("nvmlInit crashes");
    for (int left = block ? atoi(block) : 0; left > 0; left -= 1000) usleep(1000 * (left < 1000 ? left : 999));
    sessions++;
    return OK;
}
code nvmlShutdown(void) { if (gpm_alone && in_gpm) fail("ended inside GPM"); if (!sessions) return UNINITIALIZED; sessions--; return OK; }
code nvmlSystemGetDriverVersion(char *buffer, u32 length) {
    LOST_HERE;
    const char *value = global("driver");
    if (!value) return NOT_SUPPORTED;
    strncpy(buffer, value, length);
    return OK;
}
static code gpus(u32 *number) {
    const char *value = global("gpus");
    *number = value ? strtoul(value, NULL, 0) : 0;
    return sessions ? OK : UNINITIALIZED;
}
code nvmlDeviceGetCount_v2(u32 *number) { LOST_HERE; return gpus(number); }
code nvmlDeviceGetHandleByIndex_v2(u32 index, void **device) {
    LOST_HERE;
    u32 all = 0;
    gpus(&all);
    if (index >= all) return INVALID;
    *device = (void *)(unsigned long)(index + 1);
    return OK;
}
code nvmlDeviceGetHandleByPciBusId_v2(const char *id, void **device) {
    LOST_HERE;
    u32 all = 0, bus = 0, own = 0;
    gpus(&all);
    const char *colon = strchr(id, ':');
    for (u32 i = 0; colon && i < all; i++) {
        const char *known = of((void *)(unsigned long)(i + 1), "bus_id"), *there = known ? strchr(known, ':') : NULL;
        if (there && sscanf(colon, ":%x", &bus) == 1 && sscanf(there, ":%x", &own) == 1 && bus == own) {
            *device = (void *)(unsigned long)(i + 1);
            return OK;
        }
    }
    return NOT_FOUND;
}
code nvmlDeviceGetUUID(void *device, char *buffer, u32 length) { LOST_HERE; return text(device, "uuid", buffer, length); }
code nvmlDeviceGetName(void *device, char *buffer, u32 length) { LOST_HERE; return text(device, "name", buffer, length); }
code nvmlDeviceGetMinorNumber(void *device, u32 *value) { LOST_HERE; return small(device, "minor", value); }
struct pci { char legacy[16]; u32 numbers[5]; char bus[32]; };
code nvmlDeviceGetPciInfo_v3(void *device, struct pci *info) { LOST_HERE; return text(device, "bus_id", info->bus, sizeof info->bus); }

struct utilization { u32 gpu, memory; };
code nvmlDeviceGetUtilizationRates(void *device, struct utilization *both) {
    LOST_HERE;
    code c = small(device, "util", &both->gpu);
    return c ? c : small(device, "memutil", &both->memory);
}
code nvmlDeviceGetClockInfo(void *device, u32 kind, u32 *value) {
    LOST_HERE;
    static int clocks, asked; /* atomically */
    const char *once = of(device, "clock_lost");
    if (once && __sync_add_and_fetch(&asked, 1) == atoi(once)) return 15;
    const char *last = of(device, "clocks_before_hang");
    const char *lost = of(device, "clocks_before_lost");
    if (lost && __sync_add_and_fetch(&clocks, 1) > atoi(lost)) return gone = 15;
    if (last && __sync_add_and_fetch(&clocks, 1) > atoi(last)) for (;;) sleep(1);
    return small(device, kind == 1 ? "sm_mhz" : "memory_mhz", value);
}
code nvmlDeviceGetMaxClockInfo(void *device, u32 kind, u32 *value) {
    LOST_HERE;
    return kind == 1 ? small(device, "sm_max_mhz", value) : NOT_SUPPORTED;
}
code nvmlDeviceGetPowerUsage(void *device, u32 *value) { LOST_HERE; return small(device, "power_mw", value); }
code nvmlDeviceGetEnforcedPowerLimit(void *device, u32 *value) { LOST_HERE; return small(device, "power_limit_mw", value); }
code nvmlDeviceGetPowerManagementDefaultLimit(void *device, u32 *value) { LOST_HERE; return small(device, "power_default_mw", value); }
code nvmlDeviceGetTemperature(void *device, u32 sensor, u32 *value) { LOST_HERE; return small(device, "temperature_c", value); }
code nvmlDeviceGetTemperatureThreshold(void *device, u32 kind, u32 *value) {
    LOST_HERE;
    return kind == 1 ? small(device, "slowdown_c", value) : NOT_SUPPORTED;
}
code nvmlDeviceGetCurrentClocksThrottleReasons(void *device, u64 *value) { LOST_HERE; return number(device, "reasons", value); }
struct memory { u64 total, free, used; };
code nvmlDeviceGetMemoryInfo(void *device, struct memory *info) {
    LOST_HERE;
    code c = number(device, "memory_total", &info->total);
    if (!c) c = number(device, "memory_used", &info->used);
    info->free = info->total - info->used;
    return c;
}
code nvmlDeviceGetCurrPcieLinkGeneration(void *device, u32 *value) { LOST_HERE; return small(device, "pcie_generation", value); }
code nvmlDeviceGetMaxPcieLinkGeneration(void *device, u32 *value) { LOST_HERE; return small(device, "pcie_generation_max", value); }
code nvmlDeviceGetCurrPcieLinkWidth(void *device, u32 *value) { LOST_HERE; return small(device, "pcie_lanes", value); }
code nvmlDeviceGetMaxPcieLinkWidth(void *device, u32 *value) { LOST_HERE; return small(device, "pcie_lanes_max", value); }
code nvmlDeviceGetPcieReplayCounter(void *device, u32 *value) { LOST_HERE; return small(device, "pcie_replays", value); }
code nvmlDeviceGetPcieThroughput(void *device, u32 counter, u32 *value) {
    LOST_HERE;
    return small(device, counter ? "pcie_rx_kb" : "pcie_tx_kb", value);
}
code nvmlDeviceGetTotalEnergyConsumption(void *device, u64 *value) { LOST_HERE; return number(device, "energy_mj", value); }
code nvmlDeviceGetEncoderUtilization(void *device, u32 *value, u32 *period) { LOST_HERE; *period = 0; return small(device, "encoder", value); }
code nvmlDeviceGetDecoderUtilization(void *device, u32 *value, u32 *period) { LOST_HERE; *period = 0; return small(device, "decoder", value); }
code nvmlDeviceGetTotalEccErrors(void *device, u32 kind, u32 counter, u64 *value) {
    LOST_HERE;
    static const char *keys[2][2] = {{"ecc_corrected", "ecc_life_corrected"}, {"ecc_uncorrected", "ecc_life_uncorrected"}};
    return kind > 1 || counter > 1 ? INVALID : number(device, keys[kind][counter], value);
}
code nvmlDeviceGetRemappedRows(void *device, u32 *corrected, u32 *uncorrected, u32 *pending, u32 *failed) {
    LOST_HERE;
    code c = small(device, "remapped_corrected", corrected);
    if (!c) c = small(device, "remapped_uncorrected", uncorrected);
    if (!c) c = small(device, "remapped_pending", pending);
    return c ? c : small(device, "remapped_failed", failed);
}
code nvmlDeviceGetNvLinkState(void *device, u32 link, u32 *active) {
    LOST_HERE;
    u32 all = 0, up = 0;
    code c = small(device, "nvlinks", &all);
    if (c || link >= all) return c ? c : INVALID;
    up = all;
    small(device, "nvlinks_up", &up);
    *active = link < up;
    return OK;
}
code nvmlDeviceGetNvLinkErrorCounter(void *device, u32 link, u32 counter, u64 *value) {
    LOST_HERE;
    static const char *keys[] = {"nvlink_replays", "nvlink_recoveries", "nvlink_crc"};
    u32 all = 0;
    code c = small(device, "nvlinks", &all);
    if (c || link >= all || counter > 2) return c ? c : INVALID;
    *value = 0;
    return link ? OK : number(device, keys[counter], value);
}
struct fabric { unsigned char cluster[16]; u32 status, clique; unsigned char state; };
code nvmlDeviceGetGpuFabricInfo(void *device, struct fabric *info) {
    LOST_HERE;
    u32 state = 0;
    code c = small(device, "fabric_state", &state);
    info->state = state;
    info->status = 0;
    return c;
}
code nvmlDeviceGetMigMode(void *device, u32 *current, u32 *pending) {
    LOST_HERE;
    code c = small(device, "mig_mode", current);
    *pending = *current;
    return c;
}
code nvmlDeviceGetMaxMigDeviceCount(void *device, u32 *value) { LOST_HERE; return small(device, "mig_most", value); }
code nvmlDeviceGetMigDeviceHandleByIndex(void *device, u32 index, void **mig) {
    LOST_HERE;
    void *instance = (void *)(((unsigned long)index + 1) << 16 | ((unsigned long)device & 0xffff));
    if (!of(instance, "uuid")) return NOT_FOUND;
    *mig = instance;
    return OK;
}
code nvmlDeviceGetGpuInstanceId(void *device, u32 *value) { LOST_HERE; return small(device, "gi", value); }
code nvmlDeviceGetComputeInstanceId(void *device, u32 *value) { LOST_HERE; return small(device, "ci", value); }

#ifndef OLD
code nvmlDeviceGetCurrentClocksEventReasons(void *device, u64 *value) { LOST_HERE; return number(device, "reasons", value); }
struct memory2 { u32 version; u64 total, reserved, free, used; };
code nvmlDeviceGetMemoryInfo_v2(void *device, struct memory2 *info) {
    LOST_HERE;
    if (info->version != (sizeof *info | 2 << 24)) return 25;
    code c = number(device, "memory_total", &info->total);
    if (!c) c = number(device, "memory_used", &info->used);
    info->reserved = 0;
    if (!c) number(device, "memory_reserved", &info->reserved);
    info->free = info->total - info->used - info->reserved;
    return c;
}
struct margin { u32 version; int degrees; };
code nvmlDeviceGetMarginTemperature(void *device, struct margin *margin) {
    LOST_HERE;
    if (margin->version != (sizeof *margin | 1 << 24)) return 25;
    return small(device, "margin_c", (u32 *)&margin->degrees);
}
struct field { u32 id, scope; long long when, latency; u32 kind; code result; u64 value; };
code nvmlDeviceGetFieldValues(void *device, int length, struct field *fields) {
    LOST_HERE;
    code c = reach(device);
    for (int i = 0; !c && i < length; i++) {
        const char *key = fields[i].id == 82 ? "memory_temperature_c" : fields[i].id == 138 ? "nvlink_tx_kib"
            : fields[i].id == 139 ? "nvlink_rx_kib" : "";
        fields[i].kind = fields[i].id == 82 ? 1 : 3;
        fields[i].value = ~0ull;
        fields[i].result = number(device, key, &fields[i].value);
    }
    return c;
}
struct process { u32 pid; u64 memory; u32 gi, ci; };
static code processes(void *device, const char *key, u32 *length, struct process *infos) {
    code c = reach(device);
    const char *list = of(device, key);
    if (c || !list) return c ? c : NOT_SUPPORTED;
    u32 room = *length, found = 0;
    for (const char *at = list; *at; at += strcspn(at, " "), at += strspn(at, " "), found++) {
        if (found >= room) continue;
        char *end;
        infos[found] = (struct process){strtoul(at, &end, 10), ~0ull, ~0u, ~0u};
        if (*end == ':') infos[found].memory = strtoull(end + 1, &end, 10);
        if (*end == ':') infos[found].gi = strtoul(end + 1, &end, 10);
    }
    *length = found;
    return found > room ? TOO_SMALL : OK;
}
code nvmlDeviceGetComputeRunningProcesses_v3(void *device, u32 *length, struct process *infos) { LOST_HERE; return processes(device, "processes", length, infos); }
code nvmlDeviceGetGraphicsRunningProcesses_v3(void *device, u32 *length, struct process *infos) { LOST_HERE; return processes(device, "drawing", length, infos); }

struct gpm { int live; void *device; };
struct support { u32 version, supported; };
struct metric { u32 id; code result; double value; char *names[3]; };
struct metrics { u32 version, length; struct gpm *samples[2]; struct metric metrics[]; };
static void enter(void) {
    const char *us = global("gpm_us");
    if (__sync_add_and_fetch(&in_gpm, 1) > 1 && gpm_alone) fail("two threads in GPM");
    if (us) usleep(atoi(us));
}
static code leave(code c) { __sync_sub_and_fetch(&in_gpm, 1); return c; }
code nvmlGpmQueryDeviceSupport(void *device, struct support *support) { LOST_HERE; enter(); return leave(small(device, "gpm", &support->supported)); }
code nvmlGpmSampleAlloc(struct gpm **sample) { LOST_HERE; enter(); *sample = calloc(1, sizeof **sample); return leave(OK); }
code nvmlGpmSampleFree(struct gpm *sample) { LOST_HERE; enter(); free(sample); return leave(OK); }
code nvmlGpmSampleGet(void *device, struct gpm *sample) {
    LOST_HERE;
    u32 mig = 0;
    enter();
    const char *block = of(device, "gpm_block_ms");
    if (block) usleep(1000 * atoi(block));
    code c = reach(device);
    if (!c && !small(device, "mig_mode", &mig) && mig) c = NOT_SUPPORTED;
    *sample = (struct gpm){!c, device};
    return leave(c);
}
code nvmlGpmMigSampleGet(void *device, u32 gi, struct gpm *sample) {
    LOST_HERE;
    enter();
    for (unsigned long i = 0; i < 8; i++) {
        void *instance = (void *)((i + 1) << 16 | ((unsigned long)device & 0xffff));
        const char *own = of(instance, "gi");
        if (own && strtoul(own, NULL, 10) == gi) { *sample = (struct gpm){1, instance}; return leave(reach(device)); }
    }
    return leave(NOT_FOUND);
}
code nvmlGpmMetricsGet(struct metrics *get) {
    LOST_HERE;
    enter();
    if (get->version != 1 || !get->samples[0]->live || !get->samples[1]->live) return leave(INVALID);
    for (u32 i = 0; i < get->length; i++) {
        char key[32];
        snprintf(key, sizeof key, "gpm.%u", get->metrics[i].id);
        const char *value = of(get->samples[1]->device, key);
        get->metrics[i].result = value ? OK : NOT_SUPPORTED;
        get->metrics[i].value = value ? atof(value) : 0;
    }
    return leave(OK);
}

struct event { void *device; u64 kind, data; u32 gi, ci; };
code nvmlEventSetCreate(void **set) { LOST_HERE; *set = malloc(1); return OK; }
code nvmlEventSetFree(void *set) { LOST_HERE; free(set); return OK; }
code nvmlDeviceRegisterEvents(void *device, u64 kinds, void *set) { LOST_HERE; return global("events") ? OK : NOT_SUPPORTED; }
/* `xid.0 2 79`: the first event is an Xid 79 of GPU 2. */
static code waited_for(struct event *event, u32 milliseconds) {
    for (u32 waited = 0;; waited += 20) {
        char key[32];
        snprintf(key, sizeof key, "xid.%d", delivered);
        const char *value = global(key);
        if (!sessions) return UNINITIALIZED;
        if (value) {
            u32 gpu = 0, xid = 0;
            sscanf(value, "%u %u", &gpu, &xid);
            *event = (struct event){(void *)(unsigned long)(gpu + 1), 8, xid, ~0u, ~0u};
            delivered++;
            return OK;
        }
        if (waited >= milliseconds) return TIMEOUT;
        usleep(20000);
    }
}
code nvmlEventSetWait_v2(void *set, struct event *event, u32 milliseconds) {
    LOST_HERE;
    __sync_add_and_fetch(&within, 1);
    code c = waited_for(event, milliseconds);
    __sync_sub_and_fetch(&within, 1);
    return c;
}
#endif
