//! Memory had errors that could not be corrected.

use super::{Rule, each, seconds};
use crate::metric::Metric;
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "ecc-errors",
    title: "Memory had errors that could not be corrected",
    why: "Uncorrectable errors since the driver was loaded: programs were ended or had wrong data",
    action: "reset the GPU when nothing uses it; if they come again have it tested and replaced (nvidia-smi -q -d ECC, dcgmi diag -r 3)",
    source: "facebookresearch/gcm: any uncorrected",
    severity: Severity::Critical,
    hold: seconds(0),
    clear: seconds(60),
    apart: None,
    alert: Some("sconce_gpu_ecc_uncorrected_errors_total > 0"),
    check,
};

fn check(window: &Window) -> Vec<Seen> {
    each(window, |gpu| {
        let count = gpu.values.get(Metric::EccUncorrected)?;
        (count > 0.0).then(|| format!("{count:.0} uncorrected"))
    })
}
