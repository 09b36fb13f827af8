//! `app.install`: what the project's own wheel is built in.

use std::collections::{BTreeMap, BTreeSet};

use sconce_facts::Base;

use super::build_requires::{ASKS, Requires, build_requirement};
use super::{index_rows, keep};
use crate::document::{DebPin, IndexKind, Lock};
use crate::error::Error;
use crate::explain::Explanation;
use crate::index::{DebianRequest, Index, IndexError};
use crate::previous::Previous;
use crate::source::{self, FolderRequest, Order, Outcome, OwnProject, Sdist, can_build_for};
use crate::spec::{Flavour, ProjectRequest, Spec};
use crate::target::Target;

/// Adds the container of the project's own wheel to a lock, and builds that wheel once; its bytes are no
/// part of the lock, since the project's files are none.
pub(super) fn add(
    spec: &Spec,
    previous: Previous<'_>,
    index: &mut dyn Index,
    lock: Lock,
    explanation: &mut Explanation,
) -> Result<Lock, Error> {
    let Some(project) = &spec.project else {
        if let Some(name) =
            spec.environment.projects().iter().find_map(|project| project.package.as_ref())
        {
            explanation.note(format!(
                "{name} itself is not installed, only what it needs; `install = true` under [app] installs it"
            ));
        }
        return Ok(lock);
    };
    let refused =
        |message: String, hint: &str| Err(Error::Request { message, hint: Some(hint.to_owned()) });
    if lock.wheel(&project.name).is_some() {
        return refused(
            format!(
                "`install` under [app] installs {}, which is among the requirements as well",
                project.name
            ),
            "leave it out of one of the two",
        );
    }
    let machine = lock.facts.machine;
    if !can_build_for(machine) {
        return refused(
            format!(
                "`install` under [app]: a wheel for {machine} can be built only on such a machine"
            ),
            "lock it there, or leave `install` out",
        );
    }
    let base = sconce_facts::base(&lock.facts.base)
        .map_err(|error| Error::Request { message: error.to_string(), hint: None })?;
    let request =
        FolderRequest { name: &project.name, app: &spec.app, container: &source::bare(&lock) };
    let sdist = index.folder(&request).map_err(|error| failed(project, error))?;
    let mut lock = with_build_debs(spec, previous, index, lock, base, &sdist)?;
    if let Some(kept) = kept(previous, &lock, project, &sdist) {
        return Ok(with(lock, kept, BTreeMap::new()));
    }
    lock.project = None;
    let (own, addresses) = locked(spec, index, &lock, base, project, &sdist)?;
    explanation.choose(
        &project.name,
        "its own wheel",
        format!("built of this folder ({} wheels in the container)", own.wheels.len()),
        Vec::new(),
    );
    Ok(with(lock, own, addresses))
}

fn failed(project: &ProjectRequest, error: IndexError) -> Error {
    match error {
        IndexError::Failed(source) => Error::OwnBuild { name: project.name.clone(), source },
        error => Error::from_index("package index", error),
    }
}

/// What the lock that is there has of it, if that is for the same.
fn kept(
    previous: Previous<'_>,
    lock: &Lock,
    project: &ProjectRequest,
    sdist: &Sdist,
) -> Option<OwnProject> {
    let before = previous.kept()?;
    let own = before.project.as_ref()?;
    let (facts, old) = (&lock.facts, &before.facts);
    let same = own.name == project.name
        && own.requires == sdist.requires
        && own.flavour == flavour(sdist)
        && own.architectures == architectures(lock, sdist)
        && (&facts.base, &facts.python, facts.machine) == (&old.base, &old.python, old.machine)
        && (!sdist.compiles || lock.wheel("torch") == before.wheel("torch"));
    same.then(|| own.clone())
}

/// The container, found by building in it.
fn locked(
    spec: &Spec,
    index: &mut dyn Index,
    lock: &Lock,
    base: &'static Base,
    project: &ProjectRequest,
    sdist: &Sdist,
) -> Result<(OwnProject, BTreeMap<String, String>), Error> {
    let file = "pyproject.toml";
    let torch = lock.wheel("torch").filter(|_| sdist.compiles);
    let mut requires = BTreeSet::new();
    for text in &sdist.requires {
        requires.insert(build_requirement(file, text)?);
    }
    for _ in 0..ASKS {
        let question = Requires {
            spec,
            target: Target { machine: lock.facts.machine, base },
            image: &lock.wheels,
            torch,
            cuda: lock.facts.torch.as_ref().and_then(|torch| torch.cuda),
            sdist,
            requires: &requires,
            file,
        };
        let (wheels, addresses) = question.wheels(index)?;
        let own = OwnProject {
            name: project.name.clone(),
            requires: sdist.requires.clone(),
            flavour: flavour(sdist),
            architectures: architectures(lock, sdist),
            wheels,
        };
        let whole = with(lock.clone(), own.clone(), addresses.clone());
        let source = own.source(sdist.sha256, sdist.size);
        let known: Vec<String> = requires.iter().cloned().collect();
        let order = Order {
            source: &source,
            version: None,
            container: &source.container(&whole),
            requires: Some(&known),
        };
        match index.build(&order).map_err(|error| failed(project, error))? {
            Outcome::Wheel { .. } => return Ok((own, addresses)),
            Outcome::Requires(more) => {
                for text in &more {
                    requires.insert(build_requirement(file, text)?);
                }
            }
        }
    }
    Err(Error::Request {
        message: format!("{}: its build asks for other requirements each time", project.name),
        hint: None,
    })
}

fn flavour(sdist: &Sdist) -> Flavour {
    if sdist.compiles { Flavour::Devel } else { Flavour::Runtime }
}

fn architectures(lock: &Lock, sdist: &Sdist) -> Vec<String> {
    match lock.facts.torch.as_ref().filter(|torch| sdist.cuda && torch.cuda.is_some()) {
        Some(torch) => source::architectures(&lock.facts.gpus, &torch.architectures),
        None => Vec::new(),
    }
}

/// The lock with the Debian packages of a container that compiles, where there is something to compile.
fn with_build_debs(
    spec: &Spec,
    previous: Previous<'_>,
    index: &mut dyn Index,
    mut lock: Lock,
    base: &'static Base,
    sdist: &Sdist,
) -> Result<Lock, Error> {
    if !sdist.compiles || !lock.build_debs.is_empty() || lock.facts.flavour == Flavour::Devel {
        return Ok(lock);
    }
    let before = previous.kept().filter(|before| before.debs == lock.debs);
    lock.build_debs = match before.map(|before| &before.build_debs) {
        Some(kept) if !kept.is_empty() => kept.clone(),
        _ => {
            let torch = lock.facts.torch.is_some();
            let request = DebianRequest {
                flavour: Flavour::Devel,
                ..keep::debian_request(spec, base, lock.facts.machine, torch)
            };
            let (_, devel) = keep::debs(&request, None, index)?;
            devel.into_iter().filter(|deb: &DebPin| !lock.debs.contains(deb)).collect()
        }
    };
    Ok(lock)
}

/// The lock with the project, and with every index that it now names.
fn with(lock: Lock, own: OwnProject, mut addresses: BTreeMap<String, String>) -> Lock {
    let python = lock.indexes.iter().filter(|row| row.kind == IndexKind::Python);
    addresses.extend(python.filter_map(|row| Some((row.name.clone(), row.url.clone()?))));
    let wheels: Vec<_> = lock.wheels.iter().chain(&own.wheels).cloned().collect();
    let debs = lock.debs.iter().chain(&lock.build_debs);
    let indexes = index_rows((&wheels, &lock.sources), debs, &addresses);
    Lock { indexes, project: Some(own), ..lock }
}
