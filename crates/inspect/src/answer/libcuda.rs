//! What a libcuda in the driver's place means for the GPU and the driver that were asked for.

use sconce_facts::DriverVersion;

use super::{Answer, Asked};
use crate::libcuda::Libcuda;
use crate::report::Report;

impl Report {
    /// The driver that a libcuda is of which stands in for that of an older one, where NVIDIA supports it: on GPUs for data
    /// centres and on the branches that CUDA Compatibility, "Forward Compatibility", lists.
    pub(super) fn forward(&self, asked: &Asked<'_>) -> Option<DriverVersion> {
        let own = self.drivers.libcuda.as_ref().filter(|libcuda| libcuda.wins)?.version()?;
        let supported = sconce_facts::forward_compatible(asked.driver?, &own);
        let datacenter = !asked.gpus.is_empty() && asked.gpus.iter().all(|gpu| gpu.datacenter);
        (supported && datacenter).then_some(own)
    }

    /// A libcuda that takes the driver's place where it can't.
    pub(super) fn libcuda(&self, asked: &Asked<'_>) -> Option<Answer> {
        let libcuda = self.drivers.libcuda.as_ref()?;
        let (driver, own) = asked.driver.zip(libcuda.version()).filter(|_| libcuda.wins)?;
        let wins = format!("{} wins over the driver's {}", libcuda.library, libcuda.by);
        if *driver > own {
            return Some(Answer::no(format!(
                "{wins}, and is of driver {own}: with a newer one, as {driver} is, CUDA does not start (error 803)"
            )));
        }
        // Each branch knows the GPUs that it knows, whoever's kernel module it works with.
        let last = asked.capability.row().and_then(|row| row.last_branch());
        if let Some(last) = last.filter(|last| own.branch() > *last) {
            return Some(Answer::no(format!(
                "{wins}, and is of driver {own}: branch {last} is the last that runs {} (compute capability {})",
                asked.name, asked.capability
            )));
        }
        // Forward compatibility is for data centres' GPUs.
        let datacenter = asked.gpus.iter().any(|gpu| gpu.datacenter);
        (*driver < own && !datacenter).then(|| {
            Answer::no(format!(
                "{wins}, and is of driver {own}: with an older one, as {driver} is, it serves GPUs for data centres only, and {} is not (error 804)",
                asked.name
            ))
        })
    }

    /// What is not known of a libcuda that takes the driver's place.
    pub(super) fn libcuda_unknown(&self, asked: &Asked<'_>) -> Option<Answer> {
        let libcuda = self.drivers.libcuda.as_ref()?;
        let Libcuda { library, by, .. } = libcuda;
        if !libcuda.wins {
            let own = libcuda.version();
            // The same one twice.
            if own.is_some() && own.as_ref() == asked.driver {
                return None;
            }
            return Some(Answer::cant_tell(format!(
                "{library} may win over the driver's {by}, and whether it does can't be told"
            )));
        }
        let wins = format!("{library} wins over the driver's {by}");
        Some(Answer::cant_tell(match (asked.driver, libcuda.version()) {
            (Some(driver), Some(own)) if *driver == own => return None,
            _ if self.forward(asked).is_some() => return None,
            (Some(driver), Some(own)) => format!(
                "{wins}, and is of driver {own}: it is not known whether it works with {driver}, which is older"
            ),
            (None, Some(own)) => {
                format!("{wins}, and is of driver {own}: it fails with every newer driver")
            }
            (_, None) => format!("{wins}, and which driver it is of can't be told"),
        }))
    }
}
