//! The addresses that a project's files name, whole. A lock has them without login and query (`in_lock`); what
//! fetches them takes both from here.

use std::ffi::OsString;

use crate::place::{Place, place, scheme, variables};
use crate::pylock::{Pylock, Source};
use crate::requirements::FileKind;
use crate::requirements_txt::Ask;
use crate::spec::{Requirements, Spec};

impl Spec {
    /// All addresses on the network that wheels, indexes and collections of files have here, with their variables
    /// (`${TOKEN}`) as `env` has them.
    pub fn addresses(&self, env: &dyn Fn(&str) -> Option<OsString>) -> Vec<String> {
        let mut texts: Vec<String> = Vec::new();
        let environment = &self.environment;
        texts.extend(environment.indexes.iter().map(|index| index.url.clone()));
        match &environment.requirements {
            Requirements::List(list) => texts.extend(list.iter().filter_map(|text| direct(text))),
            Requirements::File(file) => {
                for line in file.lines.iter().chain(&file.constraints) {
                    match &line.ask {
                        Ask::Requirement(text) => texts.extend(direct(text)),
                        Ask::Option(text) => texts.extend(value(text)),
                        Ask::RequireHashes | Ask::File { .. } => {}
                    }
                }
                if file.kind == FileKind::Pylock
                    && let Ok(lock) = Pylock::parse(file.text.as_deref().unwrap_or_default())
                {
                    let wheels = lock.packages.into_iter().flat_map(|package| package.wheels);
                    texts.extend(wheels.filter_map(|wheel| match wheel.source {
                        Source::Direct(url) => Some(url),
                        Source::Index(_) => None,
                    }));
                }
                for project in &file.projects {
                    let sources = &project.sources;
                    texts.extend(sources.indexes.iter().map(|(_, _, url)| url.clone()));
                    texts.extend(sources.options.iter().filter_map(|(_, text)| value(text)));
                    texts.extend(sources.direct.iter().filter_map(|row| match &row.place {
                        Place::Network(url) => Some(url.clone()),
                        Place::Local(_) => None,
                    }));
                }
            }
        }
        texts.retain(|text| matches!(place(text), Place::Network(_)));
        texts.iter().map(|text| filled(text, env)).collect()
    }
}

/// The address of a requirement that gives one.
pub(crate) fn direct(requirement: &str) -> Option<String> {
    let target = match requirement.split_once('@') {
        Some((name, target)) if !name.contains([':', '/']) => target.trim(),
        _ if scheme(requirement).is_some() => requirement,
        _ => return None,
    };
    let end = target.find([' ', '\t', '[']).unwrap_or(target.len());
    Some(target[..end].to_owned())
}

/// The value of an option in the form in which uv gets it.
fn value(option: &str) -> Option<String> {
    option.split_once(' ').map(|(_, value)| value.trim().to_owned())
}

/// A text with its variables filled in as uv does; those that are not set stay.
fn filled(text: &str, env: &dyn Fn(&str) -> Option<OsString>) -> String {
    let mut filled = text.to_owned();
    for name in variables(text) {
        if let Some(value) = env(name).and_then(|value| value.into_string().ok()) {
            filled = filled.replace(&format!("${{{name}}}"), &value);
        }
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_whole() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"[environment]
            torch = false
            requirements = ["a @ https://u:${WORD}@h.invalid/a-1-py3-none-any.whl?t=1 ; python_version > '3'", "b>=1"]
            indexes = [{ name = "x", url = "https://i.invalid/?q=2" }]"#;
        let spec = Spec::of_text(text, folder.path()).unwrap();
        let env = |name: &str| (name == "WORD").then(|| "pass".into());
        assert_eq!(
            spec.addresses(&env),
            ["https://i.invalid/?q=2", "https://u:pass@h.invalid/a-1-py3-none-any.whl?t=1"]
        );
    }
}
