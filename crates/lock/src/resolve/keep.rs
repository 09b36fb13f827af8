//! What a new lock takes over from the one that is there.

use std::collections::BTreeMap;

use sconce_blob::{Digest, Hasher};
use sconce_facts::{Base, Machine};

use super::index_rows;
use crate::document::{DebPin, Facts, IndexKind, Inputs, Lock, Wheel};
use crate::error::Error;
use crate::explain::Explanation;
use crate::index::{DebianRequest, Index};
use crate::previous::Previous;
use crate::spec::Spec;

/// The new lock, where nothing that decides the wheels has changed: then no Python index is asked.
pub(super) fn with_wheels_of(
    spec: &Spec,
    previous: Previous<'_>,
    index: &mut dyn Index,
) -> Result<Option<(Lock, Explanation)>, Error> {
    let wheels_digest = spec.wheels_digest();
    let same = |lock: &&Lock| lock.inputs.is_some_and(|inputs| inputs.wheels == wheels_digest);
    let Some(lock) = previous.untouched().filter(same) else { return Ok(None) };
    let facts = &lock.facts;
    // A sconce with another row for this release gives the image another Python.
    let same = |base: &&Base| {
        base.glibc == facts.glibc && base.standalone.is_some() == lock.python.is_some()
    };
    let base = sconce_facts::base_with(&facts.base, &facts.python).filter(same);
    let Some(base) = base else { return Ok(None) };
    let request = debian_request(spec, base, facts.machine, facts.torch.is_some());
    let (debs_digest, debs) = debs(&request, Some(lock), index)?;
    let build_debs: Vec<DebPin> =
        lock.build_debs.iter().filter(|deb| !debs.contains(deb)).cloned().collect();
    let python = lock.indexes.iter().filter(|row| row.kind == IndexKind::Python);
    let addresses: BTreeMap<_, _> =
        python.filter_map(|row| Some((row.name.clone(), row.url.clone()?))).collect();
    let mut explanation = Explanation::default();
    let why = "nothing that decides the Python packages has changed; `sconce lock --upgrade` asks \
               the index again";
    let torch = facts.torch.as_ref().map_or("none", |torch| &torch.version);
    explanation.choose("torch", torch, why, Vec::new());
    let lock = Lock {
        spec: spec.digest(),
        inputs: Some(Inputs { wheels: wheels_digest, debs: debs_digest }),
        facts: Facts { bytecode: spec.environment.bytecode, ..facts.clone() },
        python: lock.python.clone(),
        app: spec.app.clone(),
        indexes: index_rows(
            (&lock.wheels, &lock.sources),
            debs.iter().chain(&build_debs),
            &addresses,
        ),
        wheels: lock.wheels.clone(),
        sources: lock.sources.clone(),
        project: None,
        debs,
        build_debs,
        sealed: None,
    };
    Ok(Some((lock, explanation)))
}

/// A wheel's version as a preference; one at an address of its own is no matter of versions.
pub(super) fn preference(wheel: &Wheel) -> Option<(String, String)> {
    wheel.url.is_none().then(|| (wheel.name.clone(), wheel.version.clone()))
}

pub(super) fn debian_request(
    spec: &Spec,
    base: &'static Base,
    machine: Machine,
    torch: bool,
) -> DebianRequest {
    DebianRequest {
        base,
        machine,
        flavour: spec.environment.flavour,
        torch,
        packages: spec.base.packages.clone(),
        mirror: spec.base.mirror.clone(),
        allow_missing: spec.base.allow_missing.clone(),
    }
}

/// The debs of a request and the digest of what decided them: those of the lock that is there, if that
/// was made for the same.
pub(super) fn debs(
    request: &DebianRequest,
    kept: Option<&Lock>,
    index: &mut dyn Index,
) -> Result<(Digest, Vec<DebPin>), Error> {
    let digest = debs_digest(request);
    if let Some(lock) = kept.filter(|lock| has_debs_of(lock, digest)) {
        return Ok((digest, lock.debs.clone()));
    }
    let answer = index.debian(request);
    let mut debs = answer.map_err(|error| Error::from_index("Debian archive", error))?.debs;
    debs.sort_by(|a, b| (&a.name, &a.arch).cmp(&(&b.name, &b.arch)));
    Ok((digest, debs))
}

/// Tells the index what it will most likely be asked about Debian, where the lock that is there has no answer.
pub(super) fn prefetch_debs(request: &DebianRequest, kept: Option<&Lock>, index: &mut dyn Index) {
    let digest = debs_digest(request);
    if !kept.is_some_and(|lock| has_debs_of(lock, digest)) {
        index.prefetch_debian(request);
    }
}

fn has_debs_of(lock: &Lock, digest: Digest) -> bool {
    lock.inputs.is_some_and(|inputs| inputs.debs == digest)
}

/// Where the packages come from does not count.
fn debs_digest(request: &DebianRequest) -> Digest {
    let DebianRequest { base, machine, flavour, torch, packages, mirror: _, allow_missing: _ } =
        request;
    let torch = if *torch { "torch" } else { "" };
    let mut words = vec![base.release.as_str(), machine.as_str(), flavour.as_str(), torch];
    let mut packages: Vec<_> = packages.iter().map(String::as_str).collect();
    packages.sort_unstable();
    packages.dedup();
    words.extend(packages);
    // Debian's own Python is not in the set then.
    words.extend(base.standalone.map(|_| "standalone python"));
    let mut hasher = Hasher::new();
    for word in words {
        hasher.update(word.as_bytes());
        hasher.update(b"\0");
    }
    hasher.finish()
}
