//! What was asked for: GPUs by a name or a capability, and a driver.

use sconce_facts::{Capability, DriverVersion, Gpu, Listed};

use crate::Error;
use crate::verdict;

/// What was asked for.
pub(super) struct Asked<'a> {
    /// The GPU's name, or the capability's (`sm_90`).
    pub(super) name: String,
    pub(super) capability: Capability,
    /// The GPUs it may be.
    pub(super) gpus: Vec<&'static Gpu>,
    pub(super) driver: Option<&'a DriverVersion>,
}

impl<'a> Asked<'a> {
    pub(super) fn new(gpu: &str, driver: Option<&'a DriverVersion>) -> Result<Self, Error> {
        if let Ok(capability) = gpu.parse::<Capability>() {
            let gpus = verdict::of(capability).collect();
            return Ok(Self { name: capability.sm(), capability, gpus, driver });
        }
        match sconce_facts::gpu(gpu) {
            Ok(row) => {
                let (name, capability) = (row.name.clone(), row.capability);
                Ok(Self { name, capability, gpus: vec![row], driver })
            }
            Err(unknown) => Err(Error::UnknownGpu { name: unknown.name, nearest: unknown.near }),
        }
    }

    /// The first driver that is known to list one of these GPUs.
    pub(super) fn listed_since(&self) -> Option<&'static DriverVersion> {
        self.gpus.iter().filter_map(|gpu| gpu.first_driver.as_ref()).min()
    }

    /// Why it is not certain that this driver knows one of these GPUs. A list can lag behind what a driver runs, so that it
    /// does not is not certain either.
    pub(super) fn unlisted(&self) -> Option<String> {
        let driver = self.driver?;
        let listed: Vec<Listed<'_>> = self.gpus.iter().map(|gpu| gpu.listed_by(driver)).collect();
        if listed.is_empty() || listed.contains(&Listed::Yes) {
            return None;
        }
        let since = listed.iter().filter_map(|listed| match listed {
            Listed::Since(first) => Some(first),
            _ => None,
        });
        Some(match since.min() {
            Some(first) if self.listed_since().is_some_and(|earliest| earliest <= driver) => {
                format!(
                    "driver {driver} is not known to list {}; {first} is the next that does",
                    self.name
                )
            }
            Some(first) => format!(
                "driver {first} is the first that is known to list {}, and this one is {driver}",
                self.name
            ),
            None => format!(
                "it is not known which driver is the first that runs {}, and this one is {driver}",
                self.name
            ),
        })
    }

    /// The driver it is to run with, in words.
    pub(super) fn with(&self) -> String {
        self.driver.map_or(String::new(), |driver| format!(" with driver {driver}"))
    }
}
