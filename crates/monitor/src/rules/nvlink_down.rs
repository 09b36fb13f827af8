//! NVLinks are down.

use super::{Rule, each, seconds};
use crate::metric::Metric;
use crate::sample::Gpu;
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "nvlink-down",
    title: "NVLinks are down",
    why: "Fewer NVLinks are active than the GPU has: collectives are slower or fail. Of a GPU on a board (SXM, NVL72) all are wired; where none is active they were before, since the monitor was started, or another GPU of the board has its own. A card's links lead to bridges, of which it may have none, or one of three: it is told of where fewer are active than before, and so is a GPU whose form is not known (crates/facts/data/gpus.toml). A GPU that is split (MIG) may have none",
    action: "nvidia-smi nvlink -s shows which; reset all GPUs of the machine (fabric manager brings links up); if it stays have board or cables replaced",
    source: "NVIDIA health validation: inactive NVLinks > 0 is critical",
    severity: Severity::Critical,
    // Links are read once a minute: what they were as the machine came up, or before MIG was switched off, is read anew before.
    hold: seconds(75),
    clear: seconds(30),
    apart: None,
    alert: Some(
        r#"(sconce_gpu_nvlinks_up < max_over_time(sconce_gpu_nvlinks_up[1d]) unless on (instance, gpu, UUID) sconce_gpu_memory_used_bytes{gpu_instance!=""}) or (sconce_gpu_nvlinks_up < sconce_gpu_nvlinks and on (instance, gpu, UUID) sconce_anomaly{rule="nvlink-down"} == 1)"#,
    ),
    check,
};

fn check(window: &Window) -> Vec<Seen> {
    each(window, |gpu| {
        let (up, all) = (gpu.values.get(Metric::NvlinksUp)?, gpu.values.get(Metric::Nvlinks)?);
        // Of a card some or all links lead to bridges that it need not have, and of a GPU that the facts don't know none is known to
        // lead anywhere: for those what was active before counts.
        let wired = sconce_facts::links_are_wired(&gpu.model) == Some(true);
        let fewer = up < window.most_links(gpu);
        let down = match up > 0.0 {
            true => fewer || (wired && up < all),
            // An A100 that is split has none active as long as it is (fabric manager's guide, MIG).
            false => all > 0.0 && !gpu.mig && (fewer || (wired && beside(window, gpu))),
        };
        down.then(|| match wired {
            true => format!("{up:.0} of {all:.0} active"),
            false => format!("{up:.0} active, {:.0} before", window.most_links(gpu)),
        })
    })
}

/// Whether another GPU of this one's kind has active links: a board joins all of its GPUs, or none.
fn beside(window: &Window, gpu: &Gpu) -> bool {
    let linked = |other: &Gpu| other.values.get(Metric::NvlinksUp).is_some_and(|up| up > 0.0);
    window.gpus().iter().any(|other| other.model == gpu.model && linked(other))
}
