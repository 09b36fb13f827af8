//! Ranks of one job run different images.

use std::collections::BTreeMap;

use super::{Rule, seconds, seen};
use crate::sample::{Gpu, Workload};
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "different-images",
    title: "Ranks of one job run different images",
    why: "Ranks with another torch or NCCL hang in their first collective, or compute something else without a word. A job is one of Slurm or a pod; of other machines nothing is known here",
    action: "start all ranks from one digest: `sconce launch` does, and `sconce run NAME@sha256:...` pins it",
    source: "NVIDIA/nccl issues on mixed versions; digests of sconce's own containers (sconce_workload_info)",
    severity: Severity::Warning,
    hold: seconds(30),
    clear: seconds(30),
    apart: None,
    alert: None,
    check,
};

fn check(window: &Window) -> Vec<Seen> {
    let mut jobs: BTreeMap<&str, Vec<(&Gpu, &str)>> = BTreeMap::new();
    for gpu in window.gpus() {
        let running = gpu.processes.iter().flatten().map(|process| &process.workload);
        for Workload { slurm_job, pod_uid, image_digest, .. } in running.chain(&gpu.holders) {
            let job = if slurm_job.is_empty() { pod_uid } else { slurm_job };
            if !job.is_empty() && !image_digest.is_empty() {
                jobs.entry(job).or_default().push((gpu, image_digest));
            }
        }
    }
    let mut all = Vec::new();
    for (job, ranks) in jobs {
        let Some((_, first)) = ranks.first() else { continue };
        let other = ranks.iter().find(|(_, digest)| digest != first);
        if let Some((gpu, digest)) = other {
            let short = |digest: &str| digest.chars().take(19).collect::<String>();
            let evidence = format!("job {job}: {} and {}", short(first), short(digest));
            all.push(Seen { key: job.to_owned(), ..seen(gpu, evidence) });
        }
    }
    all
}
