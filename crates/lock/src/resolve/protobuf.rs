//! Packages with modules that protoc generated for another protobuf than the one in the set, where METADATA allows it all
//! the same.

use pep440_rs::Version;

use super::Resolution;
use crate::document::Wheel;
use crate::index::Generated;
use crate::source::SOURCE;

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
        for (Wheel { name, version: own, .. }, answer) in others.iter().zip(answers) {
            let Ok(modules) = answer else { continue };
            let faults = modules.iter().map(|module| fault(module, &version, is_native));
            let faults: Option<Vec<String>> = faults.collect();
            if let Some(fault) = faults.as_deref().and_then(<[String]>::first) {
                self.explanation.note(format!("{name} {own}: {fault}"));
            }
        }
    }
}

/// Why a module can't be imported with a release of protobuf; nothing where it can.
fn fault(module: &Generated, protobuf: &Version, is_native: bool) -> Option<String> {
    let Generated { of, least, below } = module;
    let part = |at: usize| protobuf.release().get(at).copied().unwrap_or_default();
    if let Some(least) = least.filter(|least| [part(0), part(1), part(2)] < *least) {
        let [major, minor, patch] = least;
        return Some(format!(
            "{of} was generated for protobuf {major}.{minor}.{patch} or newer and can't be imported with protobuf {protobuf}: \
             `protobuf>={major}.{minor}.{patch}` among the requirements asks for one that it fits"
        ));
    }
    let below = below.filter(|below| is_native && part(0) >= *below)?;
    Some(format!(
        "{of} was generated for protobuf below {below} and can't be imported with protobuf {protobuf}: `protobuf<{below}` among \
         the requirements asks for one that it fits"
    ))
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
