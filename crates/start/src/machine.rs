//! This machine as a lock and an image see it.

use sconce_facts::{Capability, Machine};
use sconce_lock::{Host, HostGpu};

use crate::error::Error;

/// This machine, as a lock sees it. A driver that does not work is none: `doctor` says why.
#[must_use]
pub fn host() -> Host {
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

/// Checks `--platform OS/ARCH[/VARIANT]`: nothing is emulated, so it must be this machine's.
///
/// # Errors
/// Another platform, or none that is known.
pub fn platform(given: &str) -> Result<(), Error> {
    let mut parts = given.split('/');
    let (os, arch) = match (parts.next(), parts.next()) {
        (Some(os), Some(arch)) => (os, arch),
        (Some("linux"), None) => return Ok(()),
        (Some(arch), None) => ("linux", arch),
        (None, _) => ("", ""),
    };
    let wanted = arch.parse::<Machine>().ok().filter(|_| os == "linux");
    let wanted = wanted.ok_or_else(|| {
        Error::option("--platform", given, "there are linux/amd64 and linux/arm64")
    })?;
    match Machine::current() {
        Some(here) if here == wanted => Ok(()),
        here => {
            let here =
                here.map_or("something else".to_owned(), |here| format!("linux/{}", here.debian()));
            let why = format!("this machine is {here}, and nothing is emulated");
            Err(Error::option("--platform", given, why))
        }
    }
}
