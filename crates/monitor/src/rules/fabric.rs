//! The NVLink fabric is not up.

use super::{Rule, each, seconds};
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "fabric",
    title: "The NVLink fabric is not up",
    why: "The GPU is not registered with its fabric: CUDA fails with error 802 (system not yet initialized) until it is",
    action: "start fabric manager (systemctl status nvidia-fabricmanager), of the driver's very version; sconce doctor names what is wrong",
    source: "nvml.h, nvmlGpuFabricState_t",
    severity: Severity::Critical,
    hold: seconds(120),
    clear: seconds(15),
    apart: None,
    alert: None,
    check,
};

fn check(window: &Window) -> Vec<Seen> {
    each(window, |gpu| {
        let state = gpu.fabric.as_deref()?;
        (state != "completed").then(|| format!("its state is {state}"))
    })
}
