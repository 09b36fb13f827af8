//! Packages that go with each torch, where the torch is given: of each the newest release that fits it.

use pep440_rs::Version;

use super::releases::{Release, allows, day, releases};
use super::torch::{Found, Try};
use super::ways_out::is_for_other_cuda;
use super::{MOST_QUESTIONS, Resolution};
use crate::candidate::Candidate;
use crate::error::{Beside, Error};

/// Packages for which an older release is looked for, in one set.
const MOST: usize = 3;

/// Releases of the days of a torch that are tried, the newest first; and so many of the newest of all.
const NEAREST: usize = 4;
const NEWEST: usize = 3;

/// How long before and after a torch a package for it comes, days.
const BEFORE: i64 = 14;
const AFTER: i64 = 120;

impl Resolution<'_> {
    /// A set for one torch in which packages that did not fit it have releases that do.
    pub(super) fn fitted(&mut self, candidate: Candidate) -> Result<Option<Found>, Error> {
        let mut notes = Vec::new();
        for _ in 0..=MOST {
            match self.attempt(&[candidate])? {
                Try::Found(found) => {
                    notes.into_iter().for_each(|note: String| self.explanation.note(note));
                    return Ok(Some(found));
                }
                Try::Misfit(misfit) => {
                    let Some(Beside { package, message, .. }) = misfit.beside() else { break };
                    let (package, message) = (package.clone(), message.clone());
                    let Some(version) = self.release_for(&package, &candidate) else { break };
                    notes.push(format!("{package} {version} was taken: {message}"));
                    self.held.push(format!("{package}=={version}"));
                }
                Try::No(_) | Try::Relics(_) => break,
            }
        }
        self.held.clear();
        Ok(None)
    }

    /// The newest release of a package, of those that are asked for, that fits a torch.
    fn release_for(&mut self, package: &str, candidate: &Candidate) -> Option<String> {
        let held = format!("{package}==");
        if self.held.iter().any(|one| one.starts_with(&held)) {
            return None;
        }
        let torch = &candidate.release.version;
        self.index.looking_for(&format!("a release of {package} that fits torch {torch}"));
        let target = self.target(candidate.base);
        let direct = self.direct(target).into_iter().find(|direct| direct.name == package);
        let listed = self.index.releases(&[package.to_owned()]).ok()?;
        let all = releases(package, listed.get(package)?, target);
        let wanted = |(version, release): &(Version, Release)| {
            release.wheel_fits
                && !version.any_prerelease()
                && direct.as_ref().is_none_or(|direct| allows(direct, version))
        };
        let all: Vec<(Version, Release)> = all.into_iter().filter(wanted).collect();
        let order = in_order(&all, day(&candidate.release.uploaded));
        order.into_iter().find(|version| self.fits_held(package, version, candidate))
    }

    /// Whether all that is asked for can be had with this release of a package, and the package fits then.
    fn fits_held(&mut self, package: &str, version: &str, candidate: &Candidate) -> bool {
        if self.questions >= MOST_QUESTIONS || is_for_other_cuda((package, version), candidate) {
            return false;
        }
        self.held.push(format!("{package}=={version}"));
        self.trying = true;
        let found = self.attempt(&[*candidate]);
        self.trying = false;
        self.held.pop();
        match found {
            Ok(Try::Found(_)) => true,
            // Another package's turn is next.
            Ok(Try::Misfit(misfit)) => {
                misfit.beside().is_some_and(|beside| beside.package != package)
            }
            _ => false,
        }
    }
}

/// The releases in the order in which they are tried: those of the torch's days, then the newest, then older ones at
/// growing distances; in each the newest first.
fn in_order(all: &[(Version, Release)], torch: Option<i64>) -> Vec<String> {
    let near = |release: &Release| {
        let of_torch = torch.zip(release.uploaded);
        of_torch.is_some_and(|(torch, own)| (torch - BEFORE..=torch + AFTER).contains(&own))
    };
    let newest_first = || all.iter().rev();
    let mut order: Vec<&Version> = newest_first()
        .filter(|(_, release)| near(release))
        .map(|(version, _)| version)
        .take(NEAREST)
        .collect();
    let mut rest: Vec<&Version> = newest_first()
        .map(|(version, _)| version)
        .filter(|version| !order.contains(version))
        .collect();
    order.extend(rest.drain(..NEWEST.min(rest.len())));
    // The next, and then twice as far each time.
    let mut step = 1;
    let mut at = 0;
    while let Some(version) = rest.get(at) {
        order.push(version);
        at += step;
        step *= 2;
    }
    order.into_iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(version: &str, uploaded: Option<i64>) -> (Version, Release) {
        let release = Release { wheel_fits: true, uploaded, ..Release::default() };
        (version.parse().unwrap(), release)
    }

    #[test]
    fn the_order_of_releases() {
        // One a month, torch of day 100.
        let all: Vec<_> = (1..=20_i64).map(|n| release(&format!("0.{n}"), Some(n * 30))).collect();
        let order = in_order(&all, Some(100));
        assert_eq!(order[..4], ["0.7", "0.6", "0.5", "0.4"], "of its days");
        assert_eq!(order[4..7], ["0.20", "0.19", "0.18"], "the newest");
        assert_eq!(order[7..], ["0.17", "0.16", "0.14", "0.10"], "at growing distances");
        // Without days: all the same to the oldest.
        let all: Vec<_> = (1..=5).map(|n| release(&format!("0.{n}"), None)).collect();
        assert_eq!(in_order(&all, Some(100)), ["0.5", "0.4", "0.3", "0.2", "0.1"]);
        assert_eq!(in_order(&[], None), [] as [String; 0]);
    }
}
