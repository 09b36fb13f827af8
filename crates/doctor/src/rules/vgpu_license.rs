//! A virtual GPU without a licence.

use super::Rule;
use crate::actions::duration;
use crate::{Finding, Gpu, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "vgpu-license",
    title: "A virtual GPU has no licence",
    why: "A guest of vGPU software needs a licence from a server. Without one it works at first, slows down some minutes later (to a thousandth in one report), and after a day CUDA is closed: nvidia-smi looks well and programs fail with `CUDA-capable device(s) is/are busy or unavailable`",
    fix: "put the client token below /etc/nvidia/ClientConfigToken, and `FeatureType` in /etc/nvidia/gridd.conf, then `systemctl restart nvidia-gridd`",
    references: &["Azure/AKS#4868", "Azure/AKS#4870", "Azure/aks-gpu#90", "DDMAL/Rodan#1332"],
    check,
};

/// How long CUDA is left open without a licence.
///
/// Source: NVIDIA Virtual GPU Client Licensing user guide, "How NVIDIA vGPU Software Licensing Is Enforced".
const GRACE_SECONDS: u64 = 24 * 3600;

fn licence(gpu: &Gpu) -> Option<Option<bool>> {
    Some(gpu.health.vgpu?.licensed)
}

fn list(gpus: &[&Gpu]) -> String {
    let names: Vec<String> =
        gpus.iter().map(|gpu| format!("GPU {} ({})", gpu.index, gpu.model)).collect();
    names.join(", ")
}

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let devices = snapshot.devices();
    let gpus: Vec<&Gpu> = devices.iter().filter_map(|device| device.gpu).collect();
    let of = |state: Option<bool>| -> Vec<&Gpu> {
        gpus.iter().copied().filter(|gpu| licence(gpu) == Some(state)).collect()
    };
    let (without, unknown) = (of(Some(false)), of(None));
    let mut findings = Vec::new();
    if !without.is_empty() {
        findings.push(unlicensed(snapshot, &gpus, &without));
    }
    if !unknown.is_empty() {
        let summary =
            format!("whether {} has its licence can't be told: NVML does not say", list(&unknown));
        let look = Step::host("look at `License Status`", &["nvidia-smi -q"]);
        findings.push(Finding::new(&RULE, Severity::Notes, summary).fix(vec![look]));
    }
    findings
}

fn unlicensed(snapshot: &Snapshot, gpus: &[&Gpu], without: &[&Gpu]) -> Finding {
    let since = snapshot.uptime_seconds.filter(|seconds| *seconds >= GRACE_SECONDS);
    let severity = match since {
        Some(_) if without.len() == gpus.len() => Severity::Stops,
        _ => Severity::Warns,
    };
    let summary = format!("{} is a virtual GPU without a licence", list(without));
    let mut finding = Finding::new(&RULE, severity, summary);
    if let Some(seconds) = since {
        finding = finding.seen(format!(
            "the machine has been up for {}: without a licence CUDA is closed after a day",
            duration(seconds)
        ));
    }
    finding.fix(vec![
        Step::host(
            "put the licence server's client token below /etc/nvidia/ClientConfigToken",
            &[],
        ),
        Step::host(
            "ask for the licence, and see the answer",
            &["systemctl restart nvidia-gridd", "journalctl -u nvidia-gridd -n 20"],
        ),
        Step::host(
            "if there is no such service, the driver is not that of vGPU guests: install the one that came with the vGPU software of the host",
            &[],
        ),
    ])
}
