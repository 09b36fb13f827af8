//! Driver half upgraded.

use super::Rule;
use crate::causes;
use crate::fix;
use crate::state::{Device, Trouble};
use crate::{Finding, Severity, Snapshot, Step, Subject};
use sconce_facts::DriverVersion;

/// The rule.
pub const RULE: Rule = Rule {
    id: "driver-mismatch",
    title: "Module and libraries are of different releases",
    why: "The driver was upgraded while its old module stayed loaded: NVML says `Driver/library version mismatch`, CUDA says error 803. A container that ran through the upgrade keeps the old libraries",
    fix: "restart the machine, or stop every GPU program and load the modules again; a container only needs a new start",
    references: &["NVIDIA/nvidia-container-toolkit#394"],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let driver = &snapshot.driver;
    let (Some(module), Some(libraries)) = (&driver.module, &driver.libraries) else {
        return Vec::new();
    };
    if module == libraries {
        return Vec::new();
    }
    let summary = format!(
        "Driver/library version mismatch: the loaded module is {module}, the libraries are {libraries}"
    );
    let mut finding = Finding::new(&RULE, Severity::Stops, summary);
    if let Some(folder) = &driver.folder {
        finding = finding.seen(format!("libraries in {}", folder.display()));
    }
    if snapshot.container {
        let what = "start it again: it has the driver's libraries of the day it was started";
        let restart = fix::restart(snapshot, what);
        return vec![finding.fix(vec![restart])];
    }
    // What is installed is what runs after a restart: it must serve the GPUs.
    if let Some(installed) = libraries.parse().ok()
        && let Some((seen, steps)) = would_lose(snapshot, &installed)
    {
        return vec![finding.seen(seen).fix(steps)];
    }
    let mut steps = fix::reboot(snapshot);
    let mut reload = fix::reload(snapshot);
    reload.what = format!("or {}", reload.what);
    steps.push(reload);
    vec![finding.fix(steps)]
}

/// GPUs that the installed driver would leave alone, and how to get one that does not before the next restart.
fn would_lose(snapshot: &Snapshot, installed: &DriverVersion) -> Option<(String, Vec<Step>)> {
    let devices = snapshot.devices().into_iter();
    let mut devices: Vec<Device<'_>> = devices
        .filter(|device| !matches!(device.trouble, Some(Trouble::Held | Trouble::Excluded)))
        .collect();
    devices.retain(|device| device.dropped_by(installed) || device.unknown_to(installed));
    let last = devices.iter().filter(|device| device.dropped_by(installed));
    let last = last.filter_map(Device::last_branch).min();
    let first = devices.iter().filter_map(Device::first_driver).map(DriverVersion::branch).max();
    let (flavour, branch, why) = match (last, first) {
        (Some(last), _) => ("driver-proprietary", last, "no longer supports"),
        (None, Some(first)) => {
            ("driver-open", first.max(sconce_facts::driver_branch()), "does not know")
        }
        (None, None) => return None,
    };
    let seen = format!("{installed}, which runs after a restart, {why} {}", causes::list(&devices));
    let price = fix::price(snapshot, flavour, Some(branch));
    let words = "install driver {branch}, which serves it, before the machine is restarted";
    let mut steps: Vec<Step> = price.into_iter().collect();
    steps.push(fix::install(snapshot, flavour, Some(branch), words));
    steps.extend(fix::reboot(snapshot));
    Some((seen, steps))
}
