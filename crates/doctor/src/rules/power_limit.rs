//! A low power cap.

use super::Rule;
use crate::{Finding, Gpu, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "power-limit",
    title: "A GPU's power limit is below what it comes with",
    why: "Someone lowered the limit (`nvidia-smi -pl`), or the board enforces one: at full load the clocks fall, and the GPU is slower than its peers",
    fix: "`nvidia-smi -i <index> -pl <watts>` sets it back, if it was not meant; one that the board or the machine enforces is to be found there",
    references: &[],
    check,
};

/// A watt is no cap.
const SLACK_MW: u32 = 1000;

/// The limit that was set below the default, in watts.
pub(super) fn lowered(gpu: &Gpu) -> Option<u32> {
    let (set, default) = (gpu.health.power_set_mw?, gpu.health.power_default_mw?);
    (set.saturating_add(SLACK_MW) < default).then_some(set / 1000)
}

/// What one cap is like: GPUs of the same are said in one finding.
#[derive(Clone, Copy, PartialEq)]
struct Cap {
    limit: u32,
    default: u32,
    /// Not what someone set: `nvidia-smi -pl` does not lift it.
    enforced: bool,
}

/// The cap of a GPU. A laptop's follows its power supply and its heat, and can't be set.
fn cap(gpu: &Gpu) -> Option<Cap> {
    let (limit, default) = (gpu.health.power_limit_mw?, gpu.health.power_default_mw?);
    if gpu.is_virtual() || gpu.model.contains("Laptop") {
        return None;
    }
    let enforced = gpu.health.power_set_mw.is_some() && lowered(gpu).is_none();
    (limit.saturating_add(SLACK_MW) < default).then_some(Cap { limit, default, enforced })
}

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let mut caps: Vec<(Cap, Vec<&Gpu>)> = Vec::new();
    for gpu in &snapshot.gpus {
        let Some(cap) = cap(gpu) else { continue };
        match caps.iter_mut().find(|(other, _)| *other == cap) {
            Some((_, gpus)) => gpus.push(gpu),
            None => caps.push((cap, vec![gpu])),
        }
    }
    caps.into_iter().map(|(cap, gpus)| finding(cap, &gpus)).collect()
}

fn finding(cap: Cap, gpus: &[&Gpu]) -> Finding {
    let names: Vec<String> =
        gpus.iter().map(|gpu| format!("GPU {} ({})", gpu.index, gpu.model)).collect();
    let indices: Vec<String> = gpus.iter().map(|gpu| gpu.index.to_string()).collect();
    let indices = indices.join(",");
    let summary = format!(
        "{} may take {} W, {} W less than by default",
        names.join(", "),
        cap.limit / 1000,
        (cap.default - cap.limit) / 1000
    );
    let finding = Finding::new(&RULE, Severity::Notes, summary);
    if cap.enforced {
        let show = format!("nvidia-smi -q -d POWER,PERFORMANCE -i {indices}");
        let what = "nobody lowered it: the board or the machine's management enforces it; look at power supplies, cables and the management's power cap";
        return finding
            .seen("the limit that was set is the default")
            .fix(vec![Step::host(what, &[&show])]);
    }
    let set = format!("nvidia-smi -i {indices} -pl {}", cap.default / 1000);
    finding.fix(vec![Step::host("if it was not meant, set it back", &[&set])])
}
