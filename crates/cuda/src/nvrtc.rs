//! NVRTC: CUDA C++ compiled while the program runs.
//!
//! Signatures: NVIDIA's public `nvrtc.h` (NVRTC documentation). The code is compiled for the device
//! itself (`sm_90`, a cubin), which any driver of the same CUDA major runs; PTX of an NVRTC newer than
//! the driver would be refused. A device newer than the NVRTC gets PTX of the newest one it knows.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;

use crate::error::absurd;
use crate::library::{Opened, table};
use crate::{Places, Refusal};

/// The library's names: CUDA 11 counted its own way.
pub const NAMES: &[&str] = &["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2"];

/// The smallest kernel that computes something.
pub const SAXPY: &CStr = cr#"
extern "C" __global__ void sconce_saxpy(float a, const float *x, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = a * x[i] + y[i];
}
"#;
/// Its name.
pub const SAXPY_NAME: &CStr = c"sconce_saxpy";

/// Bytes of a compiled kernel or a log: more is not believed.
const MOST: usize = 64 << 20;

/// `nvrtcProgram`.
type Program = *mut c_void;

table! {
    /// The functions of `libnvrtc.so`.
    Functions, words,
    nvrtcVersion(major: *mut c_int, minor: *mut c_int);
    nvrtcGetNumSupportedArchs(count: *mut c_int);
    nvrtcGetSupportedArchs(list: *mut c_int);
    nvrtcCreateProgram(
        program: *mut Program, source: *const c_char, name: *const c_char, headers: c_int,
        texts: *const *const c_char, names: *const *const c_char,
    );
    nvrtcDestroyProgram(program: *mut Program);
    nvrtcCompileProgram(program: Program, count: c_int, options: *const *const c_char);
    nvrtcGetProgramLogSize(program: Program, bytes: *mut usize);
    nvrtcGetProgramLog(program: Program, log: *mut c_char);
    nvrtcGetCUBINSize(program: Program, bytes: *mut usize);
    nvrtcGetCUBIN(program: Program, cubin: *mut c_char);
    nvrtcGetPTXSize(program: Program, bytes: *mut usize);
    nvrtcGetPTX(program: Program, ptx: *mut c_char);
}

fn words(library: &Opened, code: c_int) -> Option<String> {
    library.words(c"nvrtcGetErrorString", code)
}

/// A compiled kernel, as NVRTC made it, with a NUL behind it.
#[derive(Clone, Debug)]
pub struct Image {
    bytes: Vec<u8>,
    /// What it was compiled for: `sm_90`, `compute_90`.
    pub target: String,
}

impl Image {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// NVRTC, opened.
#[derive(Clone, Debug)]
pub struct Nvrtc {
    functions: Functions,
}

impl Nvrtc {
    /// The first that opens. `None` where there is none at all; one that is there and does not open is an error.
    pub fn find(places: &Places) -> Result<Option<Self>, Refusal> {
        match places.open(NAMES) {
            Ok(library) => Ok(Some(Self { functions: Functions::of(library) })),
            Err(Refusal::Missing { .. }) => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.functions.library.path
    }

    /// Its version: major, minor.
    pub fn version(&self) -> Result<(i32, i32), Refusal> {
        let (mut major, mut minor): (c_int, c_int) = (0, 0);
        // SAFETY: both numbers outlive the call.
        unsafe { self.functions.nvrtcVersion(&mut major, &mut minor) }.map(|()| (major, minor))
    }

    /// `source` for a device of this capability.
    pub fn compile(&self, source: &CStr, capability: (u32, u32)) -> Result<Image, Refusal> {
        let wanted = (capability.0 * 10 + capability.1) as c_int;
        let newest = self.architectures()?.into_iter().filter(|arch| *arch <= wanted).max();
        let newest = newest
            .ok_or_else(|| absurd("nvrtcGetSupportedArchs", format!("nothing for sm_{wanted}")))?;
        let (target, cubin) = match newest == wanted {
            true => (format!("sm_{wanted}"), true),
            false => (format!("compute_{newest}"), false),
        };
        let mut program: Program = std::ptr::null_mut();
        let none = std::ptr::null();
        // SAFETY: source and name end with NUL; with 0 headers the two arrays may be null.
        unsafe {
            self.functions.nvrtcCreateProgram(
                &mut program,
                source.as_ptr(),
                c"sconce.cu".as_ptr(),
                0,
                none,
                none,
            )
        }?;
        let bytes = self.compiled(program, &target, cubin);
        // SAFETY: created above, destroyed once.
        _ = unsafe { self.functions.nvrtcDestroyProgram(&mut program) };
        let mut bytes = bytes?;
        bytes.push(0);
        Ok(Image { bytes, target })
    }

    fn compiled(&self, program: Program, target: &str, cubin: bool) -> Result<Vec<u8>, Refusal> {
        let option = CString::new(format!("--gpu-architecture={target}"))
            .map_err(|error| absurd("an option", error))?;
        let functions = &self.functions;
        // SAFETY: one option, ended by NUL, which outlives the call.
        let compiled = unsafe { functions.nvrtcCompileProgram(program, 1, &option.as_ptr()) };
        if let Err(refusal) = compiled {
            let log = bytes(
                "nvrtcGetProgramLog",
                // SAFETY: `length` outlives the call.
                |length| unsafe { functions.nvrtcGetProgramLogSize(program, length) },
                // SAFETY: the buffer is as long as was said.
                |buffer| unsafe { functions.nvrtcGetProgramLog(program, buffer) },
            );
            let log = log
                .map(|log| String::from_utf8_lossy(&log).trim_end_matches('\0').trim().to_owned());
            return Err(match log {
                Ok(log) if !log.is_empty() => Refusal::Compile { log },
                _ => refusal,
            });
        }
        match cubin {
            true => bytes(
                "nvrtcGetCUBIN",
                // SAFETY: `length` outlives the call.
                |length| unsafe { functions.nvrtcGetCUBINSize(program, length) },
                // SAFETY: the buffer is as long as was said.
                |buffer| unsafe { functions.nvrtcGetCUBIN(program, buffer) },
            ),
            false => bytes(
                "nvrtcGetPTX",
                // SAFETY: `length` outlives the call.
                |length| unsafe { functions.nvrtcGetPTXSize(program, length) },
                // SAFETY: the buffer is as long as was said.
                |buffer| unsafe { functions.nvrtcGetPTX(program, buffer) },
            ),
        }
    }

    /// The architectures it compiles for: 90 is `sm_90`.
    pub fn architectures(&self) -> Result<Vec<c_int>, Refusal> {
        let mut number: c_int = 0;
        // SAFETY: `number` outlives the call.
        unsafe { self.functions.nvrtcGetNumSupportedArchs(&mut number) }?;
        let room = usize::try_from(number).ok().filter(|room| *room <= 1024);
        let room = room.ok_or_else(|| absurd("nvrtcGetNumSupportedArchs", number))?;
        let mut found: Vec<c_int> = vec![0; room];
        // SAFETY: the array has as many places as the library said that it fills.
        unsafe { self.functions.nvrtcGetSupportedArchs(found.as_mut_ptr()) }.map(|()| found)
    }
}

/// What a pair of calls gives: one for the size, one for the bytes.
fn bytes(
    call: &'static str,
    size: impl FnOnce(*mut usize) -> Result<(), Refusal>,
    get: impl FnOnce(*mut c_char) -> Result<(), Refusal>,
) -> Result<Vec<u8>, Refusal> {
    let mut length: usize = 0;
    size(&mut length)?;
    if length == 0 || length > MOST {
        return Err(absurd(call, format!("a size of {length}")));
    }
    let mut bytes = vec![0u8; length];
    get(bytes.as_mut_ptr().cast())?;
    Ok(bytes)
}
