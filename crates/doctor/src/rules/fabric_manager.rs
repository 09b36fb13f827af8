//! Error 802.

use sconce_gpu::nvml::Fabric;

use super::{Rule, nvlsm};
use crate::actions::duration;
use crate::fix;
use crate::state::{is_of_rack, is_switched_board};
use crate::{Finding, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "fabric-manager",
    title: "NVSwitch is here and the fabric is not up",
    why: "On machines with NVSwitch every GPU waits for fabric manager, of exactly the version of the driver: until then cuInit fails with error 802, `system not yet initialized`",
    fix: "install `nvidia-fabricmanager` in the driver's version, then `systemctl enable --now nvidia-fabricmanager` (`journalctl -u nvidia-fabricmanager` says why it stopped)",
    references: &["pytorch/pytorch#35710", "wilicc/gpu-burn#92", "NVIDIA/gpu-operator#544"],
    check,
};

/// How long after a start GPUs may still be joining; one that is later is stuck. Fabric manager trains all links of the
/// board after its service has started, which takes seconds to minutes; the figure is ours.
const JOINING_SECONDS: u64 = 10 * 60;

/// Whether the GPUs that are not up may only not be there yet: each of them has begun or will, and nothing else is
/// wrong. Absent when they have had their time.
fn still_joining(snapshot: &Snapshot) -> Option<Joining> {
    let mut states = snapshot.gpus.iter().filter_map(|gpu| gpu.fabric);
    if states.any(|state| state == Fabric::Failed) {
        return None;
    }
    match snapshot.uptime_seconds {
        Some(seconds) if seconds < JOINING_SECONDS => Some(Joining::SinceStart(seconds)),
        Some(_) => None,
        None => Some(Joining::Unknown),
    }
}

/// Since when GPUs have been joining.
enum Joining {
    /// The machine started so many seconds ago.
    SinceStart(u64),
    /// Nobody knows.
    Unknown,
}

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let switches = snapshot.switches();
    let not_up: Vec<String> = snapshot
        .gpus
        .iter()
        .filter_map(|gpu| Some((gpu.index, gpu.fabric?)))
        .filter(|(_, state)| *state != Fabric::Completed)
        .map(|(index, state)| format!("GPU {index}: {state:?}"))
        .collect();
    let module = snapshot.driver.module.as_deref();
    let other =
        snapshot.fabric_manager_version.as_deref().filter(|version| Some(*version) != module);
    let mut seen = Vec::new();
    // It refuses to start: `fabric manager NVIDIA GPU driver interface version … don't match`.
    if let (Some(version), Some(module), true) = (other, module, switches > 0) {
        seen.push(format!("fabric manager is of version {version}, the driver is {module}"));
    }
    let stopped = switches > 0 && !snapshot.fabric_manager && !snapshot.container;
    if stopped {
        seen.push(format!("{switches} NVSwitches are here and fabric manager is not running"));
    }
    if !not_up.is_empty() {
        seen.push(format!("the NVLink fabric of {} GPU(s) is not up", not_up.len()));
    }
    if nvlsm::is_missing(snapshot) {
        return Vec::new();
    }
    if seen.is_empty() {
        return unseen(snapshot, switches).or_else(|| unknown(snapshot)).into_iter().collect();
    }
    // GPUs that have joined work for a container that is not given the others: with one of those CUDA starts for none.
    let joined: Vec<String> = snapshot
        .gpus
        .iter()
        .filter(|gpu| gpu.fabric == Some(Fabric::Completed))
        .map(|gpu| gpu.index.to_string())
        .collect();
    let part = !joined.is_empty() && !stopped;
    let severity = if part { Severity::Warns } else { Severity::Stops };
    // The first is the cause of the others.
    let finding = Finding::new(&RULE, severity, seen.remove(0));
    let finding = seen.into_iter().fold(finding, Finding::seen);
    let states = (!not_up.is_empty()).then(|| not_up.join(", "));
    let finding = states.into_iter().fold(finding, Finding::seen);
    let mut steps = Vec::new();
    if part && !not_up.is_empty() {
        let words = "until then: give containers the GPUs whose fabric is up";
        let command = format!("sconce run --gpus device={} <target>", joined.join(","));
        steps.push(match snapshot.container {
            true => Step::container(
                "until then: leave the others out, before CUDA starts",
                &[&format!("export CUDA_VISIBLE_DEVICES={}", joined.join(","))],
            ),
            false => Step::host(words, &[&command]),
        });
    }
    let of_rack = |gpu: &crate::Gpu| is_of_rack(gpu, &snapshot.pci);
    if switches == 0 && snapshot.gpus.iter().any(of_rack) {
        if still_joining(snapshot).is_some() {
            steps.push(fix::wait("wait a minute or two: GPUs join after a start, one by one"));
        }
        let what = "ask whoever runs the rack: on GB200 and GB300 NVL72 fabric manager and nvlsm run on its switch trays, none of them on this compute tray; see here whether links are up";
        steps.push(Step::host(what, &["nvidia-smi -q", "nvidia-smi nvlink --status"]));
        return vec![finding.fix(steps)];
    }
    if other.is_some() || snapshot.fabric_manager_version.is_none() {
        let words = "install fabric manager of the very version of the driver";
        steps.push(fix::install(snapshot, "fabric-manager", None, words));
    }
    // A container does not see the service; what the GPUs say is all there is.
    let runs = snapshot.fabric_manager || snapshot.container;
    let joining = still_joining(snapshot).filter(|_| runs && other.is_none());
    let finding = match joining {
        Some(Joining::SinceStart(seconds)) => {
            finding.seen(format!("the machine started {} ago", duration(seconds)))
        }
        Some(Joining::Unknown) | None => finding,
    };
    if joining.is_some() {
        steps.push(fix::wait("wait a minute or two: GPUs join after a start, one by one"));
    }
    let (what, start) = match runs {
        true if joining.is_some() => (
            "only if it stays so for ten minutes: start fabric manager again, and see what it says",
            "systemctl restart nvidia-fabricmanager",
        ),
        true => ("start it again, and see what it says", "systemctl restart nvidia-fabricmanager"),
        false => (
            "start it, and see why it stopped if it does",
            "systemctl enable --now nvidia-fabricmanager",
        ),
    };
    steps.push(Step::host(what, &[start, "journalctl -u nvidia-fabricmanager -n 50"]));
    if switches == 0 && !snapshot.container {
        steps.push(Step::host(
            "in a virtual machine that was given no NVSwitch none of this is here: fabric manager of its host brings up the fabric",
            &[],
        ));
    }
    vec![finding.fix(steps)]
}

/// A container does not see fabric manager, and GPUs before Hopper have no state of the fabric.
fn unseen(snapshot: &Snapshot, switches: usize) -> Option<Finding> {
    let silent = snapshot.gpus.iter().all(|gpu| {
        gpu.fabric.is_none() && gpu.capability.is_some_and(|capability| capability.major < 9)
    });
    (snapshot.container && switches > 0 && silent && !snapshot.gpus.is_empty()).then(|| {
        let summary = "whether the fabric of the NVSwitches is up can't be told from inside this container: the GPUs do not say";
        let look = Step::host("look at it", &["systemctl is-active nvidia-fabricmanager"]);
        Finding::new(&RULE, Severity::Notes, summary).fix(vec![look])
    })
}

/// A whole board whose GPUs say nothing of the fabric, without a node of an NVSwitch or a fabric manager: its host may
/// have both, or nobody.
fn unknown(snapshot: &Snapshot) -> Option<Finding> {
    let silent = snapshot.gpus.iter().all(|gpu| gpu.fabric.is_none());
    let board = is_switched_board(snapshot.pci.iter().map(|pci| pci.device.as_str()));
    let quiet = snapshot.switches() == 0 && !snapshot.fabric_manager && !snapshot.container;
    (board && silent && quiet && snapshot.driver.module.is_some() && !snapshot.gpus.is_empty()).then(|| {
        let summary = "whether the fabric of the NVSwitches is up can't be told: fabric manager is not running, and the GPUs do not say";
        let words = "install fabric manager of the very version of the driver";
        let steps = vec![
            fix::install(snapshot, "fabric-manager", None, words),
            Step::host(
                "start it, and see why it stopped if it does",
                &["systemctl enable --now nvidia-fabricmanager", "journalctl -u nvidia-fabricmanager -n 50"],
            ),
            Step::host("in a virtual machine that was given no NVSwitch fabric manager of its host brings up the fabric", &[]),
        ];
        Finding::new(&RULE, Severity::Unknown, summary)
            .seen(format!("{} GPUs of a board with NVSwitch", snapshot.pci.len()))
            .seen("there is no node of an NVSwitch")
            .fix(steps)
    })
}
