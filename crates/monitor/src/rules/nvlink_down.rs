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
    why: "Fewer NVLinks are active than the GPU has: collectives are slower or fail. Where none is active they were before, since the monitor was started, or another GPU of the board has its own; cards that are joined by bridges may have none, and so may a GPU that is split (MIG)",
    action: "nvidia-smi nvlink -s shows which; reset all GPUs of the machine (fabric manager brings links up); if it stays have board or cables replaced",
    source: "NVIDIA health validation: inactive NVLinks > 0 is critical",
    severity: Severity::Critical,
    // Links are read once a minute: what they were as the machine came up, or before MIG was switched off, is read anew before.
    hold: seconds(75),
    clear: seconds(30),
    apart: None,
    alert: Some(
        r#"((sconce_gpu_nvlinks_up < sconce_gpu_nvlinks and max_over_time(sconce_gpu_nvlinks_up[1d]) > 0) unless on (instance, gpu, UUID) sconce_gpu_memory_used_bytes{gpu_instance!=""}) or (sconce_gpu_nvlinks_up < sconce_gpu_nvlinks and on (instance, gpu, UUID) sconce_anomaly{rule="nvlink-down"} == 1)"#,
    ),
    check,
};

/// What `crates/facts/data/gpus.toml` calls cards: NVLinks of theirs are those of a bridge, where they have one.
const BRIDGED: &str = "PCIe";
/// Words in the names of cards, for those whose form the facts do not have.
const CARDS: [&str; 3] = ["PCIE", "NVL", "ACTIVE"];
/// Links of a GPU on a board: six of V100 SXM2, and more since. Cards whose names have none of those words have four at most (A40).
const BOARD: f64 = 6.0;

fn check(window: &Window) -> Vec<Seen> {
    each(window, |gpu| {
        let (up, all) = (gpu.values.get(Metric::NvlinksUp)?, gpu.values.get(Metric::Nvlinks)?);
        // A card without a bridge has links of which none is ever active, and an A100 that is split none as long as it is (fabric
        // manager's guide, MIG).
        let ever = up > 0.0 || (!gpu.mig && (window.had_links(gpu) || beside(window, gpu)));
        (up < all && ever).then(|| format!("{up:.0} of {all:.0} active"))
    })
}

/// Whether this is a GPU of a board that joins all of its GPUs, and another of them has active links.
fn beside(window: &Window, gpu: &Gpu) -> bool {
    let form = sconce_facts::gpu(&gpu.model).ok().and_then(|row| row.form.as_deref());
    let by_name = || {
        let name = gpu.model.to_ascii_uppercase();
        !CARDS.iter().any(|word| name.contains(word))
            && gpu.values.get(Metric::Nvlinks).is_some_and(|all| all >= BOARD)
    };
    let joined = form.map_or_else(by_name, |form| form != BRIDGED);
    let linked = |other: &Gpu| other.values.get(Metric::NvlinksUp).is_some_and(|up| up > 0.0);
    joined && window.gpus().iter().any(|other| other.model == gpu.model && linked(other))
}
