//! Pythons that are not Debian's own: when they are tried, and which build is taken.

use std::collections::BTreeSet;

use sconce_facts::Base;

use super::Resolution;
use super::releases::has_wheel;
use super::words::source_only;
use crate::document::PythonPin;
use crate::error::Error;

impl Resolution<'_> {
    /// The build of Python of an image on this base, where it is not Debian's: that of the lock which is
    /// there, else what the list of builds has.
    pub(super) fn standalone(&mut self, base: &'static Base) -> Result<Option<PythonPin>, Error> {
        if base.standalone.is_none() {
            return Ok(None);
        }
        let machine = self.request.machine;
        let kept = self
            .previous
            .kept()
            .filter(|lock| lock.facts.machine == machine && lock.facts.python == base.python);
        let pin = match kept.and_then(|lock| lock.python.clone()) {
            Some(pin) => pin,
            None => self
                .index
                .standalone(base, machine)
                .map_err(|error| Error::from_index("list of Python builds", error))?,
        };
        let version: Option<pep440_rs::Version> = pin.version.parse().ok();
        for (path, word, wanted) in self.spec.environment.pythons() {
            if !version.as_ref().is_some_and(|version| wanted.contains(version)) {
                return Err(Error::Request {
                    message: format!(
                        "{}: {word} is {wanted}, and the build of Python {} is {}",
                        path.display(),
                        base.python,
                        pin.version
                    ),
                    hint: Some("`sconce lock --upgrade` takes the newest build".into()),
                });
            }
        }
        Ok(Some(pin))
    }

    /// Whether what was said of another Python leaves hope for this one. uv says "no wheels with a matching Python
    /// ABI tag" or "the requested Python version"; where a package is there as source besides, it says that
    /// wheels are required, and the index knows which Pythons those are for.
    pub(super) fn may_help(&mut self, base: &'static Base, said: &[String]) -> bool {
        if said.iter().any(|words| words.contains("Python")) {
            return true;
        }
        let names: BTreeSet<String> = said.iter().flat_map(|words| source_only(words)).collect();
        self.list(names.iter());
        let target = self.target(base);
        let direct = self.direct(target);
        let has = |name: &String| {
            let asked = direct.iter().find(|direct| direct.name == *name);
            self.listed.get(name).is_some_and(|files| has_wheel(name, files, asked, target))
        };
        names.iter().any(has)
    }
}
