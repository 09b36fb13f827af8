//! Asking NVML: a small library with the real one's C interface, compiled here, that answers,
//! refuses, lacks symbols, lies, or never comes back.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use expect_test::expect;
use sconce_gpu::nvml::{self, Answers, Silence};

const FAKE: &str = r#"
#include <string.h>
#include <unistd.h>
typedef struct { unsigned long long total, free, used; } memory;
typedef struct { char legacy[16]; unsigned int numbers[5]; char bus[32]; } pci;
typedef struct { unsigned char cluster[16]; unsigned int status, clique; unsigned char state; } fabric;

int nvmlInit_v2(void) {
#ifdef BLOCKS
    for (;;) sleep(1);
#endif
#ifdef MISMATCH
    return 18;
#endif
    return 0;
}
int nvmlSystemGetDriverVersion(char *text, unsigned int length) { strncpy(text, "580.159.04", length); return 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 13000; return 0; }
#ifndef OLD
int nvmlDeviceGetCount_v2(unsigned int *count) {
#ifdef LIES
    *count = 4000000000u;
#else
    *count = 2;
#endif
    return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
#ifdef LOST
    if (index == 1) return 15;
#endif
    if (index > 1) return 2;
    *device = (void *)(unsigned long)(index + 1);
    return 0;
}
#endif
#ifdef SILENT
#define ANSWER(code) return 3
#else
#define ANSWER(code) code; return 0
#endif
#define IS(n) ((unsigned long)device == (n))
int nvmlDeviceGetUUID(void *device, char *text, unsigned int length) {
    ANSWER(strncpy(text, IS(1) ? "GPU-1" : IS(2) ? "GPU-2" : "MIG-7", length));
}
int nvmlDeviceGetName(void *device, char *text, unsigned int length) { ANSWER(memset(text, 'A', length)); }
int nvmlDeviceGetMinorNumber(void *device, unsigned int *minor) { ANSWER(*minor = IS(1)); }
int nvmlDeviceGetPciInfo_v3(void *device, pci *info) { ANSWER(strcpy(info->bus, IS(1) ? "00000000:04:00.0" : "00000000:0B:00.0")); }
int nvmlDeviceGetMemoryInfo(void *device, memory *info) { ANSWER(info->total = 100; info->free = 60; info->used = 40); }
int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) { ANSWER(*major = 9; *minor = 0); }
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned int *count, void *infos) {
    if (infos) return 2;
    if (IS(2)) { *count = 3; return 7; }
    ANSWER(*count = 0);
}
int nvmlDeviceGetMigMode(void *device, unsigned int *current, unsigned int *pending) { ANSWER(*current = *pending = IS(2)); }
int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned int *count) { ANSWER(*count = 7); }
int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned int index, void **mig) {
    if (index != 0) return 6;
    ANSWER(*mig = (void *)7ul);
}
int nvmlDeviceGetGpuInstanceId(void *device, unsigned int *id) { ANSWER(*id = 4); }
int nvmlDeviceGetComputeInstanceId(void *device, unsigned int *id) { ANSWER(*id = 0); }
int nvmlDeviceGetComputeMode(void *device, unsigned int *mode) { ANSWER(*mode = IS(1) ? 3 : 0); }
int nvmlDeviceGetRemappedRows(void *device, unsigned int *a, unsigned int *b, unsigned int *pending, unsigned int *failed) {
    ANSWER(*a = 5; *b = 1; *pending = IS(2); *failed = 0);
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons) { ANSWER(*reasons = 0x48); }
int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned int *limit) { ANSWER(*limit = 500000); }
int nvmlDeviceGetPowerManagementLimit(void *device, unsigned int *limit) { ANSWER(*limit = 600000); }
int nvmlDeviceGetPowerManagementDefaultLimit(void *device, unsigned int *limit) { ANSWER(*limit = 700000); }
int nvmlDeviceGetPersistenceMode(void *device, unsigned int *mode) { ANSWER(*mode = IS(1)); }
int nvmlDeviceGetVirtualizationMode(void *device, int *mode) { ANSWER(*mode = IS(1) ? 2 : 0); }
typedef struct { unsigned int year; unsigned short month, day, hour, min, sec; unsigned char status; } expiry;
typedef struct { int code; unsigned int state; char info[128], product[128]; unsigned int enabled; expiry expires; } feature;
typedef struct { int supported; unsigned int count; feature features[3]; } features;
int nvmlDeviceGetGridLicensableFeatures_v4(void *device, features *all) {
    memset(all, 0, sizeof *all);
    all->supported = 1;
    all->count = 2;
#ifdef LICENSED
    all->features[1].state = 1;
#endif
    return 0;
}
int nvmlDeviceGetGpuFabricInfo(void *device, fabric *info) { ANSWER(info->state = IS(1) ? 2 : 3; info->status = 0); }
"#;

/// The fake library, compiled with `defines`.
fn fake(dir: &Path, defines: &[&str]) -> PathBuf {
    let source = dir.join("nvml.c");
    std::fs::write(&source, FAKE).unwrap();
    let library = dir.join(format!("libnvidia-ml-{}.so.1", defines.join("-")));
    let defines = defines.iter().map(|define| format!("-D{define}"));
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-w", "-o"])
        .arg(&library)
        .args(defines)
        .arg(&source)
        .status()
        .unwrap();
    assert!(status.success());
    library
}

fn ask(defines: &[&str]) -> Result<Answers, Silence> {
    let dir = tempfile::tempdir().unwrap();
    nvml::ask(&fake(dir.path(), defines), Duration::from_secs(20))
}

#[test]
fn everything_is_asked() {
    let answers = ask(&[]).unwrap();
    // A name that fills its buffer has no NUL to end at.
    assert_eq!(answers.gpus[0].name.as_ref().unwrap().len(), 96);
    let gpus: Vec<String> = answers
        .gpus
        .iter()
        .map(|gpu| {
            format!(
                "{:?} {:?} {:?} {:?} of {:?} {:?} processes {:?} mig {:?} {:?} fabric {:?} {:?} {:?}",
                gpu.uuid,
                gpu.minor,
                gpu.bus_id,
                gpu.used_bytes,
                gpu.memory_bytes,
                gpu.capability,
                gpu.processes,
                gpu.mig,
                gpu.instances,
                gpu.fabric,
                gpu.compute_mode,
                gpu.remapped
            )
        })
        .collect();
    expect![[r#"
        Some("GPU-1") Some(1) Some("0000:04:00.0") Some(40) of Some(100) Some((9, 0)) processes Some(0) mig Some(false) [] fabric Some(InProgress) Some(ExclusiveProcess) Some(Remapped { pending: false, failed: false })
        Some("GPU-2") Some(0) Some("0000:0b:00.0") Some(40) of Some(100) Some((9, 0)) processes Some(3) mig Some(true) [MigAnswers { uuid: Some("MIG-7"), gpu_instance: Some(4), compute_instance: Some(0), memory_bytes: Some(100) }] fabric Some(Completed) Some(Default) Some(Remapped { pending: true, failed: false })"#]].assert_eq(&gpus.join("\n"));
    assert_eq!((answers.driver.as_deref(), answers.cuda), (Some("580.159.04"), Some(13000)));
}

#[test]
fn clocks_power_and_licence() {
    let health = ask(&[]).unwrap().gpus[0].health;
    assert_eq!(health.clock_reasons, Some(0x48));
    assert_eq!((health.power_limit_mw, health.power_default_mw), (Some(500_000), Some(700_000)));
    assert_eq!(health.power_set_mw, Some(600_000));
    assert_eq!(health.persistence, Some(true));
    assert_eq!(health.vgpu.unwrap().licensed, Some(false));
    let both = ask(&["LICENSED"]).unwrap();
    assert_eq!(both.gpus[0].health.vgpu.unwrap().licensed, Some(true));
    assert_eq!(both.gpus[1].health.vgpu, None);
}

#[test]
fn a_lost_gpu_keeps_its_place_and_says_why() {
    let answers = ask(&["LOST"]).unwrap();
    assert_eq!(answers.gpus[0].silence, None);
    let lost = nvml::GpuAnswers { silence: Some(15), ..nvml::GpuAnswers::default() };
    assert_eq!(answers.gpus[1], lost);
    assert_eq!(nvml::say(15), "GPU is lost");
}

/// Every call answers NOT_SUPPORTED: the GPUs are there, and nothing is known of them.
#[test]
fn not_supported_is_unknown() {
    let answers = ask(&["SILENT"]).unwrap();
    assert_eq!(answers.gpus.len(), 2);
    assert_eq!(answers.gpus[0], nvml::GpuAnswers::default());
}

#[test]
fn missing_symbols_are_unknown() {
    let answers = ask(&["OLD"]).unwrap();
    assert_eq!((answers.gpus.len(), answers.cuda), (0, Some(13000)));
}

#[test]
fn a_lie_about_the_count_is_bounded() {
    assert_eq!(ask(&["LIES"]).unwrap().gpus.len(), 256);
}

#[test]
fn a_refusal_has_its_name() {
    let silence = ask(&["MISMATCH"]).unwrap_err();
    assert_eq!(silence.to_string(), "nvmlInit: Driver/library version mismatch (18)");
}

#[test]
fn a_library_that_blocks_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let library = fake(dir.path(), &["BLOCKS"]);
    let begin = Instant::now();
    let silence = nvml::ask(&library, Duration::from_millis(100)).unwrap_err();
    assert_eq!(silence, Silence::Late { patience: Duration::from_millis(100) });
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[test]
fn what_is_no_nvml_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let silence = nvml::ask(&dir.path().join("nothing.so"), Duration::from_secs(5)).unwrap_err();
    assert!(matches!(silence, Silence::Library { .. }), "{silence}");
    let libc = nvml::ask(Path::new("libc.so.6"), Duration::from_secs(5)).unwrap_err();
    assert!(matches!(libc, Silence::Symbol { symbol: "nvmlInit_v2", .. }), "{libc}");
}
