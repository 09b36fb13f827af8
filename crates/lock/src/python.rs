//! Which Pythons an image can have: Debian's own, and standalone builds where no release ships the version.

use sconce_facts::{Base, Machine};

use crate::document::PythonPin;

/// The base for a Python that was named: the Debian release that ships it, else the preferred one with a
/// standalone build.
pub(crate) fn with_python(python: &str, release: Option<&str>) -> Option<&'static Base> {
    let fits = |base: &&Base| {
        base.python == python && release.is_none_or(|release| base.release == release)
    };
    let own = sconce_facts::bases().iter().find(fits);
    own.or_else(|| sconce_facts::standalone_bases().iter().find(fits))
}

/// What is tried where no Python was named: Debian's own, then the other versions on the preferred release.
pub(crate) fn offered(release: Option<&str>) -> Vec<&'static Base> {
    let fits = |base: &&Base| release.is_none_or(|release| base.release == release);
    let own: Vec<&Base> = sconce_facts::bases().iter().filter(fits).collect();
    let others = sconce_facts::standalone_bases().iter().filter(|base| {
        own.first().is_some_and(|first| first.release == base.release)
            && own.iter().all(|known| known.python != base.python)
            && !base.is_free_threaded()
    });
    own.iter().copied().chain(others).collect()
}

/// Which Pythons there are, for messages.
pub(crate) fn there_is() -> String {
    let own = |python: &str| sconce_facts::bases().iter().find(|base| base.python == python);
    let all = sconce_facts::pythons().into_iter().map(|python| match own(python) {
        Some(base) => format!("{python} (Debian {})", base.release),
        None => python.to_owned(),
    });
    format!("there is {}", all.collect::<Vec<_>>().join(", "))
}

impl PythonPin {
    /// The build that the facts know for a base and a processor.
    pub fn known(base: &Base, machine: Machine) -> Option<Self> {
        let build = base.standalone?;
        Some(Self {
            version: build.version.clone(),
            build: Some(build.build.clone()),
            file: build.file(machine),
            size: None,
            sha256: build.sha256(machine).parse().ok()?,
            url: None,
        })
    }
}
