//! The releases that an index lists of a package.

use std::collections::BTreeMap;

use pep440_rs::{Version, VersionSpecifiers};

use super::relics::Direct;
use crate::index::ListedFile;
use crate::source::ENDINGS;
use crate::target::Target;
use crate::wheel_name::{WheelName, normalise};

/// What an index has of one release.
#[derive(Default)]
pub(super) struct Release {
    pub wheel_fits: bool,
    pub wheel: bool,
    pub source: bool,
    pub uploaded: Option<i64>,
}

/// Whether a release is one that is asked for.
pub(super) fn allows(direct: &Direct, version: &Version) -> bool {
    direct.specifiers.iter().all(|specifiers| specifiers.contains(version))
}

/// Whether a package's page has a release with a wheel for a target, among those that are asked for.
pub(super) fn has_wheel(
    package: &str,
    files: &[ListedFile],
    asked: Option<&Direct>,
    target: Target,
) -> bool {
    let wanted = |version: &Version| asked.is_none_or(|direct| allows(direct, version));
    releases(package, files, target).iter().any(|(version, of)| of.wheel_fits && wanted(version))
}

/// The releases of a package's page that a target's Python can have, yanked files left out.
pub(super) fn releases(
    package: &str,
    files: &[ListedFile],
    target: Target,
) -> BTreeMap<Version, Release> {
    let python: Option<Version> = target.base.python_full.parse().ok();
    let mut releases: BTreeMap<Version, Release> = BTreeMap::new();
    for file in files.iter().filter(|file| !file.yanked) {
        let required = file.requires_python.as_deref().and_then(|text| text.parse().ok());
        let out = |specifiers: VersionSpecifiers| {
            python.as_ref().is_some_and(|python| !specifiers.contains(python))
        };
        if required.is_some_and(out) {
            continue;
        }
        let (version, wheel) = match file.name.parse::<WheelName>() {
            Ok(wheel) => (wheel.version.clone(), Some(wheel)),
            Err(_) => match source_version(package, &file.name) {
                Some(version) => (version, None),
                None => continue,
            },
        };
        let release = releases.entry(version).or_default();
        release.wheel |= wheel.is_some();
        release.source |= wheel.is_none();
        release.wheel_fits |= wheel.is_some_and(|wheel| target.rank(&wheel).is_some());
        let uploaded = file.uploaded.as_deref().and_then(day);
        release.uploaded = release.uploaded.into_iter().chain(uploaded).min();
    }
    releases
}

/// The newest release of a package's page, whatever Python it is for: previews and files that were taken back left out.
pub fn newest(package: &str, files: &[ListedFile]) -> Option<String> {
    let versions = files.iter().filter(|file| !file.yanked).filter_map(|file| {
        match file.name.parse::<WheelName>() {
            Ok(wheel) => (wheel.name == package).then_some(wheel.version),
            Err(_) => source_version(package, &file.name),
        }
    });
    let newest = versions.filter(|version| !version.any_prerelease()).max();
    // What an index of its own adds behind a `+` is a build of the release.
    newest.map(|version| version.without_local().to_string())
}

/// The version in the file name of a source distribution of a package (its name normalised); nothing for another's file.
/// Both parts may have hyphens: `thop-0.0.22-1907190905.tar.gz` is thop 0.0.22.post1907190905 (PEP 440, implicit post
/// releases), `foo-bar-1.0.tar.gz` is foo-bar 1.0.
pub(super) fn source_version(package: &str, file: &str) -> Option<Version> {
    let stem = ENDINGS.iter().find_map(|ending| file.strip_suffix(ending))?;
    let mut hyphens = stem.match_indices('-').map(|(at, _)| stem.split_at(at));
    let (_, version) = hyphens.find(|(name, _)| normalise(name) == package)?;
    version.strip_prefix('-')?.parse().ok()
}

/// Whether one source distribution of a release is rather taken than another: by its ending.
pub(super) fn is_better_source(one: &str, other: &str) -> bool {
    let place = |name: &str| ENDINGS.iter().position(|ending| name.ends_with(ending));
    place(one) < place(other)
}

/// The day of a date as RFC 3339 begins (`2024-05-01T…`), counted from 1970 (Howard Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms", days_from_civil).
pub(super) fn day(text: &str) -> Option<i64> {
    let mut parts = text.get(..10)?.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_source_distributions() {
        let version = |package, file| source_version(package, file).map(|v| v.to_string());
        for (package, file, expected) in [
            ("thop", "thop-0.0.22-1907190905.tar.gz", Some("0.0.22.post1907190905")),
            ("thop", "thop-0.1.1.post2209072238.tar.gz", Some("0.1.1.post2209072238")),
            ("foo-bar", "foo-bar-1.0.tar.gz", Some("1.0")),
            ("foo-bar", "Foo_Bar-1.0.zip", Some("1.0")),
            ("foo-bar", "foo.bar-1.0-rc1.tar.bz2", Some("1.0rc1")),
            ("foo", "foo-bar-1.0.tar.gz", None),
            ("foo", "foo-1.0-py3-none-any.whl", None),
            ("foo", "foo.tar.gz", None),
            ("foo", "foo-.tar.gz", None),
        ] {
            assert_eq!(version(package, file).as_deref(), expected, "{file}");
        }
    }

    #[test]
    fn the_newest_of_a_page() {
        let file = |name: &str, yanked| ListedFile {
            name: name.into(),
            uploaded: None,
            requires_python: None,
            yanked,
        };
        let files = [
            file("a-1.9-py3-none-any.whl", false),
            file("a-1.10.tar.gz", false),
            file("a-1.11-py3-none-any.whl", true),
            file("a-2.0rc1-py3-none-any.whl", false),
            file("b-9.0-py3-none-any.whl", false),
            file("a-.whl", false),
        ];
        assert_eq!(newest("a", &files).as_deref(), Some("1.10"));
        assert_eq!(newest("a", &files[2..]), None);
    }

    #[test]
    fn days() {
        assert_eq!(day("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(day("2024-02-29"), Some(19_782));
        assert_eq!(day("2024-03-01"), Some(19_783));
        assert_eq!(day("yesterday!"), None);
    }
}
