//! Which GPUs a container gets: the grammar of `--gpus`, and locks between sconce processes.
//!
//! ```text
//! all | none | 2 | 0,3 | GPU-<uuid> | MIG-<uuid> | 0:1 | device=0,1 | nvidia.com/gpu=0
//! count=2 | count=all | driver=nvidia | capabilities=compute,utility      (Docker's fields)
//! ```
//! One plain number is a count, as for Docker; several are indices. `0:1` is MIG instance 1 of GPU 0.
//! Indices are those of `nvidia-smi`.
//!
//! All of it is of what the caller's job was given ([`Job`]); without one that is the machine.
//!
//! A count takes idle GPUs: each is locked exclusively until the [`Guard`] is dropped ([`crate::lock`]).
//! GPUs that were named are shared on purpose: they are locked shared, so that counts pass them by.
//! The kernel lets go of the locks of a process that dies.

use std::fs::TryLockError;

use crate::Error;
use crate::driver::{Driver, Gpu};
use crate::job::{Given, Job};
use crate::lock::{self, Guard};
use crate::machine::{Machine, Opening};
use crate::mig::Instance;

/// The CDI kind of NVIDIA's GPUs.
pub const KIND: &str = "nvidia.com/gpu";
/// Names in one request.
const MOST_NAMES: usize = 256;

/// What `--gpus` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
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
pub fn parse(text: &str) -> Result<Request, Error> {
    let wrong = |reason: String| Error::Request { given: text.chars().take(200).collect(), reason };
    let mut names = Vec::new();
    let mut request = None;
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
            ("count" | "device", "all" | "-1") => Request::All,
            ("count" | "device", "none" | "void") => Request::None,
            ("count", "0") => {
                let reason = "0 GPUs; `none` says that, and `device=0` is the first GPU";
                return Err(wrong(reason.into()));
            }
            ("count", value) => {
                let count = value.parse::<usize>().ok().filter(|count| *count <= MOST_NAMES);
                Request::Count(
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
        if request.replace(next.clone()).is_some_and(|before| before != next) {
            return Err(wrong("it says how many twice".into()));
        }
    }
    match (request, names.is_empty()) {
        (Some(request), true) => Ok(request),
        (None, false) => Ok(Request::Named(names)),
        (Some(_), false) => Err(wrong("it says both how many and which".into())),
        // As Docker's command line: capabilities alone mean one GPU.
        (None, true) => Ok(Request::Count(1)),
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

/// Chooses GPUs among those that the job was given, and locks them.
pub fn choose(
    request: &Request,
    machine: &Machine,
    driver: &Driver,
    job: &Job,
) -> Result<Selection, Error> {
    let mut selection =
        Selection { devices: Vec::new(), guard: Guard::default(), notes: Vec::new() };
    if *request == Request::None {
        return Ok(selection);
    }
    let gpus = open_to_us(machine, driver.gpus());
    let all = devices(&gpus);
    if all.is_empty() {
        let gpu = gpus.first().map_or(0, |gpu| gpu.index);
        return Err(Error::Mig { gpu, state: "without an instance".into() });
    }
    let given = job.given(&gpus, &all)?;
    if given.devices.is_empty() {
        return Err(Error::NoneGiven { said: given.said });
    }
    match request {
        Request::None | Request::All => selection.devices.clone_from(&given.devices),
        Request::Named(names) => {
            for name in names {
                let device = find(name, &gpus, &all)?;
                if !given.devices.contains(&device) {
                    return Err(not_given(name, &given));
                }
                if !selection.devices.contains(&device) {
                    selection.devices.push(device);
                }
            }
        }
        Request::Count(wanted) => return idle(*wanted, given, machine),
    }
    for device in &selection.devices {
        let file = lock::open(machine, device)?;
        match file.try_lock_shared() {
            Ok(()) => selection.guard.files.push(file),
            Err(TryLockError::WouldBlock) => selection.notes.push(format!(
                "GPU {} is in use by a container that was given it alone{}",
                device.name(),
                lock::holder(&file)
            )),
            Err(TryLockError::Error(source)) => return Err(lock::broken(device, source)),
        }
    }
    Ok(selection)
}

/// The GPUs that the caller can open, in the order of their buses, in which NVML counts them. Where
/// none can be opened, all: what is wrong is then said by whoever needs the nodes.
fn open_to_us(machine: &Machine, gpus: &[Gpu]) -> Vec<Gpu> {
    let opens = |gpu: &&Gpu| {
        let node = gpu.node.as_ref();
        node.is_some_and(|node| !matches!(machine.open(node), Opening::Forbidden | Opening::Denied))
    };
    let open: Vec<Gpu> = gpus.iter().filter(opens).cloned().collect();
    if open.is_empty() { gpus.to_vec() } else { open }
}

fn not_given(name: &Name, given: &Given) -> Error {
    let names = given.devices.iter().map(|device| match device.uuid() {
        Some(uuid) => format!("{} ({uuid})", device.name()),
        None => device.name(),
    });
    Error::NotGiven {
        name: name.to_string(),
        said: given.said.clone(),
        given: names.collect::<Vec<_>>().join(", "),
    }
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
        Name::Index(index) => whole(gpus.get(*index as usize).ok_or_else(unknown)?),
        Name::Mig(gpu, instance) => {
            let gpu = gpus.get(*gpu as usize).ok_or_else(unknown)?;
            let is = |device: &&Device| {
                device.gpu.bus_id == gpu.bus_id
                    && device.instance.as_ref().is_some_and(|mig| mig.index == *instance)
            };
            all.iter().find(is).cloned().ok_or_else(unknown)
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
fn idle(wanted: usize, given: Given, machine: &Machine) -> Result<Selection, Error> {
    let mut chosen = Vec::new();
    let mut files = Vec::new();
    let mut busy = Vec::new();
    let total = given.devices.len();
    for device in given.devices {
        // NVML counts the processes of a whole GPU only.
        let told = device.gpu.nvml.as_ref().filter(|_| device.instance.is_none());
        let processes = told.and_then(|told| told.processes).unwrap_or(0);
        if processes > 0 {
            busy.push(format!("{}: {processes} processes compute on it", device.name()));
            continue;
        }
        let file = lock::open(machine, &device)?;
        match file.try_lock() {
            Ok(()) => {
                if chosen.len() < wanted {
                    chosen.push(device);
                    files.push(file);
                }
            }
            Err(TryLockError::WouldBlock) => {
                let holder = lock::holder(&file);
                busy.push(format!("{}: another sconce container has it{holder}", device.name()));
            }
            Err(TryLockError::Error(source)) => return Err(lock::broken(&device, source)),
        }
        if chosen.len() == wanted {
            return Ok(Selection { devices: chosen, guard: Guard { files }, notes: Vec::new() });
        }
    }
    let mut why = if busy.is_empty() { "there are no others".to_owned() } else { busy.join("; ") };
    if !given.said.is_empty() {
        why = format!("{}; {why}", given.said);
    }
    Err(Error::NotEnough { wanted, idle: chosen.len(), total, busy: why })
}
