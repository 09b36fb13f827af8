//! Resource limits as training needs them.
//!
//! RDMA and pinned host memory need unlimited locked memory, and deep recursion in
//! compilers a larger stack: NVIDIA's images ask for `--ulimit memlock=-1 --ulimit
//! stack=67108864`. Without the power to raise a hard limit, the soft one goes up to it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit, its name, and what it should be (`None`: unlimited).
const WANTED: &[(Resource, &str, Option<u64>)] = &[
    (Resource::Memlock, "locked memory (memlock)", None),
    (Resource::Stack, "stack", Some(64 << 20)),
    // Workers open a descriptor for each tensor they pass (torch.multiprocessing,
    // "file_descriptor" strategy). More than this slows programs that close them all.
    (Resource::Nofile, "open files (nofile)", Some(1 << 20)),
];

/// Raises the limits of this process, which its children inherit. The answer names those
/// that could not be raised far enough, for the user to know.
pub(crate) fn raise() -> Option<String> {
    let mut low = Vec::new();
    for (resource, name, wanted) in WANTED {
        let now = getrlimit(*resource);
        if at_least(now.current, *wanted) {
            continue;
        }
        let raised = Rlimit {
            current: *wanted,
            maximum: if at_least(now.maximum, *wanted) { now.maximum } else { *wanted },
        };
        if setrlimit(*resource, raised).is_ok() {
            continue;
        }
        let highest = Rlimit { current: now.maximum, maximum: now.maximum };
        let reached = if setrlimit(*resource, highest).is_ok() { now.maximum } else { now.current };
        low.push(format!(
            "{name} stays at {}",
            reached.map_or("unlimited".into(), |n| n.to_string())
        ));
    }
    (!low.is_empty()).then(|| {
        format!("{}; raising it takes root or a line in /etc/security/limits.conf", low.join(", "))
    })
}

/// `None` is unlimited.
fn at_least(value: Option<u64>, wanted: Option<u64>) -> bool {
    match (value, wanted) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(value), Some(wanted)) => value >= wanted,
    }
}
