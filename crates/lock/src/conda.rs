//! conda's environment.yml (conda, "Creating an environment file manually"): what stands under `pip:`, the
//! Python, torch and its CUDA, and the Python packages that PyPI has under a name that is known.

use std::fmt;
use std::path::Path;

use pep440_rs::VersionSpecifiers;
use sconce_facts::CudaVersion;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_saphyr::Spanned;

use crate::requirements_txt::{self, Ask, Fault, Line};

/// What an environment.yml asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Environment {
    /// Requirements as a requirements.txt has them.
    pub lines: Vec<Line>,
    /// The Python.
    pub python: Option<VersionSpecifiers>,
    /// The CUDA that is asked for with torch.
    pub cuda: Option<CudaVersion>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    dependencies: Vec<Spanned<Item>>,
}

/// An item of `dependencies`.
enum Item {
    /// A package of conda: a match specification.
    Package(String),
    /// `pip:` and its lines.
    Pip(Vec<Spanned<String>>),
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Item;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a package, or `pip:` with a list")
            }

            fn visit_str<E>(self, text: &str) -> Result<Item, E> {
                Ok(Item::Package(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item, A::Error> {
                let mut lines = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    if key != "pip" {
                        map.next_value::<IgnoredAny>()?;
                        return Err(A::Error::custom(format!(
                            "`{key}:` is not known, only `pip:`"
                        )));
                    }
                    lines.extend(map.next_value::<Vec<Spanned<String>>>()?);
                }
                Ok(Item::Pip(lines))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// Reads the text of the environment.yml at `path`; relative paths in it count from its folder.
pub(crate) fn read(text: &str, path: &Path) -> Result<Environment, Fault> {
    let document: Document = serde_saphyr::from_str(text).map_err(|error| {
        let at = error.location();
        let number = at.map_or(1, |at| usize::try_from(at.line()).unwrap_or(1));
        let column = at.map_or(1, |at| at.column());
        let line = text.lines().nth(number.saturating_sub(1)).unwrap_or_default();
        fault(number, line.trim(), format!("column {column}: {}", words(&error)))
    })?;
    let mut found = Environment::default();
    for item in &document.dependencies {
        let number = line_of(item);
        match &item.value {
            Item::Package(text) => package(text, number, path, &mut found)?,
            Item::Pip(lines) => {
                for line in lines {
                    let number = line_of(line);
                    let read = requirements_txt::parse(&line.value, path)
                        .map_err(|fault| Fault { number, ..fault })?;
                    found.lines.extend(read.into_iter().map(|line| Line { number, ..line }));
                }
            }
        }
    }
    Ok(found)
}

/// What is wrong with a document, in our words: the library's are those of its parser.
fn words(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error as E;
    let words = match error.without_snippet() {
        E::Message { msg, .. } => return msg.clone(),
        E::Eof { .. } => "it ends where more should come",
        E::MultipleDocuments { .. } => "a second document begins here, and one is read",
        E::DuplicateMappingKey { .. } => "this key is there twice",
        E::UnknownAnchor { .. } => "no anchor of this name comes before it",
        E::Budget { .. }
        | E::AliasExpansionLimitExceeded { .. }
        | E::AliasReplayLimitExceeded { .. } => {
            "it is too large, or its aliases stand for too much"
        }
        E::AliasError { .. } => {
            "what its aliases stand for is not read: it is too large, or not what belongs here"
        }
        E::Unexpected { .. } | E::SerdeInvalidType { .. } | E::NullIntoString { .. } => {
            "a list belongs here: `dependencies:` has one of packages, and `pip:` in it one of requirements"
        }
        _ => "it is not YAML from here on",
    };
    words.to_owned()
}

fn line_of<T>(item: &Spanned<T>) -> usize {
    usize::try_from(item.referenced.line()).unwrap_or(1)
}

fn fault(number: usize, text: &str, why: impl Into<String>) -> Fault {
    Fault { number, text: text.chars().take(120).collect(), why: why.into(), builds: false }
}

/// Takes a match specification: `channel::name`, a version, and a build, which is of no use here.
fn package(text: &str, number: usize, path: &Path, found: &mut Environment) -> Result<(), Fault> {
    let wrong = |why: String| fault(number, text, why);
    let spec = text.rsplit("::").next().unwrap_or(text).trim();
    let end = spec.find(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c));
    let (name, version) = spec.split_at(end.unwrap_or(spec.len()));
    let name = name.to_ascii_lowercase();
    let version = specifiers(version.trim()).ok_or_else(|| {
        wrong("its version is not read here: `name=1.2`, `name==1.2.3` and `name>=1,<2` are".into())
    })?;
    if name == "python" {
        found.python = Some(version);
        return Ok(());
    }
    let Some(row) = sconce_facts::conda(&name) else {
        return Err(wrong(format!(
            "what conda's {name} is on PyPI is not known here: a Python package belongs under `pip:`, a \
             library in `packages` under [base] of sconce.toml; an exported file lists all that came \
             along, and `conda env export --from-history` what was asked for"
        )));
    };
    if row.cuda {
        let first = version.iter().next().map(|one| one.version().release().to_vec());
        if let Some([major, minor, ..]) = first.as_deref() {
            let (major, minor) = (u16::try_from(*major), u16::try_from(*minor));
            if let (Ok(major), Ok(minor)) = (major, minor) {
                found.cuda = Some(CudaVersion { major, minor });
            }
        }
    }
    if let Some(name) = &row.pypi {
        let ask = Ask::Requirement(format!("{name}{version}").replace(", ", ","));
        found.lines.push(Line { file: path.to_owned(), number, ask });
    }
    Ok(())
}

/// A version of a match specification (conda, "Package match specifications") as PEP 440 has it: `=1.2`
/// and `1.2.*` are any 1.2, and what follows a second `=` or a blank is the build.
fn specifiers(text: &str) -> Option<VersionSpecifiers> {
    let any_of = |text: &str| format!("=={}.*", text.trim_end_matches(".*").trim_end_matches('*'));
    let text = match text {
        "" | "*" => return Some(VersionSpecifiers::empty()),
        text if text.starts_with(['>', '<', '!', '~']) => text.to_owned(),
        text if text.starts_with("==") => text.to_owned(),
        text => {
            let text = text.trim_start_matches('=').trim_start();
            let mut parts = text.split(['=', ' ']);
            match (parts.next()?, parts.next()) {
                (version, Some(_)) if !version.contains('*') => format!("=={version}"),
                (version, _) => any_of(version),
            }
        }
    };
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> String {
        specifiers(text).map_or("none".into(), |found| found.to_string())
    }

    #[test]
    fn versions() {
        for (conda, pep440) in [
            ("", ""),
            ("=3.11", "==3.11.*"),
            ("=3.11.*", "==3.11.*"),
            ("==1.24.3", "==1.24.3"),
            (">=1.2,<2", ">=1.2, <2"),
            ("=2.1.0=py3.10_cuda12.1_cudnn8.9.2_0", "==2.1.0"),
            ("1.26.*", "==1.26.*"),
            ("=1.2|=1.4", "none"),
            ("[version='>1']", "none"),
        ] {
            assert_eq!(of(conda), pep440, "{conda}");
        }
    }
}
