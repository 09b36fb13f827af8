//! Why a GPU can't be used: the kernel's own words first, then what the facts know. The rules of single causes ask
//! here, so that each GPU has one cause and `gpu-lost` is left with those that have none.

use sconce_facts::DriverVersion;

use crate::log;
use crate::rules::{self, Rule};
use crate::silence::{self, Refusal};
use crate::snapshot::Snapshot;
use crate::state::{Device, Trouble};
use crate::{Finding, Severity, Step};

/// A cause; each has a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Another kernel driver holds it.
    Held,
    /// The driver was told to leave it alone.
    Excluded,
    /// Only the open kernel modules serve it.
    NeedsOpenModule,
    /// Only the proprietary kernel modules serve it.
    NeedsProprietaryModule,
    /// The driver's branch is older than the GPU.
    DriverOlder,
    /// The driver's branch is newer than the GPU's last.
    DriverNewer,
    /// The firmware of the machine gave it no room in the address space.
    BarSpace,
    /// It lacks a power cable.
    PowerCable,
    /// Its system processor (GSP) did not start, or no longer answers.
    Gsp,
    /// The driver of a host of virtual GPUs does not serve it with these kernel modules.
    VgpuHost,
}

/// Messages of the driver and the kernel, and what they mean; the first that fits decides.
const MESSAGES: &[(Cause, &[&str], &str)] = &[
    (
        Cause::VgpuHost,
        // Before the words of any other system, which begin alike. The message goes over three lines.
        &[
            "installed in this vGPU host system is",
            "NVRM: open nvidia.ko",
            "NVRM: proprietary nvidia.ko",
        ],
        "NVIDIA/open-gpu-kernel-modules src/nvidia/arch/nvalloc/unix/src/osinit.c: `installed in this vGPU host system is not supported by`",
    ),
    (
        Cause::NeedsOpenModule,
        &["requires use of the NVIDIA open kernel modules"],
        "kernel log of the proprietary module with a Blackwell GPU, driver 570 (NVIDIA/open-gpu-kernel-modules#815)",
    ),
    (
        Cause::NeedsProprietaryModule,
        // The next line goes on: `nvidia.ko because it does not include the required GPU`.
        &["is not supported by open", "because it does not include the required GPU"],
        "kernel log of the open module with a Pascal GPU, in lines; NVIDIA/open-gpu-kernel-modules src/nvidia/arch/nvalloc/unix/src/osapi.c",
    ),
    (
        Cause::DriverNewer,
        &["Legacy drivers", "legacy drivers"],
        "kernel log with a Kepler GPU: `is supported through the NVIDIA 470.xx Legacy drivers`",
    ),
    (
        Cause::DriverOlder,
        &["installed in this system is not supported by the"],
        "kernel log: `installed in this system is not supported by the NVIDIA … driver release`",
    ),
    (
        Cause::BarSpace,
        &[
            "This PCI I/O region assigned to your NVIDIA device is invalid",
            "BAR0 is 0M @",
            "BAR1 is 0M @",
            "can't assign; no space",
        ],
        "NVIDIA/open-gpu-kernel-modules kernel-open/nvidia/nv-pci.c; the kernel's drivers/pci/setup-res.c",
    ),
    (
        Cause::PowerCable,
        &["power cables", "power cable"],
        "driver README, \"GPU does not have the necessary power cables connected\"; Xid 54",
    ),
    (
        Cause::Gsp,
        &[
            "Cannot initialize GSP firmware RM",
            "RmFetchGspRmImages",
            "GFW_BOOT",
            "GFW boot",
            "unexpected WPR2 already up",
            // RM_INIT_FIRMWARE_POLICY_FAILED to RM_INIT_FIRMWARE_INIT_FAILED.
            "RmInitAdapter failed! (0x60:",
            "RmInitAdapter failed! (0x61:",
            "RmInitAdapter failed! (0x62:",
            "RmInitAdapter failed! (0x63:",
            "failed to load firmware nvidia/",
            "Direct firmware load for nvidia/",
        ],
        "NVIDIA/open-gpu-kernel-modules src/nvidia/src/kernel/gpu/gsp; src/nvidia/arch/nvalloc/unix/src/osinit.c, rm_init_status",
    ),
    (
        Cause::Held,
        &["NVIDIA probe routine was not called", "is already bound to"],
        "NVIDIA/open-gpu-kernel-modules kernel-open/nvidia/nv.c, nv-pci.c: another driver obtained ownership",
    ),
    (
        Cause::Gsp,
        &["waiting for RPC response from GPU", "GSP Timeout", "GSP RPC Timeout"],
        "NVIDIA/open-gpu-kernel-modules src/nvidia/src/kernel/gpu/gsp/kernel_gsp.c; Xid 119",
    ),
];
/// A GPU that has gone answers nothing, its system processor neither.
const GONE: &[&str] = &["fallen off the bus"];

/// The cause for a GPU in trouble, with the lines that say it; none where nothing says why.
fn of<'a>(snapshot: &'a Snapshot, device: &Device<'a>) -> Option<(Cause, Vec<&'a str>)> {
    match device.trouble? {
        Trouble::Held => return Some((Cause::Held, Vec::new())),
        Trouble::Excluded => return Some((Cause::Excluded, Vec::new())),
        // Other rules name these.
        Trouble::Denied | Trouble::Recovery | Trouble::NotAsked => return None,
        Trouble::Unloaded if never_ran(snapshot) => return None,
        Trouble::Unloaded => {}
        Trouble::Hidden | Trouble::Dead(_) | Trouble::Silent => {}
    }
    let gpu = device.gpu.filter(|gpu| {
        device.trouble == Some(Trouble::Silent) && silence::of(gpu) == Refusal::Power
    });
    if let Some(gpu) = gpu {
        return Some((Cause::PowerCable, gpu.silence.as_deref().into_iter().collect()));
    }
    for (cause, says, _) in MESSAGES {
        let lines = log::about(snapshot, device.bus_id, says);
        // That a GPU is held is said of none by name, so of one that the driver shows it is not said. Without the
        // module the buses say it.
        let hidden = device.trouble == Some(Trouble::Hidden);
        if lines.is_empty() || (*cause == Cause::Held && !hidden) {
            continue;
        }
        if *cause == Cause::Gsp && !log::about(snapshot, device.bus_id, GONE).is_empty() {
            continue;
        }
        // One message serves both ways; the facts know on which side of the driver the GPU is.
        let cause = match (*cause, dropped(snapshot, device)) {
            (Cause::DriverOlder, true) => Cause::DriverNewer,
            (cause, _) => cause,
        };
        return Some((cause, lines));
    }
    if device.trouble == Some(Trouble::Silent) {
        return None;
    }
    let cause = by_facts(snapshot, device)?;
    Some((cause, Vec::new()))
}

/// Without a word in the log: what this GPU and this driver can't do together.
fn by_facts(snapshot: &Snapshot, device: &Device<'_>) -> Option<Cause> {
    // A GPU has several, so that none at all is as little.
    let unassigned = |pci: &crate::Pci| {
        pci.bars.as_ref().is_some_and(|bars| bars.is_empty() || bars.contains(&0))
    };
    if device.pci.is_some_and(unassigned) {
        return Some(Cause::BarSpace);
    }
    if dropped(snapshot, device) {
        return Some(Cause::DriverNewer);
    }
    match (snapshot.driver.open, device.needs_open()) {
        (Some(true), Some(false)) => return Some(Cause::NeedsProprietaryModule),
        (Some(false), Some(true)) => return Some(Cause::NeedsOpenModule),
        _ => {}
    }
    let driver: DriverVersion = snapshot.driver_text()?.parse().ok()?;
    device.unknown_to(&driver).then_some(Cause::DriverOlder)
}

/// Whether the driver's branch is past the last that supports the GPU.
fn dropped(snapshot: &Snapshot, device: &Device<'_>) -> bool {
    let driver = snapshot.driver_text().and_then(|text| text.parse::<DriverVersion>().ok());
    driver.is_some_and(|driver| device.dropped_by(&driver))
}

/// Whether the driver's module, which is not loaded, did not get as far as the GPUs: another rule says why.
fn never_ran(snapshot: &Snapshot) -> bool {
    rules::refused(snapshot) || rules::not_built(snapshot) || rules::held(snapshot)
}

/// Whether there is a cause for every GPU: then it is why the module is not loaded.
pub(crate) fn explain_all(snapshot: &Snapshot) -> bool {
    let devices = snapshot.devices();
    !devices.is_empty() && devices.iter().all(|device| of(snapshot, device).is_some())
}

/// GPUs that the driver shows, and that by the facts it can't serve: one of the two is wrong.
fn contrary(snapshot: &Snapshot, cause: Cause) -> Vec<Device<'_>> {
    use Cause::{BarSpace, DriverNewer, DriverOlder, NeedsOpenModule, NeedsProprietaryModule};
    if !matches!(
        cause,
        BarSpace | DriverNewer | DriverOlder | NeedsOpenModule | NeedsProprietaryModule
    ) {
        return Vec::new();
    }
    let shown = snapshot
        .devices()
        .into_iter()
        .filter(|device| device.trouble.is_none() && device.gpu.is_some() && !device.is_virtual());
    shown.filter(|device| by_facts(snapshot, device) == Some(cause)).collect()
}

/// GPUs with this cause, with the lines that say it.
pub(crate) fn with(snapshot: &Snapshot, cause: Cause) -> Vec<(Device<'_>, Vec<&str>)> {
    let devices = snapshot.devices().into_iter();
    let found = devices.filter_map(|device| {
        let (found, lines) = of(snapshot, &device)?;
        (found == cause).then_some((device, lines))
    });
    found.collect()
}

/// GPUs in trouble for which nothing says why.
pub(crate) fn without(snapshot: &Snapshot) -> Vec<Device<'_>> {
    let devices = snapshot.devices().into_iter();
    let unknown = devices.filter(|device| {
        use Trouble::{Denied, NotAsked, Recovery, Unloaded};
        !matches!(device.trouble, None | Some(Denied | NotAsked | Recovery | Unloaded))
            && of(snapshot, device).is_none()
    });
    unknown.collect()
}

/// The finding of a cause's rule: all its GPUs in one, what `says` of them, and the steps that mend it.
pub(crate) fn findings(
    rule: &'static Rule,
    snapshot: &Snapshot,
    cause: Cause,
    says: &str,
    steps: impl FnOnce(&[Device<'_>]) -> Vec<Step>,
) -> Vec<Finding> {
    let found = with(snapshot, cause);
    let contrary = contrary(snapshot, cause);
    if found.is_empty() && !contrary.is_empty() {
        let summary = format!("{} {says}; yet the driver shows it", list(&contrary));
        let finding = Finding::new(rule, Severity::Unknown, summary);
        return vec![finding.fix(steps(&contrary))];
    }
    if found.is_empty() {
        return Vec::new();
    }
    let (devices, lines): (Vec<Device<'_>>, Vec<Vec<&str>>) = found.into_iter().unzip();
    let finding = Finding::new(rule, snapshot.loss(), format!("{} {says}", list(&devices)));
    let mut said: Vec<&str> = Vec::new();
    for line in lines.into_iter().flatten() {
        if !said.contains(&line) && said.len() < 6 {
            said.push(line);
        }
    }
    let finding = said.into_iter().fold(finding, Finding::seen);
    vec![finding.fix(steps(&devices))]
}

/// `GPU 3 (…) at …, GPU 4 (…) at …`.
pub(crate) fn list(devices: &[Device<'_>]) -> String {
    let names: Vec<String> = devices.iter().map(Device::name).collect();
    names.join(", ")
}
