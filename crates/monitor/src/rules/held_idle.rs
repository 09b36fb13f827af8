//! A GPU is held, and does nothing.

use std::collections::BTreeSet;

use super::{EMPTY, LOAD, LOADS, Rule, each, gibibytes, seconds};
use crate::metric::Metric;
use crate::sample::Workload;
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "held-idle",
    title: "A GPU is held, and does nothing",
    why: "A program holds memory of the GPU, which keeps its clocks up, or a pod was given it, and nothing has run on it for half an hour. An H100 draws 122 W so, and 72 W with nobody on it",
    action: "end the program if nobody waits for it: a notebook whose kernel lives on, a server without requests, a debugger that waits",
    source: LOADS,
    severity: Severity::Note,
    hold: seconds(1800),
    clear: seconds(60),
    apart: Some(seconds(900)),
    alert: None,
    check,
};

fn check(window: &Window) -> Vec<Seen> {
    let sees = window.now().is_some_and(|now| now.sees_processes);
    each(window, |gpu| {
        let recent = window.recent(gpu, LOAD)?;
        let held = recent.least(Metric::MemoryUsed)?;
        // Where processes are not seen it is the memory alone that tells.
        let somebody = !sees || gpu.processes.as_ref().is_none_or(|all| !all.is_empty());
        let idle = recent.most(Metric::Utilization)? == 0.0
            && [Metric::Graphics, Metric::Encoder, Metric::Decoder]
                .iter()
                .all(|engine| recent.most(*engine).is_none_or(|busy| busy < 0.01));
        // A GPU of a pod is nobody else's, also where no process of it has come yet.
        let pods = gpu.holders.iter().filter_map(Workload::pod_name).collect::<BTreeSet<_>>();
        let pods: Vec<String> = pods.into_iter().take(8).collect();
        let power = recent.mean(Metric::Power).map(|watts| format!(", {watts:.0} W"));
        let used = somebody && held > EMPTY;
        let by = match (pods.is_empty(), used) {
            (true, _) => String::new(),
            (false, true) => format!(" by pod {}", pods.join(", ")),
            (false, false) => format!(" by pod {}, without a process", pods.join(", ")),
        };
        (idle && (used || !pods.is_empty()) && !gpu.mig)
            .then(|| format!("{} held{by}{}", gibibytes(held), power.unwrap_or_default()))
    })
}
