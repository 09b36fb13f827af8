//! Error 802.

use sconce_gpu::nvml::Fabric;

use super::{Rule, nvlsm};
use crate::fix;
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
    if seen.is_empty() || nvlsm::is_missing(snapshot) {
        return Vec::new();
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
    if other.is_some() || snapshot.fabric_manager_version.is_none() {
        let words = "install fabric manager of the very version of the driver";
        steps.push(fix::install(snapshot, "fabric-manager", None, words));
    }
    let (what, start) = match snapshot.fabric_manager {
        true => ("start it again, and see what it says", "systemctl restart nvidia-fabricmanager"),
        false => (
            "start it, and see why it stopped if it does",
            "systemctl enable --now nvidia-fabricmanager",
        ),
    };
    steps.push(Step::host(what, &[start, "journalctl -u nvidia-fabricmanager -n 50"]));
    vec![finding.fix(steps)]
}
