//! Packages with modules that protoc generated for another protobuf than the one in the set, where METADATA allows it all
//! the same.

use pep440_rs::{Version, VersionSpecifiers};
use pep508_rs::{Requirement, VerbatimUrl, VersionOrUrl};

use super::Resolution;
use crate::document::Wheel;
use crate::index::Generated;
use crate::source::SOURCE;

/// The last release before 4.21, which follows 3.20 (<https://protobuf.dev/support/version-support/>, "Python").
const LAST_BEFORE_4: [u64; 3] = [3, 20, 3];

/// Why a module can't be imported with a release of protobuf, and with which one it can.
#[derive(Debug)]
struct Fault {
    why: String,
    /// What asks for a protobuf that it fits: ">=6.31.1".
    fits: VersionSpecifiers,
    /// One such release.
    release: Version,
    /// Whether the module is too new for the protobuf that is there.
    too_new: bool,
}

impl Resolution<'_> {
    /// Says of a set which packages can't import what protoc generated for them. Of a package with modules for several
    /// releases it chooses itself: one that suits is enough. What can't be read is not spoken of.
    pub(super) fn tell_protobuf(&mut self, wheels: &[Wheel]) {
        let Some(protobuf) = wheels.iter().find(|wheel| wheel.name == "protobuf") else { return };
        let Ok(version) = protobuf.version.parse::<Version>() else { return };
        let asked = |wheel: &&Wheel| wheel.name != "protobuf" && wheel.index != SOURCE;
        let others: Vec<Wheel> = wheels.iter().filter(asked).cloned().collect();
        let is_native = !protobuf.file.ends_with("-any.whl");
        let answers = self.index.generated(&others);
        let mut found = Vec::new();
        for (wheel, answer) in others.iter().zip(answers) {
            let Ok(modules) = answer else { continue };
            let faults = modules.iter().map(|module| fault(module, &version, is_native));
            let faults: Option<Vec<Fault>> = faults.collect();
            found.extend(faults.and_then(|all| all.into_iter().next()).map(|fault| (wheel, fault)));
        }
        if found.is_empty() {
            return;
        }
        let asks = self.asks_of_protobuf(&others);
        for (Wheel { name, version, .. }, Fault { why, fits, release, too_new }) in found {
            let forbids = asks.iter().find(|(.., allowed)| !allowed.contains(&release));
            let way_out = match forbids {
                None => {
                    format!(": `protobuf{fits}` among the requirements asks for one that it fits")
                }
                Some((who, text, _)) => {
                    let other = match too_new {
                        true => {
                            format!("an older {name} (`{name}<{version}` among the requirements)")
                        }
                        false => format!("another {name} than {version}"),
                    };
                    format!(", and {who} asks for `{text}`: {other} may fit")
                }
            };
            self.explanation.note(format!("{name} {version}: {why}{way_out}"));
        }
    }

    /// What packages ask of protobuf: which, in what words, and what that allows.
    fn asks_of_protobuf(&mut self, wheels: &[Wheel]) -> Vec<(String, String, VersionSpecifiers)> {
        let mut found = Vec::new();
        for (wheel, lines) in wheels.iter().zip(self.index.requires(wheels)) {
            for line in lines.unwrap_or_default() {
                let Ok(asked) = line.parse::<Requirement<VerbatimUrl>>() else { continue };
                // Under a marker of an extra it holds for those who ask for that one.
                if asked.name.as_ref() != "protobuf" || line.contains("extra ==") {
                    continue;
                }
                if let Some(VersionOrUrl::VersionSpecifier(allowed)) = asked.version_or_url {
                    let who = format!("{} {}", wheel.name, wheel.version);
                    let text: String = allowed.to_string().split_whitespace().collect();
                    found.push((who, format!("protobuf{text}"), allowed));
                }
            }
        }
        found
    }
}

/// Why a module can't be imported with a release of protobuf; nothing where it can.
fn fault(module: &Generated, protobuf: &Version, is_native: bool) -> Option<Fault> {
    let Generated { of, least, below } = module;
    let part = |at: usize| protobuf.release().get(at).copied().unwrap_or_default();
    let fault = |generated: String, fits: &str, release: [u64; 3], too_new| {
        Some(Fault {
            why: format!(
                "{of} was generated for protobuf {generated} and can't be imported with protobuf {protobuf}"
            ),
            fits: fits.parse().ok()?,
            release: Version::new(release),
            too_new,
        })
    };
    if let Some(least) = least.filter(|least| [part(0), part(1), part(2)] < *least) {
        let [major, minor, patch] = least;
        let text = format!("{major}.{minor}.{patch}");
        return fault(format!("{text} or newer"), &format!(">={text}"), least, true);
    }
    let below = below.filter(|below| is_native && part(0) >= *below)?;
    fault(format!("below {below}"), &format!("<{below}"), LAST_BEFORE_4, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_that_suit() {
        let module = |least, below| Generated { of: "a_pb2.py".to_owned(), least, below };
        for (module, protobuf, is_native, suits) in [
            (module(Some([6, 31, 1]), None), "6.31.0", true, false),
            (module(Some([6, 31, 1]), None), "6.31.1", true, true),
            (module(Some([6, 31, 1]), None), "7.1", true, true),
            (module(Some([3, 20, 0]), None), "3.19.6", true, false),
            (module(Some([3, 20, 0]), None), "3.20", false, true),
            (module(None, Some(4)), "4.25.8", true, false),
            (module(None, Some(4)), "4.25.8", false, true),
            (module(None, Some(4)), "3.20.3", true, true),
            (module(None, None), "6.33.0", true, true),
        ] {
            let found = fault(&module, &protobuf.parse().unwrap(), is_native);
            assert_eq!(found.is_none(), suits, "{module:?} {protobuf}: {found:?}");
        }
    }
}
