//! Hashes in requirements: the file that is locked must be one of those that `--hash` names (pip, "Hash-checking
//! Mode"), and the one that `#sha256=` behind an address names (PEP 610, "Archive URLs"; uv does not compare it).

use std::collections::BTreeMap;

use sconce_blob::Digest;

use super::Resolution;
use super::words::name_of;
use crate::addresses::direct;
use crate::error::Error;
use crate::place::is_place;
use crate::requirements_txt::{Ask, Line};
use crate::spec::Requirements;
use crate::wheel_name::{WheelName, file_of_url, normalise};

/// What requirements say about the bytes of their packages.
#[derive(Default)]
pub(super) struct Hashes<'a> {
    /// SHA-256s of a package, and what first names them.
    of: BTreeMap<String, (Vec<Digest>, Asked<'a>)>,
    /// The line that asks for a hash of every package (`--require-hashes`).
    required: Option<&'a Line>,
}

/// Where a requirement stands.
#[derive(Clone, Copy)]
enum Asked<'a> {
    Line(&'a Line),
    /// In `requirements` of sconce.toml, or in a table of a pyproject.toml.
    Text(&'a str),
}

impl Resolution<'_> {
    /// # Errors
    /// A requirement has hashes, and none that can be compared.
    pub(super) fn hashes(&self) -> Result<Hashes<'_>, Error> {
        let mut hashes = Hashes::default();
        let file = match &self.spec.environment.requirements {
            Requirements::File(file) => file,
            Requirements::List(list) => {
                for text in list {
                    hashes.add(text, Asked::Text(text))?;
                }
                return Ok(hashes);
            }
        };
        for line in file.lines.iter().chain(&file.constraints) {
            match &line.ask {
                Ask::Requirement(text) => hashes.add(text, Asked::Line(line))?,
                Ask::RequireHashes => {
                    hashes.required.get_or_insert(line);
                }
                Ask::Option(_) | Ask::File { .. } => {}
            }
        }
        for project in &file.projects {
            let numbered = project.dependencies.iter().chain(&project.constraints);
            for text in numbered.map(|(_, text)| text).chain(&project.overrides) {
                hashes.add(text, Asked::Text(text))?;
            }
        }
        Ok(hashes)
    }
}

impl<'a> Hashes<'a> {
    fn add(&mut self, text: &str, asked: Asked<'a>) -> Result<(), Error> {
        let mut parts = text.split(" --hash=");
        let requirement = parts.next().unwrap_or_default();
        let all: Vec<&str> = parts.collect();
        let sha256 = |text: &&str| text.strip_prefix("sha256:")?.parse::<Digest>().ok();
        let mut known: Vec<Digest> = all.iter().filter_map(sha256).collect();
        if known.is_empty() && !all.is_empty() {
            return Err(asked.fault("it has no SHA-256, the only hash that is compared here"));
        }
        let bare = || is_place(requirement).then(|| requirement.trim().to_owned());
        let address = direct(requirement).or_else(bare);
        let of_address = address
            .as_deref()
            .map_or(Ok(None), |address| hash_of(address).map_err(|why| asked.fault(&why)))?;
        if let Some(of_address) = of_address {
            // One of `--hash` that is not the address's own fits no file.
            known.retain(|digest| *digest == of_address);
            known.push(of_address);
        }
        if known.is_empty() {
            return Ok(());
        }
        let unnamed = address.as_deref().filter(|address| requirement.trim().starts_with(address));
        let named = unnamed.and_then(|address| file_of_url(address)?.parse::<WheelName>().ok());
        let name = named.map_or_else(|| name_of(requirement), |wheel| wheel.name);
        let entry = self.of.entry(normalise(&name)).or_insert_with(|| (Vec::new(), asked));
        entry.0.extend(known);
        Ok(())
    }
}

/// The SHA-256 that an address names of its file.
fn hash_of(address: &str) -> Result<Option<Digest>, String> {
    let Some((_, fragment)) = address.split_once('#') else { return Ok(None) };
    let fragment = fragment.split_whitespace().next().unwrap_or_default();
    for (kind, hash) in fragment.split('&').filter_map(|part| part.split_once('=')) {
        match kind {
            "sha256" => {
                let digest = hash.to_ascii_lowercase().parse().ok();
                return digest
                    .map(Some)
                    .ok_or_else(|| "what #sha256= names is not a SHA-256".into());
            }
            "md5" | "sha1" | "sha224" | "sha384" | "sha512" => {
                return Err("it has no SHA-256, the only hash that is compared here".into());
            }
            _ => {}
        }
    }
    Ok(None)
}

impl Hashes<'_> {
    /// Whether a file of a package may be taken.
    pub fn allow(&self, package: &str, sha256: Digest) -> bool {
        self.of.get(package).is_none_or(|(known, _)| known.contains(&sha256))
    }

    /// The error for a package none of whose files may be taken; `file` is the one that fits best.
    pub fn refuse(&self, package: &str, file: &str, sha256: Digest) -> Option<Error> {
        let (_, asked) = self.of.get(package)?;
        let why =
            format!("no file that fits has one of its hashes; {file} has sha256:{}", sha256.hex());
        Some(asked.fault(&why))
    }

    /// Under `--require-hashes` every package has a hash; pip itself is ours.
    ///
    /// # Errors
    /// One has none.
    pub fn complete<'n>(&self, mut names: impl Iterator<Item = &'n str>) -> Result<(), Error> {
        let Some(line) = self.required else { return Ok(()) };
        match names.find(|name| *name != "pip" && !self.of.contains_key(*name)) {
            Some(name) => {
                Err(Asked::Line(line).fault(&format!("{name} is needed, and has no --hash")))
            }
            None => Ok(()),
        }
    }
}

impl Asked<'_> {
    fn fault(self, why: &str) -> Error {
        let line = match self {
            Self::Line(line) => line,
            Self::Text(text) => {
                return Error::Request { message: format!("`{text}`: {why}"), hint: None };
            }
        };
        let text = match &line.ask {
            Ask::Requirement(text) => text.split(" --hash=").next().unwrap_or_default().to_owned(),
            Ask::Option(text) => text.clone(),
            Ask::RequireHashes => "--require-hashes".to_owned(),
            Ask::File { path, .. } => path.clone(),
        };
        Error::Requirement {
            path: line.file.clone(),
            number: line.number,
            text,
            why: why.to_owned(),
            builds: false,
        }
    }
}
