//! A variable that hides GPUs.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "visible-devices",
    title: "CUDA_VISIBLE_DEVICES hides GPUs",
    why: "CUDA shows a program only the GPUs that CUDA_VISIBLE_DEVICES lists, up to the first that does not exist: empty or -1 hides all",
    fix: "unset it, or list GPUs that exist",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let Some(value) = snapshot.environment.get("CUDA_VISIBLE_DEVICES") else { return Vec::new() };
    let devices = snapshot.devices();
    let gpus = || devices.iter().filter_map(|device| device.gpu);
    let here = gpus().count();
    let instances = gpus().any(|gpu| gpu.mig_mode || gpu.instances > 0);
    if here == 0 {
        return Vec::new();
    }
    let entries: Vec<&str> = value.split(',').map(str::trim).collect();
    let exists = |entry: &&str| match entry.parse::<usize>() {
        Ok(index) => index < here,
        // What a saved snapshot cut from a UUID can't be looked up.
        Err(_) => entry.starts_with("GPU-") || entry.starts_with("MIG-") && instances,
    };
    let good = entries.iter().take_while(|entry| exists(entry)).count();
    let twice = entries.iter().enumerate().any(|(at, entry)| {
        entry.parse::<u32>().is_ok() && entries.iter().skip(at + 1).any(|other| other == entry)
    });
    let summary = match good {
        _ if twice => "CUDA_VISIBLE_DEVICES names a GPU twice: CUDA then shows none".to_owned(),
        0 => "CUDA_VISIBLE_DEVICES hides every GPU".to_owned(),
        good if good < entries.len() => {
            let bad = entries.get(good).copied().unwrap_or_default();
            format!(
                "CUDA_VISIBLE_DEVICES shows {good} GPU(s): `{bad}` is not one, and ends the list"
            )
        }
        _ => return Vec::new(),
    };
    let finding = Finding::new(&RULE, Severity::Warns, summary);
    let unset =
        Step::container("unset it, or list GPUs that exist", &["unset CUDA_VISIBLE_DEVICES"]);
    vec![finding.seen(format!("CUDA_VISIBLE_DEVICES={value}")).fix(vec![unset])]
}
