//! CUDA's driver interface, as far as a proof needs it: `cuInit`, the devices, one kernel.
//!
//! The library is opened with `dlopen`. Unlike NVML it is asked without a thread in between: a program
//! that asks it should be one that may crash or hang, as `sconce probe` is.
//! Signatures and numbers: NVIDIA's public `cuda.h` (CUDA driver API reference).

#![allow(unsafe_code)]

pub mod nvrtc;

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::path::{Path, PathBuf};

use libloading::Library;

use nvrtc::Image;

use crate::error::in_full;

/// More devices than any machine has.
const MOST: c_int = 256;
/// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR` and `_MINOR`.
const CAPABILITY: [c_int; 2] = [75, 76];
/// Threads of a block: every GPU has them.
const BLOCK: usize = 256;

/// Why CUDA did not do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The library could not be opened.
    #[error("{} can't be opened: {reason}", library.display())]
    Library {
        /// Which.
        library: PathBuf,
        /// What the linker said.
        reason: String,
    },
    /// A symbol is missing.
    #[error("{} has no `{symbol}`", library.display())]
    Symbol {
        /// Which library.
        library: PathBuf,
        /// Which symbol.
        symbol: String,
    },
    /// A call failed.
    #[error("{call}: {meaning} ({code})")]
    Call {
        /// Which.
        call: &'static str,
        /// The `CUresult` or `nvrtcResult`.
        code: i32,
        /// What the library calls it.
        meaning: String,
    },
    /// The source was not compiled.
    #[error("the kernel was not compiled: {log}")]
    Compile {
        /// The compiler's words.
        log: String,
    },
    /// An answer that can't be.
    #[error("{call} answered {answer}")]
    Absurd {
        /// Which call.
        call: &'static str,
        /// What it said.
        answer: String,
    },
}

/// An opened library. It is never unloaded: CUDA holds threads of its own.
#[derive(Clone, Debug)]
struct Opened {
    library: &'static Library,
    path: PathBuf,
}

impl Opened {
    fn open(path: &Path) -> Result<Self, Refusal> {
        let opened = {
            // SAFETY: loading runs the library's initialisers. It is a CUDA library, found where any
            // CUDA program on this machine finds it.
            unsafe { Library::new(path) }
        };
        let library = opened.map_err(|error| Refusal::Library {
            library: path.to_owned(),
            reason: in_full(&error),
        })?;
        Ok(Self { library: Box::leak(Box::new(library)), path: path.to_owned() })
    }

    /// The function of this name. `F` must be its C signature.
    fn symbol<F: Copy>(&self, name: &CStr) -> Result<F, Refusal> {
        // SAFETY: each caller names the type that NVIDIA's header declares for the symbol; the library
        // is never unloaded, so the pointer stays valid.
        let found = unsafe { self.library.get::<F>(name.to_bytes_with_nul()) };
        found.map(|symbol| *symbol).map_err(|_| Refusal::Symbol {
            library: self.path.clone(),
            symbol: name.to_string_lossy().into_owned(),
        })
    }
}

/// A device that CUDA shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// CUDA's number for it.
    pub ordinal: i32,
    /// `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Compute capability: major, minor.
    pub capability: (u32, u32),
    /// Bytes of memory.
    pub memory_bytes: u64,
}

/// CUDA, initialised.
#[derive(Clone, Debug)]
pub struct Cuda {
    library: Opened,
}

/// `CUdeviceptr`.
type Pointer = u64;
/// `CUcontext`, `CUmodule`, `CUfunction`, `CUstream`.
type Handle = *mut c_void;

impl Cuda {
    /// Opens `library` and calls `cuInit`.
    pub fn open(library: &Path) -> Result<Self, Refusal> {
        let cuda = Self { library: Opened::open(library)? };
        let init: unsafe extern "C" fn(c_uint) -> c_int = cuda.library.symbol(c"cuInit")?;
        // SAFETY: `CUresult cuInit(unsigned int flags)`; flags must be 0.
        let code = unsafe { init(0) };
        cuda.done("cuInit", code)?;
        Ok(cuda)
    }

    /// The newest CUDA that the driver serves: 13000 is 13.0.
    pub fn version(&self) -> Result<u32, Refusal> {
        let version: unsafe extern "C" fn(*mut c_int) -> c_int =
            self.library.symbol(c"cuDriverGetVersion")?;
        let mut number: c_int = 0;
        // SAFETY: the signature is cuda.h's; `number` outlives the call.
        let code = unsafe { version(&mut number) };
        self.done("cuDriverGetVersion", code)?;
        u32::try_from(number).map_err(|_| absurd("cuDriverGetVersion", number))
    }

    /// All devices.
    pub fn devices(&self) -> Result<Vec<Device>, Refusal> {
        let count: unsafe extern "C" fn(*mut c_int) -> c_int =
            self.library.symbol(c"cuDeviceGetCount")?;
        let mut number: c_int = 0;
        // SAFETY: the signature is cuda.h's; `number` outlives the call.
        let code = unsafe { count(&mut number) };
        self.done("cuDeviceGetCount", code)?;
        if !(0..=MOST).contains(&number) {
            return Err(absurd("cuDeviceGetCount", number));
        }
        (0..number).map(|ordinal| self.device(ordinal)).collect()
    }

    fn device(&self, ordinal: c_int) -> Result<Device, Refusal> {
        let handle = self.handle(ordinal)?;
        let name: unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int =
            self.library.symbol(c"cuDeviceGetName")?;
        let mut buffer: [c_char; 128] = [0; 128];
        // SAFETY: the buffer is as long as said.
        let code = unsafe { name(buffer.as_mut_ptr(), buffer.len() as c_int, handle) };
        self.done("cuDeviceGetName", code)?;
        let attribute: unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int =
            self.library.symbol(c"cuDeviceGetAttribute")?;
        let mut capability = [0; 2];
        for (which, place) in CAPABILITY.into_iter().zip(&mut capability) {
            let mut value: c_int = 0;
            // SAFETY: the signature is cuda.h's; `value` outlives the call.
            let code = unsafe { attribute(&mut value, which, handle) };
            self.done("cuDeviceGetAttribute", code)?;
            *place = u32::try_from(value).map_err(|_| absurd("cuDeviceGetAttribute", value))?;
        }
        let memory: unsafe extern "C" fn(*mut usize, c_int) -> c_int =
            self.library.symbol(c"cuDeviceTotalMem_v2")?;
        let mut bytes: usize = 0;
        // SAFETY: the signature is cuda.h's; `bytes` outlives the call.
        let code = unsafe { memory(&mut bytes, handle) };
        self.done("cuDeviceTotalMem", code)?;
        let name: Vec<u8> =
            buffer.iter().map(|char| *char as u8).take_while(|byte| *byte != 0).collect();
        Ok(Device {
            ordinal,
            name: String::from_utf8_lossy(&name).into_owned(),
            capability: (capability[0], capability[1]),
            memory_bytes: bytes as u64,
        })
    }

    /// `CUdevice` of an ordinal.
    fn handle(&self, ordinal: c_int) -> Result<c_int, Refusal> {
        let get: unsafe extern "C" fn(*mut c_int, c_int) -> c_int =
            self.library.symbol(c"cuDeviceGet")?;
        let mut device: c_int = 0;
        // SAFETY: the signature is cuda.h's; `device` outlives the call.
        let code = unsafe { get(&mut device, ordinal) };
        self.done("cuDeviceGet", code).map(|()| device)
    }

    /// Runs [`nvrtc::KERNEL`] on a device: `a * x + y`, element by element.
    pub fn saxpy(
        &self,
        device: &Device,
        image: &Image,
        a: f32,
        x: &[f32],
        y: &[f32],
    ) -> Result<Vec<f32>, Refusal> {
        let handle = self.handle(device.ordinal)?;
        let retain: unsafe extern "C" fn(*mut Handle, c_int) -> c_int =
            self.library.symbol(c"cuDevicePrimaryCtxRetain")?;
        let release: unsafe extern "C" fn(c_int) -> c_int =
            self.library.symbol(c"cuDevicePrimaryCtxRelease_v2")?;
        let mut context: Handle = std::ptr::null_mut();
        // SAFETY: the signature is cuda.h's; `context` outlives the call.
        let code = unsafe { retain(&mut context, handle) };
        self.done("cuDevicePrimaryCtxRetain", code)?;
        let result = self.within(context, image, a, x, y);
        // SAFETY: retained above. With the context goes what a failure left in it. Its answer would
        // only repeat an error that `result` holds already.
        _ = unsafe { release(handle) };
        result
    }

    fn within(
        &self,
        context: Handle,
        image: &Image,
        a: f32,
        x: &[f32],
        y: &[f32],
    ) -> Result<Vec<f32>, Refusal> {
        let set: unsafe extern "C" fn(Handle) -> c_int = self.library.symbol(c"cuCtxSetCurrent")?;
        // SAFETY: the context was retained by the caller.
        let code = unsafe { set(context) };
        self.done("cuCtxSetCurrent", code)?;
        let load: unsafe extern "C" fn(*mut Handle, *const c_void) -> c_int =
            self.library.symbol(c"cuModuleLoadData")?;
        let mut module: Handle = std::ptr::null_mut();
        // SAFETY: an `Image` is what NVRTC made, whole and with a NUL behind it; CUDA reads its length
        // out of it.
        let code = unsafe { load(&mut module, image.bytes().as_ptr().cast()) };
        self.done("cuModuleLoadData", code)?;
        let function: unsafe extern "C" fn(*mut Handle, Handle, *const c_char) -> c_int =
            self.library.symbol(c"cuModuleGetFunction")?;
        let mut kernel: Handle = std::ptr::null_mut();
        // SAFETY: the module was loaded above; the name ends with NUL.
        let code = unsafe { function(&mut kernel, module, nvrtc::KERNEL_NAME.as_ptr()) };
        self.done("cuModuleGetFunction", code)?;

        let length = x.len().min(y.len());
        let (there_x, mut there_y) = (self.upload(&x[..length])?, self.upload(&y[..length])?);
        let count = c_int::try_from(length).map_err(|_| absurd("saxpy", length))?;
        let (mut a, mut there_x, mut count) = (a, there_x, count);
        let mut parameters: [*mut c_void; 4] = [
            (&raw mut a).cast(),
            (&raw mut there_x).cast(),
            (&raw mut there_y).cast(),
            (&raw mut count).cast(),
        ];
        type Launch = unsafe extern "C" fn(
            Handle,
            c_uint,
            c_uint,
            c_uint,
            c_uint,
            c_uint,
            c_uint,
            c_uint,
            Handle,
            *mut *mut c_void,
            *mut *mut c_void,
        ) -> c_int;
        let launch: Launch = self.library.symbol(c"cuLaunchKernel")?;
        let blocks = length.div_ceil(BLOCK) as c_uint;
        let (none, stream) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: the kernel takes (float, const float *, float *, int), as in KERNEL; each pointer
        // leads to a value of that type which outlives the launch, and both buffers hold `count` floats.
        let code = unsafe {
            launch(
                kernel,
                blocks,
                1,
                1,
                BLOCK as c_uint,
                1,
                1,
                0,
                stream,
                parameters.as_mut_ptr(),
                none,
            )
        };
        self.done("cuLaunchKernel", code)?;
        let wait: unsafe extern "C" fn() -> c_int = self.library.symbol(c"cuCtxSynchronize")?;
        // SAFETY: it takes nothing and waits for the current context.
        let code = unsafe { wait() };
        self.done("cuCtxSynchronize", code)?;
        let download: unsafe extern "C" fn(*mut c_void, Pointer, usize) -> c_int =
            self.library.symbol(c"cuMemcpyDtoH_v2")?;
        let mut result = vec![0.0f32; length];
        // SAFETY: both sides hold `length` floats.
        let code = unsafe { download(result.as_mut_ptr().cast(), there_y, size_of_val(&*result)) };
        self.done("cuMemcpyDtoH", code)?;
        let free: unsafe extern "C" fn(Pointer) -> c_int = self.library.symbol(c"cuMemFree_v2")?;
        for pointer in [there_x, there_y] {
            // SAFETY: allocated by `upload`, freed once.
            let code = unsafe { free(pointer) };
            self.done("cuMemFree", code)?;
        }
        Ok(result)
    }

    /// A copy of these on the current context's device.
    fn upload(&self, values: &[f32]) -> Result<Pointer, Refusal> {
        let allocate: unsafe extern "C" fn(*mut Pointer, usize) -> c_int =
            self.library.symbol(c"cuMemAlloc_v2")?;
        let copy: unsafe extern "C" fn(Pointer, *const c_void, usize) -> c_int =
            self.library.symbol(c"cuMemcpyHtoD_v2")?;
        let mut pointer: Pointer = 0;
        // SAFETY: the signature is cuda.h's; `pointer` outlives the call.
        let code = unsafe { allocate(&mut pointer, size_of_val(values)) };
        self.done("cuMemAlloc", code)?;
        // SAFETY: as many bytes were allocated as `values` has.
        let code = unsafe { copy(pointer, values.as_ptr().cast(), size_of_val(values)) };
        self.done("cuMemcpyHtoD", code)?;
        Ok(pointer)
    }

    /// A `CUresult` as a result, in CUDA's own words where it has some.
    fn done(&self, call: &'static str, code: c_int) -> Result<(), Refusal> {
        if code == 0 {
            return Ok(());
        }
        type Words = unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int;
        let words = |name: &CStr| {
            let function = self.library.symbol::<Words>(name).ok()?;
            let mut text: *const c_char = std::ptr::null();
            // SAFETY: the signature is cuda.h's; `text` outlives the call.
            let known = unsafe { function(code, &mut text) } == 0 && !text.is_null();
            // SAFETY: on success it is a constant of the library, ended by NUL.
            known.then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
        };
        let meaning = match (words(c"cuGetErrorName"), words(c"cuGetErrorString")) {
            (Some(name), Some(text)) => format!("{name}, {text}"),
            (Some(name), None) => name,
            (None, _) => "error".to_owned(),
        };
        Err(Refusal::Call { call, code, meaning })
    }
}

fn absurd(call: &'static str, answer: impl std::fmt::Display) -> Refusal {
    Refusal::Absurd { call, answer: answer.to_string() }
}

/// Text for C. The texts of this crate have no NUL in them.
fn c_string(text: String) -> Result<CString, Refusal> {
    CString::new(text).map_err(|error| absurd("a text for C", error))
}
