//! CUDA and NVRTC asked through small libraries with the real ones' C interfaces, compiled here: they
//! compute, compute wrongly, refuse, lack symbols and lie.

use std::path::{Path, PathBuf};
use std::process::Command;

use expect_test::expect;
use sconce_cuda::nvrtc::{SAXPY, SAXPY_NAME};
use sconce_cuda::{Cuda, Module, Nvrtc, Places, Refusal};

const LIBCUDA: &str = include_str!("forged/libcuda.c");

const LIBNVRTC: &str = include_str!("forged/libnvrtc.c");

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
    Nvrtc::find(&Places::of_packages(std::slice::from_ref(&world.packages))).unwrap().unwrap()
}

/// Compiles and runs the kernel on the last device.
fn saxpy(world: &World) -> Result<Vec<f32>, Refusal> {
    let cuda = Cuda::open(&world.cuda)?;
    let devices = cuda.devices()?;
    let device = devices.last().unwrap();
    let image = nvrtc(world).compile(SAXPY, device.capability)?;
    let context = cuda.context(device)?;
    let module = Module::load(&context, &image)?;
    let kernel = module.kernel(SAXPY_NAME)?;
    let (x, y): (Vec<f32>, Vec<f32>) = (0..1000).map(|i| (i as f32, 2.0)).unzip();
    context.saxpy(&kernel, 3.0, &x, &y)
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

/// In a wheel the two libraries lie side by side, where the linker does not look.
#[test]
fn builtins_are_found_beside_nvrtc() {
    let world = world(&[], &["BUILTINS"]);
    assert!(saxpy(&world).is_err(), "it opens without them");
    let lib = world.packages.join("nvidia/cu13/lib");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-Wl,-soname,libnvrtc-builtins.so.13.2", "-x", "c", "/dev/null", "-o"]);
    assert!(cc.arg(lib.join("libnvrtc-builtins.so.13.2")).status().unwrap().success());
    saxpy(&world).unwrap();
}

/// What stands in for code that the driver does not know runs as PTX of the newest that NVRTC knows.
#[test]
fn the_target_is_the_device_or_the_newest_known() {
    let world = world(&[], &[]);
    let nvrtc = nvrtc(&world);
    let target = |capability| nvrtc.compile(SAXPY, capability).map(|image| image.target);
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
    refusal(&["FULL"], &[], expect!["cuMemAlloc_v2: error (2)"]);
    refusal(&["OLD"], &[], expect!["LIBCUDA has no `cuMemcpyDtoH_v2`"]);
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
    let found = Nvrtc::find(&Places::of_packages(&[empty.path().to_owned()]));
    assert!(matches!(found, Err(Refusal::Library { .. })), "{found:?}");
    assert!(matches!(Nvrtc::find(&Places::default()), Ok(None) | Ok(Some(_))));
}
