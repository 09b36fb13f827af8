//! Releases that are years old and leave open how new others may be: what the resolver puts beside them was not there
//! when they were made.

use std::collections::BTreeMap;

use pep440_rs::{Operator, Version};
use pep508_rs::{Requirement, VerbatimUrl, VersionOrUrl};
use sconce_facts::Base;

use super::Resolution;
use super::releases::releases;
use crate::document::Wheel;
use crate::wheel_name::normalise;

/// So many days newer is years newer.
const YEARS: i64 = 2 * 365;
/// How many packages are named, and how many others for each.
const MOST: usize = 3;
/// How many pages of the index are looked at.
const PAGES: usize = 12;

impl Resolution<'_> {
    /// Says which packages of a set are years older than what they leave open, where there are newer releases of them.
    pub(super) fn tell_untried(
        &mut self,
        requires: &BTreeMap<String, Vec<String>>,
        wheels: &[Wheel],
        base: &'static Base,
    ) {
        let target = self.target(base);
        let Ok(markers) = target.markers() else { return };
        let of = |name: &str| wheels.iter().find(|wheel| wheel.name == name);
        let day = |wheel: &Wheel| self.uploaded.get(&wheel.sha256).copied();
        let mut old: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (package, lines) in requires {
            // The facts vouch for torch and what it pins.
            let judged = |own: &&Wheel| own.index == "pypi" && !own.is_of_torch();
            let Some(own) = of(package).filter(judged) else { continue };
            let Some(made) = day(own) else { continue };
            for line in lines {
                let Ok(wanted) = line.parse::<Requirement<VerbatimUrl>>() else { continue };
                let name = normalise(wanted.name.as_ref());
                let Some(other) = of(&name).filter(|_| wanted.evaluate_markers(&markers, &[]))
                else {
                    continue;
                };
                let newer = day(other).is_some_and(|day| day - made >= YEARS);
                if newer && leaves_open(&wanted, &other.version) {
                    let named = old.entry(package.clone()).or_default();
                    let text = format!("{name} {}", other.version);
                    if !named.contains(&text) {
                        named.push(text);
                    }
                }
            }
        }
        let names: Vec<String> = old.keys().take(PAGES).cloned().collect();
        if names.is_empty() {
            return;
        }
        // Of what has nothing newer there is nothing to choose.
        let Ok(listed) = self.index.releases(&names) else { return };
        let mut told: Vec<(String, String, String)> = Vec::new();
        for name in names {
            let (Some(own), Some(files)) = (of(&name), listed.get(&name)) else { continue };
            let Ok(version) = own.version.parse::<Version>() else { continue };
            let newer = releases(&name, files, target)
                .into_iter()
                .any(|(other, one)| one.wheel_fits && !other.any_prerelease() && other > version);
            let others = old.remove(&name).filter(|_| newer).unwrap_or_default();
            if !others.is_empty() {
                let more = match others.len().saturating_sub(MOST) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                let others = others.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
                told.push((name, own.version.clone(), others + &more));
            }
        }
        if told.is_empty() {
            return;
        }
        let named = told.iter().take(MOST);
        let named: Vec<String> =
            named.map(|(name, version, others)| format!("{name} {version} ({others})")).collect();
        let more = match told.get(MOST..) {
            Some(rest @ [_, ..]) => format!(" and {} more packages", rest.len()),
            _ => String::new(),
        };
        self.explanation.note(format!(
            "years older than what they need and leave open, and with newer releases: {}{more}; if one fails, name older \
             releases of what it needs",
            named.join("; ")
        ));
    }
}

/// Whether a requirement has no upper bound, and what is there is of another major release than its lower bound.
fn leaves_open(wanted: &Requirement<VerbatimUrl>, has: &str) -> bool {
    let Ok(has) = has.parse::<Version>() else { return false };
    let major = |version: &Version| version.release().first().copied();
    let specifiers = match &wanted.version_or_url {
        None => return true,
        Some(VersionOrUrl::Url(_)) => return false,
        Some(VersionOrUrl::VersionSpecifier(specifiers)) => specifiers,
    };
    let mut bounds = specifiers.iter();
    bounds.all(|one| match one.operator() {
        Operator::NotEqual | Operator::NotEqualStar => true,
        Operator::GreaterThan | Operator::GreaterThanEqual => major(one.version()) < major(&has),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_requirement_leaves_open() {
        let open = |text: &str, has: &str| leaves_open(&text.parse().unwrap(), has);
        assert!(open("pyarrow>=8.0.0", "26.0.1") && open("pandas", "3.1.1"));
        assert!(open("numpy!=1.5,>=1.17", "2.5.5"));
        for (text, has) in [
            ("pyarrow>=8,<15", "14.0"),
            ("pyarrow~=8.0", "8.9"),
            ("pyarrow==8.*", "8.1"),
            ("requests>=2.19", "2.33.0"),
            ("x @ https://example.invalid/x.whl", "2.0"),
        ] {
            assert!(!open(text, has), "{text}");
        }
    }
}
