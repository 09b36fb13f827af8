//! CUDA and NVRTC asked through small libraries with the real ones' C interfaces, compiled here: they
//! compute, compute wrongly, refuse, lack symbols and lie.

use std::path::{Path, PathBuf};
use std::process::Command;

use expect_test::expect;
use sconce_gpu::cuda::nvrtc::{self, Nvrtc};
use sconce_gpu::cuda::{Cuda, Refusal};

/// Memory of the "device" is this process's own; a launch computes at once.
const LIBCUDA: &str = r#"
#include <stdlib.h>
#include <string.h>
static int ready, retained, current, allocated;
#define NEEDS(what) if (!(what)) return 201
int cuInit(unsigned int flags) {
#ifdef NO_DEVICE
    return 100;
#endif
    if (flags) return 1;
    ready = 1;
    return 0;
}
int cuGetErrorName(int code, const char **text) {
    if (code != 100) return 1;
    *text = "CUDA_ERROR_NO_DEVICE";
    return 0;
}
int cuGetErrorString(int code, const char **text) { *text = "no CUDA-capable device is detected"; return code != 100; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuDeviceGetCount(int *count) {
    NEEDS(ready);
#ifdef LIES
    *count = 2000000000;
#else
    *count = 2;
#endif
    return 0;
}
int cuDeviceGet(int *device, int ordinal) { NEEDS(ready); if (ordinal > 1) return 101; *device = ordinal + 40; return 0; }
int cuDeviceGetName(char *text, int length, int device) { memset(text, 'A' + device - 40, length); return 0; }
int cuDeviceGetAttribute(int *value, int which, int device) {
    if (device < 40) return 101;
    *value = which == 75 ? 9 : which == 76 ? 0 : -1;
    return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 80ul << 30; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { retained++; *context = (void *)7ul; return 0; }
int cuDevicePrimaryCtxRelease_v2(int device) { retained--; current = 0; return allocated ? 1 : 0; }
int cuCtxSetCurrent(void *context) { NEEDS(retained && context == (void *)7ul); current = 1; return 0; }
int cuModuleLoadData(void **module, const void *image) {
    NEEDS(current);
    if (strcmp(image, "code for sm_90")) return 209;
    *module = (void *)8ul;
    return 0;
}
int cuModuleGetFunction(void **function, void *module, const char *name) {
    if (strcmp(name, "sconce_saxpy")) return 500;
    *function = (void *)9ul;
    return 0;
}
int cuMemAlloc_v2(unsigned long *pointer, size_t bytes) {
    NEEDS(current);
#ifdef FULL
    return 2;
#endif
    allocated++;
    *pointer = (unsigned long)malloc(bytes);
    return 0;
}
#ifndef OLD
int cuMemFree_v2(unsigned long pointer) { allocated--; free((void *)pointer); return 0; }
#endif
int cuMemcpyHtoD_v2(unsigned long to, const void *from, size_t bytes) { memcpy((void *)to, from, bytes); return 0; }
int cuMemcpyDtoH_v2(void *to, unsigned long from, size_t bytes) { memcpy(to, (void *)from, bytes); return 0; }
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **parameters, void **extra) {
    if (function != (void *)9ul || extra || gy != 1 || gz != 1 || by != 1 || bz != 1) return 1;
    float a = *(float *)parameters[0], *x = *(float **)parameters[1], *y = *(float **)parameters[2];
    int n = *(int *)parameters[3];
    for (unsigned i = 0; i < gx * bx; i++) if (i < n) y[i] = a * x[i] + y[i];
    return 0;
}
int cuCtxSynchronize(void) { NEEDS(current); return 0; }
"#;

const LIBNVRTC: &str = r#"
#include <string.h>
static char target[64];
int nvrtcVersion(int *major, int *minor) { *major = 13; *minor = 2; return 0; }
const char *nvrtcGetErrorString(int code) { return code == 6 ? "NVRTC_ERROR_COMPILATION" : "NVRTC_ERROR"; }
int nvrtcGetNumSupportedArchs(int *count) {
#ifdef LIES
    *count = -1;
#else
    *count = 3;
#endif
    return 0;
}
int nvrtcGetSupportedArchs(int *list) { list[0] = 80; list[1] = 90; list[2] = 100; return 0; }
int nvrtcCreateProgram(void **program, const char *source, const char *name, int headers, const char **texts, const char **names) {
    if (!strstr(source, "sconce_saxpy") || headers) return 2;
    *program = (void *)5ul;
    return 0;
}
int nvrtcDestroyProgram(void **program) { *program = 0; return 0; }
int nvrtcCompileProgram(void *program, int count, const char **options) {
    if (count != 1 || strncmp(options[0], "--gpu-architecture=", 19)) return 5;
    strcpy(target, options[0] + 19);
#ifdef BROKEN
    return 6;
#endif
    return 0;
}
int nvrtcGetProgramLogSize(void *program, size_t *size) { *size = 12; return 0; }
int nvrtcGetProgramLog(void *program, char *log) { memcpy(log, "no builtins", 12); return 0; }
/* A cubin has no NUL behind it; PTX counts its own. */
int nvrtcGetCUBINSize(void *program, size_t *size) {
#ifdef HUGE
    *size = (size_t)1 << 60;
#else
    *size = 9 + strlen(target);
#endif
    return 0;
}
int nvrtcGetCUBIN(void *program, char *code) { memcpy(code, "code for ", 9); memcpy(code + 9, target, strlen(target)); return 0; }
int nvrtcGetPTXSize(void *program, size_t *size) { *size = 8 + strlen(target) + 1; return 0; }
int nvrtcGetPTX(void *program, char *code) { memcpy(code, "ptx for ", 8); strcpy(code + 8, target); return 0; }
"#;

fn compile(dir: &Path, source: &str, name: &str, defines: &[&str]) -> PathBuf {
    let file = dir.join(format!("{name}.c"));
    std::fs::write(&file, source).unwrap();
    // The loader knows libraries by file: each variant is one of its own.
    let library = dir.join(name);
    let defines = defines.iter().map(|define| format!("-D{define}"));
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-w", "-o"]).arg(&library).args(defines).arg(&file);
    assert!(cc.status().unwrap().success());
    library
}

struct World {
    _dir: tempfile::TempDir,
    cuda: PathBuf,
    packages: PathBuf,
}

fn world(cuda: &[&str], nvrtc: &[&str]) -> World {
    let dir = tempfile::tempdir().unwrap();
    let lib = dir.path().join("site-packages/nvidia/cu13/lib");
    std::fs::create_dir_all(&lib).unwrap();
    compile(&lib, LIBNVRTC, "libnvrtc.so.13", nvrtc);
    let cuda = compile(dir.path(), LIBCUDA, "libcuda.so.1", cuda);
    World { packages: dir.path().join("site-packages"), cuda, _dir: dir }
}

fn nvrtc(world: &World) -> Nvrtc {
    Nvrtc::find(&nvrtc::folders(std::slice::from_ref(&world.packages))).unwrap().unwrap()
}

/// Compiles and runs the kernel on the last device.
fn saxpy(world: &World) -> Result<Vec<f32>, Refusal> {
    let cuda = Cuda::open(&world.cuda)?;
    let devices = cuda.devices()?;
    let device = devices.last().unwrap();
    let image = nvrtc(world).compile(device.capability)?;
    let (x, y): (Vec<f32>, Vec<f32>) = (0..1000).map(|i| (i as f32, 2.0)).unzip();
    cuda.saxpy(device, &image, 3.0, &x, &y)
}

#[test]
fn a_kernel_computes() {
    let world = world(&[], &[]);
    let result = saxpy(&world).unwrap();
    let wanted: Vec<f32> = (0..1000).map(|i| 3.0 * i as f32 + 2.0).collect();
    assert_eq!(result, wanted);
    let cuda = Cuda::open(&world.cuda).unwrap();
    let devices = cuda.devices().unwrap();
    let ordinals: Vec<i32> = devices.iter().map(|device| device.ordinal).collect();
    assert_eq!(ordinals, [0, 1]);
    // A name that fills its buffer has no NUL to end at.
    assert_eq!(devices[1].name, "B".repeat(128));
    assert_eq!((devices[1].capability, devices[1].memory_bytes >> 30), ((9, 0), 80));
    assert_eq!(cuda.version(), Ok(13000));
    assert_eq!(nvrtc(&world).version(), Ok((13, 2)));
}

/// What stands in for code that the driver does not know runs as PTX of the newest that NVRTC knows.
#[test]
fn the_target_is_the_device_or_the_newest_known() {
    let world = world(&[], &[]);
    let nvrtc = nvrtc(&world);
    let target = |capability| nvrtc.compile(capability).map(|image| image.target);
    assert_eq!(target((9, 0)).as_deref(), Ok("sm_90"));
    assert_eq!(target((10, 3)).as_deref(), Ok("compute_100"));
    assert_eq!(target((8, 6)).as_deref(), Ok("compute_80"));
    let refusal = target((7, 0)).unwrap_err().to_string();
    expect!["nvrtcGetSupportedArchs answered nothing for sm_70"].assert_eq(&refusal);
}

fn refusal(cuda: &[&str], nvrtc: &[&str], says: expect_test::Expect) {
    let world = world(cuda, nvrtc);
    let words = saxpy(&world).unwrap_err().to_string();
    says.assert_eq(&words.replace(&*world.cuda.to_string_lossy(), "LIBCUDA"));
}

#[test]
fn refusals_have_their_names() {
    let no_device =
        expect!["cuInit: CUDA_ERROR_NO_DEVICE, no CUDA-capable device is detected (100)"];
    refusal(&["NO_DEVICE"], &[], no_device);
    refusal(&["LIES"], &[], expect!["cuDeviceGetCount answered 2000000000"]);
    refusal(&["FULL"], &[], expect!["cuMemAlloc: error (2)"]);
    refusal(&["OLD"], &[], expect!["LIBCUDA has no `cuMemFree_v2`"]);
    refusal(&[], &["BROKEN"], expect!["the kernel was not compiled: no builtins"]);
    refusal(&[], &["LIES"], expect!["nvrtcGetNumSupportedArchs answered -1"]);
    refusal(&[], &["HUGE"], expect!["nvrtcGetCUBIN answered a size of 1152921504606846976"]);
}

#[test]
fn what_is_not_there_is_not_found() {
    let empty = tempfile::tempdir().unwrap();
    let error = Cuda::open(&empty.path().join("libcuda.so.1")).unwrap_err();
    assert!(matches!(error, Refusal::Library { .. }), "{error}");
    // A file of that name that is no library is not the same as none.
    let lib = empty.path().join("nvidia/cuda_nvrtc/lib");
    std::fs::create_dir_all(&lib).unwrap();
    std::fs::write(lib.join("libnvrtc.so.12"), "not ELF").unwrap();
    let folders = nvrtc::folders(&[empty.path().to_owned()]);
    assert_eq!(folders[0], lib);
    let found = Nvrtc::find(&folders[..1]);
    assert!(matches!(found, Err(Refusal::Library { .. })), "{found:?}");
    assert!(matches!(Nvrtc::find(&[]), Ok(None) | Ok(Some(_))));
}
