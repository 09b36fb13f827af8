//! What the requirements themselves ask of torch, and old releases of it, which are taken only where they are asked for: by
//! the requirements, or by what those need.

use pep440_rs::VersionSpecifiers;

use super::Resolution;
use crate::candidate;

impl Resolution<'_> {
    /// What the requirements themselves ask of torch, where a release that is known is that. Then no other is asked about, and
    /// no refusal speaks of a torch that nobody named.
    pub(super) fn torch_asked_for(&self) -> Option<VersionSpecifiers> {
        let base = self.request.bases.first().copied()?;
        let direct = self.direct(self.target(base)).into_iter().find(|d| d.name == "torch")?;
        let all = direct.specifiers.iter().flat_map(|specifiers| specifiers.iter().cloned());
        let all: VersionSpecifiers = all.collect();
        (all.iter().next().is_some() && candidate::is_known(&all)).then_some(all)
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
