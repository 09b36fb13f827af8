//! Error 804.

use sconce_facts::{DriverVersion, forward_compatible};

use super::Rule;
use crate::state::Device;
use crate::{Finding, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "forward-compat",
    title: "Another libcuda comes before the driver's",
    why: "CUDA's compatibility package (cuda-compat) brings a newer libcuda for data-centre GPUs. On others, or when the driver is newer than it, cuInit fails with error 804 or picks the wrong one",
    fix: "take its folder out of LD_LIBRARY_PATH and of /etc/ld.so.conf.d, or upgrade the driver and remove the package",
    references: &["NVIDIA/nvidia-docker#1294"],
    check,
};

/// Brands to which forward compatibility is closed. It is for data-centre GPUs and some of the professional RTX cards,
/// which NVIDIA lists nowhere by name (CUDA Compatibility, Forward Compatibility).
const CONSUMER: [&str; 2] = ["GeForce", "TITAN"];

fn is_consumer(device: &Device<'_>) -> bool {
    device.gpu.is_some_and(|gpu| CONSUMER.iter().any(|brand| gpu.model.contains(brand)))
}

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let Some(path) = &snapshot.compat_libcuda else { return Vec::new() };
    let parse = |text: &Option<String>| text.as_deref().and_then(|text| text.parse().ok());
    let compat: Option<DriverVersion> = parse(&snapshot.compat_version);
    let driver: Option<DriverVersion> = snapshot.driver_version();
    // The driver's own, in another folder.
    if compat.is_some() && compat == driver {
        return Vec::new();
    }
    let devices = snapshot.devices();
    let classes: Vec<Option<bool>> =
        devices.iter().map(|device| device.facts().map(|facts| facts.datacenter)).collect();
    let consumer = devices.iter().any(is_consumer);
    // Each branch knows the GPUs that it knows, whoever's kernel module it works with.
    let dropped =
        compat.as_ref().and_then(|compat| devices.iter().find(|device| device.dropped_by(compat)));
    let datacenter = !classes.is_empty() && classes.iter().all(|class| *class == Some(true));
    let (severity, summary) = match (&compat, &driver) {
        _ if consumer => (
            Severity::Stops,
            "a compatibility libcuda comes first, and these are no data-centre GPUs: cuInit fails with error 804",
        ),
        (Some(compat), Some(driver)) if compat < driver => (
            Severity::Stops,
            "a compatibility libcuda comes first that is older than the driver: cuInit fails with error 803",
        ),
        _ if dropped.is_some() => (
            Severity::Stops,
            "a compatibility libcuda comes first that no longer knows the GPU: CUDA finds no device",
        ),
        (Some(compat), Some(driver)) if datacenter && forward_compatible(driver, compat) => (
            Severity::Notes,
            "a newer libcuda comes before the driver's, as forward compatibility means it",
        ),
        _ => (
            Severity::Unknown,
            "a libcuda that is not the driver's comes first, and whether it works with it is not known",
        ),
    };
    let mut finding = Finding::new(&RULE, severity, summary).seen(path.display().to_string());
    if let (Some(compat), Some(driver)) = (&compat, &driver) {
        finding = finding.seen(format!("it is of driver {compat}, the driver is {driver}"));
    }
    if let Some(device) = dropped {
        let last = device.last_branch().unwrap_or_default();
        finding = finding.seen(format!("branch {last} is the last that runs {}", device.name()));
    }
    if severity == Severity::Notes {
        let what = "nothing: CUDA newer than the driver needs it";
        return vec![finding.fix(vec![Step::container(what, &[])])];
    }
    let what = "take its folder out of LD_LIBRARY_PATH and of /etc/ld.so.conf.d";
    vec![finding.fix(vec![Step::container(what, &["ldconfig"])])]
}
