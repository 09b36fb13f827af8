//! Matrix products run in FP32, beside the tensor cores.

use super::{LOAD, LOADS, Rule, each, percent, seconds};
use crate::metric::Metric;
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "fp32-without-tensor-cores",
    title: "Matrix products run in FP32, beside the tensor cores",
    why: "The FP32 pipes work much of the time and the tensor cores hardly at all, with the low occupancy of matrix products: training without AMP and without TF32, at a fraction of the GPU's speed. Needs GPM",
    action: "train with torch.autocast(\"cuda\", dtype=torch.bfloat16), or allow TF32: torch.backends.cuda.matmul.allow_tf32 = True",
    source: LOADS,
    severity: Severity::Note,
    hold: seconds(120),
    clear: seconds(30),
    apart: Some(seconds(60)),
    alert: Some(
        "sconce_gpu_fp32_active_ratio > 0.35 and sconce_gpu_tensor_active_ratio < 0.1 and sconce_gpu_sm_active_ratio > 0.5 and sconce_gpu_sm_occupancy_ratio < 0.5",
    ),
    check,
};

fn check(window: &Window) -> Vec<Seen> {
    each(window, |gpu| {
        let recent = window.recent(gpu, LOAD)?;
        let (fp32, tensor) = (recent.mean(Metric::Fp32)?, recent.mean(Metric::Tensor)?);
        let (sm, warps) = (recent.mean(Metric::SmActive)?, recent.mean(Metric::SmOccupancy)?);
        // Elementwise work fills the multiprocessors with warps (88% there); products have few and large ones (12 to 20%).
        let products = fp32 > 0.35 && tensor < 0.1 && sm > 0.5 && warps < 0.5;
        products.then(|| format!("FP32 {}, tensor cores {}", percent(fp32), percent(tensor)))
    })
}
