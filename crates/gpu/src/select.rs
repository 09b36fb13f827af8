//! Which GPUs a container gets: the grammar of `--gpus`, and locks between sconce processes.
//!
//! ```text
//! all | none | 2 | 0,3 | GPU-<uuid> | MIG-<uuid> | 0:1 | device=0,1 | nvidia.com/gpu=0
//! count=2 | count=all | driver=nvidia | capabilities=compute,utility      (Docker's fields)
//! ```
//! One plain number is a count, as for Docker; several are indices. `0:1` is MIG instance 1 of GPU 0.
//! Indices are those of `nvidia-smi`.
//!
//! A count takes idle GPUs: each is locked with `flock` exclusively, in a folder that all sconce
//! processes of the machine share, until the [`Guard`] is dropped. GPUs that were named are shared
//! on purpose: they are locked shared, so that counts pass them by. The kernel lets go of the locks
//! of a process that dies.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::Error;
use crate::driver::{Driver, Gpu};
use crate::mig::Instance;

/// The CDI kind of NVIDIA's GPUs.
pub const KIND: &str = "nvidia.com/gpu";
/// Names in one wish.
const MOST_NAMES: usize = 256;

/// What `--gpus` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// No GPU.
    None,
    /// All GPUs.
    All,
    /// So many idle ones.
    Count(usize),
    /// These.
    Named(Vec<Name>),
}

/// How a GPU can be named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// By `nvidia-smi`'s index.
    Index(u32),
    /// A MIG instance by the indices of GPU and instance.
    Mig(u32, u32),
    /// `GPU-…` or `MIG-…`, or a beginning of it that only one has.
    Uuid(String),
}

impl std::fmt::Display for Name {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Index(index) => write!(out, "{index}"),
            Self::Mig(gpu, instance) => write!(out, "{gpu}:{instance}"),
            Self::Uuid(uuid) => out.write_str(uuid),
        }
    }
}

/// Reads the value of `--gpus`.
pub fn parse(text: &str) -> Result<Wish, Error> {
    let wrong = |reason: String| Error::Wish { wish: text.chars().take(200).collect(), reason };
    let mut names = Vec::new();
    let mut wish = None;
    // Docker's value is a line of CSV: a field with commas stands in double quotes.
    let plain: String = text.chars().filter(|char| *char != '"' && *char != '\'').collect();
    let mut list = "";
    let words: Vec<&str> =
        plain.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    if words.is_empty() {
        return Err(wrong("it is empty".into()));
    }
    if words.len() > MOST_NAMES {
        return Err(wrong(format!("more than {MOST_NAMES} names")));
    }
    let lone = words.len() == 1;
    for word in &words {
        let (field, value) = match word.split_once('=') {
            Some((KIND, value)) => ("device", value),
            Some(("device", value)) => {
                ("device", value.strip_prefix("nvidia.com/gpu=").unwrap_or(value))
            }
            Some((field @ ("count" | "driver" | "capabilities" | "options"), value)) => {
                (field, value)
            }
            Some((field, _)) => return Err(wrong(format!("`{field}=` is not a field of it"))),
            None if matches!(list, "capabilities" | "device" | "options") => (list, *word),
            None if lone && word.bytes().all(|byte| byte.is_ascii_digit()) => ("count", *word),
            None if matches!(*word, "all" | "none") => ("count", *word),
            None => ("device", *word),
        };
        list = field;
        let next = match (field, value) {
            ("count" | "device", "all" | "-1") => Wish::All,
            ("count" | "device", "none" | "void") => Wish::None,
            ("count", "0") => {
                let reason = "0 GPUs; `none` says that, and `device=0` is the first GPU";
                return Err(wrong(reason.into()));
            }
            ("count", value) => {
                let count = value.parse::<usize>().ok().filter(|count| *count <= MOST_NAMES);
                Wish::Count(
                    count.ok_or_else(|| wrong(format!("`{value}` is not a count of GPUs")))?,
                )
            }
            ("device", value) => {
                let name = name(value);
                let name = name.ok_or_else(|| {
                    wrong(format!("`{value}` is neither an index nor GPU-… nor MIG-…"))
                })?;
                if !names.contains(&name) {
                    names.push(name);
                }
                continue;
            }
            ("driver", "nvidia" | "") => continue,
            ("driver", value) => {
                return Err(wrong(format!("driver `{value}`: sconce knows NVIDIA's only")));
            }
            // Which parts of the driver a container gets is not for it to say: it gets them all.
            _ => continue,
        };
        if wish.replace(next.clone()).is_some_and(|before| before != next) {
            return Err(wrong("it says how many twice".into()));
        }
    }
    match (wish, names.is_empty()) {
        (Some(wish), true) => Ok(wish),
        (None, false) => Ok(Wish::Named(names)),
        (Some(_), false) => Err(wrong("it says both how many and which".into())),
        // As Docker's command line: capabilities alone mean one GPU.
        (None, true) => Ok(Wish::Count(1)),
    }
}

fn name(text: &str) -> Option<Name> {
    let uuid_like = |text: &str| {
        text.len() <= 96
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'/'))
    };
    if let Ok(index) = text.parse::<u32>()
        && text.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Some(Name::Index(index));
    }
    if let Some((gpu, instance)) = text.split_once(':') {
        return Some(Name::Mig(gpu.parse().ok()?, instance.parse().ok()?));
    }
    let known =
        ["GPU-", "MIG-"].iter().any(|start| text.len() > start.len() && text.starts_with(start));
    (known && uuid_like(text)).then(|| Name::Uuid(text.to_owned()))
}

/// One thing that a container is given: a GPU, or a MIG instance of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The GPU.
    pub gpu: Gpu,
    /// The instance, when it is not the whole GPU.
    pub instance: Option<Instance>,
}

impl Device {
    /// Its name in a CDI document: `0`, or `0:1` for a MIG instance.
    pub fn name(&self) -> String {
        match &self.instance {
            Some(instance) => format!("{}:{}", self.gpu.index, instance.index),
            None => self.gpu.index.to_string(),
        }
    }

    /// `GPU-…` or `MIG-…`, where known.
    pub fn uuid(&self) -> Option<&str> {
        match &self.instance {
            Some(instance) => instance.uuid.as_deref(),
            None => self.gpu.uuid.as_deref(),
        }
    }

    /// The lock's file name: the UUID where known, else the bus, which does not change while a
    /// machine runs.
    fn lock_name(&self) -> String {
        let key = self.gpu.bus_id.clone();
        let instance = self.instance.as_ref();
        let instance =
            instance.map(|mig| format!("-gi{}-ci{}", mig.gpu_instance, mig.compute_instance));
        let name = format!("gpu-{key}{}.lock", instance.unwrap_or_default());
        name.replace(['/', ':'], "-")
    }
}

/// What was chosen; the GPUs stay locked as long as it lives.
#[derive(Debug)]
pub struct Selection {
    /// The devices, in the order in which the container sees them.
    pub devices: Vec<Device>,
    /// The locks. Keep it while the container runs.
    pub guard: Guard,
    /// What a person should hear: a GPU named that another container uses.
    pub notes: Vec<String>,
}

impl Selection {
    /// Whether no GPU was asked for.
    pub fn is_none(&self) -> bool {
        self.devices.is_empty()
    }

    /// The devices' full CDI names: `nvidia.com/gpu=0`.
    pub fn cdi_names(&self) -> Vec<String> {
        self.devices.iter().map(|device| format!("{KIND}={}", device.name())).collect()
    }
}

/// Locks on GPUs. Dropping it, or the death of the process, lets go of them. The files stay: were
/// they deleted, two processes could hold locks on two files of one name.
#[derive(Debug, Default)]
pub struct Guard {
    files: Vec<File>,
}

impl Guard {
    /// How many locks are held.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether no lock is held.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

/// Chooses GPUs and locks them in the folder `locks`, which is made if it is not there (1777, as
/// `/tmp`: all users of the machine must find the same files).
pub fn choose(wish: &Wish, driver: &Driver, locks: &Path) -> Result<Selection, Error> {
    let mut selection =
        Selection { devices: Vec::new(), guard: Guard::default(), notes: Vec::new() };
    let all = devices(driver.gpus());
    match wish {
        Wish::None => return Ok(selection),
        Wish::All => selection.devices = all,
        Wish::Named(names) => {
            for name in names {
                let device = find(name, driver.gpus(), &all)?;
                if !selection.devices.contains(&device) {
                    selection.devices.push(device);
                }
            }
        }
        Wish::Count(wanted) => return idle(*wanted, all, locks),
    }
    if selection.devices.is_empty() {
        let gpu = driver.gpus().first().map_or(0, |gpu| gpu.index);
        return Err(Error::Mig { gpu, state: "without an instance".into() });
    }
    for device in &selection.devices {
        let lock = open(locks, device)?;
        match lock.try_lock_shared() {
            Ok(()) => selection.guard.files.push(lock),
            Err(TryLockError::WouldBlock) => selection.notes.push(format!(
                "GPU {} is in use by a container that was given it alone",
                device.name()
            )),
            Err(TryLockError::Error(source)) => return Err(broken(locks, device, source)),
        }
    }
    Ok(selection)
}

/// All that can be given: a GPU in MIG mode is its instances.
fn devices(gpus: &[Gpu]) -> Vec<Device> {
    let mut devices = Vec::new();
    for gpu in gpus {
        if !gpu.mig_mode {
            devices.push(Device { gpu: gpu.clone(), instance: None });
        }
        let instances = gpu.mig.iter();
        devices
            .extend(instances.map(|mig| Device { gpu: gpu.clone(), instance: Some(mig.clone()) }));
    }
    devices
}

fn find(name: &Name, gpus: &[Gpu], all: &[Device]) -> Result<Device, Error> {
    let unknown = || {
        let there = all.iter().map(|device| match device.uuid() {
            Some(uuid) => format!("{} ({}, {uuid})", device.name(), device.gpu.model),
            None => format!("{} ({})", device.name(), device.gpu.model),
        });
        let there = there.collect::<Vec<_>>().join("; ");
        Error::Unknown { name: name.to_string(), there }
    };
    let whole = |gpu: &Gpu| {
        if !gpu.mig_mode {
            return Ok(Device { gpu: gpu.clone(), instance: None });
        }
        let instances = all.iter().filter(|device| device.gpu.index == gpu.index);
        let names: Vec<String> = instances
            .map(|device| match device.uuid() {
                Some(uuid) => format!("{} ({uuid})", device.name()),
                None => device.name(),
            })
            .collect();
        let state = match names.is_empty() {
            true => "without an instance".to_owned(),
            false => format!("with these instances: {}", names.join(", ")),
        };
        Err(Error::Mig { gpu: gpu.index, state })
    };
    match name {
        Name::Index(index) => {
            whole(gpus.iter().find(|gpu| gpu.index == *index).ok_or_else(unknown)?)
        }
        Name::Mig(gpu, instance) => {
            let wanted = format!("{gpu}:{instance}");
            all.iter().find(|device| device.name() == wanted).cloned().ok_or_else(unknown)
        }
        Name::Uuid(uuid) if uuid.starts_with("GPU-") => {
            let has = |gpu: &&Gpu| gpu.uuid.as_ref().is_some_and(|known| known.starts_with(uuid));
            match gpus.iter().filter(has).collect::<Vec<_>>().as_slice() {
                [gpu] => whole(gpu),
                _ => Err(unknown()),
            }
        }
        Name::Uuid(uuid) => {
            let has = |device: &&Device| {
                device.instance.is_some()
                    && device.uuid().is_some_and(|known| known.starts_with(uuid))
            };
            match all.iter().filter(has).collect::<Vec<_>>().as_slice() {
                [device] => Ok((*device).clone()),
                _ => Err(unknown()),
            }
        }
    }
}

/// Takes the first `wanted` devices that nobody holds and nothing computes on.
fn idle(wanted: usize, all: Vec<Device>, locks: &Path) -> Result<Selection, Error> {
    let mut chosen = Vec::new();
    let mut files = Vec::new();
    let mut busy = Vec::new();
    let total = all.len();
    for device in all {
        // NVML counts the processes of a whole GPU only.
        let told = device.gpu.nvml.as_ref().filter(|_| device.instance.is_none());
        let processes = told.and_then(|told| told.processes).unwrap_or(0);
        if processes > 0 {
            busy.push(format!("{}: {processes} processes compute on it", device.name()));
            continue;
        }
        let lock = open(locks, &device)?;
        match lock.try_lock() {
            Ok(()) => {
                if chosen.len() < wanted {
                    chosen.push(device);
                    files.push(lock);
                }
            }
            Err(TryLockError::WouldBlock) => {
                busy.push(format!("{}: another sconce container has it", device.name()));
            }
            Err(TryLockError::Error(source)) => return Err(broken(locks, &device, source)),
        }
        if chosen.len() == wanted {
            return Ok(Selection { devices: chosen, guard: Guard { files }, notes: Vec::new() });
        }
    }
    let busy = if busy.is_empty() { "there are no others".to_owned() } else { busy.join("; ") };
    Err(Error::NotEnough { wanted, idle: chosen.len(), total, busy })
}

/// Opens the lock of a device, making folder and file for everyone.
fn open(locks: &Path, device: &Device) -> Result<File, Error> {
    let name = device.lock_name();
    let path = locks.join(&name);
    let made = || -> io::Result<File> {
        if !locks.is_dir() {
            fs::create_dir_all(locks)?;
            fs::set_permissions(locks, Permissions::from_mode(0o1777))?;
        }
        let no_link = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
        // Opened before made: in a sticky folder the kernel refuses O_CREAT on another user's file.
        match OpenOptions::new().read(true).custom_flags(no_link).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).custom_flags(no_link).open(&path)?;
        // For every user, whatever the umask. Only its owner may say so; the loser of a race need not.
        let _ = file.set_permissions(Permissions::from_mode(0o666));
        Ok(file)
    };
    made().map_err(|source| Error::Lock { path, source })
}

fn broken(locks: &Path, device: &Device, source: io::Error) -> Error {
    Error::Lock { path: locks.join(device.lock_name()), source }
}
