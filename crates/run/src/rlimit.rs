//! Resource limits as training needs them.
//!
//! RDMA needs unlimited locked memory, and deep recursion in compilers a larger stack:
//! NVIDIA's images ask for `--ulimit memlock=-1 --ulimit stack=67108864`. Without the power
//! to raise a hard limit, the soft one goes up to it.

use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// One limit and what it should be.
struct Wanted {
    resource: Resource,
    /// As limits.conf(5) calls it.
    name: &'static str,
    /// `None` is unlimited.
    value: Option<u64>,
    /// The user hears of a lower limit on machines that have this folder, as it will hurt
    /// there; elsewhere it is only lower.
    hurts_with: Option<&'static str>,
}

const WANTED: &[Wanted] = &[
    // ibv_reg_mr(3) fails above the limit, and NCCL with it.
    Wanted {
        resource: Resource::Memlock,
        name: "memlock",
        value: None,
        hurts_with: Some("/sys/class/infiniband"),
    },
    Wanted { resource: Resource::Stack, name: "stack", value: Some(64 << 20), hurts_with: None },
    // Workers open a descriptor for each tensor they pass (torch.multiprocessing,
    // "file_descriptor" strategy). More than this slows programs that close them all.
    Wanted { resource: Resource::Nofile, name: "nofile", value: Some(1 << 20), hurts_with: None },
];

/// Raises the limits of this process, which its children inherit. The answer names those
/// that stay lower than this machine needs them, for the user to know.
pub(crate) fn raise() -> Option<String> {
    let low: Vec<String> = WANTED
        .iter()
        .filter_map(|wanted| {
            let reached = raise_one(wanted)?;
            let hurts = wanted.hurts_with.is_some_and(|folder| Path::new(folder).exists());
            hurts.then(|| format!("{} stays at {reached}", wanted.name))
        })
        .collect();
    (!low.is_empty()).then(|| {
        format!("{}; more takes root or a line in /etc/security/limits.conf", low.join(", "))
    })
}

/// The limit that was reached, where it is lower than wanted.
fn raise_one(wanted: &Wanted) -> Option<u64> {
    let now = getrlimit(wanted.resource);
    if at_least(now.current, wanted.value) {
        return None;
    }
    let enough = at_least(now.maximum, wanted.value);
    let maximum = if enough { now.maximum } else { wanted.value };
    if setrlimit(wanted.resource, Rlimit { current: wanted.value, maximum }).is_ok() {
        return None;
    }
    let highest = Rlimit { current: now.maximum, maximum: now.maximum };
    if setrlimit(wanted.resource, highest).is_ok() { now.maximum } else { now.current }
}

/// `None` is unlimited.
fn at_least(value: Option<u64>, wanted: Option<u64>) -> bool {
    match (value, wanted) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(value), Some(wanted)) => value >= wanted,
    }
}
