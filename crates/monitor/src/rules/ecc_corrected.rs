//! Memory had very many errors that were corrected.

use super::{Rule, each, seconds};
use crate::metric::Metric;
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "ecc-corrected",
    title: "Memory had very many errors that were corrected",
    why: "More than 20 million corrected errors since the driver was loaded. No data was wrong; so many announce errors that can't be corrected",
    action: "have it tested when nothing uses it (nvidia-smi -q -d ECC,ROW_REMAPPER, dcgmi diag -r 3), and replaced where the count goes on growing after a reset",
    source: "Azure/azurehpc-health-checks check_gpu_ecc: more than 20,000,000 corrected",
    severity: Severity::Warning,
    hold: seconds(0),
    clear: seconds(60),
    apart: None,
    alert: Some("sconce_gpu_ecc_corrected_errors_total > 20e6"),
    check,
};

fn check(window: &Window) -> Vec<Seen> {
    each(window, |gpu| {
        let count = gpu.values.get(Metric::EccCorrected)?;
        (count > 20e6).then(|| format!("{count:.0} corrected"))
    })
}
