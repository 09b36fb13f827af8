//! NVML's events: errors of GPUs (Xid), without the kernel's log and without privileges.

use std::ffi::{c_int, c_uint, c_ulonglong, c_void};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use super::Device;
use super::call::call;
use super::session::Session;

/// `nvmlEventTypeXidCriticalError`.
const XID: c_ulonglong = 8;
/// `NVML_ERROR_TIMEOUT`.
const TIMEOUT: c_int = 10;
/// What stands for an Xid that NVML does not know.
const UNKNOWN: u64 = 999;

/// An error that NVML reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XidEvent {
    /// The session's number of the GPU.
    pub gpu: usize,
    /// Its number; absent where NVML calls it unknown.
    pub code: Option<u32>,
    /// The GPU instance of MIG, where it is one's.
    pub gpu_instance: Option<u32>,
}

/// `nvmlEventData_t`.
#[repr(C)]
struct Data {
    device: Device,
    kind: c_ulonglong,
    data: c_ulonglong,
    gpu_instance: c_uint,
    compute_instance: c_uint,
}
const _: () = assert!(size_of::<Data>() == 32);

type Set = *mut c_void;

/// A set of events that are waited for.
pub struct Events {
    session: Arc<Session>,
    gpus: Vec<usize>,
    set: Set,
}

// SAFETY: NVML's functions may be called from any thread; the set is owned by this value alone.
unsafe impl Send for Events {}

impl Events {
    /// Registers for the errors of these GPUs; nothing where none of them reports any.
    pub fn open(session: &Arc<Session>, gpus: &[usize]) -> Option<Self> {
        type Create = unsafe extern "C" fn(*mut Set) -> c_int;
        type Register = unsafe extern "C" fn(Device, c_ulonglong, Set) -> c_int;
        let create = session.nvml.symbol::<Create>(c"nvmlEventSetCreate")?;
        let register = session.nvml.symbol::<Register>(c"nvmlDeviceRegisterEvents")?;
        let mut set: Set = ptr::null_mut();
        // SAFETY: the signature is nvml.h's; `set` outlives the call.
        if call(c"nvmlEventSetCreate", || unsafe { create(&mut set) }) != 0 {
            return None;
        }
        let mut events = Self { session: Arc::clone(session), gpus: Vec::new(), set };
        for gpu in gpus {
            let Some(device) = session.device(*gpu) else { continue };
            // SAFETY: the signature is nvml.h's; device and set are NVML's own.
            let add = || unsafe { register(device, XID, set) };
            if call(c"nvmlDeviceRegisterEvents", add) == 0 {
                events.gpus.push(*gpu);
            }
        }
        (!events.gpus.is_empty()).then_some(events)
    }

    /// Waits for one; nothing where none came in time.
    ///
    /// # Errors
    /// The `nvmlReturn_t`: a GPU is lost, or NVML was shut down.
    pub fn wait(&self, patience: Duration) -> Result<Option<XidEvent>, i32> {
        type Wait = unsafe extern "C" fn(Set, *mut Data, c_uint) -> c_int;
        let wait = self.session.nvml.symbol::<Wait>(c"nvmlEventSetWait_v2").ok_or(13)?;
        let mut data = Data {
            device: ptr::null_mut(),
            kind: 0,
            data: 0,
            gpu_instance: c_uint::MAX,
            compute_instance: c_uint::MAX,
        };
        let milliseconds = c_uint::try_from(patience.as_millis()).unwrap_or(c_uint::MAX);
        // SAFETY: the signature is nvml.h's; `data` outlives the call.
        let code =
            call(c"nvmlEventSetWait_v2", || unsafe { wait(self.set, &mut data, milliseconds) });
        match code {
            0 if data.kind & XID != 0 => {}
            0 | TIMEOUT => return Ok(None),
            code => return Err(code),
        }
        let same = |gpu: &&usize| self.session.device(**gpu) == Some(data.device);
        let Some(gpu) = self.gpus.iter().find(same) else { return Ok(None) };
        let code = (data.data != UNKNOWN).then(|| u32::try_from(data.data).ok()).flatten();
        let gpu_instance = (data.gpu_instance != c_uint::MAX).then_some(data.gpu_instance);
        Ok(Some(XidEvent { gpu: *gpu, code, gpu_instance }))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        type Free = unsafe extern "C" fn(Set) -> c_int;
        if let Some(free) = self.session.nvml.symbol::<Free>(c"nvmlEventSetFree") {
            // SAFETY: the set was created by NVML and is freed once.
            let _ = call(c"nvmlEventSetFree", || unsafe { free(self.set) });
        }
    }
}
