//! One file a command: its arguments, its help text, what it does.

pub mod build;
pub mod cdi;
pub mod completions;
mod defaults;
pub mod doctor;
pub mod gpus;
pub mod images;
pub mod init;
pub mod inspect;
pub mod lock;
pub mod man;
pub mod probe;
pub mod prune;
pub mod run;
mod subject;
pub mod trust;
pub mod verify;

use sconce_facts::{Capability, Machine};
use sconce_lock::{Host, HostGpu};

/// This machine, as a lock sees it. A driver that does not work is none: `doctor` says why.
fn host() -> Host {
    let mut host = Host { machine: Machine::current(), driver: None, gpus: Vec::new() };
    if let Ok(driver) = sconce_gpu::driver::find(&sconce_gpu::Machine::host()) {
        host.driver = driver.version.parse().ok();
        host.gpus = driver
            .gpus()
            .iter()
            .filter_map(|gpu| {
                let capability: Capability = sconce_facts::gpu(&gpu.model).ok()?.capability;
                Some(HostGpu { name: gpu.model.clone(), capability })
            })
            .collect();
    }
    host
}
