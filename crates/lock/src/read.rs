//! Reading a lock: strict, since whoever changed it by hand expects it to mean something.

use std::collections::{BTreeMap, BTreeSet};

use sconce_blob::Digest;
use sconce_facts::{Capability, CudaVersion, DriverVersion, Machine, Sm};
use serde::Deserialize;

use crate::document::{
    DebPin, Facts, IndexKind, IndexRow, Inputs, Lock, Sealed, TorchFacts, VERSION, Wheel,
};
use crate::error::{Error, Place};
use crate::spec::{App, Flavour};
use crate::wheel_name::WheelName;
use crate::write;

/// No honest lock is larger, or has more packages of a kind.
const LIMIT_BYTES: usize = 16 << 20;
const LIMIT_PACKAGES: usize = 20_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "version")]
    _version: i64,
    #[serde(rename = "digest")]
    _digest: Digest,
    spec: Digest,
    inputs: Option<Inputs>,
    environment: Environment,
    torch: Option<Torch>,
    app: AppRow,
    #[serde(default)]
    index: Vec<IndexRow>,
    #[serde(default)]
    wheel: Vec<Wheel>,
    #[serde(default)]
    deb: Vec<DebPin>,
    sealed: Option<Sealed>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Environment {
    platform: Machine,
    base: String,
    python: String,
    glibc: String,
    flavour: String,
    bytecode: bool,
    #[serde(default)]
    gpus: Vec<Capability>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Torch {
    version: String,
    cuda: Option<CudaVersion>,
    driver: Option<DriverVersion>,
    architectures: Vec<Sm>,
    cudnn: Option<String>,
    nccl: Option<String>,
    triton: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AppRow {
    include: Vec<String>,
    workdir: String,
    command: Vec<String>,
    env: BTreeMap<String, String>,
}

pub(crate) fn parse(text: &str) -> Result<Lock, Error> {
    let wrong = |message: String| Error::LockSyntax { place: None, message };
    if text.len() > LIMIT_BYTES {
        return Err(wrong(format!("larger than {LIMIT_BYTES} bytes")));
    }
    let version = check_version(text)?;
    check_digest(text, version)?;
    let document: Document = toml::from_str(text).map_err(|error| syntax(text, &error))?;
    let lock = document.into_lock().map_err(wrong)?;
    if lock.to_text() != text {
        let what = "its text is not the one that sconce writes for it".to_owned();
        return Err(Error::LockEdited { what });
    }
    Ok(lock)
}

fn syntax(text: &str, error: &toml::de::Error) -> Error {
    Error::LockSyntax {
        place: error.span().map(|span| Place::at(text, span.start)),
        message: error.message().trim().replace('\n', "; "),
    }
}

/// A lock of a newer version may hold anything: say so before complaining about what it holds.
fn check_version(text: &str) -> Result<i64, Error> {
    #[derive(Deserialize)]
    struct Any {
        version: i64,
    }
    let Any { version } = toml::from_str(text).map_err(|error| syntax(text, &error))?;
    if version > VERSION {
        return Err(Error::LockVersion { found: version, known: VERSION });
    }
    if version < 1 {
        let message = format!("there never was a version {version}");
        return Err(Error::LockSyntax { place: None, message });
    }
    Ok(version)
}

/// The digest covers every byte after its own line.
fn check_digest(text: &str, version: i64) -> Result<(), Error> {
    let start = format!("{}version = {version}\ndigest = \"", write::HEADER);
    let edited = |what: &str| Error::LockEdited { what: what.to_owned() };
    let rest = text.strip_prefix(&start).ok_or_else(|| edited("its first lines are others"))?;
    let (digest, body) =
        rest.split_once("\"\n").ok_or_else(|| edited("its digest line is another"))?;
    let digest: Digest = digest.parse().map_err(|_| edited("its digest is none"))?;
    if Digest::of(body.as_bytes()) != digest {
        return Err(edited("its digest is not that of its text"));
    }
    Ok(())
}

impl Document {
    fn into_lock(self) -> Result<Lock, String> {
        let Self {
            _version,
            _digest,
            spec,
            inputs,
            environment,
            torch,
            app,
            index,
            wheel,
            deb,
            sealed,
        } = self;
        let flavour = [Flavour::Runtime, Flavour::Devel]
            .into_iter()
            .find(|flavour| flavour.as_str() == environment.flavour)
            .ok_or_else(|| format!("unknown flavour `{}`", environment.flavour))?;
        if !environment.gpus.is_sorted_by(|a, b| a < b) {
            return Err("`gpus` are not sorted, or one stands twice".to_owned());
        }
        check_indexes(&index)?;
        check_wheels(&wheel, &index)?;
        check_debs(&deb, &index)?;
        Ok(Lock {
            spec,
            inputs,
            facts: Facts {
                machine: environment.platform,
                base: environment.base,
                python: environment.python,
                glibc: environment.glibc,
                flavour,
                bytecode: environment.bytecode,
                gpus: environment.gpus,
                torch: torch.map(|torch| TorchFacts {
                    version: torch.version,
                    cuda: torch.cuda,
                    driver: torch.driver,
                    architectures: torch.architectures,
                    cudnn: torch.cudnn,
                    nccl: torch.nccl,
                    triton: torch.triton,
                }),
            },
            app: App {
                include: app.include,
                workdir: app.workdir,
                command: app.command,
                env: app.env,
            },
            indexes: index,
            wheels: wheel,
            debs: deb,
            sealed,
        })
    }
}

fn check_indexes(indexes: &[IndexRow]) -> Result<(), String> {
    let mut names = BTreeSet::new();
    for index in indexes {
        if !names.insert((&index.name, index.kind.as_str())) {
            return Err(format!("index `{}` stands twice", index.name));
        }
    }
    Ok(())
}

fn known(name: &str, kind: IndexKind, indexes: &[IndexRow]) -> bool {
    indexes.iter().any(|index| index.name == name && index.kind == kind)
}

fn check_wheels(wheels: &[Wheel], indexes: &[IndexRow]) -> Result<(), String> {
    if wheels.len() > LIMIT_PACKAGES {
        return Err(format!("more than {LIMIT_PACKAGES} wheels"));
    }
    let mut names = BTreeSet::new();
    for wheel in wheels {
        let file: WheelName = wheel.file.parse().map_err(|error| format!("{error}"))?;
        if file.name != wheel.name || wheel.version.parse().as_ref() != Ok(&file.version) {
            return Err(format!("{} is no wheel of {} {}", wheel.file, wheel.name, wheel.version));
        }
        if file.variant != wheel.variant {
            return Err(format!("{} is no such variant", wheel.file));
        }
        if !names.insert(&wheel.name) {
            return Err(format!("wheel `{}` stands twice", wheel.name));
        }
        if !known(&wheel.index, IndexKind::Python, indexes) {
            return Err(format!(
                "wheel `{}` names no index of this lock: `{}`",
                wheel.name, wheel.index
            ));
        }
    }
    Ok(())
}

fn check_debs(debs: &[DebPin], indexes: &[IndexRow]) -> Result<(), String> {
    if debs.len() > LIMIT_PACKAGES {
        return Err(format!("more than {LIMIT_PACKAGES} debs"));
    }
    let mut names = BTreeSet::new();
    for deb in debs {
        if !is_plain_path(&deb.path) || !deb.path.ends_with(".deb") {
            return Err(format!("deb `{}` has no path in an archive: `{}`", deb.name, deb.path));
        }
        if !names.insert((&deb.name, &deb.arch)) {
            return Err(format!("deb `{}` stands twice", deb.name));
        }
        if !known(&deb.index, IndexKind::Debian, indexes) {
            return Err(format!("deb `{}` names no index of this lock: `{}`", deb.name, deb.index));
        }
    }
    Ok(())
}

/// Relative, without `.`, `..`, empty parts, control characters and what addresses give a meaning to.
fn is_plain_path(path: &str) -> bool {
    path.len() <= 1024
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && !path.contains(|c: char| c.is_control() || "\\?#".contains(c))
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
