//! pylock.toml (PEP 751), from uv or from the user, and the wheels in it that fit a target.

use std::ops::Range;

use pep440_rs::{Version, VersionSpecifiers};
use pep508_rs::MarkerTree;
use sconce_blob::Digest;
use serde::Deserialize;

use crate::error::Place;
use crate::requirements::shown;
use crate::target::Target;
use crate::wheel_name::{WheelName, file_of_url, normalise};

/// No honest file has more packages, or more wheels for one.
const LIMIT: usize = 20_000;

/// What a pylock.toml says.
#[derive(Debug, Clone)]
pub struct Pylock {
    /// The packages, markers not yet applied.
    pub packages: Vec<Package>,
    /// The Pythons it is for.
    pub requires_python: Option<VersionSpecifiers>,
}

/// A package of a pylock.toml.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its name, normalised.
    pub name: String,
    /// Its version, where given.
    pub version: Option<Version>,
    /// Where it holds.
    pub marker: Option<String>,
    /// The index that has it, where given.
    pub index: Option<String>,
    /// Its wheels.
    pub wheels: Vec<PylockWheel>,
}

/// A wheel of a pylock.toml.
#[derive(Debug, Clone)]
pub struct PylockWheel {
    /// What its file name says.
    pub name: WheelName,
    /// Bytes, where given.
    pub size: Option<u64>,
    /// SHA-256.
    pub sha256: Digest,
    /// Where it is.
    pub source: Source,
    /// When an index got it, where given: `2024-05-01T…`.
    pub uploaded: Option<String>,
}

/// Where a wheel is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// On an index, at this address.
    Index(Option<String>),
    /// At an address that the requirement gave, or a path.
    Direct(String),
}

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "lock-version")]
    lock_version: String,
    #[serde(rename = "requires-python")]
    requires_python: Option<toml::Spanned<String>>,
    #[serde(default)]
    packages: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    name: String,
    version: Option<String>,
    marker: Option<String>,
    index: Option<String>,
    #[serde(default)]
    wheels: Vec<FileRow>,
    archive: Option<FileRow>,
    vcs: Option<toml::Value>,
    directory: Option<toml::Value>,
}

#[derive(Deserialize)]
struct FileRow {
    name: Option<String>,
    url: Option<String>,
    path: Option<String>,
    size: Option<u64>,
    #[serde(rename = "upload-time")]
    upload_time: Option<toml::value::Datetime>,
    #[serde(default)]
    hashes: Hashes,
}

#[derive(Deserialize, Default)]
struct Hashes {
    sha256: Option<String>,
}

impl Pylock {
    /// Reads a pylock.toml.
    ///
    /// # Errors
    /// In words: not TOML, another version, or a wheel without a usable name or SHA-256.
    pub fn parse(text: &str) -> Result<Self, String> {
        let at = |span: Range<usize>| Place::at(text, span.start);
        let document: Document = toml::from_str(text).map_err(|error: toml::de::Error| {
            let message = error.message().trim().replace('\n', "; ");
            error.span().map_or_else(|| message.clone(), |span| format!("{}: {message}", at(span)))
        })?;
        if document.lock_version.split('.').next() != Some("1") {
            return Err(format!("lock-version {} is not 1", cut(&document.lock_version)));
        }
        let requires_python = document.requires_python.map(|python| {
            let place = at(python.span());
            let wrong = |error: pep440_rs::VersionSpecifiersParseError| {
                format!("{place}: requires-python: {}", shown(&error.to_string()))
            };
            python.get_ref().parse().map_err(wrong)
        });
        let requires_python = requires_python.transpose()?;
        if document.packages.len() > LIMIT {
            return Err(format!("more than {LIMIT} packages"));
        }
        let packages = document.packages.into_iter().map(Row::package).collect::<Result<_, _>>()?;
        Ok(Self { packages, requires_python })
    }

    /// The packages that hold for a target, each with the one wheel that fits it best, by name.
    ///
    /// # Errors
    /// In words: a marker that can't be read, a package twice, or one without a wheel for the target.
    pub fn select(&self, target: Target) -> Result<Vec<(&Package, &PylockWheel)>, String> {
        let markers = target.markers()?;
        if let Some(specifiers) = &self.requires_python {
            let python = target.base.python_full.parse().map_err(|error| format!("{error}"))?;
            if !specifiers.contains(&python) {
                return Err(format!("it is for Python {specifiers}, not {}", target.base.python));
            }
        }
        let mut chosen: Vec<(&Package, &PylockWheel)> = Vec::new();
        for package in &self.packages {
            if let Some(marker) = &package.marker {
                let tree: MarkerTree = marker.parse().map_err(|error| {
                    format!("{}: marker `{}`: {error}", package.name, cut(marker))
                })?;
                if !tree.evaluate(&markers, &[]) {
                    continue;
                }
            }
            chosen.push((package, package.best(target)?));
        }
        chosen.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        match chosen.windows(2).find(|pair| matches!(pair, [a, b] if a.0.name == b.0.name)) {
            Some([twice, _]) => Err(format!("{} stands twice for one target", twice.0.name)),
            _ => Ok(chosen),
        }
    }
}

impl Package {
    fn best(&self, target: Target) -> Result<&PylockWheel, String> {
        let fits = |wheel: &PylockWheel| target.rank(&wheel.name);
        let ranked = self.wheels.iter().filter_map(|wheel| fits(wheel).map(|rank| (rank, wheel)));
        // Of equals the one whose name comes last: the higher build tag.
        let best = ranked.min_by(|a, b| a.0.cmp(&b.0).then(b.1.name.file.cmp(&a.1.name.file)));
        best.map(|(_, wheel)| wheel).ok_or_else(|| {
            let files: Vec<_> = self.wheels.iter().take(4).map(|w| w.name.file.as_str()).collect();
            let has = if files.is_empty() { "no wheel at all".into() } else { files.join(", ") };
            format!(
                "{} has no wheel for CPython {} on {} with glibc {}; it has {has}",
                self.name, target.base.python, target.machine, target.base.glibc
            )
        })
    }
}

impl Row {
    fn package(self) -> Result<Package, String> {
        let name = normalise(&self.name);
        let version = match &self.version {
            Some(text) => Some(text.parse().map_err(|error| format!("{}: {error}", cut(&name)))?),
            None => None,
        };
        if self.vcs.is_some() || self.directory.is_some() {
            return Err(format!("{} comes from source; only wheels can be locked", cut(&name)));
        }
        if self.wheels.len() > LIMIT {
            return Err(format!("{} has more than {LIMIT} wheels", cut(&name)));
        }
        let mut wheels = Vec::with_capacity(self.wheels.len());
        for file in self.wheels {
            wheels.push(file.wheel(&name, version.as_ref(), false)?);
        }
        if let Some(file) = self.archive {
            wheels.push(file.wheel(&name, version.as_ref(), true)?);
        }
        Ok(Package { name, version, marker: self.marker, index: self.index, wheels })
    }
}

impl FileRow {
    fn wheel(
        self,
        package: &str,
        version: Option<&Version>,
        direct: bool,
    ) -> Result<PylockWheel, String> {
        let place = self.url.or(self.path);
        let file = match (self.name, &place) {
            (Some(name), _) => Some(name),
            (None, Some(place)) => file_of_url(place),
            (None, None) => None,
        };
        let file = file.ok_or_else(|| format!("{}: a wheel without a name", cut(package)))?;
        let name: WheelName = file.parse().map_err(|error| format!("{}: {error}", cut(package)))?;
        if name.name != package || version.is_some_and(|version| *version != name.version) {
            return Err(format!("{file} is not a wheel of {}", cut(package)));
        }
        let sha256 = self.hashes.sha256.as_deref().and_then(|text| text.parse().ok());
        let sha256 = sha256.ok_or_else(|| format!("{file} has no SHA-256"))?;
        let source = match place {
            Some(place) if direct => Source::Direct(place),
            place => Source::Index(place),
        };
        let uploaded = self.upload_time.map(|time| time.to_string());
        Ok(PylockWheel { name, size: self.size, sha256, source, uploaded })
    }
}

fn cut(text: &str) -> &str {
    text.char_indices().nth(80).map_or(text, |(end, _)| text.get(..end).unwrap_or(text))
}
