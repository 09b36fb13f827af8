//! A GPU has fewer PCIe lanes, or slower ones, than board and slot have.

use super::{Rule, each, seconds};
use crate::metric::Metric;
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "pcie-narrow",
    title: "A GPU has fewer PCIe lanes, or slower ones, than board and slot have",
    why: "The link came up narrower than it could be, or is of an older generation under load (at rest that is normal): copies between host and GPU are slower",
    action: "seat the card or its riser anew, look at the slot's setting in the firmware; lspci -vv shows LnkSta beside LnkCap",
    source: "nvml.h, Get{Curr,Max}PcieLinkWidth and Generation",
    severity: Severity::Warning,
    hold: seconds(30),
    clear: seconds(60),
    apart: None,
    // The generation counts under load alone.
    alert: None,
    check,
};

fn check(window: &Window) -> Vec<Seen> {
    each(window, |gpu| {
        let value = |metric| gpu.values.get(metric);
        let (lanes, most) = (value(Metric::PcieLanes)?, value(Metric::PcieLanesMax)?);
        if lanes < most {
            return Some(format!("{lanes:.0} lanes of {most:.0}"));
        }
        let best = value(Metric::PcieGenerationMax)?;
        let recent = window.recent(gpu, 30)?;
        let busy = recent.least(Metric::Utilization)? > 0.2;
        let now = recent.most(Metric::PcieGeneration)?;
        (busy && now < best).then(|| format!("generation {now:.0} of {best:.0} under load"))
    })
}
