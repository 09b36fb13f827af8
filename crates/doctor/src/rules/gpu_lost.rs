//! Gone, with or without an Xid, and for no reason that is known.

use sconce_gpu::Opening;

use super::Rule;
use crate::causes;
use crate::fix;
use crate::log;
use crate::state::{Device, Trouble};
use crate::{Finding, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "gpu-lost",
    title: "A GPU does not start, or has gone",
    why: "The GPU failed to start or has fallen off the bus (power, heat, a loose riser); not always is there an Xid line. Then nvidia-smi says `No devices were found`, `GPU is lost` or leaves it out. Causes in software have rules of their own and come first",
    fix: "restart the machine (a GPU that is gone refuses a reset); if it comes back so: power off, reseat the card, look at its power and its PCIe errors, replace it",
    references: &["NVIDIA/open-gpu-kernel-modules#507", "NVIDIA/NVSentinel#155"],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let known = causes::without(snapshot);
    let known = known.iter().map(|device| finding(snapshot, device));
    let gone = left_the_bus(snapshot).into_iter().map(|bus| left(snapshot, bus));
    known.chain(gone).chain(fewer_than_the_board_has(snapshot)).collect()
}

/// GPUs beside NVSwitches: of whole boards, and of virtual machines that get a part of one.
///
/// Source: NVIDIA Fabric Manager user guide DU-09883-001, full passthrough virtualization, supported virtual machine
/// configurations: 16, 8, 4 and 2 GPUs with 12, 6, 3 and 1 NVSwitches (those of DGX A100; later boards have fewer).
const BESIDE_SWITCHES: [usize; 4] = [2, 4, 8, 16];

/// GPUs that are gone without a trace: the machine started without them, or its log has rolled over.
fn fewer_than_the_board_has(snapshot: &Snapshot) -> Option<Finding> {
    let here = snapshot.pci.len().max(snapshot.gpus.len());
    let switches = snapshot.switches();
    let known = left_the_bus(snapshot).len();
    if snapshot.container || snapshot.part || switches == 0 || here == 0 {
        return None;
    }
    let board = *BESIDE_SWITCHES.iter().find(|board| **board >= here + known)?;
    (here + known < board).then(|| {
        let summary = format!("only {here} of the board's {board} GPUs are on the PCI bus");
        Finding::new(&RULE, snapshot.loss(), summary)
            .seen(format!("{switches} NVSwitches are there"))
            .fix(steps(snapshot))
    })
}

/// Buses on which a GPU was, that Xid 79 is about, and that the kernel lists no longer.
pub(super) fn left_the_bus(snapshot: &Snapshot) -> Vec<&str> {
    if snapshot.container {
        return Vec::new();
    }
    let here = |bus: &str| {
        snapshot.pci.iter().any(|pci| pci.bus_id.starts_with(bus))
            || snapshot.gpus.iter().any(|gpu| gpu.bus_id.starts_with(bus))
    };
    let entries = log::entries(snapshot);
    let gone = entries.iter().filter(|entry| !entry.switch && entry.code == 79);
    let mut buses: Vec<&str> = gone.map(|entry| entry.bus).filter(|bus| !here(bus)).collect();
    buses.sort_unstable();
    buses.dedup();
    buses
}

fn left(snapshot: &Snapshot, bus: &str) -> Finding {
    let summary = format!("the GPU at {bus} has left the PCI bus");
    let finding = Finding::new(&RULE, snapshot.loss(), summary);
    let lines = snapshot.kernel_log.iter().flatten().filter(|line| log::names(line, bus));
    let finding = lines.take(3).cloned().fold(finding, Finding::seen);
    finding.fix(steps(snapshot))
}

fn finding(snapshot: &Snapshot, device: &Device<'_>) -> Finding {
    let node = device.gpu.map(|gpu| format!("/dev/nvidia{}", gpu.minor)).unwrap_or_default();
    let (what, seen) = match device.trouble {
        Some(Trouble::Dead(Opening::Hung)) => (
            "does not come back",
            Some(format!("opening {node} had not returned when it was given up")),
        ),
        Some(Trouble::Dead(_)) => ("does not start", Some(format!("opening {node} fails"))),
        Some(Trouble::Silent) => {
            let why = device.gpu.and_then(|gpu| gpu.silence.as_deref());
            let seen = why.map_or_else(
                || "NVML answers for others, and nothing for this one".to_owned(),
                |why| format!("NVML: {why}"),
            );
            ("is lost", Some(seen))
        }
        _ if is_free(snapshot, device) => (
            "is on the bus and bound to no driver",
            Some("NVIDIA's module is loaded and does not have it".to_owned()),
        ),
        _ => ("is on the bus and the driver does not show it", None),
    };
    let finding = Finding::new(&RULE, snapshot.loss(), format!("{} {what}", device.name()));
    let finding = seen.into_iter().fold(finding, Finding::seen);
    let log = snapshot.kernel_log.iter().flatten().rev();
    let mut lines: Vec<&String> =
        log.filter(|line| log::names(line, device.bus_id)).take(3).collect();
    lines.reverse();
    let finding = lines.into_iter().cloned().fold(finding, Finding::seen);
    let mut steps = steps(snapshot);
    // Most GPUs that the driver does not show are well, and the kernel's log says what is wrong.
    if device.trouble == Some(Trouble::Hidden) {
        let first = software_first(snapshot, device);
        steps.splice(0..0, first);
    }
    finding.fix(steps)
}

/// Whether no kernel driver has it, and the kernel's log does not say that anything is wrong with it. Snapshots of schema 1 do not say.
fn is_free(snapshot: &Snapshot, device: &Device<'_>) -> bool {
    device.trouble == Some(Trouble::Hidden)
        && snapshot.schema >= 2
        && snapshot
            .kernel_log
            .as_ref()
            .is_some_and(|log| !log.iter().any(|line| log::names(line, device.bus_id)))
        && device.pci.is_some_and(|pci| pci.driver.is_none())
}

/// What to do first about a GPU that the driver does not show, where its cause may be in software and can't be told.
fn software_first(snapshot: &Snapshot, device: &Device<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    if is_free(snapshot, device) {
        let bind = format!("sh -c 'echo {} > /sys/bus/pci/drivers/nvidia/bind'", device.bus_id);
        let what = "give it to the driver, and see what the kernel says of it";
        steps.push(Step::host(what, &[&bind, "dmesg --level err,warn"]));
    }
    if snapshot.kernel_log.is_none() {
        let what = "look again as root: the kernel's log could not be read, and says why the driver leaves a GPU alone";
        steps.push(Step::host(what, &["sconce doctor"]));
    }
    if device.facts().is_none() && device.generation().is_none() {
        let what = "see whether the driver is new enough: this GPU is newer than what is known here, so it may need a later branch (NVIDIA's list of supported products, by its PCI id)";
        steps.push(Step::host(what, &["lspci -nnk -d 10de:"]));
    }
    steps
}

fn steps(snapshot: &Snapshot) -> Vec<Step> {
    let mut steps = fix::reboot(snapshot);
    if let Some(last) = steps.last_mut() {
        last.what = "restart the machine: a GPU that is gone refuses a reset".into();
    }
    if snapshot.left() > 0 && snapshot.cluster.is_none() {
        steps.insert(0, Step::host("until then: `--gpus all` goes on without it", &[]));
    }
    steps.push(Step::host(
        "if it goes again: switch the machine off, reseat the card, look at its power, its cooling and its PCIe errors; then have it replaced",
        &[],
    ));
    steps
}
