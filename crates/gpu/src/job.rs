//! What a job was given: `CUDA_VISIBLE_DEVICES` and Slurm's variables, handed in as data.
//!
//! A container gets never more than its caller. In this order, each taking away from the one before:
//!
//! 1. GPUs whose node can be opened. Slurm with `ConstrainDevices=yes` closes the others by a device
//!    cgroup, and NVML and CUDA then count those that are left, from 0.
//! 2. `SLURM_STEP_GPUS`, else `SLURM_JOB_GPUS`: numbers of device files, "not relative to any device
//!    cgroup" (srun(1)). On a machine with MIG they count instances in Slurm's own order, which can't be
//!    told from here: there Slurm gives UUIDs in `CUDA_VISIBLE_DEVICES`, which count.
//! 3. `CUDA_VISIBLE_DEVICES` as CUDA reads it (CUDA Programming Guide, "CUDA Environment Variables"):
//!    indices among 1, beginnings of UUIDs, MIG UUIDs; empty is none; the first entry that is nothing
//!    ends the list.
//!
//! `GPU_DEVICE_ORDINAL` and `ROCR_VISIBLE_DEVICES`, which Slurm sets beside it, are for other makers'
//! GPUs and say nothing more.

use std::collections::BTreeSet;

use crate::Error;
use crate::driver::Gpu;
use crate::select::Device;

/// Entries looked at in one variable.
const MOST: usize = 256;

/// The variables that say what the caller was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Job {
    /// `CUDA_VISIBLE_DEVICES`.
    pub visible: Option<String>,
    /// `CUDA_DEVICE_ORDER`.
    pub order: Option<String>,
    /// The name and value of Slurm's.
    pub slurm: Option<(&'static str, String)>,
}

/// What the caller has, and which variables say so.
pub(crate) struct Given {
    pub devices: Vec<Device>,
    /// `CUDA_VISIBLE_DEVICES=0,1`; empty where no variable takes anything away.
    pub said: String,
}

impl Job {
    /// Reads them where `env` looks a variable up.
    pub fn of(env: &dyn Fn(&str) -> Option<String>) -> Self {
        let slurm = ["SLURM_STEP_GPUS", "SLURM_JOB_GPUS"]
            .into_iter()
            .find_map(|name| Some((name, env(name).filter(|value| !value.trim().is_empty())?)));
        Self { visible: env("CUDA_VISIBLE_DEVICES"), order: env("CUDA_DEVICE_ORDER"), slurm }
    }

    /// Whether it names MIG instances, whose UUIDs only NVML knows.
    pub fn names_instances(&self) -> bool {
        self.visible.as_ref().is_some_and(|value| value.contains("MIG-"))
    }

    /// Takes from `all`, the devices of the GPUs that can be opened, what the variables don't give.
    pub(crate) fn given(&self, gpus: &[Gpu], all: &[Device]) -> Result<Given, Error> {
        let mut given = Given { devices: all.to_vec(), said: String::new() };
        let slurm = self.slurm.as_ref().filter(|_| !gpus.iter().any(|gpu| gpu.mig_mode));
        if let Some((name, value)) = slurm {
            given.said = format!("{name}={value}");
            let minors = numbers(value)
                .ok_or_else(|| self.unclear(&given.said, "it is not a list of numbers"))?;
            if let Some(gone) =
                minors.iter().find(|minor| !gpus.iter().any(|gpu| gpu.minor == **minor))
            {
                let reason = format!("there is no /dev/nvidia{gone} that can be opened");
                return Err(self.unclear(&given.said, &reason));
            }
            given.devices.retain(|device| minors.contains(&device.gpu.minor));
        }
        let Some(visible) = &self.visible else { return Ok(given) };
        // Without a device cgroup Slurm writes the same numbers into both.
        if slurm.is_some_and(|(_, value)| value.trim() == visible.trim()) {
            return Ok(given);
        }
        let said = format!("CUDA_VISIBLE_DEVICES={visible}");
        let cuda = self.visible(visible, gpus, all, &said)?;
        let both: Vec<Device> =
            cuda.iter().filter(|device| given.devices.contains(device)).cloned().collect();
        if both.is_empty() && !cuda.is_empty() && !given.devices.is_empty() {
            let reason = format!("none of them is among {}", given.said);
            return Err(self.unclear(&said, &reason));
        }
        let said = [given.said, said].into_iter().filter(|text| !text.is_empty());
        Ok(Given { devices: both, said: said.collect::<Vec<_>>().join(" and ") })
    }

    /// The devices of `CUDA_VISIBLE_DEVICES`, in its order.
    fn visible(
        &self,
        value: &str,
        gpus: &[Gpu],
        all: &[Device],
        said: &str,
    ) -> Result<Vec<Device>, Error> {
        let mut found: Vec<Device> = Vec::new();
        let mut counted = false;
        for entry in value.split(',').take(MOST).map(str::trim) {
            let device = match entry.parse::<usize>() {
                Ok(index) => {
                    counted = true;
                    gpus.get(index).and_then(|gpu| first_of(gpu, all))
                }
                Err(_) => named(entry, gpus, all),
            };
            match device {
                Some(device) if !found.contains(device) => found.push(device.clone()),
                // CUDA stops at what it does not know; twice the same is such a thing.
                _ => break,
            }
        }
        let models: BTreeSet<&str> = gpus.iter().map(|gpu| gpu.model.as_str()).collect();
        let by_bus = self.order.as_deref().is_some_and(|order| order.trim() == "PCI_BUS_ID");
        let some = !found.is_empty() && found.len() < all.len();
        if counted && some && models.len() > 1 && !by_bus && self.slurm.is_none() {
            let reason = "CUDA counts by speed where GPUs differ, and that order is not known here";
            return Err(self.unclear(said, reason));
        }
        Ok(found)
    }

    fn unclear(&self, said: &str, reason: &str) -> Error {
        Error::Job { said: said.to_owned(), reason: reason.to_owned() }
    }
}

/// What an index stands for: the GPU, or as for CUDA the first instance of one in MIG mode.
fn first_of<'a>(gpu: &Gpu, all: &'a [Device]) -> Option<&'a Device> {
    all.iter().find(|device| device.gpu.bus_id == gpu.bus_id)
}

/// A device by its UUID or a beginning of it that no other has; `MIG-<GPU's UUID>/<gi>/<ci>` is the
/// name that drivers before 470 gave an instance.
fn named<'a>(entry: &str, gpus: &[Gpu], all: &'a [Device]) -> Option<&'a Device> {
    let whole = |uuid: &str| {
        let mut with =
            gpus.iter().filter(|gpu| gpu.uuid.as_ref().is_some_and(|own| own.starts_with(uuid)));
        with.next().filter(|_| with.next().is_none())
    };
    if entry.len() > "GPU-".len() && entry.starts_with("GPU-") {
        return first_of(whole(entry)?, all);
    }
    let instance = entry.strip_prefix("MIG-").filter(|rest| !rest.is_empty())?;
    if let [uuid, gi, ci] = instance.split('/').collect::<Vec<_>>().as_slice() {
        let gpu = whole(uuid)?;
        let (gi, ci) = (gi.parse::<u32>().ok()?, ci.parse::<u32>().ok()?);
        return all.iter().find(|device| {
            device.gpu.bus_id == gpu.bus_id
                && device
                    .instance
                    .as_ref()
                    .is_some_and(|mig| (mig.gpu_instance, mig.compute_instance) == (gi, ci))
        });
    }
    let mut with = all.iter().filter(|device| {
        device
            .instance
            .as_ref()
            .is_some_and(|mig| mig.uuid.as_ref().is_some_and(|own| own.starts_with(entry)))
    });
    with.next().filter(|_| with.next().is_none())
}

/// `0,2` or `0-3`, as Slurm writes lists; nothing for anything else.
fn numbers(list: &str) -> Option<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    for part in list.trim().split(',').take(MOST) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<u32>().ok()?, last.trim().parse::<u32>().ok()?);
        if last.checked_sub(first)? as usize > MOST {
            return None;
        }
        found.extend(first..=last);
    }
    Some(found)
}
