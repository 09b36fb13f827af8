//! What wheels are built with: build requirements, as the wheels of a container.

use std::collections::{BTreeMap, BTreeSet};

use pep508_rs::{Requirement, VerbatimUrl, VersionOrUrl};
use sconce_facts::CudaVersion;

use super::ask::toolkit;
use super::{keep, row};
use crate::document::Wheel;
use crate::error::Error;
use crate::index::{Index, IndexError, PythonRequest};
use crate::pylock::Pylock;
use crate::source::{SOURCE, Sdist};
use crate::spec::Spec;
use crate::target::Target;

/// How often a backend may ask for more build requirements.
pub(super) const ASKS: usize = 3;

/// What the container of a build is to have.
pub(super) struct Requires<'a> {
    pub spec: &'a Spec,
    pub target: Target,
    /// The wheels of the image.
    pub image: &'a [Wheel],
    /// Its torch, where code is compiled against it.
    pub torch: Option<&'a Wheel>,
    /// The CUDA of that.
    pub cuda: Option<CudaVersion>,
    pub sdist: &'a Sdist,
    /// PEP 508.
    pub requires: &'a BTreeSet<String>,
    /// What is built, for messages.
    pub file: &'a str,
}

impl Requires<'_> {
    /// The wheels of the container, and the addresses of the indexes that they came from.
    pub(super) fn wheels(
        &self,
        index: &mut dyn Index,
    ) -> Result<(Vec<Wheel>, BTreeMap<String, String>), Error> {
        let mut requirements: Vec<String> = self.requires.iter().cloned().collect();
        requirements.extend(self.torch.map(|torch| format!("torch=={}", torch.version)));
        let cuda = self.cuda.filter(|_| self.torch.is_some() && self.sdist.cuda);
        requirements.extend(cuda.and_then(toolkit));
        if requirements.is_empty() {
            return Ok(Default::default());
        }
        let backend = self.torch.and_then(|torch| torch.index.strip_prefix("pytorch-"));
        let preferences = self.image.iter().filter(|wheel| wheel.index != SOURCE);
        let request = PythonRequest {
            requirements,
            files: Vec::new(),
            options: Vec::new(),
            extras: Vec::new(),
            groups: Vec::new(),
            constraints: Vec::new(),
            overrides: Vec::new(),
            // What the image has is what its code is compiled against.
            preferences: preferences.filter_map(keep::preference).collect(),
            base: self.target.base,
            machine: self.target.machine,
            indexes: self.spec.environment.indexes.clone(),
            elsewhere: Vec::new(),
            offers: Vec::new(),
            built: Vec::new(),
            torch_backend: backend.map(str::to_owned),
        };
        let answer = index.python(&request).map_err(|error| match error {
            IndexError::NoSolution { words } => Error::Request {
                message: format!("{}: what its build requires can't be had:\n{words}", self.file),
                hint: Some(
                    "take another release of it, or build its wheel yourself and name that file"
                        .into(),
                ),
            },
            error => Error::from_index("package index", error),
        })?;
        let wrong =
            |message: String| Error::Pylock { file: "the resolver's answer".into(), message };
        let pylock = Pylock::parse(&answer.pylock).map_err(wrong)?;
        let set = pylock.select(self.target).map_err(wrong)?;
        let index = |name: &str| answer.indexes.get(name).cloned().unwrap_or_else(|| "pypi".into());
        let rows = set.into_iter().map(|(package, wheel)| {
            row(package, wheel, index(&package.name), answer.folder.as_deref())
        });
        Ok((rows.collect(), answer.addresses))
    }
}

/// A requirement of a source distribution's build, as it is handed to the resolver. What it says is an
/// outsider's: names and versions are taken, an address or an option is not.
pub(super) fn build_requirement(file: &str, text: &str) -> Result<String, Error> {
    let refused = |why: &str| Error::Request {
        message: format!(
            "{file}: its build requires `{}`, {why}",
            text.chars().take(80).collect::<String>()
        ),
        hint: Some("build its wheel yourself where you trust it, and name that file".into()),
    };
    let parsed = text.parse::<Requirement<VerbatimUrl>>();
    let parsed = parsed.map_err(|_| refused("which is not a requirement (PEP 508)"))?;
    if matches!(parsed.version_or_url, Some(VersionOrUrl::Url(_))) {
        return Err(refused("which is an address and not a package of an index"));
    }
    let text = parsed.to_string();
    match text.chars().any(char::is_control) || text.starts_with('-') {
        true => Err(refused("which is not a requirement (PEP 508)")),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::build_requirement;

    #[test]
    fn build_requirements_are_names_and_versions() {
        let of =
            |text: &str| build_requirement("a-1.tar.gz", text).map_err(|error| error.to_string());
        assert_eq!(of("setuptools >= 61").as_deref(), Ok("setuptools>=61"));
        assert_eq!(of("torch ; python_version>'3.8'").map(|text| text.contains("torch")), Ok(true));
        for bad in [
            "x @ file:///etc/passwd",
            "x @ https://example.invalid/x.whl",
            "--index-url https://example.invalid",
            "-r /etc/passwd",
            "x\n--index-url https://example.invalid",
            "./x",
            "",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
