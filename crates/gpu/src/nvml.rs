//! What NVML answers: the GPUs with their UUIDs, memory, capability, MIG instances and fabric state.
//!
//! The library is opened with `dlopen`; each symbol may be missing (an older driver, a stub) and
//! each call may answer NOT_SUPPORTED: every answer beyond a GPU's existence is optional. The
//! asking is done in a thread of its own, because a driver in trouble can block for minutes.
//! Signatures and numbers: NVIDIA's public `nvml.h` (API reference, "nvmlDeviceQueries").

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use libloading::Library;
use serde::{Deserialize, Serialize};

mod call;
pub mod events;
pub mod gpm;
mod health;
mod leave;
pub mod processes;
pub mod reading;
pub mod session;
pub mod times;
mod turn;

use crate::error::in_full;
use call::call;
pub use health::{Health, Vgpu};

/// More GPUs or MIG instances than any machine has: a library that says more is not believed.
const MOST: c_uint = 256;

/// All that NVML was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Answers {
    /// The driver's version.
    pub driver: Option<String>,
    /// The newest CUDA that the driver serves, as NVML counts it: 13000 is 13.0.
    pub cuda: Option<u32>,
    /// The GPUs, in NVML's order (by PCI bus).
    pub gpus: Vec<GpuAnswers>,
}

/// NVML about one GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GpuAnswers {
    /// The `nvmlReturn_t` of asking for it, where that failed: then nothing else is known. Or that with which a later call said that it is
    /// lost, or wants a reset.
    pub silence: Option<i32>,
    /// `GPU-…`.
    pub uuid: Option<String>,
    /// `NVIDIA H100 80GB HBM3`.
    pub name: Option<String>,
    /// The number in `/dev/nvidia<minor>`.
    pub minor: Option<u32>,
    /// `0000:04:00.0`.
    pub bus_id: Option<String>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Bytes in use.
    pub used_bytes: Option<u64>,
    /// Compute capability: major, minor.
    pub capability: Option<(u32, u32)>,
    /// How many processes compute on it.
    pub processes: Option<u32>,
    /// Whether MIG mode is on.
    pub mig: Option<bool>,
    /// The MIG instances.
    pub instances: Vec<MigAnswers>,
    /// State of its NVLink fabric; absent where there is none.
    pub fabric: Option<Fabric>,
    /// Who may compute on it.
    pub compute_mode: Option<ComputeMode>,
    /// Memory rows taken out of use; absent on generations without (before Ampere).
    pub remapped: Option<Remapped>,
    /// Clocks, power, licence.
    pub health: Health,
}

/// `nvmlComputeMode_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ComputeMode {
    /// Any number of processes.
    Default,
    /// None.
    Prohibited,
    /// One at a time.
    ExclusiveProcess,
}

/// What `nvmlDeviceGetRemappedRows` says beyond numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remapped {
    /// A row waits for a reset to be remapped.
    pub pending: bool,
    /// A row could not be remapped.
    pub failed: bool,
}

/// NVML about one MIG instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MigAnswers {
    /// `MIG-…`.
    pub uuid: Option<String>,
    /// GPU instance.
    pub gpu_instance: Option<u32>,
    /// Compute instance within it.
    pub compute_instance: Option<u32>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
}

/// `nvmlGpuFabricState_t`: how far fabric manager has brought a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fabric {
    /// Not begun.
    NotStarted,
    /// Under way.
    InProgress,
    /// Done; the GPU can be used.
    Completed,
    /// Done, with an error: the `nvmlReturn_t`.
    Failed,
}

/// Why NVML did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Silence {
    /// The library could not be opened.
    #[error("{library} can't be opened: {reason}")]
    Library {
        /// Which.
        library: PathBuf,
        /// What the linker said.
        reason: String,
    },
    /// A symbol without which nothing can be asked is missing.
    #[error("{library} has no `{symbol}`")]
    Symbol {
        /// Which library.
        library: PathBuf,
        /// Which symbol.
        symbol: &'static str,
    },
    /// `nvmlInit` failed.
    #[error("nvmlInit: {} ({code})", say(*code))]
    Init {
        /// The `nvmlReturn_t`.
        code: i32,
    },
    /// No answer in time.
    #[error("NVML has not answered within {} s", patience.as_secs_f32())]
    Late {
        /// How long it had.
        patience: Duration,
    },
    /// The asking thread died or could not start.
    #[error("the thread that asks NVML could not finish")]
    Thread,
    /// A described machine has no answers.
    #[error("this machine's description holds no answers of NVML")]
    NotGiven,
}

/// The names of `nvmlReturn_t` that `nvmlInit` and asking for a GPU can give.
pub fn say(code: i32) -> &'static str {
    const NAMES: &[(i32, &str)] = &[
        (4, "Insufficient Permissions"),
        (8, "Insufficient External Power"),
        (9, "Driver Not Loaded"),
        (12, "Shared Library Not Found"),
        (15, "GPU is lost"),
        (16, "Reset required"),
        (17, "The operating system has blocked the request"),
        (18, "Driver/library version mismatch"),
        (999, "Unknown Error"),
    ];
    NAMES.iter().find(|(known, _)| *known == code).map_or("error", |(_, name)| name)
}

/// Asks the NVML at `library`; gives up after `patience`. A thread that does not come back is left
/// to itself: it holds nothing but the library.
pub fn ask(library: &Path, patience: Duration) -> Result<Answers, Silence> {
    let (send, receive) = mpsc::channel();
    let path = library.to_owned();
    let thread = thread::Builder::new().name("nvml".into());
    let thread = thread.spawn(move || _ = send.send(Nvml::open(&path).map(|nvml| nvml.answers())));
    thread.map_err(|_| Silence::Thread)?;
    match receive.recv_timeout(patience) {
        Ok(answer) => answer,
        Err(mpsc::RecvTimeoutError::Timeout) => Err(Silence::Late { patience }),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(Silence::Thread),
    }
}

/// `nvmlDevice_t`.
type Device = *mut c_void;
type Fetch<T> = unsafe extern "C" fn(Device, *mut T) -> c_int;

/// `nvmlMemory_t`.
#[repr(C)]
#[derive(Default)]
struct Memory {
    total: u64,
    free: u64,
    used: u64,
}

/// `nvmlPciInfo_t`, version 3.
#[repr(C)]
struct Pci {
    legacy_bus_id: [c_char; 16],
    numbers: [c_uint; 5],
    bus_id: [c_char; 32],
}

/// `nvmlGpuFabricInfo_t`.
#[repr(C)]
#[derive(Default)]
struct FabricInfo {
    cluster: [u8; 16],
    status: c_uint,
    clique: c_uint,
    state: u8,
}

/// An opened and initialised library. It is never unloaded: NVML may hold threads of its own.
struct Nvml {
    library: &'static Library,
}

impl Nvml {
    fn open(path: &Path) -> Result<Self, Silence> {
        let opened = {
            // SAFETY: loading runs the library's initialisers. It is the driver's own NVML, found
            // in the driver's folder, and any CUDA program on this machine loads it.
            unsafe { Library::new(path) }
        };
        let library = opened.map_err(|error| Silence::Library {
            library: path.to_owned(),
            reason: in_full(&error),
        })?;
        let nvml = Self { library: Box::leak(Box::new(library)) };
        let init = nvml
            .symbol::<unsafe extern "C" fn() -> c_int>(c"nvmlInit_v2")
            .ok_or(Silence::Symbol { library: path.to_owned(), symbol: "nvmlInit_v2" })?;
        // SAFETY: `nvmlReturn_t nvmlInit_v2(void)`, per nvml.h.
        let code = call(c"nvmlInit_v2", || unsafe { init() });
        // Also after a failure: the library has been asked, and may hold threads of its own.
        leave::without_destructors();
        if code == 0 { Ok(nvml) } else { Err(Silence::Init { code }) }
    }

    /// The function of this name, if the library has it. `F` must be its C signature.
    fn symbol<F: Copy>(&self, name: &CStr) -> Option<F> {
        // SAFETY: each caller names the type that nvml.h declares for the symbol; the library is
        // never unloaded, so the pointer stays valid.
        unsafe { self.library.get::<F>(name.to_bytes_with_nul()) }.ok().map(|symbol| *symbol)
    }

    /// `nvmlReturn_t name(nvmlDevice_t, T *)`.
    fn get<T>(&self, name: &CStr, device: Device, mut value: T) -> Option<T> {
        let function = self.symbol::<Fetch<T>>(name)?;
        // SAFETY: callers pass the `T` that nvml.h declares for `name`, and a device handle that
        // NVML gave; `value` outlives the call.
        let code = call(name, || unsafe { function(device, &mut value) });
        (code == 0).then_some(value)
    }

    /// `nvmlReturn_t name(nvmlDevice_t, char *, unsigned int length)`.
    fn text(&self, name: &CStr, device: Device) -> Option<String> {
        type Text = unsafe extern "C" fn(Device, *mut c_char, c_uint) -> c_int;
        let function = self.symbol::<Text>(name)?;
        let mut buffer: [c_char; 96] = [0; 96];
        // SAFETY: the buffer is as long as said (NVML_DEVICE_UUID_V2_BUFFER_SIZE and
        // NVML_DEVICE_NAME_V2_BUFFER_SIZE are 96).
        let room = buffer.len() as c_uint;
        let code = call(name, || unsafe { function(device, buffer.as_mut_ptr(), room) });
        (code == 0).then(|| chars(&buffer))
    }

    /// `nvmlReturn_t name(nvmlDevice_t, unsigned int index, nvmlDevice_t *)`.
    fn instance(&self, device: Device, index: c_uint) -> Option<Device> {
        type ByIndex = unsafe extern "C" fn(Device, c_uint, *mut Device) -> c_int;
        let function = self.symbol::<ByIndex>(c"nvmlDeviceGetMigDeviceHandleByIndex")?;
        let mut found: Device = std::ptr::null_mut();
        // SAFETY: the signature is nvml.h's; `found` outlives the call.
        let find = || unsafe { function(device, index, &mut found) };
        let code = call(c"nvmlDeviceGetMigDeviceHandleByIndex", find);
        (code == 0).then_some(found)
    }

    fn answers(&self) -> Answers {
        Answers { driver: self.driver(), cuda: self.cuda(), gpus: self.gpus() }
    }

    fn driver(&self) -> Option<String> {
        type Text = unsafe extern "C" fn(*mut c_char, c_uint) -> c_int;
        let function = self.symbol::<Text>(c"nvmlSystemGetDriverVersion")?;
        let mut buffer: [c_char; 96] = [0; 96];
        // SAFETY: the buffer is as long as said.
        let room = buffer.len() as c_uint;
        let ask = || unsafe { function(buffer.as_mut_ptr(), room) };
        let code = call(c"nvmlSystemGetDriverVersion", ask);
        (code == 0).then(|| chars(&buffer))
    }

    fn cuda(&self) -> Option<u32> {
        type Number = unsafe extern "C" fn(*mut c_int) -> c_int;
        let function = self.symbol::<Number>(c"nvmlSystemGetCudaDriverVersion_v2")?;
        let mut version: c_int = 0;
        // SAFETY: the signature is nvml.h's; `version` outlives the call.
        let code = call(c"nvmlSystemGetCudaDriverVersion_v2", || unsafe { function(&mut version) });
        (code == 0).then(|| u32::try_from(version).ok()).flatten()
    }

    fn gpus(&self) -> Vec<GpuAnswers> {
        type Count = unsafe extern "C" fn(*mut c_uint) -> c_int;
        type ByIndex = unsafe extern "C" fn(c_uint, *mut Device) -> c_int;
        let (Some(count), Some(by_index)) = (
            self.symbol::<Count>(c"nvmlDeviceGetCount_v2"),
            self.symbol::<ByIndex>(c"nvmlDeviceGetHandleByIndex_v2"),
        ) else {
            return Vec::new();
        };
        let mut number: c_uint = 0;
        // SAFETY: the signature is nvml.h's; `number` outlives the call.
        if call(c"nvmlDeviceGetCount_v2", || unsafe { count(&mut number) }) != 0 {
            return Vec::new();
        }
        let one = |index| {
            let mut device: Device = std::ptr::null_mut();
            // SAFETY: the signature is nvml.h's; `device` outlives the call.
            let code =
                call(c"nvmlDeviceGetHandleByIndex_v2", || unsafe { by_index(index, &mut device) });
            // A GPU that is lost or not permitted keeps its place, without answers; one of which a later call says so, with the others.
            match code {
                0 => {
                    _ = call::lost();
                    let answers = self.gpu(device);
                    GpuAnswers { silence: call::lost(), ..answers }
                }
                _ => GpuAnswers { silence: Some(code), ..GpuAnswers::default() },
            }
        };
        // NVML may be called from any thread (its API reference, "thread-safe"), and sleeps five
        // milliseconds for each GPU that it is first asked about: all are asked at once.
        thread::scope(|scope| {
            let asked: Vec<_> =
                (0..number.min(MOST)).map(|index| scope.spawn(move || one(index))).collect();
            asked.into_iter().map(|thread| thread.join().unwrap_or_default()).collect()
        })
    }

    fn gpu(&self, device: Device) -> GpuAnswers {
        let memory = self.get(c"nvmlDeviceGetMemoryInfo", device, Memory::default());
        let mig = self.mig_mode(device);
        GpuAnswers {
            silence: None,
            uuid: self.text(c"nvmlDeviceGetUUID", device),
            name: self.text(c"nvmlDeviceGetName", device),
            minor: self.get::<c_uint>(c"nvmlDeviceGetMinorNumber", device, 0),
            bus_id: self.bus_id(device),
            memory_bytes: memory.as_ref().map(|memory| memory.total),
            used_bytes: memory.as_ref().map(|memory| memory.used),
            capability: self.capability(device),
            processes: self.processes(device),
            mig,
            instances: if mig == Some(true) { self.instances(device) } else { Vec::new() },
            fabric: self.fabric(device),
            compute_mode: match self.get::<c_uint>(c"nvmlDeviceGetComputeMode", device, 0) {
                Some(0) => Some(ComputeMode::Default),
                Some(2) => Some(ComputeMode::Prohibited),
                // 1, exclusive for a thread, is an old word for 3.
                Some(1 | 3) => Some(ComputeMode::ExclusiveProcess),
                _ => None,
            },
            remapped: self.remapped(device),
            health: self.health(device),
        }
    }

    fn bus_id(&self, device: Device) -> Option<String> {
        let pci = Pci { legacy_bus_id: [0; 16], numbers: [0; 5], bus_id: [0; 32] };
        let pci = self.get(c"nvmlDeviceGetPciInfo_v3", device, pci)?;
        Some(short_bus_id(&chars(&pci.bus_id)))
    }

    fn capability(&self, device: Device) -> Option<(u32, u32)> {
        type Pair = unsafe extern "C" fn(Device, *mut c_int, *mut c_int) -> c_int;
        let function = self.symbol::<Pair>(c"nvmlDeviceGetCudaComputeCapability")?;
        let (mut major, mut minor): (c_int, c_int) = (0, 0);
        // SAFETY: the signature is nvml.h's; both numbers outlive the call.
        let code = call(c"nvmlDeviceGetCudaComputeCapability", || unsafe {
            function(device, &mut major, &mut minor)
        });
        let pair = (u32::try_from(major).ok()?, u32::try_from(minor).ok()?);
        (code == 0).then_some(pair)
    }

    /// How many processes compute: asked with room for none, NVML answers success or
    /// INSUFFICIENT_SIZE (7) with their number.
    fn processes(&self, device: Device) -> Option<u32> {
        type List = unsafe extern "C" fn(Device, *mut c_uint, *mut c_void) -> c_int;
        let function = self.symbol::<List>(c"nvmlDeviceGetComputeRunningProcesses_v3")?;
        let mut count: c_uint = 0;
        // SAFETY: with a count of 0 nothing is written through the null pointer (nvml.h says the
        // array may then be NULL).
        let list = || unsafe { function(device, &mut count, std::ptr::null_mut()) };
        let code = call(c"nvmlDeviceGetComputeRunningProcesses_v3", list);
        // NVML advises callers to leave room for some more than there are.
        matches!(code, 0 | 7).then_some(count)
    }

    fn remapped(&self, device: Device) -> Option<Remapped> {
        let (_, _, pending, failed) = self.remapped_rows(device)?;
        Some(Remapped { pending, failed })
    }

    /// Rows replaced for correctable errors and for uncorrectable ones; whether one waits; whether one failed.
    fn remapped_rows(&self, device: Device) -> Option<(u32, u32, bool, bool)> {
        type Four = unsafe extern "C" fn(
            Device,
            *mut c_uint,
            *mut c_uint,
            *mut c_uint,
            *mut c_uint,
        ) -> c_int;
        let function = self.symbol::<Four>(c"nvmlDeviceGetRemappedRows")?;
        let [mut corrected, mut not_corrected, mut pending, mut failed]: [c_uint; 4] = [0; 4];
        // SAFETY: the signature is nvml.h's; all four numbers outlive the call.
        let code = call(c"nvmlDeviceGetRemappedRows", || unsafe {
            function(device, &mut corrected, &mut not_corrected, &mut pending, &mut failed)
        });
        (code == 0).then_some((corrected, not_corrected, pending != 0, failed != 0))
    }

    fn mig_mode(&self, device: Device) -> Option<bool> {
        type Pair = unsafe extern "C" fn(Device, *mut c_uint, *mut c_uint) -> c_int;
        let function = self.symbol::<Pair>(c"nvmlDeviceGetMigMode")?;
        let (mut current, mut pending): (c_uint, c_uint) = (0, 0);
        // SAFETY: the signature is nvml.h's; both numbers outlive the call.
        let code = call(c"nvmlDeviceGetMigMode", || unsafe {
            function(device, &mut current, &mut pending)
        });
        (code == 0).then_some(current == 1)
    }

    fn instances(&self, device: Device) -> Vec<MigAnswers> {
        let most = self.get::<c_uint>(c"nvmlDeviceGetMaxMigDeviceCount", device, 0).unwrap_or(0);
        let devices = (0..most.min(MOST)).filter_map(|index| self.instance(device, index));
        let answers = devices.map(|mig| MigAnswers {
            uuid: self.text(c"nvmlDeviceGetUUID", mig),
            gpu_instance: self.get::<c_uint>(c"nvmlDeviceGetGpuInstanceId", mig, 0),
            compute_instance: self.get::<c_uint>(c"nvmlDeviceGetComputeInstanceId", mig, 0),
            memory_bytes: self
                .get(c"nvmlDeviceGetMemoryInfo", mig, Memory::default())
                .map(|memory| memory.total),
        });
        answers.collect()
    }

    fn fabric(&self, device: Device) -> Option<Fabric> {
        let info = self.get(c"nvmlDeviceGetGpuFabricInfo", device, FabricInfo::default())?;
        match (info.state, info.status) {
            (1, _) => Some(Fabric::NotStarted),
            (2, _) => Some(Fabric::InProgress),
            (3, 0) => Some(Fabric::Completed),
            (3, _) => Some(Fabric::Failed),
            _ => None,
        }
    }
}

/// The text of a C buffer, up to its first NUL.
fn chars(buffer: &[c_char]) -> String {
    let bytes: Vec<u8> =
        buffer.iter().map(|char| *char as u8).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// NVML writes the domain with eight digits, Linux with four: `00000000:04:00.0`.
fn short_bus_id(bus_id: &str) -> String {
    let id = bus_id.to_ascii_lowercase();
    match id.split_once(':') {
        Some((domain, rest)) if domain.len() == 8 && domain.starts_with("0000") => {
            format!("{}:{rest}", &domain[4..])
        }
        _ => id,
    }
}
