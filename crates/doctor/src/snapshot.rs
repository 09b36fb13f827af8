//! A machine at one moment, as far as rules want to know it; saved and read as JSON.
//!
//! It holds nothing private from the start: no UUIDs, no serial numbers, no host name, of the
//! environment only the variables that rules read, of the kernel's log only the driver's lines. What
//! could still name a person or a machine (home folders, processes, users, UUIDs, serial numbers) is
//! cut on saving.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sconce_facts::{Capability, Sm};
use sconce_gpu::Opening;
use sconce_gpu::nvml::{ComputeMode, Fabric, Remapped};
use serde::{Deserialize, Serialize};

use crate::Error;

/// The newest schema.
const SCHEMA: u32 = 1;
/// Bytes of a snapshot file.
const LONGEST: u64 = 4 << 20;

/// A machine at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The version of this format: 1.
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
    /// PCI bridges with ACS redirection on; absent when it could not be read.
    pub acs_bridges: Option<Vec<String>>,
    /// Whether the IOMMU translates for devices.
    pub iommu_translates: bool,
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
}

/// A display device of NVIDIA's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pci {
    /// `0000:04:00.0`.
    pub bus_id: String,
    /// `2330`.
    pub device: String,
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
}

impl Snapshot {
    /// As JSON, private text cut.
    pub fn json(&self) -> String {
        let mut redacted = self.clone();
        let driver = &mut redacted.driver;
        let variables = redacted.environment.values_mut();
        let lines = redacted.kernel_log.iter_mut().flatten();
        let documents = redacted.cdi.iter_mut();
        let said = documents.flat_map(|cdi| cdi.stale.iter_mut().chain(&mut cdi.problem));
        let texts = variables.chain(lines).chain(said).chain(&mut driver.nvml_silence);
        texts.for_each(|text| *text = redact(text));
        let paths = driver.folder.iter_mut().chain(&mut redacted.compat_libcuda);
        paths.for_each(|path| *path = redact(&path.to_string_lossy()).into());
        // Serialising plain data has no way to fail.
        let value = serde_json::to_value(&redacted).unwrap_or_default();
        format!("{value:#}\n")
    }

    /// Saves it, private text cut.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        fs::write(path, self.json()).map_err(|source| Error::Write { path: path.into(), source })
    }

    /// Reads a saved one; `/dev/stdin` is one that is piped in.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let read = |source| Error::Read { path: path.into(), source };
        let damaged = |reason: String| Error::Damaged { path: path.into(), reason };
        let text = sconce_open::read_argument(path, LONGEST).map_err(read)?;
        #[derive(Deserialize)]
        struct Schema {
            schema: u32,
        }
        let schema = serde_json::from_str::<Schema>(&text).map_err(|e| damaged(e.to_string()))?;
        if schema.schema > SCHEMA {
            return Err(Error::Newer { path: path.into(), schema: schema.schema, newest: SCHEMA });
        }
        serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))
    }

    /// The same machine with these GPUs only, by their buses: what a container is given. GPUs that the
    /// driver does not show stay in it.
    #[must_use]
    pub fn only(mut self, buses: &[&str]) -> Self {
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

    /// The schema written by this version.
    pub(crate) const fn schema() -> u32 {
        SCHEMA
    }
}

/// What stands before a private word, and which bytes end that word. Processes and serial numbers
/// stand in the driver's log lines, UUIDs there and in variables.
const PRIVATE: &[(&str, &str)] = &[
    ("/home/", "/:, ')"),
    ("name=", ",)"),
    ("pid=", ", )"),
    ("GPU-", ", ):/"),
    ("MIG-", ", )"),
    ("Serial Number: ", ","),
    ("Serial Number:", ","),
];

/// Cuts what names a person, a process or a card, and who built a module on which machine
/// (`(user@host)`).
fn redact(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    let first = |rest: &str| {
        let found = PRIVATE.iter().filter_map(|row| Some((rest.find(row.0)?, row)));
        found.min_by_key(|(at, (word, _))| (*at, std::cmp::Reverse(word.len())))
    };
    while let Some((start, (word, ends))) = first(rest) {
        let after = start + word.len();
        out += rest.get(..after).unwrap_or("");
        out.push('…');
        rest = rest.get(after..).unwrap_or("");
        let end = rest.find(|char| ends.contains(char)).unwrap_or(rest.len());
        rest = rest.get(end..).unwrap_or("");
    }
    out += rest;
    let words = out.split(' ').map(|word| match word.starts_with('(') && word.contains('@') {
        true => "…",
        false => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::redact;

    #[test]
    fn names_are_cut() {
        for (text, cut) in [
            ("/home/ada/lib:/opt:/home/bob", "/home/…/lib:/opt:/home/…"),
            (
                "NVRM: Xid (PCI:0000:04:00): 31, pid=4711, name=secret model, Ch 8",
                "NVRM: Xid (PCI:0000:04:00): 31, pid=…, name=…, Ch 8",
            ),
            (
                "NVRM: GPU at PCI:0000:04:00: GPU-24b5e5dc-83d9-2bf3-da09-4969bbcbf529",
                "NVRM: GPU at PCI:0000:04:00: GPU-…",
            ),
            ("NVRM: GPU Board Serial Number: 1652923004711", "NVRM: GPU Board Serial Number: …"),
            ("/data/a@b/cuda", "/data/a@b/cuda"),
            ("GPU-1d5a,MIG-77,0", "GPU-…,MIG-…,0"),
            ("x86_64  580.1  Release Build  (ada@desk)  ", "x86_64  580.1  Release Build  …  "),
        ] {
            assert_eq!(redact(text), cut);
        }
    }
}
