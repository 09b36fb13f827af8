//! Resource limits: as training needs them, or as `--ulimit` says.
//!
//! RDMA needs unlimited locked memory, and deep recursion in compilers a larger stack:
//! NVIDIA's images ask for `--ulimit memlock=-1 --ulimit stack=67108864`. Without the power
//! to raise a hard limit, the soft one goes up to it.

use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit};

use crate::Ulimit;
use crate::error::Error;

/// Every limit, as limits.conf(5) and `docker run --ulimit` call it.
const NAMES: &[(&str, Resource)] = &[
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

/// One limit and what it should be where nobody says.
struct Wanted {
    name: &'static str,
    /// `None` is unlimited.
    value: Option<u64>,
    /// A lower limit is a notice on machines that have this folder, where it will hurt.
    hurts_with: Option<&'static str>,
}

const WANTED: &[Wanted] = &[
    // ibv_reg_mr(3) fails above the limit, and NCCL with it.
    Wanted { name: "memlock", value: None, hurts_with: Some("/sys/class/infiniband") },
    Wanted { name: "stack", value: Some(64 << 20), hurts_with: None },
    // Workers open a descriptor for each tensor they pass (torch.multiprocessing,
    // "file_descriptor" strategy). More than this slows programs that close them all.
    Wanted { name: "nofile", value: Some(1 << 20), hurts_with: None },
];

/// Limits to set.
pub(crate) type Limits = Vec<(Resource, Rlimit)>;

/// The limits of a container's processes, and what the user should know of them. `raises` says
/// that hard limits can be raised here (`CAP_SYS_RESOURCE` outside user namespaces).
pub(crate) fn plan(asked: &[Ulimit], raises: bool) -> Result<(Limits, Option<String>), Error> {
    let mut limits = Limits::new();
    let mut low = Vec::new();
    for wanted in WANTED.iter().filter(|wanted| asked.iter().all(|given| given.name != wanted.name))
    {
        let Some(resource) = resource(wanted.name) else { continue };
        let now = getrlimit(resource);
        if at_least(now.current, wanted.value) {
            continue;
        }
        let hard = if at_least(now.maximum, wanted.value) { now.maximum } else { wanted.value };
        let reached = reach(&now, wanted.value, hard, raises);
        let hurts = wanted.hurts_with.is_some_and(|folder| Path::new(folder).exists());
        if hurts && !at_least(reached.current, wanted.value) {
            low.push(format!("{} stays at {}", wanted.name, in_words(reached.current)));
        }
        limits.push((resource, reached));
    }
    for given in asked {
        let invalid = |why: &str| Error::Invalid {
            option: "--ulimit",
            given: given.name.clone(),
            why: why.to_owned(),
        };
        let resource = resource(&given.name).ok_or_else(|| {
            let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            invalid(&format!("there are {}", names.join(", ")))
        })?;
        if !at_least(given.hard, given.soft) {
            return Err(invalid("the soft limit is above the hard one"));
        }
        let now = getrlimit(resource);
        let reached = reach(&now, given.soft, given.hard, raises);
        if reached.current != given.soft || reached.maximum != given.hard {
            low.push(format!(
                "--ulimit {} is {}:{} and not {}:{}",
                given.name,
                in_words(reached.current),
                in_words(reached.maximum),
                in_words(given.soft),
                in_words(given.hard)
            ));
        }
        limits.retain(|(other, _)| *other != resource);
        limits.push((resource, reached));
    }
    let note = (!low.is_empty()).then(|| {
        format!(
            "{}; more takes the capability SYS_RESOURCE, or a line in /etc/security/limits.conf",
            low.join(", ")
        )
    });
    Ok((limits, note))
}

fn resource(name: &str) -> Option<Resource> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, resource)| *resource)
}

/// The limit that can be set where `soft` and `hard` are wanted and `now` is in force.
fn reach(now: &Rlimit, soft: Option<u64>, hard: Option<u64>, raises: bool) -> Rlimit {
    let maximum = if raises || at_least(now.maximum, hard) { hard } else { now.maximum };
    let current = if at_least(maximum, soft) { soft } else { maximum };
    Rlimit { current, maximum }
}

/// `None` is unlimited.
fn at_least(value: Option<u64>, wanted: Option<u64>) -> bool {
    match (value, wanted) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(value), Some(wanted)) => value >= wanted,
    }
}

fn in_words(value: Option<u64>) -> String {
    value.map_or("unlimited".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_obeyed_as_far_as_can_be() {
        let now = Rlimit { current: Some(1024), maximum: Some(4096) };
        let reached = |soft, hard, raises| {
            let Rlimit { current, maximum } = reach(&now, soft, hard, raises);
            (current, maximum)
        };
        assert_eq!(reached(Some(64), Some(64), false), (Some(64), Some(64)));
        assert_eq!(reached(Some(9999), Some(9999), true), (Some(9999), Some(9999)));
        assert_eq!(reached(Some(9999), Some(9999), false), (Some(4096), Some(4096)));
        assert_eq!(reached(None, None, false), (Some(4096), Some(4096)));
        assert_eq!(reached(Some(100), Some(4096), false), (Some(100), Some(4096)));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let one = |name: &str, soft, hard| plan(&[Ulimit { name: name.into(), soft, hard }], false);
        let words = one("nofiles", Some(1), Some(1)).expect_err("unknown").to_string();
        assert!(words.contains("there are core, cpu"), "{words}");
        assert!(one("nofile", Some(2), Some(1)).is_err());
        let (limits, _) = one("memlock", Some(4096), Some(4096)).expect("lower than usual");
        let memlock: Vec<_> = limits.iter().filter(|(r, _)| *r == Resource::Memlock).collect();
        assert_eq!(memlock.len(), 1);
        assert_eq!(memlock[0].1.current, Some(4096));
    }
}
