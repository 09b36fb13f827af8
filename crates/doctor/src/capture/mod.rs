//! Taking a snapshot. All looking at the machine happens here; whatever can't be seen stays unknown.

mod bus;
mod fabric;
mod host;
mod kernel_log;

use std::collections::BTreeMap;
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use sconce_facts::Capability;
use sconce_gpu::nvml::GpuAnswers;
use sconce_gpu::{Machine, Opening, cdi, driver, linker};

use crate::snapshot::{Cdi, Driver, Gpu, MigInstance, Node, Pci, SCHEMA, Snapshot};

/// NVML has this long: an idle GPU without persistence takes a second or two to wake.
const PATIENCE: Duration = Duration::from_secs(10);
/// A resolver has this long.
const NAME_PATIENCE: Duration = Duration::from_secs(1);
/// A driver has this long to open a node.
const NODE_PATIENCE: Duration = Duration::from_secs(15);

/// Variables that rules read. No others are kept: a value can be anything, a password too.
const VARIABLES: &[&str] = &["CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH"];

impl Snapshot {
    /// Looks at the machine. The nodes are opened first, and NVML is asked, in a thread of its own, only if no node
    /// hangs: a thread that sleeps in the kernel would keep this process from ending.
    pub fn capture(machine: &Machine) -> Self {
        let mut survey = driver::survey(machine);
        let nodes = nodes(machine, &survey, Some(NODE_PATIENCE));
        let hung = nodes.iter().any(|node| node.open == Opening::Hung);
        if survey.module.is_some() && survey.folder.is_some() && !hung {
            driver::with_nvml(machine, &mut survey, PATIENCE);
        }
        let kernel_log::Log { lines, errors } = kernel_log::read(machine);
        let compat = compat(machine, &survey);
        let mut seen = Self {
            kernel_log: lines,
            errors,
            cdi: documents(machine, &survey),
            host_name_resolves: host_name_resolves(machine),
            compat_version: compat.as_ref().and_then(|path| {
                let real = machine.resolve(path)?;
                Some(real.file_name()?.to_str()?.strip_prefix("libcuda.so.")?.to_owned())
            }),
            compat_libcuda: compat,
            acs_bridges: bus::acs_bridges(machine),
            iommu_translates: bus::iommu(machine),
            ..Self::seen(machine, &survey, nodes)
        };
        if hung {
            let why = "NVML was not asked: the driver does not come back from opening a node";
            seen.driver.nvml_silence = Some(why.to_owned());
        }
        seen
    }

    /// What can be seen at once, in a millisecond or so: nothing that waits for a driver, a
    /// resolver or a log. For a start's sake; NVML's answers are in it if the survey has them.
    pub fn glance(machine: &Machine, survey: &driver::Survey) -> Self {
        Self::seen(machine, survey, nodes(machine, survey, None))
    }

    fn seen(machine: &Machine, survey: &driver::Survey, nodes: Vec<Node>) -> Self {
        let given = machine.given();
        let pci: Vec<Pci> = survey
            .pci
            .iter()
            .map(|(bus_id, device)| Pci {
                excluded: survey.excluded.contains(bus_id),
                ..bus::device(machine, bus_id, device)
            })
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
                answers: survey
                    .nvml
                    .as_ref()
                    .map(|_| told.is_some_and(|told| *told != GpuAnswers::default())),
                silence: told
                    .and_then(|told| told.silence)
                    .map(in_words)
                    .or_else(|| silence(survey, gpu)),
                health: told.map(|told| told.health).unwrap_or_default(),
                mig: gpu
                    .mig
                    .iter()
                    .map(|one| MigInstance {
                        gpu_instance: one.gpu_instance,
                        compute_instance: one.compute_instance,
                    })
                    .collect(),
            }
        });
        Self {
            schema: SCHEMA,
            part: false,
            arch: survey.arch.clone(),
            kernel: machine.text("/proc/sys/kernel/osrelease"),
            container: in_container(machine),
            root: given.map_or_else(|| rustix::process::geteuid().is_root(), |given| given.root),
            wsl: survey.wsl,
            gpus: gpus.collect(),
            nodes,
            modules: modules(machine),
            systemd: machine.is_dir(Path::new("/run/systemd/system")),
            selinux: machine.text("/sys/fs/selinux/enforce").as_deref() == Some("1"),
            fabric_manager: fabric::fabric_manager(machine, survey),
            fabric_manager_version: fabric::fabric_manager_version(machine, survey),
            shm_bytes: given.map_or_else(|| shm_bytes(machine), |given| given.shm_bytes),
            memlock_bytes: given.map_or_else(memlock, |given| given.memlock_bytes),
            infiniband: infiniband(machine),
            environment: environment(machine),
            kernel_log: None,
            cdi: Vec::new(),
            host_name_resolves: None,
            compat_libcuda: None,
            compat_version: None,
            acs_bridges: None,
            iommu_translates: false,
            os: host::os(machine),
            secure_boot: host::secure_boot(machine),
            lockdown: host::lockdown(machine),
            engines: host::engines(machine),
            cluster: host::cluster(machine),
            nvlsm: fabric::switched(survey) && host::runs(machine, "nvlsm"),
            imex: host::imex(machine, survey),
            errors: Vec::new(),
            uptime_seconds: host::uptime(machine),
            rootless: host::rootless(
                machine,
                given.map_or_else(|| rustix::process::geteuid().as_raw(), |_| 1000),
            ),
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
                // Of no interest while a module is loaded.
                built_for: (survey.module.is_none() && !survey.pci.is_empty())
                    .then(|| host::built_for(machine))
                    .flatten(),
                hmm: machine
                    .text("/sys/module/nvidia_uvm/parameters/uvm_disable_hmm")
                    .map(|disabled| disabled == "N"),
                excluding: match survey.excluded.is_empty() {
                    true => Vec::new(),
                    false => host::excluding(machine),
                },
            },
            pci,
        }
    }
}

/// Why NVML does not know a GPU: the one code with which it refused any.
fn silence(survey: &driver::Survey, gpu: &driver::Gpu) -> Option<String> {
    let answers = survey.nvml.as_ref().filter(|_| gpu.nvml.is_none())?;
    let nothing_else = |told: &&GpuAnswers| {
        **told == GpuAnswers { silence: told.silence, ..GpuAnswers::default() }
    };
    let refused = answers.gpus.iter().filter(nothing_else);
    let mut codes: Vec<i32> = refused.filter_map(|told| told.silence).collect();
    codes.sort_unstable();
    codes.dedup();
    match codes.as_slice() {
        [code] => Some(in_words(*code)),
        _ => None,
    }
}

/// `GPU is lost (15)`.
fn in_words(code: i32) -> String {
    format!("{} ({code})", sconce_gpu::nvml::say(code))
}

/// The driver's nodes, each opened once: as CUDA does within `patience`, or at once without.
fn nodes(machine: &Machine, survey: &driver::Survey, patience: Option<Duration>) -> Vec<Node> {
    let gpus = survey.gpus.iter();
    let caps = gpus.clone().flat_map(|gpu| &gpu.mig).flat_map(|mig| &mig.capabilities);
    let nodes = gpus.filter_map(|gpu| gpu.node.as_ref());
    let nodes = nodes.chain(caps.filter_map(|capability| capability.node.as_ref()));
    let nodes = nodes.chain(&survey.control).chain(&survey.switches);
    let mut nodes: Vec<sconce_gpu::Node> = nodes.cloned().collect();
    nodes.sort_by(|a, b| a.path.cmp(&b.path));
    nodes.dedup_by(|a, b| a.path == b.path);
    let openings = match patience {
        Some(patience) => machine.open_all(&nodes, patience),
        // Capabilities may only be read; opening them to write fails where all is well.
        None => nodes
            .iter()
            .map(|node| match node.path.starts_with("/dev/nvidia-caps") {
                true => Opening::Fine,
                false => machine.open(node),
            })
            .collect(),
    };
    let devices = machine.text("/proc/devices").unwrap_or_default();
    let nodes = nodes.into_iter().zip(openings).map(|(node, open)| {
        let link = format!("/dev/char/{}:{}", node.major, node.minor);
        Node {
            major: node.major,
            driver_major: driver_major(&devices, &node.path).filter(|own| *own != node.major),
            minor: node.minor,
            mode: node.mode,
            open,
            char_link: machine.link(Path::new(&link)).is_some(),
            path: node.path,
        }
    });
    nodes.collect()
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
/// container images too, but see the kernel's own threads and mount a root that is not an overlay.
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
        name.starts_with("nvidia")
            || matches!(
                *name,
                "nouveau" | "nvgpu" | "gdrdrv" | "nv_peer_mem" | "vfio_pci" | "ib_umad"
            )
    };
    let mut names: Vec<String> = names.filter(ours).map(str::to_owned).collect();
    names.sort();
    names
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
