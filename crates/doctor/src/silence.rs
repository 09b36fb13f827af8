//! What NVML says of one GPU that it gives no answers for.

use crate::snapshot::Gpu;

/// What such a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The GPU is gone, or nothing says why.
    Lost,
    /// It wants a reset.
    Reset,
    /// It lacks a power cable.
    Power,
    /// NVML may not ask it: nothing is known of CUDA.
    NotAsked,
}

/// Codes, and the words that stand for them in snapshots that have none.
///
/// Source: nvml.h, nvmlReturn_t, and the texts of nvmlErrorString.
const REFUSALS: &[(u32, &[&str], Refusal)] = &[
    (4, &["Insufficient Permissions"], Refusal::NotAsked),
    (8, &["Insufficient External Power"], Refusal::Power),
    (16, &["GPU requires reset", "Reset required"], Refusal::Reset),
    (17, &["The operating system has blocked the request"], Refusal::NotAsked),
    (19, &["In use by another client"], Refusal::NotAsked),
];

/// What NVML's refusal means of this GPU.
pub(crate) fn of(gpu: &Gpu) -> Refusal {
    let Some(reason) = gpu.silence.as_deref() else { return Refusal::Lost };
    let code = code(reason);
    let row = REFUSALS.iter().find(|(known, words, _)| match code {
        Some(code) => code == *known,
        None => words.iter().any(|words| reason.contains(words)),
    });
    row.map_or(Refusal::Lost, |(_, _, refusal)| *refusal)
}

/// The code at the end of `nvmlInit: GPU is lost (15)`.
pub(crate) fn code(reason: &str) -> Option<u32> {
    reason.rsplit_once('(')?.1.strip_suffix(')')?.parse().ok()
}
