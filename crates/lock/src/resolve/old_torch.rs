//! What the requirements themselves ask of torch, and old releases of it, which are taken only where they are asked for: by
//! the requirements, or by what those need.

use pep440_rs::{Operator, Version, VersionSpecifier, VersionSpecifiers};

use super::Resolution;
use crate::candidate;
use crate::error::Error;

impl Resolution<'_> {
    /// What the requirements themselves ask of torch, where a release that is known is that. Then no other is asked about, and
    /// no refusal speaks of a torch that nobody named.
    pub(super) fn torch_asked_for(&self) -> Option<VersionSpecifiers> {
        self.asked_of_torch().filter(candidate::is_known)
    }

    /// The error where the requirements themselves ask for a torch older than all that are known: the resolver would
    /// speak of a range that nobody asked for.
    pub(super) fn older_than_facts(&self) -> Option<Error> {
        let oldest =
            sconce_facts::releases().iter().filter_map(|r| r.version.parse().ok()).min()?;
        let asked = self.asked_of_torch().filter(|asked| !candidate::is_known(asked))?;
        asked.iter().any(|specifier| ends_before(specifier, &oldest)).then(|| Error::NoTorch {
            message: format!(
                "the requirements ask for torch{asked}, and the oldest that sconce knows is {oldest}"
            ),
            refused: Vec::new(),
            hint: Some(format!(
                "ask for torch=={oldest} or a newer one there, and for what goes with it; with an older torch sconce \
                 can't make an image"
            )),
        })
    }

    /// Whether the requirements themselves allow a release of torch.
    pub(super) fn may_be(&self, version: &str) -> bool {
        let Ok(version) = version.parse() else { return false };
        self.asked_of_torch().is_none_or(|asked| asked.contains(&version))
    }

    /// What the requirements themselves ask of torch, if anything.
    fn asked_of_torch(&self) -> Option<VersionSpecifiers> {
        let base = self.request.bases.first().copied()?;
        let direct = self.direct(self.target(base)).into_iter().find(|d| d.name == "torch")?;
        let all = direct.specifiers.iter().flat_map(|specifiers| specifiers.iter().cloned());
        let all: VersionSpecifiers = all.collect();
        all.iter().next().is_some().then_some(all)
    }
}

/// Whether nothing that is at least this version is in a range; a build of that version (`+cu113`) is that version.
fn ends_before(specifier: &VersionSpecifier, version: &Version) -> bool {
    let end = specifier.version().clone().without_local();
    match specifier.operator() {
        Operator::LessThan => end <= *version,
        Operator::LessThanEqual | Operator::Equal | Operator::EqualStar | Operator::TildeEqual => {
            end < *version
        }
        _ => false,
    }
}

/// An old release of torch that the resolver's words say is required.
pub(super) fn old_torch_in(words: &str) -> Option<(&'static str, VersionSpecifiers)> {
    let version = |rest: &'_ str| {
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '.'));
        rest.get(..end.unwrap_or(rest.len())).map(|text| text.trim_end_matches('.').to_owned())
    };
    let release =
        words.split("depends on torch==").skip(1).filter_map(version).find_map(|found| {
            let mut old = sconce_facts::releases().iter().filter(|release| release.asked);
            old.find(|release| release.version == found)
        })?;
    Some((release.version.as_str(), format!("=={}", release.version).parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::old_torch_in;

    #[test]
    fn an_old_torch_in_the_resolver_s_words() {
        let words = "Because xformers==0.0.22 depends on torch==2.0.1 and you require xformers==0.0.22, we can";
        assert_eq!(old_torch_in(words).unwrap().0, "2.0.1");
        assert_eq!(old_torch_in("x depends on torch==2.0.1.").unwrap().0, "2.0.1");
        for other in
            ["x depends on torch==2.5.1 and", "x depends on torch==2.0.1rc1", "torch==2.0.1", ""]
        {
            assert!(old_torch_in(other).is_none(), "{other}");
        }
    }
}
