//! What differs between two locks, by name and version.

use std::collections::BTreeMap;
use std::fmt;

use crate::document::Lock;

/// A package that came, went or moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its name; a Debian package's with `(Debian)` behind it.
    pub name: String,
    /// Its version before; `None` for one that came.
    pub before: Option<String>,
    /// Its version now; `None` for one that went.
    pub now: Option<String>,
}

impl fmt::Display for Change {
    /// `+ name 1.2`, `- name 1.1`, `name 1.1 -> 1.2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, .. } = self;
        match (&self.before, &self.now) {
            (Some(before), Some(now)) => write!(f, "{name} {before} -> {now}"),
            (None, Some(now)) => write!(f, "+ {name} {now}"),
            (Some(before), None) => write!(f, "- {name} {before}"),
            (None, None) => Ok(()),
        }
    }
}

/// Every package that is not the same in both locks: Python's first, each kind by name.
pub fn changes(before: &Lock, now: &Lock) -> Vec<Change> {
    let (old, new) = (versions(before), versions(now));
    let mut keys: Vec<_> = old.keys().chain(new.keys()).collect();
    keys.sort();
    keys.dedup();
    let change = |key: &&(Kind, String)| {
        let (before, now) = (old.get(*key).cloned(), new.get(*key).cloned());
        let name = match key.0 {
            Kind::Wheel => key.1.clone(),
            Kind::Deb => format!("{} (Debian)", key.1),
        };
        (before != now).then_some(Change { name, before, now })
    };
    keys.iter().filter_map(change).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Wheel,
    Deb,
}

fn versions(lock: &Lock) -> BTreeMap<(Kind, String), String> {
    let wheels = lock.wheels.iter().map(|w| ((Kind::Wheel, w.name.clone()), w.version.clone()));
    let debs = lock.debs.iter().map(|deb| ((Kind::Deb, deb.name.clone()), deb.version.clone()));
    wheels.chain(debs).collect()
}
