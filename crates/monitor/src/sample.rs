//! A moment of the machine: its GPUs, what runs on them, what happened since the moment before.

use serde::{Deserialize, Deserializer, Serialize};

use crate::metric::Values;
use crate::ports::Port;

/// A moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The driver's version.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "said")]
    pub driver: Option<String>,
    /// Why there is nothing of NVML, where there is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silence: Option<String>,
    /// Why the kubelet does not name the pods, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubelet: Option<String>,
    /// The kernel's log is read; else errors come by NVML's events alone, and those of NVSwitches not at all.
    pub kernel_log: bool,
    /// NVML reports errors of GPUs.
    pub xid_events: bool,
    /// Processes are seen as the host has them; in a container of its own process ids, a GPU without processes may
    /// have some.
    pub sees_processes: bool,
    /// The GPUs, in NVML's order.
    pub gpus: Vec<Gpu>,
    /// Ports of InfiniBand and RoCE adapters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// What happened since the moment before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
}

/// A GPU at a moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gpu {
    /// Its place in NVML's order.
    pub index: u32,
    /// `GPU-…`.
    pub uuid: String,
    /// `NVIDIA H100 80GB HBM3`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// The number in `/dev/nvidia<minor>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minor: Option<u32>,
    /// `0000:04:00.0`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bus_id: String,
    /// How old the values are, milliseconds: a GPU that does not answer keeps its last ones for a while.
    #[serde(skip_serializing_if = "is_zero")]
    pub age_ms: u64,
    /// The `nvmlReturn_t` where it is lost, waits for a reset, or is no longer there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<i32>,
    /// Its values.
    pub values: Values,
    /// State of its NVLink fabric, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fabric: Option<String>,
    /// It is split into instances.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub mig: bool,
    /// Its instances.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<Instance>,
    /// Our own containers and the pods that were given it, whether they use it or not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<Workload>,
    /// The processes on it; absent where NVML does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<Vec<Process>>,
}

/// How a GPU is called that does not say who it is.
pub(crate) const UNKNOWN: &str = "unknown-";

impl Gpu {
    /// It has said who it is.
    pub(crate) fn named(&self) -> bool {
        !self.uuid.is_empty() && !self.uuid.starts_with(UNKNOWN)
    }
}

/// An instance of MIG.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Instance {
    /// `MIG-…`.
    pub uuid: String,
    /// `1g.10gb`.
    pub profile: String,
    /// GPU instance.
    pub gpu_instance: u32,
    /// Compute instance within it.
    pub compute_instance: u32,
    /// Pods that were given it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<Workload>,
    /// Its values.
    pub values: Values,
}

/// A process on a GPU.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Who started it: ranks of one torchrun have the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<u32>,
    /// What the kernel calls it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Bytes of the GPU's memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// The GPU instance of MIG that it uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_instance: Option<u32>,
    /// What it runs in.
    #[serde(skip_serializing_if = "Workload::is_none")]
    pub workload: Workload,
}

/// What a process belongs to. What is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Workload {
    /// `sconce`, `docker`, `podman`, `kubernetes`, `containerd`, `slurm`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub runtime: String,
    /// The container's id.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub container: String,
    /// Its name, in its pod where it has one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The image, as it was called at the start.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// The image's digest.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image_digest: String,
    /// The digest of the lock that it was built from.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub lock: String,
    /// The pod's uid.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pod_uid: String,
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pod: String,
    /// Its namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The job's number.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub slurm_job: String,
}

impl Workload {
    /// Whether nothing is known.
    pub fn is_none(&self) -> bool {
        self.runtime.is_empty()
    }

    /// `namespace/pod`, where both are known.
    pub fn pod_name(&self) -> Option<String> {
        (!self.pod.is_empty()).then(|| format!("{}/{}", self.namespace, self.pod))
    }
}

/// Something that happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What.
    pub kind: EventKind,
    /// The GPU's, where it is known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uuid: String,
    /// The device's place: `0000:18:00`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bus_id: String,
    /// The error's number; absent for one that NVML does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u32>,
    /// The kernel's line.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub line: String,
}

/// Two reports of one error are one within this time: the kernel's line comes beside NVML's event.
pub const SAME_MS: u64 = 5_000;

impl Event {
    /// Whether both tell of one error: NVML's event has no line, the kernel's has one. Of two from one source the second is
    /// another error.
    pub fn is_other_report_of(&self, other: &Self) -> bool {
        self.line.is_empty() != other.line.is_empty()
            && (self.kind, self.code, &self.uuid) == (other.kind, other.code, &other.uuid)
            && self.at_ms.abs_diff(other.at_ms) <= SAME_MS
    }
}

/// Kinds of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// An error of a GPU.
    #[default]
    Xid,
    /// An error of an NVSwitch.
    Sxid,
    /// A GPU has fallen off the bus.
    LeftTheBus,
}

/// A text that says something: an empty version is none.
fn said<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    Ok(text.filter(|text| !text.trim().is_empty()))
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
