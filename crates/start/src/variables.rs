//! What `sconce run` sets for training unless told not to. `docs/run.md` says the same with the reasons
//! for what is not set.

use std::collections::BTreeMap;

use sconce_gpu::affinity::Near;

/// Variables of every container, each with why.
const ALWAYS: [(&str, &str, &str); 2] = [
    ("PYTHONUNBUFFERED", "1", "lines of a training log appear when they are printed"),
    ("TORCHINDUCTOR_CACHE_DIR", "/tmp/torchinductor", "a compile cache that can be a volume"),
];

/// Variables of containers with GPUs, each with why.
const WITH_GPUS: [(&str, &str, &str); 1] =
    [("CUDA_DEVICE_ORDER", "PCI_BUS_ID", "CUDA counts GPUs as nvidia-smi and --gpus do")];

/// The variables for a container with so many GPUs, which may use so many processors at once (nothing
/// for all there are). `-e`, the image and `[app] env` come before them.
pub(crate) fn variables(gpus: usize, processors: Option<f64>) -> BTreeMap<String, String> {
    let of_gpus = WITH_GPUS.iter().filter(|_| gpus > 0);
    let rows = ALWAYS.iter().chain(of_gpus);
    let mut all: BTreeMap<String, String> =
        rows.map(|(name, value, _)| ((*name).to_owned(), (*value).to_owned())).collect();
    // OpenMP counts processors, not a quota of their time: on 128 of them it would start 128 threads
    // for a quota of 4. Without a quota its own count is right, and torchrun sets its own.
    if let Some(processors) = processors {
        let threads = (processors / gpus.max(1) as f64).floor().max(1.0);
        all.insert("OMP_NUM_THREADS".into(), format!("{threads:.0}"));
    }
    all
}

/// The processors to stay on: those near the GPUs, unless the caller was already kept on some
/// (`allowed`, by taskset or a batch system), who knows better.
pub(crate) fn processors(near: Option<&Near>, allowed: Option<&[usize]>) -> Option<Vec<usize>> {
    let near = near?;
    let free = near.online.iter().all(|processor| allowed.is_some_and(|a| a.contains(processor)));
    free.then(|| near.processors.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_follow_a_quota() {
        let threads = |gpus, quota| variables(gpus, quota).get("OMP_NUM_THREADS").cloned();
        assert_eq!(threads(8, None), None);
        assert_eq!(threads(1, Some(4.0)).as_deref(), Some("4"));
        assert_eq!(threads(0, Some(0.5)).as_deref(), Some("1"));
        assert_eq!(threads(8, Some(20.0)).as_deref(), Some("2"));
        assert!(variables(1, None).contains_key("CUDA_DEVICE_ORDER"));
        assert!(!variables(0, None).contains_key("CUDA_DEVICE_ORDER"));
    }

    #[test]
    fn a_choice_of_the_caller_stays() {
        let near = Near { node: 0, processors: vec![0, 1], online: vec![0, 1, 2, 3] };
        assert_eq!(processors(Some(&near), Some(&[0, 1, 2, 3])), Some(vec![0, 1]));
        for allowed in [Some(&[1, 2, 3][..]), Some(&[2]), None] {
            assert_eq!(processors(Some(&near), allowed), None);
        }
        assert_eq!(processors(None, Some(&[0])), None);
    }
}
