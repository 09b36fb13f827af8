//! Memory had errors that could not be corrected.

use super::{Rule, each, seconds};
use crate::metric::Metric;
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "ecc-errors",
    title: "Memory had errors that could not be corrected",
    why: "Uncorrectable errors since the driver was loaded: programs were ended or had wrong data. Very many corrected ones announce them",
    action: "reset the GPU when nothing uses it; if they come again have it tested and replaced (nvidia-smi -q -d ECC, dcgmi diag -r 3)",
    source: "Azure/azurehpc-health-checks check_gpu_ecc: more than 20,000,000 corrected; facebookresearch/gcm: any uncorrected",
    severity: Severity::Critical,
    hold: seconds(0),
    clear: seconds(60),
    alert: Some(
        "sconce_gpu_ecc_uncorrected_errors_total > 0 or sconce_gpu_ecc_corrected_errors_total > 20e6",
    ),
    check,
};

fn check(window: &Window) -> Vec<Seen> {
    let mut all = each(window, |gpu| {
        let count = gpu.values.get(Metric::EccUncorrected)?;
        (count > 0.0).then(|| format!("{count:.0} uncorrected"))
    });
    for mut many in each(window, |gpu| {
        let count = gpu.values.get(Metric::EccCorrected)?;
        (count > 20e6).then(|| format!("{count:.0} corrected"))
    }) {
        many.key = "corrected".to_owned();
        many.severity = Some(Severity::Warning);
        all.push(many);
    }
    all
}
