//! What of a lock is older than what there is.

use std::collections::{BTreeMap, BTreeSet};

use pep440_rs::Version;
use sconce_facts::{CudaVersion, Machine};
use serde::Serialize;

use crate::contents::{Contents, Kind};
use crate::gpus::{self, Gpus};

/// A package that could be newer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Whose.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The version in the lock.
    pub locked: String,
    /// The version that `sconce lock --upgrade` would take; `None` where it would leave the package out.
    pub fits: Option<String>,
    /// The newest release that the index has, previews left out; `None` where that was not asked.
    pub newest: Option<String>,
}

/// What another torch means.
#[derive(Debug, Clone, Serialize)]
pub struct Torch {
    /// Its version.
    pub version: String,
    /// The lowest driver it starts on.
    pub driver: Option<String>,
    /// GPUs lost and gained.
    pub gpus: Gpus,
}

/// What of a lock is older than what there is.
#[derive(Debug, Clone, Serialize)]
pub struct Outdated {
    /// Packages: Python's first, each kind by name.
    pub packages: Vec<Row>,
    /// The torch that fits, where it is another.
    pub torch_fits: Option<Torch>,
    /// The newest torch there is, where it is another than both and the facts know it.
    pub torch_newest: Option<Torch>,
}

impl Outdated {
    /// Whether something newer fits.
    #[must_use]
    pub fn can_be_upgraded(&self) -> bool {
        self.packages.iter().any(|row| row.fits.as_ref() != Some(&row.locked))
    }
}

/// Compares a lock with the one that everything of today would give, and with the newest that the index has by name.
#[must_use]
pub fn outdated(
    locked: &Contents,
    fits: &Contents,
    newest: &BTreeMap<String, String>,
    machine: Machine,
) -> Outdated {
    let mut packages = Vec::new();
    for ((kind, name), versions) in &locked.packages {
        let one =
            |versions: &BTreeSet<String>| versions.iter().cloned().collect::<Vec<_>>().join(", ");
        let now = one(&versions.versions);
        let fit = fits.packages.get(&(*kind, name.clone())).map(|found| one(&found.versions));
        let last = newest.get(name).filter(|_| *kind == Kind::Python);
        let is_behind = last.is_some_and(|last| {
            let [old, new]: [Option<Version>; 2] = [now.parse().ok(), last.parse().ok()];
            // A build on another index has a local part, and is of the release.
            old.zip(new).is_some_and(|(old, new)| old.without_local() < new)
        });
        if fit.as_ref() != Some(&now) || is_behind {
            let (kind, name, newest) = (*kind, name.clone(), last.cloned());
            packages.push(Row { kind, name, locked: now, fits: fit, newest });
        }
    }
    let version = |of: &Contents| of.fact("torch").flatten().map(str::to_owned);
    let (now, fit) = (version(locked), version(fits));
    let torch_fits = fit.clone().filter(|fit| now.as_ref().is_some_and(|now| now != fit));
    let torch_fits = torch_fits.map(|version| Torch {
        version,
        driver: fits.fact("driver").flatten().map(str::to_owned),
        gpus: gpus::compare(locked, fits),
    });
    let last = newest.get("torch").filter(|_| now.is_some());
    let last = last.filter(|last| ![&now, &fit].into_iter().flatten().any(|one| one == *last));
    let torch_newest = last.and_then(|last| of_release(locked, last, machine));
    Outdated { packages, torch_fits, torch_newest }
}

/// What the facts know of a release of torch, beside the lock.
fn of_release(locked: &Contents, version: &str, machine: Machine) -> Option<Torch> {
    let release = sconce_facts::release(version).ok()?;
    let driver = CudaVersion::floor(release.cuda).map(|floor| floor.driver.as_str().to_owned());
    let mut other = locked.clone();
    other.architectures = Some(release.build(machine).architectures.clone());
    for (what, value) in &mut other.facts {
        if *what == "driver" {
            value.clone_from(&driver);
        }
    }
    let gpus = gpus::compare(locked, &other);
    Some(Torch { version: version.to_owned(), driver, gpus })
}
