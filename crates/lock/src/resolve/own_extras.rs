//! Bounds on torch that packages declare under an extra of their own: who asks for `transformers` gets one that wants a newer
//! torch than is there, as nobody asked for `transformers[torch]`, and it does without torch from then on.
//!
//! Only lower bounds count: an upper one is as a rule the newest torch that its makers had tried.

use std::collections::BTreeMap;

use pep440_rs::{Operator, Version};
use pep508_rs::{Requirement, VerbatimUrl, VersionOrUrl};
use sconce_facts::Base;

use super::Resolution;
use super::releases::day;
use super::undeclared::set_of;
use crate::candidate::Candidate;
use crate::document::Wheel;
use crate::index::{PythonAnswer, PythonRequest};

/// Extras for those who work on a package: what they pin is for its tests.
const OF_DEVELOPERS: &[&str] = &[
    "ci",
    "dev",
    "develop",
    "development",
    "doc",
    "docs",
    "lint",
    "quality",
    "test",
    "tests",
    "testing",
];

/// A release whose own extras ask for a newer torch than there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BeyondTorch {
    pub package: String,
    version: String,
    /// The extra, and what it asks for: "torch>=2.6".
    extra: String,
    asks: String,
    torch: String,
    /// The newest release whose extra has what it asks for; none where there is none.
    fits: Option<String>,
}

impl BeyondTorch {
    /// "transformers 5.24.0 wants torch>=2.6 (its extra `torch`), and torch is 2.4.1"
    pub fn message(&self) -> String {
        let Self { package, version, extra, asks, torch, .. } = self;
        format!("{package} {version} wants {asks} (its extra `{extra}`), and torch is {torch}")
    }
}

/// What an extra asks for that the torch is too old for.
#[derive(Debug, PartialEq, Eq)]
struct TooOld {
    extra: String,
    asks: String,
}

impl Resolution<'_> {
    /// What holds the first package of an answer that wants a newer torch to one that does not.
    pub(super) fn held_to_torch(
        &mut self,
        request: &PythonRequest,
        answer: &PythonAnswer,
        base: &'static Base,
    ) -> Option<(String, BeyondTorch)> {
        // What can't be read is an error where its wheels are taken.
        let wheels = self.wheels(answer, base).ok()?;
        let torch = wheels.iter().find(|wheel| wheel.name == "torch")?;
        let version: Version = public(&torch.version).parse().ok()?;
        let newest: Version = sconce_facts::newest_release().version.parse().ok()?;
        if version >= newest {
            return None;
        }
        // What was there before this torch can't ask for a newer one.
        let facts =
            sconce_facts::releases().iter().find(|one| one.version == public(&torch.version));
        let came = facts.and_then(|one| day(&one.uploaded));
        let later = |wheel: &&Wheel| {
            let made = self.uploaded.get(&wheel.sha256).copied();
            wheel.index == "pypi"
                && !wheel.is_of_torch()
                && made.is_none_or(|made| Some(made) > came)
        };
        let known = |wheel: &Wheel| {
            let same =
                |one: &&BeyondTorch| one.package == wheel.name && one.version == wheel.version;
            self.beyond_torch.iter().any(|one| same(&one) && one.torch == torch.version)
        };
        let asked: Vec<Wheel> =
            wheels.iter().filter(later).filter(|wheel| !known(wheel)).cloned().collect();
        let lines = self.index.requires(&asked);
        for (wheel, lines) in asked.iter().zip(lines) {
            let Some(TooOld { extra, asks }) =
                lines.ok().and_then(|lines| too_old(&lines, &version))
            else {
                continue;
            };
            let found = self.with_extra(request, (wheel, &extra), &version, base);
            let beyond = BeyondTorch {
                package: wheel.name.clone(),
                version: wheel.version.clone(),
                extra,
                asks,
                torch: torch.version.clone(),
                fits: found.clone(),
            };
            self.beyond_torch.push(beyond.clone());
            if let Some(fits) = found {
                return Some((format!("{}<={fits}", wheel.name), beyond));
            }
        }
        None
    }

    /// The version that a package has in the same set where its extra is asked for as well.
    fn with_extra(
        &mut self,
        request: &PythonRequest,
        (wheel, extra): (&Wheel, &str),
        torch: &Version,
        base: &'static Base,
    ) -> Option<String> {
        let mut request = request.clone();
        request.requirements.push(format!("{}[{extra}]", wheel.name));
        request.constraints.push(format!("torch=={torch}"));
        let answer = self.index.python(&request).ok()?;
        let found = set_of(&answer, self.target(base)).ok()?.remove(&wheel.name)?;
        let here: Version = wheel.version.parse().ok()?;
        (found < here).then(|| found.to_string())
    }

    /// Whether an older release of a package was asked for, as a newer one wants a newer torch than this.
    pub(super) fn is_held_to_torch(&self, package: &str, torch: Option<&Candidate>) -> bool {
        self.beyond_torch.iter().any(|one| {
            let beside = torch.is_some_and(|torch| torch.release.version == public(&one.torch));
            beside && one.package == package && one.fits.is_some()
        })
    }

    /// Says of a set what is not the newest in it as that wants a newer torch, and what does and is there all the same.
    pub(super) fn tell_beyond_torch(&mut self, wheels: &[Wheel]) {
        let of = |name: &str| wheels.iter().find(|wheel| wheel.name == name);
        let mut told: Vec<String> = Vec::new();
        for beyond in std::mem::take(&mut self.beyond_torch) {
            if told.contains(&beyond.package) {
                continue;
            }
            let Some(wheel) = of(&beyond.package) else { continue };
            if of("torch").is_none_or(|torch| torch.version != beyond.torch) {
                continue;
            }
            let words = beyond.message();
            if wheel.version == beyond.version && beyond.fits.is_none() {
                self.explanation.note(format!("{words}: it may do without torch"));
                told.push(beyond.package);
            } else if older(&wheel.version, &beyond.version) {
                let Wheel { name, version, .. } = wheel;
                self.explanation.note(format!("{name} {version} was taken: {words}"));
                told.push(beyond.package);
            }
        }
    }
}

/// A version without its local part.
fn public(version: &str) -> &str {
    version.split('+').next().unwrap_or(version)
}

fn older(one: &str, other: &str) -> bool {
    match (one.parse::<Version>(), other.parse::<Version>()) {
        (Ok(one), Ok(other)) => one < other,
        _ => false,
    }
}

/// What the extras of a METADATA ask for, where each that names torch wants a newer one; that named after torch first, else
/// the one that asks for least besides.
fn too_old(lines: &[String], torch: &Version) -> Option<TooOld> {
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    for extra in lines.iter().flat_map(|line| extras_in(line)) {
        *sizes.entry(extra).or_default() += 1;
    }
    let mut found: Vec<(bool, usize, TooOld)> = Vec::new();
    let mut fits = false;
    for line in lines {
        let Ok(wanted) = line.parse::<Requirement<VerbatimUrl>>() else { continue };
        if wanted.name.as_ref() != "torch" {
            continue;
        }
        let extras: Vec<&str> = extras_in(line)
            .into_iter()
            .filter(|extra| !extra.split(['-', '_']).any(|word| OF_DEVELOPERS.contains(&word)))
            .collect();
        // A requirement without an extra the resolver knows.
        if extras.is_empty() {
            continue;
        }
        let lower = |one: &&pep440_rs::VersionSpecifier| {
            let is_lower = matches!(
                one.operator(),
                Operator::GreaterThan | Operator::GreaterThanEqual | Operator::TildeEqual
            );
            is_lower && torch < one.version()
        };
        let bound = match &wanted.version_or_url {
            Some(VersionOrUrl::VersionSpecifier(all)) => all.iter().find(lower).cloned(),
            _ => None,
        };
        let Some(bound) = bound else {
            fits = true;
            continue;
        };
        for extra in extras {
            let named = ["torch", "pytorch"].contains(&extra);
            let size = sizes.get(extra).copied().unwrap_or_default();
            let of = TooOld { extra: extra.to_owned(), asks: format!("torch{bound}") };
            found.push((!named, size, of));
        }
    }
    found.sort_by_key(|one| (one.0, one.1));
    found.into_iter().next().filter(|_| !fits).map(|(.., of)| of)
}

/// The extras that the marker of a line names: `torch>=2.6; extra == "torch"`.
fn extras_in(line: &str) -> Vec<&str> {
    let Some((_, marker)) = line.split_once(';') else { return Vec::new() };
    let parts = marker.split("extra").skip(1);
    let named = parts.filter_map(|part| {
        let rest = part.trim_start().strip_prefix("==")?.trim_start();
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        rest.get(1..)?.split(quote).next()
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(lines: &[&str], torch: &str) -> Option<String> {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        too_old(&lines, &torch.parse().unwrap()).map(|of| format!("{} under {}", of.asks, of.extra))
    }

    #[test]
    fn what_own_extras_ask_of_torch() {
        let transformers = [
            "numpy>=1.17",
            "torch>=2.6; extra == \"all\"",
            "accelerate>=1.1.0; extra == \"all\"",
            "torch>=2.6 ; extra == 'torch'",
            "accelerate>=1.1.0; extra == \"torch\"",
            "torch>=2.1; extra == \"dev\"",
        ];
        assert_eq!(judged(&transformers, "2.4.1").as_deref(), Some("torch>=2.6 under torch"));
        assert_eq!(judged(&transformers, "2.6.0"), None);
        // One that fits will do, a bound of developers and one that every user has are none.
        let one = ["torch>=2.6; extra == \"new\"", "torch>=1.10; extra == \"old\""];
        assert_eq!(judged(&one, "2.1.0"), None);
        assert_eq!(
            judged(&["torch>=2.6; extra == 'dev'", "torch==2.9; extra == 'test'"], "2.1.0"),
            None
        );
        assert_eq!(judged(&["torch>=2.6; extra == 'deepspeed-testing'"], "2.1.0"), None);
        assert_eq!(judged(&["torch>=2.6"], "2.1.0"), None);
        // An upper bound is no reason.
        assert_eq!(judged(&["torch<2.0; extra == 'x'"], "2.1.0"), None);
        assert_eq!(
            judged(&["torchvision>=9; extra == 'x'", "torch (>=2.2) ; extra == 'x'"], "2.1.0")
                .as_deref(),
            Some("torch>=2.2 under x")
        );
        assert_eq!(
            extras_in("a; python_version < '3' and (extra == 'x' or extra == \"y\")"),
            ["x", "y"]
        );
    }
}
