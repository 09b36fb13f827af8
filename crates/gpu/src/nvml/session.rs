//! An NVML session that lasts: what changes while a GPU works.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_ulonglong};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::call::{self, call};
use super::{Device, Nvml, Silence};

/// `NVML_CLOCK_SM`, `NVML_CLOCK_MEM`, `NVML_TEMPERATURE_GPU`.
const SM: c_uint = 1;
const MEMORY: c_uint = 2;
const CORE: c_uint = 0;

/// NVML, initialised until the process ends.
pub struct Session {
    pub(super) nvml: Nvml,
    devices: Mutex<Vec<Handle>>,
}

/// A device handle. NVML's functions may be called from any thread.
#[derive(Clone, Copy)]
struct Handle(Device);

// SAFETY: NVML is thread-safe (NVML API reference, "NVML is thread-safe").
unsafe impl Send for Handle {}

/// A GPU at one moment; what it does not say is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Clock of the multiprocessors.
    pub sm_mhz: Option<u32>,
    /// Clock of the memory.
    pub memory_mhz: Option<u32>,
    /// Power.
    pub power_mw: Option<u32>,
    /// Temperature of the chip.
    pub temperature_c: Option<u32>,
    /// Why the clocks are what they are: bits of `nvmlClocksEventReasons`.
    pub reasons: Option<u64>,
    /// PCIe generation and lanes: an idle GPU lowers the first.
    pub pcie: Option<(u32, u32)>,
    /// One of the calls was answered with this: the GPU is lost, or must be reset.
    pub lost: Option<i32>,
}

/// What bounds a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The power limit in force.
    pub power_limit_mw: Option<u32>,
    /// The one it comes with.
    pub power_default_mw: Option<u32>,
    /// The highest clock of the multiprocessors.
    pub sm_max_mhz: Option<u32>,
    /// PCIe generation now, and the best of board and slot.
    pub pcie_generation: Option<(u32, u32)>,
    /// PCIe lanes now, and the most of board and slot.
    pub pcie_lanes: Option<(u32, u32)>,
    /// Processes that compute on it, this one among them if it has begun to.
    pub processes: Option<u32>,
    /// Whether it is split into MIG instances.
    pub mig: Option<bool>,
}

/// It is not `NVML_VALUE_NOT_AVAILABLE` (nvml.h: -1), which comes with success where there is no value.
fn is_said(value: &u32) -> bool {
    *value != u32::MAX
}

impl Session {
    /// Opens the library and initialises it.
    ///
    /// # Errors
    /// No such library, or one that does not start.
    pub fn open(library: &Path) -> Result<Self, Silence> {
        Ok(Self { nvml: Nvml::open(library)?, devices: Mutex::new(Vec::new()) })
    }

    /// The driver's version.
    pub fn driver(&self) -> Option<String> {
        self.nvml.driver()
    }

    /// This session's number for the GPU at that place: `0000:1B:00.0`.
    pub fn by_bus_id(&self, id: &str) -> Option<usize> {
        type Find = unsafe extern "C" fn(*const c_char, *mut Device) -> c_int;
        let function = self.nvml.symbol::<Find>(c"nvmlDeviceGetHandleByPciBusId_v2")?;
        let id = CString::new(id).ok()?;
        let mut device: Device = std::ptr::null_mut();
        // SAFETY: the signature is nvml.h's; the text ends with NUL, `device` outlives the call.
        let find = || unsafe { function(id.as_ptr(), &mut device) };
        let code = call(c"nvmlDeviceGetHandleByPciBusId_v2", find);
        (code == 0).then(|| self.keep(device))
    }

    /// With what a call of this thread was answered since this was asked last that no GPU at work answers: it is lost, or must be
    /// reset. Of the calls for [`Self::moment`] that says so itself.
    pub fn lost() -> Option<i32> {
        call::lost()
    }

    /// A handle's number in this session; the same for the same handle.
    pub(super) fn keep(&self, device: Device) -> usize {
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        devices.iter().position(|known| known.0 == device).unwrap_or_else(|| {
            devices.push(Handle(device));
            devices.len() - 1
        })
    }

    pub(super) fn device(&self, gpu: usize) -> Option<Device> {
        let devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        devices.get(gpu).map(|handle| handle.0)
    }

    /// Ends the session, so that a new one sees the driver, its GPUs and their instances anew. Nothing may be
    /// asked of this one afterwards, and nothing of it may be waiting: NVML counts sessions, and starts
    /// anew when the last has ended.
    pub fn close(&self) {
        type Shutdown = unsafe extern "C" fn() -> c_int;
        if let Some(shutdown) = self.nvml.symbol::<Shutdown>(c"nvmlShutdown") {
            // SAFETY: `nvmlReturn_t nvmlShutdown(void)`, per nvml.h.
            let _ = call(c"nvmlShutdown", || unsafe { shutdown() });
        }
    }

    /// `nvmlReturn_t name(nvmlDevice_t, an enum, unsigned int *)`.
    pub(super) fn of_kind(&self, name: &CStr, device: Device, kind: c_uint) -> Option<u32> {
        type OfKind = unsafe extern "C" fn(Device, c_uint, *mut c_uint) -> c_int;
        let function = self.nvml.symbol::<OfKind>(name)?;
        let mut value: c_uint = 0;
        // SAFETY: the signature is nvml.h's for the names below; `value` outlives the call.
        let code = call(name, || unsafe { function(device, kind, &mut value) });
        (code == 0).then_some(value)
    }

    /// The same; without what stands for no answer.
    fn said_of_kind(&self, name: &CStr, device: Device, kind: c_uint) -> Option<u32> {
        self.of_kind(name, device, kind).filter(is_said)
    }

    pub(super) fn reasons(&self, device: Device) -> Option<u64> {
        // The name since driver 535, and the one before.
        let names = [
            c"nvmlDeviceGetCurrentClocksEventReasons",
            c"nvmlDeviceGetCurrentClocksThrottleReasons",
        ];
        names.iter().find_map(|name| self.nvml.get::<c_ulonglong>(name, device, 0))
    }

    /// What the GPU does now.
    pub fn moment(&self, gpu: usize) -> Moment {
        let Some(device) = self.device(gpu) else { return Moment::default() };
        let number = |name: &CStr| self.nvml.get::<c_uint>(name, device, 0).filter(is_said);
        _ = call::lost();
        let moment = Moment {
            lost: None,
            sm_mhz: self.said_of_kind(c"nvmlDeviceGetClockInfo", device, SM),
            memory_mhz: self.said_of_kind(c"nvmlDeviceGetClockInfo", device, MEMORY),
            power_mw: number(c"nvmlDeviceGetPowerUsage"),
            temperature_c: self.said_of_kind(c"nvmlDeviceGetTemperature", device, CORE),
            // All reasons at once are none.
            reasons: self
                .reasons(device)
                .filter(|bits| ![u64::MAX, u64::from(u32::MAX)].contains(bits)),
            pcie: number(c"nvmlDeviceGetCurrPcieLinkGeneration")
                .zip(number(c"nvmlDeviceGetCurrPcieLinkWidth")),
        };
        Moment { lost: call::lost(), ..moment }
    }

    /// What bounds the GPU.
    pub fn limits(&self, gpu: usize) -> Limits {
        let Some(device) = self.device(gpu) else { return Limits::default() };
        let number = |name: &CStr| self.nvml.get::<c_uint>(name, device, 0).filter(is_said);
        let pair = |now: &CStr, best: &CStr| number(now).zip(number(best));
        Limits {
            power_limit_mw: number(c"nvmlDeviceGetEnforcedPowerLimit"),
            power_default_mw: number(c"nvmlDeviceGetPowerManagementDefaultLimit"),
            sm_max_mhz: self.said_of_kind(c"nvmlDeviceGetMaxClockInfo", device, SM),
            pcie_generation: pair(
                c"nvmlDeviceGetCurrPcieLinkGeneration",
                c"nvmlDeviceGetMaxPcieLinkGeneration",
            ),
            pcie_lanes: pair(c"nvmlDeviceGetCurrPcieLinkWidth", c"nvmlDeviceGetMaxPcieLinkWidth"),
            processes: self.nvml.processes(device),
            mig: self.nvml.mig_mode(device),
        }
    }
}
