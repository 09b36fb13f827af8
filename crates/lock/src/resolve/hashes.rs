//! `--hash` behind requirements: the file that is locked must be one of those they name (pip, "Hash-checking Mode").

use std::collections::BTreeMap;

use sconce_blob::Digest;

use super::Resolution;
use super::words::name_of;
use crate::error::Error;
use crate::requirements_txt::{Ask, Line};
use crate::spec::Requirements;
use crate::wheel_name::normalise;

/// What a file of requirements says about the bytes of its packages.
#[derive(Default)]
pub(super) struct Hashes<'a> {
    /// SHA-256s of a package, and the line that first names them.
    of: BTreeMap<String, (Vec<Digest>, &'a Line)>,
    /// The line that asks for a hash of every package (`--require-hashes`).
    required: Option<&'a Line>,
}

impl Resolution<'_> {
    /// # Errors
    /// A requirement has hashes, and none that can be compared.
    pub(super) fn hashes(&self) -> Result<Hashes<'_>, Error> {
        let mut hashes = Hashes::default();
        let Requirements::File(file) = &self.spec.environment.requirements else {
            return Ok(hashes);
        };
        for line in file.lines.iter().chain(&file.constraints) {
            let text = match &line.ask {
                Ask::Requirement(text) => text,
                Ask::RequireHashes => {
                    hashes.required.get_or_insert(line);
                    continue;
                }
                Ask::Option(_) | Ask::File { .. } => continue,
            };
            let mut parts = text.split(" --hash=");
            let requirement = parts.next().unwrap_or_default();
            let all: Vec<&str> = parts.collect();
            if all.is_empty() {
                continue;
            }
            let sha256 = |text: &&str| text.strip_prefix("sha256:")?.parse::<Digest>().ok();
            let known: Vec<Digest> = all.iter().filter_map(sha256).collect();
            if known.is_empty() {
                return Err(fault(line, "it has no SHA-256, the only hash that is compared here"));
            }
            let new = || (Vec::new(), line);
            let entry = hashes.of.entry(normalise(&name_of(requirement))).or_insert_with(new);
            entry.0.extend(known);
        }
        Ok(hashes)
    }
}

impl Hashes<'_> {
    /// Whether a file of a package may be taken.
    pub fn allow(&self, package: &str, sha256: Digest) -> bool {
        self.of.get(package).is_none_or(|(known, _)| known.contains(&sha256))
    }

    /// The error for a package none of whose files may be taken; `file` is the one that fits best.
    pub fn refuse(&self, package: &str, file: &str, sha256: Digest) -> Option<Error> {
        let (_, line) = self.of.get(package)?;
        let why =
            format!("no file that fits has one of its hashes; {file} has sha256:{}", sha256.hex());
        Some(fault(line, &why))
    }

    /// Under `--require-hashes` every package has a hash; pip itself is ours.
    ///
    /// # Errors
    /// One has none.
    pub fn complete<'n>(&self, mut names: impl Iterator<Item = &'n str>) -> Result<(), Error> {
        let Some(line) = self.required else { return Ok(()) };
        match names.find(|name| *name != "pip" && !self.of.contains_key(*name)) {
            Some(name) => Err(fault(line, &format!("{name} is needed, and has no --hash"))),
            None => Ok(()),
        }
    }
}

fn fault(line: &Line, why: &str) -> Error {
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
