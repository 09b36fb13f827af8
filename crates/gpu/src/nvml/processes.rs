//! Which processes use a GPU, as NVML sees them: host process ids, and memory where it knows it.

use std::ffi::{CStr, c_int, c_uint};

use super::Device;
use super::call::call;
use super::session::Session;

/// The most processes of a GPU that are listed.
const MOST: usize = 1024;

/// A process on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id, as the host counts.
    pub pid: u32,
    /// Bytes of memory; not known of a process in another container, or under WSL.
    pub memory: Option<u64>,
    /// The GPU instance of MIG that it uses.
    pub gpu_instance: Option<u32>,
    /// Whether it computes; else it draws.
    pub computes: bool,
}

/// `nvmlProcessInfo_t`, as the functions of version 3 fill it.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Info {
    pid: c_uint,
    memory: u64,
    gpu_instance: c_uint,
    compute_instance: c_uint,
}
const _: () = assert!(size_of::<Info>() == 24);

impl Session {
    /// Those of a GPU; absent where it does not say.
    pub fn processes(&self, gpu: usize) -> Option<Vec<Process>> {
        let device = self.device(gpu)?;
        let computing = self.listed(device, c"nvmlDeviceGetComputeRunningProcesses_v3", true);
        let drawing = self.listed(device, c"nvmlDeviceGetGraphicsRunningProcesses_v3", false);
        let mut all = computing?;
        for process in drawing.into_iter().flatten() {
            if !all.iter().any(|known| known.pid == process.pid) {
                all.push(process);
            }
        }
        all.sort_by_key(|process| process.pid);
        Some(all)
    }

    fn listed(&self, device: Device, name: &CStr, computes: bool) -> Option<Vec<Process>> {
        type List = unsafe extern "C" fn(Device, *mut c_uint, *mut Info) -> c_int;
        let function = self.nvml.symbol::<List>(name)?;
        let mut infos = vec![Info::default(); 64];
        loop {
            let mut count = infos.len() as c_uint;
            // SAFETY: the signature is nvml.h's; the array has as many places as are said.
            let list = || unsafe { function(device, &mut count, infos.as_mut_ptr()) };
            match call(name, list) {
                0 => {
                    let found = infos.iter().take(count as usize).filter(|info| info.pid != 0);
                    return Some(found.map(|info| process(info, computes)).collect());
                }
                // More came meanwhile, or there are more than the first guess.
                7 if infos.len() < MOST => infos.resize(MOST, Info::default()),
                _ => return None,
            }
        }
    }
}

fn process(info: &Info, computes: bool) -> Process {
    let known = |number: c_uint| (number != c_uint::MAX).then_some(number);
    Process {
        pid: info.pid,
        memory: (info.memory != u64::MAX).then_some(info.memory),
        gpu_instance: known(info.gpu_instance),
        computes,
    }
}
