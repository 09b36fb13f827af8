//! Reading a lock: strict, since whoever changed it by hand expects it to mean something.

use std::collections::BTreeMap;

use sconce_blob::Digest;
use sconce_facts::{Capability, CudaVersion, DriverVersion, Machine, Sm};
use serde::Deserialize;

use crate::document::{
    DebPin, Facts, IndexKind, IndexRow, Inputs, Lock, PythonPin, Sealed, TorchFacts, VERSION, Wheel,
};
use crate::error::{Error, Place};
use crate::read_checks::{check_debs, check_indexes, check_python, check_wheels, known};
use crate::source::{FIRST_RECIPE, OwnProject, Rebuilt, SOURCE, Source};
use crate::spec::{App, Flavour};
use crate::write;

/// No honest lock is larger, or has more packages of a kind.
const LIMIT_BYTES: usize = 16 << 20;

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
    python: Option<PythonPin>,
    torch: Option<Torch>,
    app: AppRow,
    #[serde(default)]
    index: Vec<IndexRow>,
    #[serde(default)]
    wheel: Vec<Wheel>,
    #[serde(default)]
    source: Vec<SourceRow>,
    project: Option<ProjectRow>,
    #[serde(default)]
    deb: Vec<DebPin>,
    #[serde(default, rename = "build-deb")]
    build_deb: Vec<DebPin>,
    sealed: Option<Sealed>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceRow {
    name: String,
    file: String,
    size: Option<u64>,
    sha256: Digest,
    index: String,
    flavour: String,
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default = "first_recipe")]
    recipe: u32,
    rebuilt: Option<Rebuilt>,
    with: Vec<String>,
    #[serde(default)]
    wheel: Vec<Wheel>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectRow {
    name: String,
    requires: Vec<String>,
    flavour: String,
    #[serde(default)]
    architectures: Vec<String>,
    with: Vec<String>,
    #[serde(default)]
    wheel: Vec<Wheel>,
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
    #[serde(default)]
    prefer: Vec<String>,
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
    #[serde(default)]
    exclude: Vec<String>,
    #[serde(default)]
    install: bool,
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
    let digest: Digest = digest.parse().map_err(|_| edited("its digest is not a digest"))?;
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
            python,
            torch,
            app,
            index,
            wheel,
            source,
            project,
            deb,
            build_deb,
            sealed,
        } = self;
        let flavour = flavour(&environment.flavour)?;
        if !environment.gpus.is_sorted_by(|a, b| a < b) {
            return Err("`gpus` are not sorted, or one stands twice".to_owned());
        }
        if let Some(python) = &python {
            check_python(python, &environment.python)?;
        }
        check_indexes(&index)?;
        check_wheels(&wheel, &index)?;
        check_debs(&deb, &index)?;
        check_debs(&build_deb, &index)?;
        let sources = source_rows(source, &wheel, &index)?;
        if app.install != project.is_some() {
            return Err("`install` and [project] do not go together".into());
        }
        let project = project.map(|row| row.project(&wheel, &index)).transpose()?;
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
                prefer: environment.prefer,
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
            python,
            app: App {
                include: app.include,
                exclude: app.exclude,
                install: app.install,
                workdir: app.workdir,
                command: app.command,
                env: app.env,
            },
            indexes: index,
            wheels: wheel,
            sources,
            project,
            debs: deb,
            build_debs: build_deb,
            sealed,
        })
    }
}

fn flavour(text: &str) -> Result<Flavour, String> {
    let known = [Flavour::Runtime, Flavour::Devel];
    let found = known.into_iter().find(|flavour| flavour.as_str() == text);
    found.ok_or_else(|| format!("unknown flavour `{text}`"))
}

/// Every wheel that is built has its source, and every source its wheel.
fn source_rows(
    rows: Vec<SourceRow>,
    wheels: &[Wheel],
    indexes: &[IndexRow],
) -> Result<Vec<Source>, String> {
    let built = wheels.iter().filter(|wheel| wheel.index == SOURCE).map(|wheel| &wheel.name);
    if !built.eq(rows.iter().map(|row| &row.name)) {
        return Err("the wheels from `source` and the sources are not the same packages".into());
    }
    rows.into_iter().map(|row| row.source(wheels, indexes)).collect()
}

impl SourceRow {
    fn source(self, wheels: &[Wheel], indexes: &[IndexRow]) -> Result<Source, String> {
        let Self { name, file, size, sha256, index, flavour, architectures, .. } = self;
        let Self { recipe, rebuilt, with, wheel, .. } = self;
        if !crate::source::is_file_name(&file) {
            return Err(format!("`{file}` is not a file name of a source distribution"));
        }
        if !known(&index, IndexKind::Python, indexes) {
            return Err(format!("source `{name}` names no index of this lock: `{index}`"));
        }
        let all = container_wheels(&format!("source `{name}`"), wheel, &with, wheels, indexes)?;
        let flavour = self::flavour(&flavour)?;
        let wheels = all;
        Ok(Source {
            name,
            file,
            size,
            sha256,
            index,
            flavour,
            architectures,
            recipe,
            rebuilt,
            wheels,
        })
    }
}

fn first_recipe() -> u32 {
    FIRST_RECIPE
}

impl ProjectRow {
    fn project(self, wheels: &[Wheel], indexes: &[IndexRow]) -> Result<OwnProject, String> {
        let Self { name, requires, flavour, architectures, with, wheel } = self;
        if !crate::pyproject::is_package_name(&name) {
            return Err(format!("`{name}` is not a name of a project"));
        }
        if wheels.iter().any(|wheel| wheel.name == name) {
            return Err(format!("the project `{name}` is a wheel as well"));
        }
        let what = format!("the project `{name}`");
        let wheels = container_wheels(&what, wheel, &with, wheels, indexes)?;
        let flavour = self::flavour(&flavour)?;
        Ok(OwnProject { name, requires, flavour, architectures, wheels })
    }
}

/// The wheels of a container that something is built in: those of its own, and some of the image's.
fn container_wheels(
    what: &str,
    own: Vec<Wheel>,
    with: &[String],
    wheels: &[Wheel],
    indexes: &[IndexRow],
) -> Result<Vec<Wheel>, String> {
    // They come from indexes: no path or address of a lock leads elsewhere unseen.
    if let Some(wheel) = own.iter().find(|wheel| wheel.url.is_some()) {
        return Err(format!("{what} is built with `{}` from an address", wheel.name));
    }
    let mut all = own;
    for with in with {
        let found = wheels.iter().find(|wheel| wheel.name == *with);
        all.push(found.ok_or_else(|| format!("there is no wheel `{with}`"))?.clone());
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    check_wheels(&all, indexes)?;
    if let Some(wheel) = all.iter().find(|wheel| wheel.index == SOURCE) {
        return Err(format!("{what} is built with `{}`, which is built", wheel.name));
    }
    Ok(all)
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
