//! Pairs of what was seen that no machine can have both: one of them is wrong, and which is not known. Where one of the two
//! decides alone (another kernel driver has the GPU, a node is missing), a rule of its own says so; BARs without an
//! address are those of `bar-space`.
//!
//! What a capture can't see it leaves out, so that only what is there is held against the rest.

use std::collections::BTreeSet;

use sconce_facts::{Capability, CudaVersion, DriverVersion, Machine};

use crate::rules;
use crate::snapshot::{Gpu, Snapshot};
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
    products,
    capabilities,
    memory,
    mig,
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

/// Names that stand for no product: of samples, and where the driver's list of names lacks the card.
const NAMELESS: &[&str] = &["graphicsdevice", "unknown", ""];

/// The driver takes its name from a list by PCI ids, so that it has the product's number in it. A virtual GPU has its
/// profile's.
fn products(snapshot: &Snapshot) -> Vec<String> {
    let found = shown(snapshot).filter_map(|(device, gpu)| {
        let pci = device.pci.filter(|_| !device.is_virtual())?;
        let known = sconce_facts::gpu_by_pci(&pci.device)?;
        let plain =
            |text: &str| text.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "");
        let model = plain(&gpu.model);
        let model = model.strip_prefix("nvidia").unwrap_or(&model);
        let named =
            known.name.split_whitespace().find(|word| word.contains(|c: char| c.is_ascii_digit()));
        let other = named.is_some_and(|named| !model.contains(&plain(named)));
        (other && !NAMELESS.contains(&model)).then(|| {
            format!(
                "{} is called so, yet by its PCI id, {}, it is a {}",
                device.name(),
                pci.device,
                known.name
            )
        })
    });
    found.collect()
}

/// The first compute capability of which the facts say nothing, below those they know.
const OLDEST: Capability = Capability { major: 2, minor: 0 };

fn capabilities(snapshot: &Snapshot) -> Vec<String> {
    let known = sconce_facts::capabilities();
    let (first, last) = (known.first().map(|row| row.cc), known.last().map(|row| row.cc));
    let branch = snapshot.branch();
    let newest = sconce_facts::toolkits().iter().filter_map(|row| row.driver.as_ref());
    let newest = newest.map(DriverVersion::branch).max();
    let found = shown(snapshot).filter_map(|(device, gpu)| {
        let own = gpu.capability?;
        let name = device.name();
        if let Some(facts) = device.facts() {
            let other = facts.capability;
            return (own != other)
                .then(|| format!("{name} has compute capability {other}, yet it says {own}"));
        }
        // Older than what is known, of a card that is: Fermi, Kepler. Or newer, with a driver that is newer as well.
        let old = device.generation().is_some()
            && own >= OLDEST
            && first.is_some_and(|first| own < first);
        let new = branch > newest && last.is_some_and(|last| own > last);
        let module = module(snapshot);
        (own.row().is_none() && !old && !new).then(|| {
            format!(
                "{name} says compute capability {own}, yet driver {module} knows no GPU of that"
            )
        })
    });
    found.collect()
}

/// Less than the smallest profile of a virtual GPU has (512 MB: NVIDIA's virtual GPU software user guide, M10-0B), by half.
const LEAST_MEMORY: u64 = 256 << 20;

fn memory(snapshot: &Snapshot) -> Vec<String> {
    let found = shown(snapshot).filter_map(|(device, gpu)| {
        let memory = gpu.memory_bytes?;
        let name = device.name();
        match gpu.used_bytes {
            _ if memory < LEAST_MEMORY => {
                Some(format!("NVML answers for {name}, yet it has {memory} bytes of memory"))
            }
            Some(used) if used > memory => {
                Some(format!("{name} has {memory} bytes of memory, yet {used} of them are in use"))
            }
            _ => None,
        }
    });
    found.collect()
}

/// The first GPUs with MIG (NVIDIA's MIG user guide, supported GPUs: A100 and A30, 8.0).
const FIRST_MIG: Capability = Capability { major: 8, minor: 0 };
/// The most that any GPU has (ibid., supported MIG profiles).
const MOST_INSTANCES: u32 = 7;

fn mig(snapshot: &Snapshot) -> Vec<String> {
    let found = shown(snapshot).filter_map(|(device, gpu)| {
        let (name, count) = (device.name(), gpu.instances);
        if !gpu.mig_mode {
            let has = count > 0 || !gpu.mig.is_empty();
            return has.then(|| format!("{name} is not in MIG mode, yet it has MIG instances"));
        }
        let most = device.facts().and_then(|facts| facts.mig_instances);
        if most == Some(0) || gpu.capability.is_some_and(|own| own < FIRST_MIG) {
            return Some(format!("{name} is in MIG mode, yet GPUs of its kind have none"));
        }
        let most = most.unwrap_or(MOST_INSTANCES);
        if count > most {
            return Some(format!(
                "{name} has {count} MIG instances, yet its kind has {most} at most"
            ));
        }
        if snapshot.schema >= 2 && count as usize != gpu.mig.len() {
            let listed = gpu.mig.len();
            return Some(format!("{name} has {count} MIG instances, yet {listed} are listed"));
        }
        let nowhere = gpu.mig.iter().find(|one| !rules::is_mig_place(**one))?;
        let (instance, compute) = (nowhere.gpu_instance, nowhere.compute_instance);
        Some(format!("{name} has MIG instance {instance}/{compute}, yet no GPU has that place"))
    });
    found.collect()
}
