//! Pairs of what was seen that no machine can have both: one of them is wrong, and which is not known. Where one of the two
//! decides alone (another kernel driver has the GPU, a node is missing), a rule of its own says so; BARs without an
//! address are those of `bar-space`.
//!
//! What a capture can't see it leaves out, so that only what is there is held against the rest.

mod cards;

use std::collections::BTreeSet;

use sconce_facts::{CudaVersion, DriverVersion, Machine};

use crate::place::MAJOR;
use crate::snapshot::{Gpu, Node, Snapshot};
use crate::state::Device;

/// One kind of them, as sentences that name both.
type Kind = fn(&Snapshot) -> Vec<String>;

const KINDS: &[Kind] = &[
    processor,
    logged_module,
    loaded_modules,
    libraries,
    nvml,
    cuda,
    on_the_bus,
    twice,
    indexes,
    nodes,
    windows,
    cards::products,
    cards::forms,
    cards::capabilities,
    cards::memory,
    cards::mig,
];

/// All of them. Without the driver's module nothing works, and other rules say so.
pub(crate) fn all(snapshot: &Snapshot) -> Vec<String> {
    match snapshot.driver.module {
        Some(_) => KINDS.iter().flat_map(|kind| kind(snapshot)).collect(),
        None => Vec::new(),
    }
}

/// GPUs that the driver shows and against which nothing else speaks.
fn shown(snapshot: &Snapshot) -> impl Iterator<Item = (Device<'_>, &Gpu)> {
    let devices = snapshot.devices().into_iter();
    devices.filter(|device| device.trouble.is_none()).filter_map(|one| Some((one, one.gpu?)))
}

fn module(snapshot: &Snapshot) -> &str {
    snapshot.driver.module.as_deref().unwrap_or_default()
}

/// NVIDIA's driver for Linux is one for each processor, and some GPUs sit beside one kind of processor only.
fn processor(snapshot: &Snapshot) -> Vec<String> {
    let (arch, module) = (snapshot.arch.as_str(), module(snapshot));
    let others = || Machine::ALL.into_iter().filter(|machine| machine.as_str() != arch);
    if others().count() == Machine::ALL.len() {
        return vec![format!(
            "the processor is said to be `{arch}`, yet the driver {module} is loaded, which is for x86_64 and aarch64"
        )];
    }
    let mut found = Vec::new();
    let folder = snapshot.driver.folder.as_deref();
    let of = |machine: &Machine| {
        let name = format!("{}-linux-gnu", machine.as_str());
        folder
            .is_some_and(|folder| folder.components().any(|part| part.as_os_str() == name.as_str()))
    };
    if let (Some(folder), Some(_)) = (folder, others().find(of)) {
        let folder = folder.display();
        found.push(format!("the processor is {arch}, yet the driver's libraries lie in {folder}"));
    }
    let line = loading(snapshot);
    let has = |line: &str, word: &str| line.split_whitespace().any(|one| one == word);
    let other = others().find(|machine| line.is_some_and(|line| has(line, machine.as_str())));
    if let Some(other) = other {
        let other = other.as_str();
        found.push(format!(
            "the processor is {arch}, yet the kernel's log has the driver for {other} loaded"
        ));
    }
    found.extend(shown(snapshot).filter_map(|(device, _)| {
        let host = device.facts()?.host?.as_str();
        let name = device.name();
        (host != arch).then(|| {
            format!("the processor is {arch}, yet {name} is there, which comes with {host} alone")
        })
    }));
    found
}

/// The line with which the module that is loaded came: `NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  580.159.04
/// Release Build`, `NVRM: loading NVIDIA UNIX x86_64 Kernel Module  550.54.14`.
fn loading(snapshot: &Snapshot) -> Option<&str> {
    let mut lines = snapshot.kernel_log.iter().flatten().map(String::as_str);
    lines.rfind(|line| line.contains("loading NVIDIA UNIX"))
}

fn logged_module(snapshot: &Snapshot) -> Vec<String> {
    let version = |word: &&str| word.contains('.') && word.parse::<DriverVersion>().is_ok();
    let logged = loading(snapshot).and_then(|line| line.split_whitespace().find(version));
    let module = module(snapshot);
    let other = logged.filter(|logged| *logged != module);
    let says = |other| {
        format!("the module is of driver {module}, yet the kernel's log has that of {other} loaded")
    };
    other.map(says).into_iter().collect()
}

/// Both modules are loaded ones (NVIDIA builds neither into a kernel), and /proc/modules lists every one.
fn loaded_modules(snapshot: &Snapshot) -> Vec<String> {
    let missing = |name: &str| !snapshot.modules.iter().any(|module| module == name);
    let mut found = Vec::new();
    if missing("nvidia") {
        let module = module(snapshot);
        found.push(format!(
            "the driver's module {module} works, yet `nvidia` is not among the kernel's modules"
        ));
    }
    let opens = snapshot
        .nodes
        .iter()
        .any(|node| node.path.ends_with("nvidia-uvm") && node.open == sconce_gpu::Opening::Fine);
    if opens && missing("nvidia_uvm") {
        let says = "/dev/nvidia-uvm opens, yet `nvidia_uvm` is not among the kernel's modules";
        found.push(says.to_owned());
    }
    found
}

/// Folder and version are seen together: a libcuda, and the end of its name.
fn libraries(snapshot: &Snapshot) -> Vec<String> {
    match (&snapshot.driver.libraries, &snapshot.driver.folder) {
        (Some(version), None) => {
            vec![format!("the driver's libraries are of {version}, yet they lie nowhere")]
        }
        (None, Some(folder)) => vec![format!(
            "the driver's libraries lie in {}, yet they have no version",
            folder.display()
        )],
        _ => Vec::new(),
    }
}

fn nvml(snapshot: &Snapshot) -> Vec<String> {
    let driver = &snapshot.driver;
    match &driver.nvml_silence {
        Some(silence) if driver.nvml => {
            return vec![format!("NVML answered, yet it did not: {silence}")];
        }
        _ if driver.nvml => return Vec::new(),
        _ => {}
    }
    let answered = shown(snapshot).filter(|(_, gpu)| gpu.answers == Some(true));
    answered
        .map(|(device, _)| format!("NVML did not answer, yet it did for {}", device.name()))
        .collect()
}

/// Each branch of the driver serves one CUDA, which NVML says. It asks the first libcuda that the loader finds: with one of
/// CUDA's compatibility package it says that one's.
fn cuda(snapshot: &Snapshot) -> Vec<String> {
    let Some(said) = snapshot.driver.cuda.filter(|_| snapshot.driver.nvml) else {
        return Vec::new();
    };
    let number = |part: u32| u16::try_from(part).ok();
    let version = number(said / 1000).zip(number(said % 1000 / 10));
    let version = version.map(|(major, minor)| CudaVersion { major, minor });
    let version = version.filter(|version| said % 10 == 0 && version.major > 0);
    let Some(version) = version else {
        return vec![format!("NVML says that the driver serves CUDA, yet `{said}` is none of it")];
    };
    // The driver's libcuda is of its libraries; a module of another release is another rule's.
    let libraries = snapshot.driver.libraries.as_deref().unwrap_or_default();
    let driver = libraries.parse::<DriverVersion>().ok();
    let driver = driver.filter(|_| snapshot.compat_libcuda.is_none());
    let serves = driver.as_ref().map(sconce_facts::cuda_of_branch);
    let beyond = serves.is_some_and(|(first, next)| {
        first.is_some_and(|first| version < first) || next.is_some_and(|next| version >= next)
    });
    let says = || {
        format!("NVML says that the driver serves CUDA {version}, yet driver {libraries} does not")
    };
    beyond.then(says).into_iter().collect()
}

/// The kernel lists every GPU by its bus, with the driver that has it, to who can see the bus at all.
fn on_the_bus(snapshot: &Snapshot) -> Vec<String> {
    let sees = !snapshot.container || !snapshot.pci.is_empty();
    let found = shown(snapshot).filter_map(|(device, _)| {
        let name = device.name();
        let Some(pci) = device.pci else {
            return sees
                .then(|| format!("the driver shows {name}, yet the PCI bus has no GPU there"));
        };
        // Seen in the same folder: without them the folder may not have been readable.
        let read = snapshot.schema >= 2 && (pci.bars.is_some() || pci.link.is_some());
        (read && pci.driver.is_none())
            .then(|| format!("the driver shows {name}, yet no kernel driver is bound to it"))
    });
    found.collect()
}

/// A bus and a node are one GPU's.
fn twice(snapshot: &Snapshot) -> Vec<String> {
    let (mut buses, mut minors, mut listed) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut found: Vec<String> = Vec::new();
    for gpu in &snapshot.gpus {
        if !buses.insert(&gpu.bus_id) {
            found.push(format!("two GPUs are there, yet both are at {}", gpu.bus_id));
        } else if !minors.insert(gpu.minor) {
            found.push(format!("two GPUs are there, yet both are /dev/nvidia{}", gpu.minor));
        }
    }
    let again = snapshot.pci.iter().filter(|pci| !listed.insert(&pci.bus_id));
    found.extend(
        again.map(|pci| format!("the PCI bus has two GPUs, yet both are at {}", pci.bus_id)),
    );
    found
}

/// NVML numbers the GPUs that it answers for. One that has gone leaves its number.
fn indexes(snapshot: &Snapshot) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let answered = snapshot.gpus.iter().filter(|gpu| gpu.answers == Some(true));
    let again = answered.filter(|gpu| !seen.insert(gpu.index));
    again.map(|gpu| format!("two GPUs are there, yet both are GPU {}", gpu.index)).collect()
}

/// nvidia-uvm has two devices of one number of its own (open-gpu-kernel-modules, kernel-open/nvidia-uvm/uvm_common.h:
/// NVIDIA_UVM_PRIMARY_MINOR_NUMBER 0, NVIDIA_UVM_TOOLS_MINOR_NUMBER 1); 195 is the driver's.
fn nodes(snapshot: &Snapshot) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for node in &snapshot.nodes {
        let path = node.path.display();
        if !seen.insert(&node.path) {
            found.push(format!("{path} is one node, yet it is listed twice"));
            continue;
        }
        let minor = match node.path.to_str() {
            Some("/dev/nvidia-uvm") => 0,
            Some("/dev/nvidia-uvm-tools") => 1,
            _ => continue,
        };
        let opens = node.open == sconce_gpu::Opening::Fine;
        if opens && (node.minor != minor || [0, MAJOR].contains(&node.major)) {
            let Node { major, minor, .. } = node;
            found.push(format!("{path} opens, yet it is {major}:{minor}, another device's node"));
        }
    }
    found
}

/// A window of PCI memory is a power of two, of at least 16 bytes (PCI Local Bus Specification 3.0, section 6.2.5.1).
fn windows(snapshot: &Snapshot) -> Vec<String> {
    let odd = |size: &&u64| **size != 0 && (!size.is_power_of_two() || **size < 16);
    let found = shown(snapshot).filter_map(|(device, _)| {
        let size = device.pci?.bars.as_ref()?.iter().find(odd)?;
        Some(format!(
            "{} has a window of PCI memory (BAR), yet {size} bytes are no size of one",
            device.name()
        ))
    });
    found.collect()
}
