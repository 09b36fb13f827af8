//! The parts of an image, from its lock or from its files, as both forms of SBOM say them.

use std::collections::{BTreeMap, BTreeSet};

use sconce_blob::Digest;
use sconce_inspect::packages::{Declared, Installed, Origin};
use sconce_lock::Lock;
use serde_json::Value;

use crate::purl;

/// When an image was made: never, so that the same lock gives the same bytes.
const NO_DATE: &str = "1970-01-01T00:00:00Z";

/// What packages say of themselves, by the SHA-256 of the wheel or deb.
pub type Said = BTreeMap<Digest, Declared>;

/// A document that can't be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BillError {
    /// `SOURCE_DATE_EPOCH` is no number of seconds that a date can be made of.
    Date(String),
}

impl std::fmt::Display for BillError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self::Date(text) = self;
        write!(f, "SOURCE_DATE_EPOCH is `{text}`, and no time in seconds since 1970")
    }
}

impl std::error::Error for BillError {}

/// What kind of part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    /// A Python package.
    Wheel,
    /// A Debian package.
    Deb,
    /// A standalone build of Python.
    Python,
    /// The user's own files.
    App,
}

/// A licence as a package says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Licence {
    /// An expression, and what in it is not on SPDX's list.
    Expression(String, BTreeSet<String>),
    /// Words that are none.
    Words(String),
}

/// One thing that is in the image.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) sort: Sort,
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    pub(crate) purl: Option<String>,
    pub(crate) sha256: Option<Digest>,
    pub(crate) licence: Option<Licence>,
    /// Who made it.
    pub(crate) maker: Option<String>,
    /// Who gave it out.
    pub(crate) supplier: Option<&'static str>,
    /// Where it was had from, if that may be said.
    pub(crate) from: Option<String>,
}

/// What an image is made of.
#[derive(Debug, Clone)]
pub struct Bill {
    pub(crate) name: String,
    /// The image's digest, else that of what is locked.
    pub(crate) digest: Digest,
    /// Whether the digest is the image's.
    pub(crate) built: bool,
    /// The Debian release: its number, "13", and its code name.
    pub(crate) debian: Option<(String, String)>,
    pub(crate) parts: Vec<Part>,
    pub(crate) date: Option<String>,
}

impl Bill {
    /// Of what a lock puts into an image. `said` is what is known of its packages besides; with `addresses`, those of
    /// direct requirements are in it. The addresses of indexes and mirrors never are.
    #[must_use]
    pub fn of_lock(name: &str, lock: &Lock, said: &Said, addresses: bool) -> Self {
        let debian = sconce_facts::base(&lock.facts.base).ok();
        let debian = debian.map(|base| (base.debian.to_string(), lock.facts.base.clone()));
        let distro = match &debian {
            Some((number, _)) => format!("debian-{number}"),
            None => lock.facts.base.clone(),
        };
        let mut parts = Vec::new();
        if let Some(pin) = &lock.python {
            parts.push(Part {
                purl: Some(purl::cpython(&pin.version)),
                sha256: Some(pin.sha256),
                ..Part::new(Sort::Python, "cpython", Some(&pin.version))
            });
        }
        for wheel in &lock.wheels {
            let direct = wheel.url.as_ref().filter(|url| {
                addresses && ["https://", "http://"].iter().any(|scheme| url.starts_with(scheme))
            });
            let part = Part {
                purl: Some(purl::pypi(&wheel.name, &wheel.version)),
                sha256: Some(wheel.sha256),
                from: direct.cloned(),
                ..Part::new(Sort::Wheel, &wheel.name, Some(&wheel.version))
            };
            parts.push(part.with_said(said.get(&wheel.sha256)));
        }
        for deb in &lock.debs {
            let about = said.get(&deb.sha256);
            let upstream = about.and_then(|about| about.source.as_ref());
            let arch = Some(deb.arch.as_str());
            let part = Part {
                purl: Some(purl::deb(&deb.name, &deb.version, arch, Some(&distro), upstream)),
                sha256: Some(deb.sha256),
                supplier: Some("Debian"),
                ..Part::new(Sort::Deb, &deb.name, Some(&deb.version))
            };
            parts.push(part.with_said(about));
        }
        if let Some(project) = &lock.project {
            parts.push(Part::new(Sort::App, &project.name, None));
        } else if !lock.app.include.is_empty() {
            parts.push(Part::new(Sort::App, "app", None));
        }
        let digest = lock.sealed.as_ref().map_or_else(|| lock.digest(), |sealed| sealed.image);
        let built = lock.sealed.is_some();
        Self { name: name.to_owned(), digest, built, debian, parts, date: None }
    }

    /// Of what lies in an image; `release` is the number and the code name of its Debian. Its `lock` says from which files those
    /// packages came that are there in its version. With `app`, its top layer is the project's own files.
    #[must_use]
    pub fn of_image(
        name: &str,
        image: Digest,
        installed: &Installed,
        release: Option<(String, String)>,
        lock: Option<&Lock>,
        app: bool,
    ) -> Self {
        let wheels = lock.map_or(&[][..], |lock| &lock.wheels).iter();
        let debs = lock.map_or(&[][..], |lock| &lock.debs).iter();
        let files: BTreeMap<(Origin, &str, &str), Digest> = wheels
            .map(|wheel| ((Origin::Python, &*wheel.name, &*wheel.version), wheel.sha256))
            .chain(debs.map(|deb| ((Origin::Debian, &*deb.name, &*deb.version), deb.sha256)))
            .collect();
        let distro = release.as_ref().map(|(number, _)| format!("debian-{number}"));
        let part = |one: &Declared| {
            let (sort, purl, supplier) = match one.origin {
                Origin::Python => (Sort::Wheel, purl::pypi(&one.name, &one.version), None),
                Origin::Debian => {
                    let (arch, upstream) = (one.architecture.as_deref(), one.source.as_ref());
                    let purl =
                        purl::deb(&one.name, &one.version, arch, distro.as_deref(), upstream);
                    (Sort::Deb, purl, distro.is_some().then_some("Debian"))
                }
            };
            let part = Part::new(sort, &one.name, Some(&one.version));
            let sha256 = files.get(&(one.origin, &one.name, &one.version)).copied();
            Part { purl: Some(purl), supplier, sha256, ..part }.with_said(Some(one))
        };
        let mut parts: Vec<Part> = installed.packages.iter().map(part).collect();
        if app {
            parts.push(Part::new(Sort::App, "app", None));
        }
        let name = name.to_owned();
        Self { name, digest: image, built: true, debian: release, parts, date: None }
    }

    /// The same, made at this time: seconds since 1970, as `SOURCE_DATE_EPOCH` has them.
    ///
    /// # Errors
    /// The text is no such number.
    pub fn dated(self, seconds: Option<&str>) -> Result<Self, BillError> {
        let date = seconds.map(|text| {
            let date = text.parse().ok().and_then(rfc3339);
            date.ok_or_else(|| BillError::Date(text.chars().take(40).collect()))
        });
        Ok(Self { date: date.transpose()?, ..self })
    }

    /// How many parts there are of which no licence is known.
    #[must_use]
    pub fn without_licence(&self) -> usize {
        let wheels = self.parts.iter().filter(|part| part.sort == Sort::Wheel);
        wheels.filter(|part| part.licence.is_none()).count()
    }

    /// When it was made; without a date of its own that of all images.
    pub(crate) fn created(&self) -> &str {
        self.date.as_deref().unwrap_or(NO_DATE)
    }

    /// A name that no other document has: of its contents, as version 8 of RFC 9562 lets one be made.
    pub(crate) fn uuid(&self, contents: &Value) -> String {
        let hex = Digest::of(contents.to_string().as_bytes()).hex();
        let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
        let (a, b, c) = (part(0, 8), part(8, 12), part(13, 16));
        format!("{a}-{b}-8{c}-a{}-{}", part(17, 20), part(20, 32))
    }
}

impl Part {
    fn new(sort: Sort, name: &str, version: Option<&str>) -> Self {
        Self {
            sort,
            name: name.to_owned(),
            version: version.map(str::to_owned),
            purl: None,
            sha256: None,
            licence: None,
            maker: None,
            supplier: None,
            from: None,
        }
    }

    /// The same with what the package says of itself.
    fn with_said(self, said: Option<&Declared>) -> Self {
        let Some(said) = said else { return self };
        Self { licence: licence(said), maker: said.maker.clone(), ..self }
    }
}

/// The expression comes first, then a text that is one, then classifiers that each mean one licence; else its words.
fn licence(said: &Declared) -> Option<Licence> {
    let known = |text: &String| {
        sconce_facts::licence(text).map(|(text, own)| Licence::Expression(text, own))
    };
    let expression = said.licence_expression.as_ref();
    let first = expression.and_then(known).or_else(|| said.licence.as_ref().and_then(known));
    if first.is_some() {
        return first;
    }
    if let Some(words) = expression.or(said.licence.as_ref()) {
        let words: String = words.chars().filter(|c| !c.is_control()).take(200).collect();
        return Some(Licence::Words(words));
    }
    let by_classifier = |text: &String| sconce_facts::licence_of_classifier(text);
    match said.classifiers.as_slice() {
        [only] if by_classifier(only).is_some() => {
            by_classifier(only).map(|id| Licence::Expression(id.to_owned(), BTreeSet::new()))
        }
        [] => None,
        several => {
            let names = several.iter().filter_map(|text| text.rsplit(" :: ").next());
            Some(Licence::Words(names.collect::<Vec<_>>().join(", ")))
        }
    }
}

/// `2026-11-29T13:00:00Z`, for years up to 9999.
fn rfc3339(seconds: u64) -> Option<String> {
    // Civil from days (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let (days, rest) = (i64::try_from(seconds / 86_400).ok()?, seconds % 86_400);
    let shifted = days.checked_add(719_468)?;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    (year <= 9999)
        .then(|| format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (1_795_957_200, "2026-11-29T13:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds).as_deref(), Some(expected));
        }
        assert_eq!(rfc3339(u64::MAX), None);
    }

    #[test]
    fn licences_as_packages_say_them() {
        let said = |header: &str| {
            let text = format!("Name: a\nVersion: 1\n{header}");
            licence(&Declared::of_metadata(&text).unwrap())
        };
        let expression = |text: &str| Some(Licence::Expression(text.into(), BTreeSet::new()));
        let mit = "Classifier: License :: OSI Approved :: MIT License\n";
        assert_eq!(said("License-Expression: mit\n"), expression("MIT"));
        assert_eq!(said("License: Apache-2.0\n"), expression("Apache-2.0"));
        assert_eq!(said(mit), expression("MIT"));
        assert_eq!(said(""), None);
        assert_eq!(said("License: BSD\n"), Some(Licence::Words("BSD".into())));
        let two = format!("{mit}Classifier: License :: OSI Approved :: BSD License\n");
        assert_eq!(said(&two), Some(Licence::Words("MIT License, BSD License".into())));
        assert!(
            matches!(said("License-Expression: a\u{1b}[2J\n"), Some(Licence::Words(w)) if !w.contains('\u{1b}'))
        );
    }
}
