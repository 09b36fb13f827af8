//! A machine at one moment, as far as rules want to know it; saved and read as JSON.
//!
//! It holds nothing private from the start: no UUIDs, no serial numbers, no host name, of the
//! environment only the variables that rules read, of the kernel's log only the driver's lines. What
//! could still name a person or a machine (home folders, processes, users, UUIDs, serial numbers) is
//! cut on saving.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sconce_facts::{Capability, Sm};
use sconce_gpu::Opening;
use sconce_gpu::nvml::{ComputeMode, Fabric, Health, Remapped};
use serde::{Deserialize, Serialize};

/// The newest schema.
pub(crate) const SCHEMA: u32 = 2;
/// A machine at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The version of this format: 2. What came with 2 is absent in a snapshot of 1.
    pub schema: u32,
    /// The processor: `x86_64`, `aarch64`.
    pub arch: String,
    /// The kernel's release.
    pub kernel: Option<String>,
    /// Whether this was seen from inside a container.
    pub container: bool,
    /// Whether root looked. Others can't see the kernel's log and PCI's configuration.
    pub root: bool,
    /// Whether it is WSL.
    pub wsl: bool,
    /// The driver.
    pub driver: Driver,
    /// NVIDIA's display devices on the PCI bus.
    pub pci: Vec<Pci>,
    /// GPUs that the driver shows.
    pub gpus: Vec<Gpu>,
    /// The driver's device nodes.
    pub nodes: Vec<Node>,
    /// Names of loaded modules that matter: NVIDIA's and nouveau.
    pub modules: Vec<String>,
    /// Whether systemd manages control groups.
    pub systemd: bool,
    /// Whether SELinux enforces.
    pub selinux: bool,
    /// Whether fabric manager's process or socket is there; looked for beside NVSwitches only.
    pub fabric_manager: bool,
    /// The version of its package, where dpkg knows one.
    #[serde(default)]
    pub fabric_manager_version: Option<String>,
    /// Bytes of `/dev/shm`.
    pub shm_bytes: Option<u64>,
    /// The hard limit of locked memory in bytes; absent is unlimited.
    pub memlock_bytes: Option<u64>,
    /// Whether InfiniBand devices are there.
    pub infiniband: bool,
    /// The variables that rules read.
    pub environment: BTreeMap<String, String>,
    /// The driver's lines in the kernel's log, newest last; absent when it could not be read.
    pub kernel_log: Option<Vec<String>>,
    /// CDI documents on the machine.
    pub cdi: Vec<Cdi>,
    /// Whether the host's name has an address.
    pub host_name_resolves: Option<bool>,
    /// A libcuda of CUDA's compatibility package that comes before the driver's.
    pub compat_libcuda: Option<PathBuf>,
    /// The driver that one is of.
    #[serde(default)]
    pub compat_version: Option<String>,
    /// PCI bridges with ACS redirection on; absent when it could not be read.
    pub acs_bridges: Option<Vec<String>>,
    /// Whether the IOMMU translates for devices.
    pub iommu_translates: bool,
    /// The distribution.
    #[serde(default)]
    pub os: Option<Os>,
    /// Whether Secure Boot is on; absent when the firmware does not say.
    #[serde(default)]
    pub secure_boot: Option<bool>,
    /// The kernel's lockdown: `none`, `integrity` or `confidentiality`.
    #[serde(default)]
    pub lockdown: Option<String>,
    /// Container engines that are installed: `docker`, `podman`, `containerd`, `crio`.
    #[serde(default)]
    pub engines: Vec<String>,
    /// What hands out this machine: `kubernetes`, `slurm`.
    #[serde(default)]
    pub cluster: Option<String>,
    /// Whether NVLink's subnet manager (nvlsm) runs; looked for beside fabric manager.
    #[serde(default)]
    pub nvlsm: bool,
    /// IMEX: memory shared between machines over NVLink.
    #[serde(default)]
    pub imex: Option<Imex>,
    /// Every Xid and SXid of the kernel's log, oldest first; `kernel_log` holds the newest lines only.
    #[serde(default)]
    pub errors: Vec<LogError>,
    /// Seconds since the machine started.
    #[serde(default)]
    pub uptime_seconds: Option<u64>,
    /// What keeps who looked from starting containers without root; absent for root, and in a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rootless: Option<Rootless>,
    /// Whether these are some of the machine's GPUs only ([`Snapshot::only`]).
    #[serde(skip)]
    pub(crate) part: bool,
}

/// What os-release(5) says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Os {
    /// `ID`: `ubuntu`.
    pub id: String,
    /// `ID_LIKE`, word by word, nearest first.
    #[serde(default)]
    pub like: Vec<String>,
    /// `VERSION_ID`: `24.04`.
    #[serde(default)]
    pub version: Option<String>,
}

/// What containers need that somebody without root starts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rootless {
    /// The setting of the kernel that forbids user namespaces to all but root: `user.max_user_namespaces`.
    #[serde(default)]
    pub forbidden_by: Option<String>,
    /// Whether AppArmor lets only programs with a profile of their own make them.
    #[serde(default)]
    pub apparmor: bool,
    /// Whether the user has subordinate ids; absent where that can't be told.
    #[serde(default)]
    pub subordinate_ids: Option<bool>,
    /// Whether control groups are of version 2; absent where that can't be seen.
    #[serde(default)]
    pub cgroup2: Option<bool>,
}

/// IMEX on this machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Imex {
    /// How many channels have a node.
    pub channels: u32,
    /// Whether its daemon runs.
    pub service: bool,
}

/// An error line of the kernel's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogError {
    /// When, in seconds since the machine started.
    #[serde(default)]
    pub seconds: Option<u64>,
    /// The line.
    pub line: String,
}

/// The driver, as a snapshot knows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Driver {
    /// Version of the loaded module.
    pub module: Option<String>,
    /// Whether the module is of the open kind; absent when it does not say.
    #[serde(default)]
    pub open: Option<bool>,
    /// Version of the libraries.
    pub libraries: Option<String>,
    /// Where they lie.
    pub folder: Option<PathBuf>,
    /// Whether NVML answered.
    pub nvml: bool,
    /// Why it did not, where it was asked.
    pub nvml_silence: Option<String>,
    /// The newest CUDA it serves, as NVML counts it: 13000.
    pub cuda: Option<u32>,
    /// Kernel releases below /lib/modules that have its module; absent when that can't be seen.
    #[serde(default)]
    pub built_for: Option<Vec<String>>,
    /// Whether nvidia_uvm may use the kernel's heterogeneous memory management.
    #[serde(default)]
    pub hmm: Option<bool>,
    /// Where it was told to leave GPUs alone: the kernel command line's word, or a file and its line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluding: Vec<String>,
}

/// A display device of NVIDIA's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pci {
    /// `0000:04:00.0`.
    pub bus_id: String,
    /// `2330`.
    pub device: String,
    /// The kernel driver that holds it: `nvidia`, `vfio-pci`, `nouveau`.
    #[serde(default)]
    pub driver: Option<String>,
    /// Sizes of its memory windows (BARs) in bytes, 0 for one that got no address; absent when unknown.
    #[serde(default)]
    pub bars: Option<Vec<u64>>,
    /// Its PCIe link.
    #[serde(default)]
    pub link: Option<Link>,
    /// Whether the driver was told to leave it alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub excluded: bool,
}

/// A PCIe link, now and at best.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Lanes now.
    pub width: u32,
    /// Lanes that the device has.
    pub width_max: u32,
    /// Generation now; it falls while the GPU idles.
    pub generation: u32,
    /// Generation that the device knows.
    pub generation_max: u32,
}

/// A GPU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// `nvidia-smi`'s number.
    pub index: u32,
    /// The number in its node's name.
    pub minor: u32,
    /// `NVIDIA H100 80GB HBM3`.
    pub model: String,
    /// Where it sits.
    pub bus_id: String,
    /// From NVML, or from the facts by its PCI id.
    pub capability: Option<Capability>,
    /// Whether it is in MIG mode.
    pub mig_mode: bool,
    /// How many MIG instances it has.
    pub instances: u32,
    /// State of its NVLink fabric.
    pub fabric: Option<Fabric>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Bytes of it in use.
    #[serde(default)]
    pub used_bytes: Option<u64>,
    /// How many processes compute on it.
    #[serde(default)]
    pub processes: Option<u32>,
    /// Who may compute on it.
    #[serde(default)]
    pub compute_mode: Option<ComputeMode>,
    /// Memory rows that wait for a reset, or could not be remapped.
    #[serde(default)]
    pub remapped: Option<Remapped>,
    /// Whether NVML knows it; absent when NVML was not asked.
    #[serde(default)]
    pub answers: Option<bool>,
    /// Why not, where NVML said: `GPU is lost (15)`.
    #[serde(default)]
    pub silence: Option<String>,
    /// Clocks, power, licence.
    #[serde(default)]
    pub health: Health,
    /// Its MIG instances.
    #[serde(default)]
    pub mig: Vec<MigInstance>,
}

/// A MIG instance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigInstance {
    /// GPU instance.
    pub gpu_instance: u32,
    /// Compute instance within it.
    pub compute_instance: u32,
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Where.
    pub path: PathBuf,
    /// Major number.
    pub major: u32,
    /// The driver's own major number, where the node has another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_major: Option<u32>,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// What opening it gave.
    pub open: Opening,
    /// Whether `/dev/char/<major>:<minor>` is there.
    pub char_link: bool,
}

/// A CDI document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cdi {
    /// The file.
    pub path: PathBuf,
    /// Why it is not valid.
    pub problem: Option<String>,
    /// How it differs from the machine.
    pub stale: Vec<String>,
}

/// What is to run on the machine: an image or a lock, as far as it restricts machines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Subject {
    /// What a person calls it.
    pub name: String,
    /// The major version of its CUDA; absent when it has none.
    pub cuda_major: Option<u16>,
    /// A driver floor of its own, above the one of its CUDA.
    pub driver_floor: Option<String>,
    /// The architectures it has code for; empty when unknown.
    pub architectures: Vec<Sm>,
    /// It holds no torch, so that nothing is known of its CUDA.
    pub without_torch: bool,
    /// Why nothing decides yet what it holds: "is not locked"; absent where that is decided.
    pub undecided: Option<String>,
    /// The processor that it is for, as the kernel calls it; absent when unknown.
    pub processor: Option<String>,
    /// What else it holds that may have code for GPUs.
    pub others: Others,
}

/// What a subject holds beside torch, which is not judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Others {
    /// Nothing that is compiled.
    #[default]
    None,
    /// So many packages with compiled code.
    Packages(usize),
    /// That is not known.
    Unknown,
}

impl Snapshot {
    /// The same machine with these GPUs only, by their buses: what a container is given. GPUs that the
    /// driver does not show stay in it.
    #[must_use]
    pub fn only(mut self, buses: &[&str]) -> Self {
        self.part = true;
        let gone: Vec<Gpu> =
            self.gpus.extract_if(.., |gpu| !buses.contains(&gpu.bus_id.as_str())).collect();
        self.pci.retain(|pci| !gone.iter().any(|gpu| gpu.bus_id == pci.bus_id));
        let nodes: Vec<PathBuf> =
            gone.iter().map(|gpu| format!("/dev/nvidia{}", gpu.minor).into()).collect();
        self.nodes.retain(|node| !nodes.contains(&node.path));
        self
    }

    /// The driver's version as the facts compare it.
    pub fn driver_version(&self) -> Option<sconce_facts::DriverVersion> {
        self.driver.module.as_deref()?.parse().ok()
    }

    /// The version of the driver that is loaded or, while none is, installed.
    pub(crate) fn driver_text(&self) -> Option<&str> {
        self.driver.module.as_deref().or(self.driver.libraries.as_deref())
    }

    /// The branch of that driver.
    pub(crate) fn branch(&self) -> Option<u32> {
        let version = self.driver_text()?.parse::<sconce_facts::DriverVersion>();
        version.ok().map(|version| version.branch())
    }

    /// How many NVSwitches the driver has nodes for.
    pub(crate) fn switches(&self) -> usize {
        let switches = self.nodes.iter().filter(|node| {
            let name = node.path.file_name().unwrap_or_default().to_string_lossy();
            name.strip_prefix("nvidia-nvswitch").is_some_and(|rest| rest.parse::<u32>().is_ok())
        });
        switches.count()
    }
}
