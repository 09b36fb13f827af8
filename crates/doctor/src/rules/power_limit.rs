//! A low power cap.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "power-limit",
    title: "A GPU's power limit is below what it comes with",
    why: "Someone lowered the limit (`nvidia-smi -pl`), or the board enforces one: at full load the clocks fall, and the GPU is slower than its peers",
    fix: "`nvidia-smi -i <index> -pl <watts>` sets it back, if it was not meant",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let capped = snapshot.gpus.iter().filter_map(|gpu| {
        let (limit, default) = (gpu.health.power_limit_mw?, gpu.health.power_default_mw?);
        // A watt is no cap.
        (limit + 1000 < default).then(|| {
            let summary = format!(
                "GPU {} ({}) may take {} W, {} W less than by default",
                gpu.index,
                gpu.model,
                limit / 1000,
                (default - limit) / 1000
            );
            let set = format!("nvidia-smi -i {} -pl {}", gpu.index, default / 1000);
            let step = Step::host("if it was not meant, set it back", &[&set]);
            Finding::new(&RULE, Severity::Notes, summary).fix(vec![step])
        })
    });
    capped.collect()
}
