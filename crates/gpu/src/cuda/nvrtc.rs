//! NVRTC: CUDA C++ compiled while the program runs.
//!
//! Signatures: NVIDIA's public `nvrtc.h` (NVRTC documentation). The code is compiled for the device
//! itself (`sm_90`, a cubin), which any driver of the same CUDA major runs; PTX of an NVRTC newer than
//! the driver would be refused. A device newer than the NVRTC gets PTX of the newest one it knows.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fs;
use std::path::{Path, PathBuf};

use super::{Opened, Refusal, absurd, c_string};

/// The library's names: CUDA 11 counted its own way.
pub const NAMES: &[&str] = &["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2"];

/// The kernel that is compiled.
pub const KERNEL: &CStr = cr#"
extern "C" __global__ void sconce_saxpy(float a, const float *x, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = a * x[i] + y[i];
}
"#;
pub(super) const KERNEL_NAME: &CStr = c"sconce_saxpy";

/// Bytes of a compiled kernel or a log: more is not believed.
const MOST: usize = 64 << 20;

/// `nvrtcProgram`.
type Program = *mut c_void;

/// A compiled kernel, as NVRTC made it, with a NUL behind it.
#[derive(Clone, Debug)]
pub struct Image {
    bytes: Vec<u8>,
    /// What it was compiled for: `sm_90`, `compute_90`.
    pub target: String,
}

impl Image {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// NVRTC, opened.
#[derive(Clone, Debug)]
pub struct Nvrtc {
    library: Opened,
}

/// The folders of NVRTC in wheels and toolkits, below these roots of Python packages
/// (`site-packages`): `nvidia/cuda_nvrtc/lib` until CUDA 12, `nvidia/cu13/lib` since.
pub fn folders(packages: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for root in packages {
        let Ok(entries) = fs::read_dir(root.join("nvidia")) else { continue };
        let mut folders: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path().join("lib"))
            .filter(|lib| lib.is_dir())
            .collect();
        folders.sort();
        found.extend(folders);
    }
    found.push(PathBuf::from("/usr/local/cuda/lib64"));
    found
}

/// NVRTC opens its builtins by their plain name when it first compiles, and in a wheel's folder the
/// linker does not look: torch opens them beforehand, and so does this. What fails here NVRTC says itself.
fn open_builtins(nvrtc: &Path) {
    let Some(entries) = nvrtc.parent().and_then(|folder| fs::read_dir(folder).ok()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("libnvrtc-builtins.so.") {
            drop(Opened::open(&entry.path()));
        }
    }
}

impl Nvrtc {
    /// The first that opens: by its plain name, as any program would find it, then in `folders`.
    /// `None` where there is none at all; one that is there and does not open is an error.
    pub fn find(folders: &[PathBuf]) -> Result<Option<Self>, Refusal> {
        for name in NAMES {
            if let Ok(library) = Opened::open(Path::new(name)) {
                return Ok(Some(Self { library }));
            }
        }
        let files = folders.iter().flat_map(|folder| NAMES.iter().map(|name| folder.join(name)));
        match files.into_iter().find(|file| file.exists()) {
            Some(file) => {
                open_builtins(&file);
                Ok(Some(Self { library: Opened::open(&file)? }))
            }
            None => Ok(None),
        }
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.library.path
    }

    /// Its version: major, minor.
    pub fn version(&self) -> Result<(i32, i32), Refusal> {
        let version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int =
            self.library.symbol(c"nvrtcVersion")?;
        let (mut major, mut minor): (c_int, c_int) = (0, 0);
        // SAFETY: the signature is nvrtc.h's; both numbers outlive the call.
        let code = unsafe { version(&mut major, &mut minor) };
        self.done("nvrtcVersion", code).map(|()| (major, minor))
    }

    /// [`KERNEL`] for a device of this capability.
    pub fn compile(&self, capability: (u32, u32)) -> Result<Image, Refusal> {
        let wanted = (capability.0 * 10 + capability.1) as c_int;
        let known = self.architectures()?;
        let newest = known.iter().copied().filter(|arch| *arch <= wanted).max();
        let newest = newest
            .ok_or_else(|| absurd("nvrtcGetSupportedArchs", format!("nothing for sm_{wanted}")))?;
        let (target, cubin) = match newest == wanted {
            true => (format!("sm_{wanted}"), true),
            false => (format!("compute_{newest}"), false),
        };
        let create: unsafe extern "C" fn(
            *mut Program,
            *const c_char,
            *const c_char,
            c_int,
            *const *const c_char,
            *const *const c_char,
        ) -> c_int = self.library.symbol(c"nvrtcCreateProgram")?;
        let destroy: unsafe extern "C" fn(*mut Program) -> c_int =
            self.library.symbol(c"nvrtcDestroyProgram")?;
        let mut program: Program = std::ptr::null_mut();
        let none = std::ptr::null();
        // SAFETY: source and name end with NUL; with 0 headers the two arrays may be null.
        let code =
            unsafe { create(&mut program, KERNEL.as_ptr(), c"sconce.cu".as_ptr(), 0, none, none) };
        self.done("nvrtcCreateProgram", code)?;
        let bytes = self.compiled(program, &target, cubin);
        // SAFETY: created above, destroyed once.
        _ = unsafe { destroy(&mut program) };
        let mut bytes = bytes?;
        bytes.push(0);
        Ok(Image { bytes, target })
    }

    fn compiled(&self, program: Program, target: &str, cubin: bool) -> Result<Vec<u8>, Refusal> {
        let option = c_string(format!("--gpu-architecture={target}"))?;
        let compile: unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int =
            self.library.symbol(c"nvrtcCompileProgram")?;
        // SAFETY: one option, ended by NUL, which outlives the call.
        let code = unsafe { compile(program, 1, &option.as_ptr()) };
        if let Err(refusal) = self.done("nvrtcCompileProgram", code) {
            let log = self.bytes(
                program,
                c"nvrtcGetProgramLogSize",
                c"nvrtcGetProgramLog",
                "nvrtcGetProgramLog",
            );
            let log = log
                .map(|log| String::from_utf8_lossy(&log).trim_end_matches('\0').trim().to_owned());
            return Err(match log {
                Ok(log) if !log.is_empty() => Refusal::Compile { log },
                _ => refusal,
            });
        }
        match cubin {
            true => self.bytes(program, c"nvrtcGetCUBINSize", c"nvrtcGetCUBIN", "nvrtcGetCUBIN"),
            false => self.bytes(program, c"nvrtcGetPTXSize", c"nvrtcGetPTX", "nvrtcGetPTX"),
        }
    }

    /// What a pair of calls gives: one for the size, one for the bytes.
    fn bytes(
        &self,
        program: Program,
        size: &CStr,
        get: &CStr,
        call: &'static str,
    ) -> Result<Vec<u8>, Refusal> {
        let size: unsafe extern "C" fn(Program, *mut usize) -> c_int = self.library.symbol(size)?;
        let get: unsafe extern "C" fn(Program, *mut c_char) -> c_int = self.library.symbol(get)?;
        let mut length: usize = 0;
        // SAFETY: the signature is nvrtc.h's; `length` outlives the call.
        let code = unsafe { size(program, &mut length) };
        self.done(call, code)?;
        if length == 0 || length > MOST {
            return Err(absurd(call, format!("a size of {length}")));
        }
        let mut bytes = vec![0u8; length];
        // SAFETY: the buffer is as long as the library said that it writes.
        let code = unsafe { get(program, bytes.as_mut_ptr().cast()) };
        self.done(call, code).map(|()| bytes)
    }

    /// The architectures it compiles for: 90 is `sm_90`.
    fn architectures(&self) -> Result<Vec<c_int>, Refusal> {
        let count: unsafe extern "C" fn(*mut c_int) -> c_int =
            self.library.symbol(c"nvrtcGetNumSupportedArchs")?;
        let list: unsafe extern "C" fn(*mut c_int) -> c_int =
            self.library.symbol(c"nvrtcGetSupportedArchs")?;
        let mut number: c_int = 0;
        // SAFETY: the signature is nvrtc.h's; `number` outlives the call.
        let code = unsafe { count(&mut number) };
        self.done("nvrtcGetNumSupportedArchs", code)?;
        let room = usize::try_from(number).ok().filter(|room| *room <= 1024);
        let room = room.ok_or_else(|| absurd("nvrtcGetNumSupportedArchs", number))?;
        let mut found: Vec<c_int> = vec![0; room];
        // SAFETY: the array has as many places as the library said that it fills.
        let code = unsafe { list(found.as_mut_ptr()) };
        self.done("nvrtcGetSupportedArchs", code).map(|()| found)
    }

    fn done(&self, call: &'static str, code: c_int) -> Result<(), Refusal> {
        if code == 0 {
            return Ok(());
        }
        type Words = unsafe extern "C" fn(c_int) -> *const c_char;
        let words = self.library.symbol::<Words>(c"nvrtcGetErrorString").ok().and_then(|words| {
            // SAFETY: it takes any number.
            let text = unsafe { words(code) };
            // SAFETY: a constant of the library, ended by NUL.
            (!text.is_null())
                .then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
        });
        Err(Refusal::Call { call, code, meaning: words.unwrap_or_else(|| "error".to_owned()) })
    }
}
