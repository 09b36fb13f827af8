//! NVLinks are down.

use super::{Rule, each, seconds};
use crate::metric::Metric;
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "nvlink-down",
    title: "NVLinks are down",
    why: "Fewer NVLinks are active than the GPU has: collectives are slower or fail",
    action: "nvidia-smi nvlink -s shows which; reset all GPUs of the machine (fabric manager brings links up); if it stays have board or cables replaced",
    source: "NVIDIA health validation: inactive NVLinks > 0 is critical",
    severity: Severity::Critical,
    hold: seconds(15),
    clear: seconds(30),
    alert: Some("sconce_gpu_nvlinks_up > 0 and sconce_gpu_nvlinks_up < sconce_gpu_nvlinks"),
    check,
};

fn check(window: &Window) -> Vec<Seen> {
    each(window, |gpu| {
        let (up, all) = (gpu.values.get(Metric::NvlinksUp)?, gpu.values.get(Metric::Nvlinks)?);
        // A board without a bridge has links of which none is ever active.
        (up > 0.0 && up < all).then(|| format!("{up:.0} of {all:.0} active"))
    })
}
