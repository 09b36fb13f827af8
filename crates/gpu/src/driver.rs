//! The driver on this machine: where its libraries lie, its version, its nodes and GPUs.
//!
//! [`survey`] looks and never fails; [`find`] says whether a container can use what was seen. The
//! order of search follows what drivers do: a folder the caller names, the linker's cache, the
//! distributions' folders, `/usr/local/nvidia` (driver installers of Kubernetes and of some clouds),
//! `/run/nvidia/driver` (the driver container).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::linker;
use crate::machine::{Machine, Node};
use crate::nvml;
use crate::programs::{self, Companion};
use crate::{Error, mig};

/// Folders of the driver's libraries, below a root of a file system, in the order of search.
pub const LIBRARY_FOLDERS: &[&str] = &[
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu/nvidia/current",
    "/usr/lib/aarch64-linux-gnu/nvidia/current",
    "/usr/lib64",
    "/usr/lib64/nvidia",
    "/usr/lib/nvidia",
    "/usr/lib",
    "/usr/local/nvidia/lib64",
    "/usr/local/nvidia/lib",
    "/lib64",
];

/// Folders below a `--driver-root` that is a prefix and not a root of a file system.
const PREFIX_FOLDERS: &[&str] = &["/lib64", "/lib"];

/// Where the driver container mounts its own root.
pub(crate) const DRIVER_CONTAINER: &str = "/run/nvidia/driver";

/// Sockets of the driver's daemons, as NVIDIA's toolkit chooses them.
const SOCKETS: &[&str] =
    &["/run/nvidia-persistenced/socket", "/run/nvidia-fabricmanager/socket", "/tmp/nvidia-mps"];

/// What tells other libraries of the driver's, below a `share` folder, as NVIDIA's toolkit chooses them
/// (its graphics discoverer).
const SHARE: &[&str] = &[
    "glvnd/egl_vendor.d/10_nvidia.json",
    "nvidia/nvoptix.bin",
    "vulkan/icd.d/nvidia_icd.json",
    "vulkan/icd.d/nvidia_layers.json",
    "vulkan/implicit_layer.d/nvidia_layers.json",
];

/// What GPUDirect Storage reads beside its nodes, as NVIDIA's toolkit chooses it.
const STORAGE: &[&str] = &["/etc/cufile.json", "/run/udev"];

/// Where channels of memory shared between machines (IMEX) have their nodes.
const IMEX: &str = "/dev/nvidia-caps-imex-channels";

/// Nodes that every container with a GPU gets, where they are.
const CONTROL: &[&str] =
    &["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset"];

/// A library of the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// The file, with all links followed.
    pub path: PathBuf,
    /// Its name with the driver's version: `libcuda.so.580.159.04`.
    pub name: String,
    /// Names of links to it in its folder: `libcuda.so`, `libcuda.so.1`.
    pub links: Vec<String>,
}

/// One GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Its number for NVML and `nvidia-smi`: the place in the order of PCI buses.
    pub index: u32,
    /// The number in `/dev/nvidia<minor>`, which can differ from the index.
    pub minor: u32,
    /// `GPU-…`; absent when neither /proc nor NVML knows it.
    pub uuid: Option<String>,
    /// `0000:04:00.0`.
    pub bus_id: String,
    /// `NVIDIA H100 80GB HBM3`.
    pub model: String,
    /// `/dev/nvidia<minor>`; absent when the node is missing.
    pub node: Option<Node>,
    /// Whether it is in MIG mode, as far as known.
    pub mig_mode: bool,
    /// Its MIG instances.
    pub mig: Vec<mig::Instance>,
    /// What NVML says of it.
    pub nvml: Option<nvml::GpuAnswers>,
}

/// All that was seen of a driver; everything may be missing.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// The processor: `x86_64`, `aarch64`.
    pub arch: String,
    /// Version of the loaded kernel module.
    pub module: Option<String>,
    /// Version of the libraries.
    pub version: Option<String>,
    /// The folder that holds libcuda.
    pub folder: Option<PathBuf>,
    /// Every folder in which a libcuda was seen, with its version.
    pub seen: Vec<(PathBuf, String)>,
    /// The libraries of that version in `folder`.
    pub libraries: Vec<Library>,
    /// Programs of the driver.
    pub programs: Vec<PathBuf>,
    /// What those of them need that bring a loader of their own.
    pub companions: Vec<Companion>,
    /// Sockets of its daemons.
    pub sockets: Vec<PathBuf>,
    /// GSP firmware of that version.
    pub firmware: Vec<PathBuf>,
    /// Files below a `share` folder that tell EGL, Vulkan and OptiX of the driver: the file and
    /// its path below `share`.
    pub share: Vec<(PathBuf, &'static str)>,
    /// Control nodes that are there.
    pub control: Vec<Node>,
    /// NVSwitch nodes.
    pub switches: Vec<Node>,
    /// Nodes of InfiniBand, GPUDirect RDMA and GPUDirect Storage, and IMEX channels.
    pub network: Vec<Node>,
    /// Files that GPUDirect Storage reads.
    pub storage: Vec<PathBuf>,
    /// `/proc/driver/nvidia/params`.
    pub parameters: Option<String>,
    /// GPUs the module shows.
    pub gpus: Vec<Gpu>,
    /// Buses of GPUs that the module was told to leave alone (`NVreg_ExcludedGpus`).
    pub excluded: Vec<String>,
    /// NVIDIA display devices on the PCI bus: bus id and device id (`20b0`).
    pub pci: Vec<(String, String)>,
    /// Whether this is WSL.
    pub wsl: bool,
    /// Why NVML gave nothing, where it was asked and did not answer.
    pub nvml_silence: Option<nvml::Silence>,
    /// NVML's answers, where it was asked.
    pub nvml: Option<nvml::Answers>,
}

/// A driver that a container can use: its module and libraries match and it shows a GPU.
#[derive(Clone, Debug)]
pub struct Driver {
    /// What was seen.
    pub survey: Survey,
    /// The version of module and libraries.
    pub version: String,
}

impl Driver {
    /// The GPUs.
    pub fn gpus(&self) -> &[Gpu] {
        &self.survey.gpus
    }
}

/// The driver, or why a container can't have it. NVML is not asked for it; [`with_nvml`] adds that.
pub fn find(machine: &Machine) -> Result<Driver, Error> {
    let survey = survey(machine);
    let version = judge(&survey)?;
    Ok(Driver { survey, version })
}

/// Adds NVML's answers: UUIDs of MIG instances, memory in use. What it does not say stays unknown.
pub fn with_nvml(machine: &Machine, survey: &mut Survey, patience: Duration) {
    let name = Path::new("libnvidia-ml.so.1");
    let library = survey.folder.as_ref().map_or(name.to_owned(), |folder| folder.join(name));
    match machine.nvml(&library, patience) {
        Ok(answers) => {
            for gpu in &mut survey.gpus {
                // By bus, as indices and minors may differ.
                let same = answers.gpus.iter().position(|told| {
                    told.bus_id.as_deref() == Some(&gpu.bus_id)
                        || (told.bus_id.is_none() && told.minor == Some(gpu.minor))
                });
                if let Some((place, told)) = same.and_then(|at| Some((at, answers.gpus.get(at)?))) {
                    gpu.index = place as u32;
                    gpu.uuid = told.uuid.clone().or_else(|| gpu.uuid.take());
                    gpu.mig_mode |= told.mig == Some(true);
                    mig::name(&mut gpu.mig, &told.instances);
                    gpu.nvml = Some(told.clone());
                }
            }
            survey.gpus.sort_by_key(|gpu| gpu.index);
            survey.nvml = Some(answers);
        }
        Err(silence) => survey.nvml_silence = Some(silence),
    }
}

/// The one version that a container can use, or what stands in the way.
fn judge(survey: &Survey) -> Result<String, Error> {
    if survey.wsl {
        return Err(Error::Wsl);
    }
    match (&survey.module, &survey.version, &survey.folder) {
        (None, None, _) | (None, _, None) => Err(Error::NoDriver {
            evidence: match survey.pci.len() {
                0 => "no kernel module, no libcuda, no NVIDIA device on the PCI bus".into(),
                count => format!(
                    "no kernel module and no libcuda, though {count} NVIDIA device(s) are on the PCI bus"
                ),
            },
        }),
        (Some(module), None, _) | (Some(module), _, None) => {
            Err(Error::NoLibraries { module: module.clone(), looked: LIBRARY_FOLDERS.join(", ") })
        }
        (None, Some(version), Some(folder)) => {
            Err(Error::NotLoaded { version: version.clone(), folder: folder.clone() })
        }
        (Some(module), Some(version), Some(folder)) if module != version => Err(Error::Mismatch {
            module: module.clone(),
            libraries: version.clone(),
            folder: folder.clone(),
        }),
        (Some(_), Some(version), _) if survey.gpus.is_empty() => {
            Err(Error::NoGpu { version: version.clone() })
        }
        (Some(_), Some(version), _) => Ok(version.clone()),
    }
}

/// Looks at everything, without opening a device and without running anything.
pub fn survey(machine: &Machine) -> Survey {
    let module = module_version(machine);
    let windows = machine.node(Path::new("/dev/dxg")).is_some()
        || machine.is_dir(Path::new("/usr/lib/wsl/lib"));
    let (gpus, excluded) = gpus(machine);
    let mut survey = Survey {
        arch: arch(machine),
        wsl: windows && module.is_none(),
        module,
        pci: pci(machine),
        gpus,
        excluded,
        control: CONTROL.iter().filter_map(|path| machine.node(Path::new(path))).collect(),
        ..Survey::default()
    };
    survey.parameters = machine.text("/proc/driver/nvidia/params");
    let nodes = |folder: &str, wanted: fn(&str) -> bool| {
        let names = machine.names(Path::new(folder)).into_iter().filter(move |name| wanted(name));
        let nodes = names.filter_map(|name| machine.node(&Path::new(folder).join(name)));
        nodes.collect::<Vec<_>>()
    };
    survey.switches = nodes("/dev", |name| name.starts_with("nvidia-nvswitch"));
    // The kernel's rdma_cm has its node on machines without any adapter; `uverbs` is an adapter's.
    survey.network = nodes("/dev/infiniband", |name| name.starts_with("uverbs"));
    if !survey.network.is_empty() {
        survey.network.extend(nodes("/dev/infiniband", |name| name == "rdma_cm"));
    }
    survey.network.extend(nodes("/dev", |name| name == "gdrdrv"));
    let storage = nodes("/dev", |name| name.starts_with("nvidia-fs"));
    if !storage.is_empty() {
        let read = STORAGE.iter().map(PathBuf::from).filter(|path| machine.exists(path));
        survey.storage = read.collect();
    }
    survey.network.extend(storage);
    survey.network.extend(nodes(IMEX, |name| name.starts_with("channel")));
    for folder in library_folders(machine, &survey.arch) {
        if let Some(version) = libcuda_version(machine, &folder, &survey.arch) {
            survey.seen.push((folder, version));
        }
    }
    // A leftover of another release must not win over the one that fits the module.
    let fits = survey.seen.iter().find(|(_, version)| Some(version) == survey.module.as_ref());
    if let Some((folder, version)) = fits.or(survey.seen.first()).cloned() {
        survey.libraries = libraries(machine, &folder, &version);
        survey.programs = programs::find(machine, &folder);
        survey.companions = programs::companions(machine, &survey.programs, &survey.libraries);
        survey.firmware = firmware(machine, &folder, &version);
        survey.share = share(machine, &folder);
        survey.folder = Some(folder);
        survey.version = Some(version);
    }
    survey.sockets = SOCKETS
        .iter()
        .map(PathBuf::from)
        .filter(|path| machine.is_socket(path) || machine.is_dir(path))
        .collect();
    survey
}

/// `x86_64` or `aarch64`: of this program on the host; of the described machine otherwise.
fn arch(machine: &Machine) -> String {
    let described = machine.text("/proc/sys/kernel/arch").filter(|_| !machine.is_host());
    described.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// The version of the loaded module. /proc's line reads `NVRM version: NVIDIA UNIX Open Kernel Module
/// for x86_64  580.159.04  Release Build …`.
fn module_version(machine: &Machine) -> Option<String> {
    let sys = machine.text("/sys/module/nvidia/version").filter(|text| is_version(text));
    sys.or_else(|| {
        let text = machine.text("/proc/driver/nvidia/version")?;
        let line = text.lines().find(|line| line.starts_with("NVRM version"))?;
        line.split_whitespace().find(|word| is_version(word)).map(str::to_owned)
    })
}

/// `580.159.04`, `535.54`: numbers with dots between, at least two.
pub(crate) fn is_version(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let digits =
        |part: &&str| (1..=6).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    (2..=4).contains(&parts.len()) && parts.iter().all(digits)
}

/// Every folder worth a look, in order, with links followed, each once.
fn library_folders(machine: &Machine, arch: &str) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let below = |root: &Path, folder: &str| root.join(folder.trim_start_matches('/'));
    if let Some(root) = machine.driver_root() {
        folders.extend(LIBRARY_FOLDERS.iter().map(|folder| below(root, folder)));
        folders.extend(PREFIX_FOLDERS.iter().map(|folder| below(root, folder)));
        folders.push(root.to_owned());
    } else {
        let cache = machine.read(Path::new("/etc/ld.so.cache")).ok().flatten();
        let entries = cache.and_then(|cache| linker::parse(&cache).ok()).unwrap_or_default();
        folders.extend(linker::folders_of(&entries, "libcuda.so.1", arch));
        folders.extend(LIBRARY_FOLDERS.iter().map(PathBuf::from));
        let container = Path::new(DRIVER_CONTAINER);
        folders.extend(LIBRARY_FOLDERS.iter().map(|folder| below(container, folder)));
    }
    let mut once = BTreeSet::new();
    folders.retain_mut(|folder| match machine.resolve(folder) {
        // CUDA's compatibility package holds a libcuda too; it is not the driver's.
        Some(real) if !real.components().any(|part| part.as_os_str() == "compat") => {
            *folder = real;
            once.insert(folder.clone())
        }
        _ => false,
    });
    folders
}

/// The version of the libcuda in this folder, if it is one for this processor.
fn libcuda_version(machine: &Machine, folder: &Path, arch: &str) -> Option<String> {
    let names = machine.names(folder);
    let mut versions: Vec<&str> = names
        .iter()
        .filter_map(|name| name.strip_prefix("libcuda.so."))
        .filter(|version| is_version(version))
        .filter(|version| {
            is_library_for(machine, &folder.join(format!("libcuda.so.{version}")), arch)
        })
        .collect();
    // Two side by side: the one that the link names is the one in use.
    let linked = machine.resolve(&folder.join("libcuda.so.1"));
    let linked =
        linked.as_ref().and_then(|path| path.file_name()?.to_str()?.strip_prefix("libcuda.so."));
    if let Some(linked) = linked.filter(|linked| versions.contains(linked)) {
        return Some(linked.to_owned());
    }
    versions.sort_unstable();
    versions.pop().map(str::to_owned)
}

/// Whether the file is a 64-bit ELF for this processor (`e_ident[EI_CLASS]` 2, `e_machine` at 18).
fn is_library_for(machine: &Machine, path: &Path, arch: &str) -> bool {
    let Some(at) = machine.at(path) else { return false };
    let mut head = [0u8; 20];
    let read =
        sconce_open::file(&at).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut head));
    let wanted: u16 = if arch == "aarch64" { 183 } else { 62 };
    read.is_ok()
        && head.starts_with(b"\x7fELF")
        && head[4] == 2
        && u16::from_le_bytes([head[18], head[19]]) == wanted
}

/// Every library of this version in libcuda's folder, and VDPAU's beside it, with their links.
fn libraries(machine: &Machine, folder: &Path, version: &str) -> Vec<Library> {
    let ending = format!(".so.{version}");
    let mut libraries = Vec::new();
    for folder in [folder.to_owned(), folder.join("vdpau")] {
        let names = machine.names(&folder);
        let mut found: Vec<Library> = names
            .iter()
            .filter(|name| name.starts_with("lib") && name.ends_with(&ending))
            .filter(|name| machine.is_file(&folder.join(name)))
            .filter_map(|name| {
                let path = machine.resolve(&folder.join(name))?;
                Some(Library { path, name: name.clone(), links: Vec::new() })
            })
            .collect();
        for name in names.iter().filter(|name| name.contains(".so") && !name.ends_with(&ending)) {
            if machine.link(&folder.join(name)).is_none() {
                continue;
            }
            let Some(target) = machine.resolve(&folder.join(name)) else { continue };
            if let Some(library) = found.iter_mut().find(|library| library.path == target) {
                library.links.push(name.clone());
            }
        }
        libraries.extend(found);
    }
    // What the toolkit's hooks would link: CUDA programs open `libcuda.so.1`, linkers `libcuda.so`.
    for library in &mut libraries {
        if library.name == format!("libcuda{ending}") {
            for link in ["libcuda.so", "libcuda.so.1"] {
                if !library.links.iter().any(|known| known == link) {
                    library.links.push(link.to_owned());
                }
            }
            library.links.sort();
        }
    }
    libraries
}

/// The GSP firmware of this version: where the kernel was told to look (`firmware_class.path`), in
/// its usual folders, beside the libraries of a prefix.
fn firmware(machine: &Machine, folder: &Path, version: &str) -> Vec<PathBuf> {
    let told = machine.text("/sys/module/firmware_class/parameters/path");
    let told = told.filter(|path| path.starts_with('/')).map(PathBuf::from);
    let root = machine.driver_root().unwrap_or(Path::new("/"));
    let usual = ["lib/firmware", "usr/lib/firmware"].map(|below| root.join(below));
    let prefix = folder.parent().into_iter();
    let prefix = prefix.flat_map(|at| ["firmware", "lib/firmware"].map(|below| at.join(below)));
    for place in told.into_iter().chain(usual).chain(prefix) {
        let folder = place.join("nvidia").join(version);
        let names = machine.names(&folder);
        let gsp = names.iter().filter(|name| name.starts_with("gsp") && name.ends_with(".bin"));
        let found: Vec<PathBuf> = gsp.map(|name| folder.join(name)).collect();
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

/// What tells EGL, Vulkan and OptiX of the driver: beside the libraries of a prefix, or in the
/// usual folders.
fn share(machine: &Machine, folder: &Path) -> Vec<(PathBuf, &'static str)> {
    let root = machine.driver_root().unwrap_or(Path::new("/"));
    let mut places: Vec<PathBuf> = folder.parent().map(|at| at.join("share")).into_iter().collect();
    places.extend(["usr/share", "etc"].map(|below| root.join(below)));
    let first = |name: &&'static str| {
        let path = places.iter().map(|place| place.join(name)).find(|path| machine.is_file(path));
        Some((path?, *name))
    };
    SHARE.iter().filter_map(first).collect()
}

/// The GPUs that the module shows in /proc, in the order of their buses, and the buses of those that it was told to
/// leave alone (`GPU Excluded: Yes`; NVIDIA/open-gpu-kernel-modules kernel-open/nvidia/nv-procfs.c).
fn gpus(machine: &Machine) -> (Vec<Gpu>, Vec<String>) {
    let folder = Path::new("/proc/driver/nvidia/gpus");
    let (mut gpus, mut excluded) = (Vec::new(), Vec::new());
    for bus_id in machine.names(folder).into_iter().take(256) {
        let path = folder.join(&bus_id).join("information");
        let Some(text) = path.to_str().and_then(|path| machine.text(path)) else { continue };
        let field = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
        };
        if field("GPU Excluded").is_some_and(|value| value == "Yes") {
            excluded.push(bus_id);
            continue;
        }
        let Some(minor) = field("Device Minor").and_then(|minor| minor.parse().ok()) else {
            continue;
        };
        let instances = mig::instances(machine, minor);
        gpus.push(Gpu {
            index: 0,
            minor,
            // An idle GPU without persistence shows question marks.
            uuid: field("GPU UUID").filter(|uuid| !uuid.contains('?') && uuid.starts_with("GPU-")),
            bus_id,
            model: field("Model").unwrap_or_default(),
            node: machine.node(Path::new(&format!("/dev/nvidia{minor}"))),
            mig_mode: !instances.is_empty(),
            mig: instances,
            nvml: None,
        });
    }
    gpus.sort_by(|a, b| a.bus_id.cmp(&b.bus_id));
    for (index, gpu) in gpus.iter_mut().enumerate() {
        gpu.index = index as u32;
    }
    (gpus, excluded)
}

/// NVIDIA's display devices (vendor 0x10de, class 0x03….) on the PCI bus.
fn pci(machine: &Machine) -> Vec<(String, String)> {
    let names = machine.names(Path::new("/sys/bus/pci/devices"));
    let read = |name: &str, file| machine.text(&format!("/sys/bus/pci/devices/{name}/{file}"));
    names
        .into_iter()
        .filter(|name| read(name, "vendor").as_deref() == Some("0x10de"))
        .filter(|name| read(name, "class").is_some_and(|class| class.starts_with("0x03")))
        .filter_map(|name| {
            let device = read(&name, "device")?.trim_start_matches("0x").to_owned();
            Some((name, device))
        })
        .collect()
}
