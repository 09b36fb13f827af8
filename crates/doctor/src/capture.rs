//! Taking a snapshot. All looking at the machine happens here; whatever can't be seen stays unknown.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::ToSocketAddrs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use sconce_facts::Capability;
use sconce_gpu::{Machine, cdi, driver, linker};

use crate::snapshot::{Cdi, Driver, Gpu, Node, Pci, Snapshot};

/// NVML has this long: an idle GPU without persistence takes a second or two to wake.
const PATIENCE: Duration = Duration::from_secs(10);
/// A resolver has this long.
const NAME_PATIENCE: Duration = Duration::from_secs(1);
/// Lines kept of the kernel's log.
const MOST_LINES: usize = 200;
/// Bytes read of the kernel's log.
const LONGEST_LOG: usize = 8 << 20;

/// Variables that rules read. No others are kept: a value can be anything, a password too.
const VARIABLES: &[&str] = &["CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH"];

impl Snapshot {
    /// Looks at the machine. NVML is asked in a thread of its own and given ten seconds.
    pub fn capture(machine: &Machine) -> Self {
        let mut survey = driver::survey(machine);
        if survey.module.is_some() && survey.folder.is_some() {
            driver::with_nvml(machine, &mut survey, PATIENCE);
        }
        Self {
            kernel_log: kernel_log(machine),
            cdi: documents(machine, &survey),
            host_name_resolves: host_name_resolves(machine),
            compat_libcuda: compat(machine, &survey),
            acs_bridges: acs_bridges(machine),
            iommu_translates: iommu(machine),
            ..Self::glance(machine, &survey)
        }
    }

    /// What can be seen at once, in a millisecond or so: nothing that waits for a driver, a
    /// resolver or a log. For a start's sake; NVML's answers are in it if the survey has them.
    pub fn glance(machine: &Machine, survey: &driver::Survey) -> Self {
        let given = machine.given();
        let pci: Vec<Pci> = survey
            .pci
            .iter()
            .map(|(bus_id, device)| Pci { bus_id: bus_id.clone(), device: device.clone() })
            .collect();
        let by_bus = |bus_id: &str| {
            let device = &pci.iter().find(|one| one.bus_id == bus_id)?.device;
            Some(sconce_facts::gpu_by_pci(device)?.capability)
        };
        let gpus = survey.gpus.iter().map(|gpu| {
            let told = gpu.nvml.as_ref();
            let asked = told.and_then(|told| told.capability).and_then(|(major, minor)| {
                Some(Capability { major: major.try_into().ok()?, minor: minor.try_into().ok()? })
            });
            Gpu {
                index: gpu.index,
                minor: gpu.minor,
                model: gpu.model.clone(),
                bus_id: gpu.bus_id.clone(),
                capability: asked.or_else(|| by_bus(&gpu.bus_id)),
                mig_mode: gpu.mig_mode,
                instances: gpu.mig.len() as u32,
                fabric: told.and_then(|told| told.fabric),
                memory_bytes: told.and_then(|told| told.memory_bytes),
                used_bytes: told.and_then(|told| told.used_bytes),
                processes: told.and_then(|told| told.processes),
                compute_mode: told.and_then(|told| told.compute_mode),
                remapped: told.and_then(|told| told.remapped),
            }
        });
        Self {
            schema: Snapshot::schema(),
            arch: survey.arch.clone(),
            kernel: machine.text("/proc/sys/kernel/osrelease"),
            container: in_container(machine),
            root: given.map_or_else(|| rustix::process::geteuid().is_root(), |given| given.root),
            wsl: survey.wsl,
            gpus: gpus.collect(),
            nodes: nodes(machine, survey),
            modules: modules(machine),
            systemd: machine.is_dir(Path::new("/run/systemd/system")),
            selinux: machine.text("/sys/fs/selinux/enforce").as_deref() == Some("1"),
            fabric_manager: fabric_manager(machine, survey),
            fabric_manager_version: fabric_manager_version(machine, survey),
            shm_bytes: given.map_or_else(|| shm_bytes(machine), |given| given.shm_bytes),
            memlock_bytes: given.map_or_else(memlock, |given| given.memlock_bytes),
            infiniband: infiniband(machine),
            environment: environment(machine),
            kernel_log: None,
            cdi: Vec::new(),
            host_name_resolves: None,
            compat_libcuda: None,
            acs_bridges: None,
            iommu_translates: false,
            driver: Driver {
                module: survey.module.clone(),
                open: machine
                    .text("/proc/driver/nvidia/version")
                    .map(|text| text.contains("Open Kernel Module")),
                libraries: survey.version.clone(),
                folder: survey.folder.clone(),
                nvml: survey.nvml.is_some(),
                nvml_silence: survey.nvml_silence.as_ref().map(ToString::to_string),
                cuda: survey.nvml.as_ref().and_then(|answers| answers.cuda),
            },
            pci,
        }
    }
}

/// The driver's nodes, each opened once.
fn nodes(machine: &Machine, survey: &driver::Survey) -> Vec<Node> {
    let gpus = survey.gpus.iter();
    let caps = gpus.clone().flat_map(|gpu| &gpu.mig).flat_map(|mig| &mig.capabilities);
    let nodes = gpus.filter_map(|gpu| gpu.node.as_ref());
    let nodes = nodes.chain(caps.filter_map(|capability| capability.node.as_ref()));
    let nodes = nodes.chain(&survey.control).chain(&survey.switches);
    let devices = machine.text("/proc/devices").unwrap_or_default();
    let mut nodes: Vec<Node> = nodes
        .map(|node| {
            let link = format!("/dev/char/{}:{}", node.major, node.minor);
            let capability = node.path.starts_with("/dev/nvidia-caps");
            Node {
                path: node.path.clone(),
                major: node.major,
                driver_major: driver_major(&devices, &node.path).filter(|own| *own != node.major),
                minor: node.minor,
                mode: node.mode,
                // Capabilities may only be read; opening them to write fails where all is well.
                open: if capability { sconce_gpu::Opening::Fine } else { machine.open(node) },
                char_link: machine.link(Path::new(&link)).is_some(),
            }
        })
        .collect();
    nodes.sort_by(|a, b| a.path.cmp(&b.path));
    nodes.dedup_by(|a, b| a.path == b.path);
    nodes
}

/// What /proc/devices calls the driver of a node, by how the node's path begins; longer beginnings
/// first. `nvidia-frontend` is what older drivers call `nvidia`.
const DEVICES: [(&str, &[&str]); 5] = [
    ("/dev/nvidia-uvm", &["nvidia-uvm"]),
    ("/dev/nvidia-caps-imex-channels/", &["nvidia-caps-imex-channels"]),
    ("/dev/nvidia-caps/", &["nvidia-caps"]),
    ("/dev/nvidia-nvswitch", &["nvidia-nvswitch"]),
    ("/dev/nvidia", &["nvidia", "nvidia-frontend"]),
];

/// The major number that /proc/devices names for the driver of a node.
fn driver_major(devices: &str, path: &Path) -> Option<u32> {
    let path = path.to_str()?;
    let (_, names) = DEVICES.iter().find(|(start, _)| path.starts_with(start))?;
    devices.lines().find_map(|line| {
        let (major, name) = line.trim().split_once(' ')?;
        names.contains(&name).then(|| major.parse().ok())?
    })
}

/// Whether marks of a container are here and they are not left over: virtual machines are made of
/// container images too, but see the kernel's own threads and mount a root that is no overlay.
fn in_container(machine: &Machine) -> bool {
    let marks = ["/.dockerenv", "/run/.containerenv", "/run/systemd/container"];
    let marked = marks.iter().any(|mark| machine.exists(Path::new(mark)))
        || machine.text("/proc/1/environ").is_some_and(|text| text.contains("container="));
    let kernel_threads = machine.text("/proc/2/comm").as_deref() == Some("kthreadd");
    marked && (!kernel_threads || overlaid(machine))
}

/// Whether the root is an overlay (proc(5), mountinfo: the fifth field is the mount point, the file
/// system follows ` - `).
fn overlaid(machine: &Machine) -> bool {
    let mounts = machine.text("/proc/self/mountinfo").unwrap_or_default();
    let root = mounts.lines().rfind(|line| line.split(' ').nth(4) == Some("/"));
    root.and_then(|line| line.split_once(" - ")).is_none_or(|(_, kind)| kind.starts_with("overlay"))
}

fn modules(machine: &Machine) -> Vec<String> {
    let text = machine.text("/proc/modules").unwrap_or_default();
    let names = text.lines().filter_map(|line| line.split_whitespace().next());
    let ours = |name: &&str| {
        name.starts_with("nvidia") || matches!(*name, "nouveau" | "gdrdrv" | "nv_peer_mem")
    };
    let mut names: Vec<String> = names.filter(ours).map(str::to_owned).collect();
    names.sort();
    names
}

/// Looked for only where there is something to manage.
fn fabric_manager(machine: &Machine, survey: &driver::Survey) -> bool {
    if survey.switches.is_empty() {
        return false;
    }
    if machine.is_socket(Path::new("/run/nvidia-fabricmanager/socket")) {
        return true;
    }
    let numbers = machine.names(Path::new("/proc")).into_iter();
    numbers.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).any(|pid| {
        // A process' name is cut at 15 bytes.
        let name = machine.text(&format!("/proc/{pid}/comm"));
        name.is_some_and(|name| name.starts_with("nv-fabricmanage"))
    })
}

/// The version of fabric manager's package in dpkg's list (deb-control(5)): `550.127.05` of
/// `550.127.05-0ubuntu0.22.04.1`.
fn fabric_manager_version(machine: &Machine, survey: &driver::Survey) -> Option<String> {
    if survey.switches.is_empty() {
        return None;
    }
    let list = machine.text("/var/lib/dpkg/status")?;
    let packages = list.split("\n\n").filter(|package| {
        package.trim_start().starts_with("Package: nvidia-fabricmanager")
            && package.contains("\nStatus: install ok installed")
    });
    let version = packages.filter_map(|package| {
        let line = package.lines().find_map(|line| line.strip_prefix("Version: "))?;
        let line = line.split_once(':').map_or(line, |(_, rest)| rest);
        line.split('-').next()
    });
    version
        .filter(|text| text.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
        .map(str::to_owned)
        .last()
}

/// Whether an adapter is here: the kernel's rdma_cm has a node without any.
fn infiniband(machine: &Machine) -> bool {
    let names = machine.names(Path::new("/dev/infiniband"));
    names.iter().any(|name| name.starts_with("uverbs"))
}

fn shm_bytes(machine: &Machine) -> Option<u64> {
    let path = machine.at(Path::new("/dev/shm"))?;
    let stat = rustix::fs::statvfs(path).ok()?;
    stat.f_blocks.checked_mul(stat.f_frsize)
}

fn memlock() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Memlock).maximum
}

fn environment(machine: &Machine) -> BTreeMap<String, String> {
    let of_host = |name: &str| match machine.given() {
        Some(given) => given.environment.get(name).cloned(),
        None => std::env::var(name).ok(),
    };
    VARIABLES.iter().filter_map(|name| Some(((*name).to_owned(), of_host(name)?))).collect()
}

/// The driver's lines of the kernel's log; `None` when it can't be read.
fn kernel_log(machine: &Machine) -> Option<Vec<String>> {
    let text = match machine.given() {
        Some(given) => given.kernel_log.clone()?,
        None => kmsg()?,
    };
    let ours = |line: &&str| {
        ["NVRM", "nvidia", "Xid", "fallen off the bus"].iter().any(|word| line.contains(word))
    };
    let lines: Vec<String> = text.lines().filter(ours).map(str::to_owned).collect();
    Some(lines.into_iter().rev().take(MOST_LINES).rev().collect())
}

/// `/dev/kmsg`: one record a read, `priority,sequence,microseconds,flags;text`.
fn kmsg() -> Option<String> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.read(true).custom_flags(flags).open("/dev/kmsg").ok()?;
    let mut text = String::new();
    let mut record = vec![0u8; 8192];
    while text.len() < LONGEST_LOG {
        match file.read(&mut record) {
            Ok(0) => break,
            Ok(length) => {
                let record = String::from_utf8_lossy(record.get(..length)?).into_owned();
                let line = record.split_once(';').map_or(record.as_str(), |(_, text)| text);
                text.extend(line.lines().next());
                text.push('\n');
            }
            // EPIPE: records were overwritten while reading; the next read goes on after them.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            Err(_) => break,
        }
    }
    Some(text)
}

fn documents(machine: &Machine, survey: &driver::Survey) -> Vec<Cdi> {
    let registry = cdi::registry::load(machine);
    let mut documents: Vec<Cdi> = registry
        .documents
        .iter()
        .filter(|found| found.document.kind.starts_with("nvidia.com/"))
        .map(|found| Cdi {
            path: found.path.clone(),
            problem: None,
            stale: cdi::registry::stale(&found.document, machine, survey)
                .iter()
                .take(8)
                .map(ToString::to_string)
                .collect(),
        })
        .collect();
    documents.extend(registry.problems.into_iter().filter_map(|problem| match problem {
        sconce_gpu::Error::Cdi { path, reason } => {
            Some(Cdi { path, problem: Some(reason), stale: Vec::new() })
        }
        sconce_gpu::Error::Read { path, source } => {
            Some(Cdi { path, problem: Some(source.to_string()), stale: Vec::new() })
        }
        _ => None,
    }));
    documents
}

fn host_name_resolves(machine: &Machine) -> Option<bool> {
    if let Some(given) = machine.given() {
        return given.host_name.as_ref().map(|name| name.resolves);
    }
    let name = rustix::system::uname().nodename().to_str().ok()?.to_owned();
    let (send, receive) = mpsc::channel();
    let ask = move || {
        let found = (name.as_str(), 0).to_socket_addrs().is_ok_and(|mut all| all.next().is_some());
        let _ = send.send(found);
    };
    thread::Builder::new().name("resolve".into()).spawn(ask).ok()?;
    Some(receive.recv_timeout(NAME_PATIENCE).unwrap_or(false))
}

/// A libcuda that the loader meets before the driver's: in LD_LIBRARY_PATH, or first in its cache.
fn compat(machine: &Machine, survey: &driver::Survey) -> Option<PathBuf> {
    let driver = survey.folder.as_ref()?;
    let other = |folder: &Path| {
        let library = folder.join("libcuda.so.1");
        let real = machine.resolve(&library)?;
        (real.parent() != Some(driver)).then_some(library)
    };
    let variable = environment(machine).remove("LD_LIBRARY_PATH").unwrap_or_default();
    let folders: Vec<PathBuf> =
        variable.split(':').filter(|text| text.starts_with('/')).map(PathBuf::from).collect();
    for folder in &folders {
        if machine.exists(&folder.join("libcuda.so.1")) {
            return other(folder);
        }
    }
    let cache = machine.read(Path::new("/etc/ld.so.cache")).ok()??;
    let entries = linker::parse(&cache).ok()?;
    let first = entries.iter().find(|entry| {
        entry.name == "libcuda.so.1"
            && entry.path.components().any(|part| part.as_os_str() == "compat")
    })?;
    machine.exists(&first.path).then(|| first.path.clone())
}

/// Bridges whose ACS control redirects peer traffic to the root complex (PCI Express Base
/// Specification, "ACS Extended Capability": id 0x000d, control at +6, bit 2 request redirect, bit 3
/// completion redirect). Beyond byte 256 only root can read.
fn acs_bridges(machine: &Machine) -> Option<Vec<String>> {
    let folder = Path::new("/sys/bus/pci/devices");
    let mut bridges = Vec::new();
    let mut readable = false;
    for name in machine.names(folder) {
        let class = machine.text(&format!("/sys/bus/pci/devices/{name}/class"));
        if !class.is_some_and(|class| class.starts_with("0x0604")) {
            continue;
        }
        let Ok(Some(config)) = machine.read(&folder.join(&name).join("config")) else { continue };
        readable |= config.len() > 256;
        if acs_control(&config).is_some_and(|control| control & 0b1100 != 0) {
            bridges.push(name);
        }
    }
    readable.then_some(bridges)
}

/// The ACS control register, found along the list of extended capabilities.
fn acs_control(config: &[u8]) -> Option<u16> {
    let mut at = 0x100;
    // Each capability has at least 4 of the 4096 bytes.
    for _ in 0..960 {
        let word = config.get(at..at + 4)?;
        let word = u32::from_le_bytes(word.try_into().ok()?);
        if word & 0xffff == 0x000d {
            let control = config.get(at + 6..at + 8)?;
            return Some(u16::from_le_bytes(control.try_into().ok()?));
        }
        at = (word >> 20) as usize & 0xffc;
        if at < 0x100 {
            return None;
        }
    }
    None
}

/// Whether devices' addresses are translated: groups exist and no one asked for pass-through.
fn iommu(machine: &Machine) -> bool {
    let line = machine.text("/proc/cmdline").unwrap_or_default();
    let through = line.split_whitespace().any(|word| {
        matches!(
            word,
            "iommu=pt" | "iommu.passthrough=1" | "intel_iommu=off" | "amd_iommu=off" | "iommu=off"
        )
    });
    let types = machine.names(Path::new("/sys/kernel/iommu_groups"));
    let translated = types.iter().any(|group| {
        let kind = machine.text(&format!("/sys/kernel/iommu_groups/{group}/type"));
        kind.is_none_or(|kind| kind.starts_with("DMA"))
    });
    !through && translated
}

#[cfg(test)]
mod tests {
    use super::acs_control;

    #[test]
    fn acs_is_found_along_the_list_and_loops_end() {
        let mut config = vec![0u8; 4096];
        config[0x100..0x104].copy_from_slice(&0x1401_0001u32.to_le_bytes());
        config[0x140..0x144].copy_from_slice(&0x0001_000du32.to_le_bytes());
        config[0x146] = 0x1d;
        assert_eq!(acs_control(&config), Some(0x1d));
        config[0x140..0x144].copy_from_slice(&0x1001_0002u32.to_le_bytes());
        assert_eq!(acs_control(&config), None);
        assert_eq!(acs_control(&config[..256]), None);
        assert_eq!(acs_control(&[]), None);
    }
}
