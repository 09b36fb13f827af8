//! The state of each GPU that the kernel lists, whoever knows of it: the PCI bus, the driver, NVML.

use std::path::Path;

use sconce_facts::{Capability, DriverVersion, Listed};
use sconce_gpu::Opening;
use sconce_gpu::nvml::ComputeMode;

use crate::log;
use crate::report::Severity;
use crate::silence::{self, Refusal};
use crate::snapshot::{Gpu, Node, Pci, Snapshot};

/// A GPU of the machine; in a container, one that it was given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Device<'a> {
    /// `0000:18:00.0`.
    pub bus_id: &'a str,
    /// What the PCI bus says.
    pub pci: Option<&'a Pci>,
    /// What the driver says.
    pub gpu: Option<&'a Gpu>,
    /// Why no container can use it.
    pub trouble: Option<Trouble>,
}

/// Why a GPU can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Another kernel driver has it, as that of virtual machines.
    Held,
    /// The driver was told to leave it alone.
    Excluded,
    /// It is on the bus and the driver does not show it.
    Hidden,
    /// The driver is installed and its module is not loaded: it goes again when it finds no GPU that it can start.
    Unloaded,
    /// Its node does not open.
    Dead(Opening),
    /// NVML answers, but not for it.
    Silent,
    /// It wants a reset or more (Xid 154).
    Recovery,
    /// NVML may not ask about it; whether CUDA can use it is not known.
    NotAsked,
    /// Its node is missing, leads elsewhere or may not be opened; rules of their own say so.
    Denied,
}

/// GPUs of the smallest board with NVSwitch: those with fewer are linked to each other (HGX A100 4-GPU), or are one of
/// two boards' rests. NVIDIA Fabric Manager user guide DU-09883-001, supported systems: HGX A100 8-GPU and later.
const BOARD: usize = 8;

/// Whether GPUs of these PCI ids are a whole board with NVSwitch.
pub(crate) fn is_switched_board<'a>(devices: impl Iterator<Item = &'a str>) -> bool {
    const FIRST: Capability = Capability { major: 8, minor: 0 };
    let of_board = devices.filter(|device| {
        sconce_facts::gpu_by_pci(device).is_some_and(|row| {
            row.capability >= FIRST
                && row.host != Some(sconce_facts::Machine::Aarch64)
                && row.name.contains("SXM")
        })
    });
    of_board.count() >= BOARD
}

/// Whether the switches of its fabric are not in its machine: on racks (GB200 and GB300 NVL72) they are trays of their
/// own, which run fabric manager and nvlsm.
///
/// Source: docs.nvidia.com/multi-node-nvlink-systems/mnnvl-user-guide/overview.html (18 compute trays, 9 switch trays);
/// docs.nvidia.com/networking/display/nmxcv130/NMX-Controller (the controller of the switches holds the subnet manager and
/// the global fabric manager).
pub(crate) fn is_of_rack(gpu: &Gpu, pci: &[Pci]) -> bool {
    let device = pci.iter().find(|pci| pci.bus_id == gpu.bus_id);
    let row = device.and_then(|pci| sconce_facts::gpu_by_pci(&pci.device));
    let row = row.or_else(|| sconce_facts::gpu(&gpu.model).ok());
    row.is_some_and(|row| {
        row.capability.major == 10 && row.host == Some(sconce_facts::Machine::Aarch64)
    })
}

impl Device<'_> {
    /// `GPU 3 (NVIDIA H100 80GB HBM3) at 0000:33:00.0`.
    pub fn name(&self) -> String {
        let known = self.pci.and_then(|pci| sconce_facts::gpu_by_pci(&pci.device));
        match (self.gpu, known, self.pci) {
            (Some(gpu), ..) => format!("GPU {} ({}) at {}", gpu.index, gpu.model, self.bus_id),
            (_, Some(known), _) => format!("{} at {}", known.name, self.bus_id),
            (_, _, Some(pci)) => {
                let generation = self.generation().map(|row| format!("{} ", row.name));
                let generation = generation.unwrap_or_default();
                format!("a {generation}GPU (10de:{}) at {}", pci.device, self.bus_id)
            }
            _ => format!("a GPU at {}", self.bus_id),
        }
    }

    /// What the facts know of it.
    pub fn facts(&self) -> Option<&'static sconce_facts::Gpu> {
        self.pci
            .and_then(|pci| sconce_facts::gpu_by_pci(&pci.device))
            .or_else(|| sconce_facts::gpu(&self.gpu?.model).ok())
    }

    /// Its generation, if it is older than Turing.
    pub fn generation(&self) -> Option<&'static sconce_facts::Generation> {
        sconce_facts::generation_by_pci(&self.pci?.device)
    }

    /// Whether only the open kernel modules serve it, or only the proprietary ones; none where both do or the facts don't
    /// know it. The first generation with the open modules is Turing, the first without the proprietary ones Blackwell:
    /// NVIDIA's driver installation guide, "Kernel Modules".
    pub fn needs_open(&self) -> Option<bool> {
        const FIRST_OPEN: Capability = Capability { major: 7, minor: 5 };
        const ONLY_OPEN: Capability = Capability { major: 10, minor: 0 };
        let own = self.facts().map(|facts| facts.capability);
        if self.generation().is_some() || own.is_some_and(|own| own < FIRST_OPEN) {
            return Some(false);
        }
        (own? >= ONLY_OPEN).then_some(true)
    }

    /// The last driver branch that supports it, where there is one.
    pub fn last_branch(&self) -> Option<u32> {
        let known = || self.facts()?.capability.row()?.last_driver.as_deref();
        let last = self.generation().map(|row| &*row.last_driver).or_else(known)?;
        last.trim_start_matches('R').parse().ok()
    }

    /// The first driver that knows it: its own or, where the facts name none, the first of its capability.
    pub fn first_driver(&self) -> Option<&'static DriverVersion> {
        let facts = self.facts()?;
        facts.first_driver.as_ref().or(facts.capability.row()?.first_driver.as_ref())
    }

    /// Whether a driver's branch is past the last that supports it.
    pub fn dropped_by(&self, driver: &DriverVersion) -> bool {
        self.last_branch().is_some_and(|last| driver.branch() > last)
    }

    /// Whether a driver is older than the first of its branch that knows it.
    pub fn unknown_to(&self, driver: &DriverVersion) -> bool {
        let listed = self.facts().map(|facts| facts.listed_by(driver));
        match listed {
            Some(Listed::Since(_)) => true,
            Some(Listed::Yes) => false,
            Some(Listed::Unknown) | None => self.first_driver().is_some_and(|first| driver < first),
        }
    }

    /// Whether it is a virtual GPU of vGPU software, seen from its guest.
    pub fn is_virtual(&self) -> bool {
        self.gpu.is_some_and(Gpu::is_virtual)
    }
}

impl Snapshot {
    /// Every GPU to be judged. In a container the kernel lists all of the machine's; those without a node were not
    /// given to it.
    pub(crate) fn devices(&self) -> Vec<Device<'_>> {
        let gpu_at = |bus_id: &str| self.gpus.iter().find(|gpu| gpu.bus_id == bus_id);
        let on_bus = self.pci.iter().map(|pci| (pci.bus_id.as_str(), Some(pci)));
        // A container may see no PCI bus.
        let elsewhere = self.gpus.iter().map(|gpu| gpu.bus_id.as_str());
        let elsewhere = elsewhere
            .filter(|bus_id| !self.pci.iter().any(|pci| pci.bus_id == *bus_id))
            .map(|bus_id| (bus_id, None));
        let all = on_bus.chain(elsewhere).map(|(bus_id, pci)| {
            let gpu = gpu_at(bus_id);
            Device { bus_id, pci, gpu, trouble: self.trouble(bus_id, pci, gpu) }
        });
        all.filter(|device| !self.container || device.gpu.is_some_and(|gpu| self.given(gpu)))
            .collect()
    }

    /// Whether the node of a GPU is there.
    pub(crate) fn given(&self, gpu: &Gpu) -> bool {
        self.opening(gpu).is_some()
    }

    fn node(&self, gpu: &Gpu) -> Option<&Node> {
        let path = format!("/dev/nvidia{}", gpu.minor);
        self.nodes.iter().find(|node| node.path == Path::new(&path))
    }

    fn opening(&self, gpu: &Gpu) -> Option<Opening> {
        Some(self.node(gpu)?.open)
    }

    fn trouble(&self, bus_id: &str, pci: Option<&Pci>, gpu: Option<&Gpu>) -> Option<Trouble> {
        if self.driver.module.is_none() {
            let installed = self.driver.libraries.is_some() && !self.container && !self.wsl;
            return (installed && gpu.is_none()).then_some(Trouble::Unloaded);
        }
        if pci.is_some_and(|pci| pci.excluded) {
            return Some(Trouble::Excluded);
        }
        // One driver has a device at a time: whatever else is said of it, it is not NVIDIA's.
        let holder = pci.and_then(|pci| pci.driver.as_deref());
        if holder.is_some_and(|driver| driver != "nvidia") {
            return Some(Trouble::Held);
        }
        let Some(gpu) = gpu else { return Some(Trouble::Hidden) };
        // One that answers some calls, and says of others that it is lost, is lost.
        let answers = gpu.silence.is_none() && gpu.answers.unwrap_or_else(|| answered(gpu));
        let silent = self.driver.nvml && !answers;
        let node = self.node(gpu);
        if node.is_some_and(|node| node.astray().is_some()) {
            return Some(Trouble::Denied);
        }
        // What NVML says tells a GPU that wants a reset from one that is gone.
        if node.is_some() && silent && silence::of(gpu) == Refusal::Reset {
            return Some(Trouble::Recovery);
        }
        match self.opening(gpu) {
            Some(open @ (Opening::Dead | Opening::Failed | Opening::Hung)) => {
                return Some(Trouble::Dead(open));
            }
            Some(Opening::Forbidden | Opening::Denied) | None => return Some(Trouble::Denied),
            Some(Opening::Fine) => {}
        }
        if silent {
            return Some(match silence::of(gpu) {
                Refusal::NotAsked => Trouble::NotAsked,
                _ => Trouble::Silent,
            });
        }
        self.recovery(bus_id).map(|_| Trouble::Recovery)
    }

    /// The recovery that the driver last asked for (Xid 154), unless it has been done since, and the line.
    pub(crate) fn recovery(&self, bus_id: &str) -> Option<(&str, &str)> {
        let entries = log::entries(self);
        let asked = entries.iter().rev().filter(|entry| !entry.switch && entry.code == 154);
        let last = asked.into_iter().find(|entry| log::names(entry.line, bus_id))?;
        let (code, words) = log::recovery(last)?;
        (!matches!(code, "0x0" | "0")).then_some((words, last.line))
    }

    /// How many GPUs can be used: nothing is wrong with them, and they let processes compute.
    pub(crate) fn left(&self) -> usize {
        let devices = self.devices().into_iter();
        let open = |gpu: &Gpu| !gpu.lacks_instance() && !gpu.closed();
        // NVML's silence alone says nothing against a GPU that it may not ask.
        let fine = |trouble| matches!(trouble, None | Some(Trouble::NotAsked));
        devices.filter(|device| fine(device.trouble) && device.gpu.is_none_or(open)).count()
    }

    /// How bad the loss of a GPU is: the others may still do.
    pub(crate) fn loss(&self) -> Severity {
        if self.left() == 0 { Severity::Stops } else { Severity::Warns }
    }
}

impl Gpu {
    /// A virtual GPU of vGPU software.
    pub(crate) fn is_virtual(&self) -> bool {
        self.health.vgpu.is_some()
    }

    /// In MIG mode without an instance, through which alone it would compute.
    pub(crate) fn lacks_instance(&self) -> bool {
        self.mig_mode && self.instances == 0
    }

    /// Closed to every process.
    pub(crate) fn closed(&self) -> bool {
        self.compute_mode == Some(ComputeMode::Prohibited)
    }
}

/// Whether a snapshot of schema 1 holds any answer of NVML about this GPU.
fn answered(gpu: &Gpu) -> bool {
    gpu.fabric.is_some()
        || gpu.memory_bytes.is_some()
        || gpu.used_bytes.is_some()
        || gpu.processes.is_some()
        || gpu.compute_mode.is_some()
        || gpu.remapped.is_some()
}
