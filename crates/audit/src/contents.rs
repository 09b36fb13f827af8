//! What a lock or an image says is in it, so that the two can be compared.

use std::collections::{BTreeMap, BTreeSet};

use sconce_blob::Digest;
use sconce_facts::Sm;
use sconce_inspect::packages::{Installed, Origin, Torch};
use sconce_lock::Lock;
use serde::Serialize;

/// Which kind of package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A Python package.
    Python,
    /// A Debian package.
    Debian,
}

/// A layer and its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSize {
    /// What is in it; of an image that is not sconce's, its place.
    pub name: String,
    /// SHA-256 of the tar.
    pub diff_id: Digest,
    /// The blob's bytes.
    pub size: u64,
}

/// A package's versions: more than one where an image has it several times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Versions {
    pub(crate) versions: BTreeSet<String>,
    /// The file that it comes from, by its name and SHA-256; of an image it is not known.
    pub(crate) file: Option<(String, Digest)>,
}

/// What is in a lock or an image.
#[derive(Debug, Clone)]
pub struct Contents {
    /// What was named.
    pub name: String,
    /// `lock` or `image`.
    pub kind: &'static str,
    /// The digest of what is locked, or the image's.
    pub digest: Digest,
    /// The digest of what is locked, of a lock and of an image that says which one it was built from.
    pub lock: Option<Digest>,
    /// Packages by kind and name.
    pub(crate) packages: BTreeMap<(Kind, String), Versions>,
    /// What it rests on, by the words for it, in their order. A name without a value is one that there is none of; one that
    /// is missing is not known.
    pub(crate) facts: Vec<(&'static str, Option<String>)>,
    /// The variables of the app; `None` where they are not known.
    pub(crate) env: Option<BTreeMap<String, String>>,
    /// The package that the project itself is installed as, of which a lock knows no version.
    pub(crate) own: Option<String>,
    /// What torch's GPU code is compiled for; `None` where that is not known. Of a CPU build it is empty.
    pub(crate) architectures: Option<Vec<Sm>>,
    /// The layers, the base first; `None` of a lock that no image was built from.
    pub layers: Option<Vec<LayerSize>>,
    /// Bytes to download for it, as far as sizes are known.
    pub(crate) download: Option<u64>,
    /// What could not be read of it.
    pub unread: Vec<String>,
}

impl Contents {
    /// Of a lock that was named so.
    #[must_use]
    pub fn of_lock(name: &str, lock: &Lock) -> Self {
        let mut packages: BTreeMap<(Kind, String), Versions> = BTreeMap::new();
        let mut put = |kind, name: &str, version: &str, file: &str, sha256| {
            let row = packages.entry((kind, name.to_owned())).or_default();
            row.versions.insert(version.to_owned());
            row.file = Some((file.to_owned(), sha256));
        };
        for wheel in &lock.wheels {
            put(Kind::Python, &wheel.name, &wheel.version, &wheel.file, wheel.sha256);
        }
        let mut of_name: BTreeMap<&str, usize> = BTreeMap::new();
        for deb in &lock.debs {
            *of_name.entry(&deb.name).or_default() += 1;
        }
        for deb in &lock.debs {
            // One of another processor beside it is another package.
            let name = match of_name.get(deb.name.as_str()) {
                Some(1) => deb.name.clone(),
                _ => format!("{}:{}", deb.name, deb.arch),
            };
            let file = deb.path.rsplit('/').next().unwrap_or(&deb.path);
            put(Kind::Debian, &name, &deb.version, file, deb.sha256);
        }
        let layers = lock.sealed.as_ref().map(|sealed| {
            let layer = |layer: &sconce_lock::Layer| LayerSize {
                name: layer.name.clone(),
                diff_id: layer.diff_id,
                size: layer.size,
            };
            sealed.layers.iter().map(layer).collect()
        });
        Self {
            name: name.to_owned(),
            kind: "lock",
            digest: lock.digest(),
            lock: Some(lock.digest()),
            packages,
            facts: facts_of_lock(lock),
            env: Some(lock.app.env.clone()),
            own: lock.project.as_ref().map(|project| project.name.clone()),
            architectures: match &lock.facts.torch {
                Some(torch) if torch.cuda.is_some() && torch.architectures.is_empty() => None,
                Some(torch) => Some(torch.architectures.clone()),
                None => Some(Vec::new()),
            },
            layers,
            download: Some(lock.download_size()),
            unread: Vec::new(),
        }
    }

    /// Of an image by its files and its labels.
    #[must_use]
    pub fn of_image(
        name: &str,
        image: Digest,
        installed: &Installed,
        labels: &BTreeMap<String, String>,
        platform: Option<&str>,
        layers: Vec<LayerSize>,
    ) -> Self {
        let mut packages: BTreeMap<(Kind, String), Versions> = BTreeMap::new();
        for package in &installed.packages {
            let kind = match package.origin {
                Origin::Python => Kind::Python,
                Origin::Debian => Kind::Debian,
            };
            let row = packages.entry((kind, package.name.clone())).or_default();
            row.versions.insert(package.version.clone());
        }
        let label = |key: &str| labels.get(&format!("dev.sconce.{key}")).cloned();
        let torch = installed.torch.as_ref();
        // What its files say comes before what somebody wrote beside them.
        let mut facts = vec![("platform", platform.map(str::to_owned))];
        facts.retain(|(_, value)| value.is_some());
        let python = label("python").or_else(|| installed.python.clone());
        facts.extend(python.map(|python| ("python", Some(minor(&python)))));
        facts.extend(label("flavour").map(|flavour| ("flavour", Some(flavour))));
        // The label has the version of the lock, without the local part that torch adds itself (2.15.0+cu132).
        let said = |torch: &Torch| {
            let public = torch.version.split('+').next().map(str::to_owned);
            let locked = label("torch").filter(|label| Some(label) == public.as_ref());
            locked.unwrap_or_else(|| torch.version.clone())
        };
        facts.push(("torch", torch.map(said)));
        facts.push(("cuda", torch.and_then(|torch| torch.cuda.clone())));
        // These are the labels of an image that sconce made.
        if label("lock").is_some() {
            for key in ["driver", "cudnn", "nccl"] {
                facts.push((key, label(key)));
            }
        }
        let architectures = match (label("architectures"), label("lock").is_some(), torch) {
            (Some(text), true, Some(_)) => text.split(',').map(|one| one.parse().ok()).collect(),
            (_, _, Some(torch)) if torch.cuda.is_some() => None,
            _ => Some(Vec::new()),
        };
        Self {
            name: name.to_owned(),
            kind: "image",
            digest: image,
            lock: label("lock").and_then(|text| text.parse().ok()),
            packages,
            facts,
            env: None,
            own: None,
            architectures,
            layers: Some(layers),
            download: None,
            unread: installed.unread.clone(),
        }
    }

    /// What it says of one thing; `None` where it does not say.
    pub(crate) fn fact(&self, name: &str) -> Option<Option<&str>> {
        let mut facts = self.facts.iter().filter(|(key, _)| *key == name);
        facts.next().map(|(_, value)| value.as_deref())
    }
}

fn facts_of_lock(lock: &Lock) -> Vec<(&'static str, Option<String>)> {
    let facts = &lock.facts;
    let torch = facts.torch.as_ref();
    let say = |of: fn(&sconce_lock::TorchFacts) -> Option<String>| torch.and_then(of);
    let list = |texts: Vec<String>| (!texts.is_empty()).then(|| texts.join(" "));
    let app = &lock.app;
    vec![
        ("platform", Some(facts.machine.as_str().to_owned())),
        ("base", Some(facts.base.clone())),
        ("python", Some(facts.python.clone())),
        ("python build", lock.python.as_ref().map(|pin| pin.file.clone())),
        ("glibc", Some(facts.glibc.clone())),
        ("flavour", Some(facts.flavour.as_str().to_owned())),
        ("bytecode", Some(facts.bytecode.to_string())),
        ("torch", say(|torch| Some(torch.version.clone()))),
        ("cuda", say(|torch| torch.cuda.map(|cuda| cuda.to_string()))),
        ("driver", say(|torch| torch.driver.as_ref().map(ToString::to_string))),
        ("cudnn", say(|torch| torch.cudnn.clone())),
        ("nccl", say(|torch| torch.nccl.clone())),
        ("triton", say(|torch| torch.triton.clone())),
        ("promised GPUs", list(facts.gpus.iter().map(ToString::to_string).collect())),
        ("preferred packages", list(facts.prefer.clone())),
        ("project", lock.project.as_ref().map(|project| project.name.clone())),
        ("app files", list(app.include.clone())),
        ("app files left out", list(app.exclude.clone())),
        ("app folder", Some(app.workdir.clone())),
        ("app command", list(app.command.clone())),
    ]
}

/// `3.13` of `3.13.5`: what an image has behind it is the Debian package's.
fn minor(version: &str) -> String {
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}
