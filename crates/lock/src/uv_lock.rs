//! Whether a uv.lock is of the pyproject.toml beside it: it says which dependencies it was made for.
//!
//! uv, "Locking and syncing": a lock whose project has changed is out of date, and `uv lock` brings it up to date.

use std::collections::BTreeMap;

use pep508_rs::{Requirement, VerbatimUrl, VersionOrUrl};
use toml::{Table, Value};

use crate::wheel_name::normalise;

/// What is asked of each package, without conditions: the ranges in their order, `None` for one from a place of its own.
type Asked = BTreeMap<String, Vec<Option<String>>>;

/// What is not the same in a uv.lock and in the pyproject.toml beside it, in words; nothing where they fit, or where one of
/// them does not say.
pub(crate) fn stale(lock: &str, pyproject: &str) -> Option<String> {
    let locked = of_lock(&lock.parse().ok()?)?;
    let asked = of_project(&pyproject.parse().ok()?)?;
    let differs = |name: &&String| asked.get(*name) != locked.get(*name);
    let name = asked.keys().chain(locked.keys()).find(differs)?;
    let shown = |all: &Asked| match all.get(name) {
        None => format!("does not have {name}"),
        Some(ranges) => {
            let range = ranges.iter().flatten().next().map(String::as_str).unwrap_or_default();
            format!("has {name}{range}")
        }
    };
    Some(format!("it was made for one that {}, and this one {}", shown(&locked), shown(&asked)))
}

/// What the project of a uv.lock asked for.
fn of_lock(lock: &Table) -> Option<Asked> {
    let packages = lock.get("package")?.as_array()?;
    let is_own = |package: &&Value| {
        let at = |key| package.get("source").and_then(|source| source.get(key));
        [at("editable"), at("virtual")].into_iter().flatten().any(|at| at.as_str() == Some("."))
    };
    let metadata = packages.iter().find(is_own)?.get("metadata")?;
    let mut asked = Asked::new();
    for wanted in metadata.get("requires-dist").and_then(Value::as_array).into_iter().flatten() {
        let name = wanted.get("name")?.as_str()?;
        let text = wanted.get("specifier").and_then(Value::as_str).unwrap_or_default();
        let placed = ["git", "url", "path", "directory", "editable", "virtual"];
        let placed = placed.iter().any(|key| wanted.get(*key).is_some());
        add(&mut asked, name, (!placed).then(|| range(text)));
    }
    Some(asked)
}

/// What a pyproject.toml asks for, extras included.
fn of_project(project: &Table) -> Option<Asked> {
    let table = project.get("project")?;
    let sources = project.get("tool").and_then(|tool| tool.get("uv")?.get("sources"));
    let lists = table.get("dependencies").into_iter();
    let optional = table.get("optional-dependencies").and_then(Value::as_table).into_iter();
    let lists = lists.chain(optional.flat_map(Table::values));
    let mut asked = Asked::new();
    for text in lists.filter_map(Value::as_array).flatten() {
        let wanted: Requirement<VerbatimUrl> = text.as_str()?.parse().ok()?;
        let name = normalise(wanted.name.as_ref());
        let source = sources.and_then(|sources| {
            let named = |(key, _): &(&String, &Value)| normalise(key) == name;
            sources.as_table()?.iter().find(named).map(|(_, source)| source)
        });
        // Where a source names a place, what uv writes depends on it: that is not compared.
        let placed = source.is_some_and(|source| source.get("index").is_none());
        let text = match &wanted.version_or_url {
            _ if placed => None,
            None => Some(String::new()),
            Some(VersionOrUrl::VersionSpecifier(specifiers)) => Some(specifiers.to_string()),
            Some(VersionOrUrl::Url(_)) => None,
        };
        add(&mut asked, &name, text.map(|text| range(&text)));
    }
    Some(asked)
}

fn add(asked: &mut Asked, name: &str, range: Option<String>) {
    let ranges = asked.entry(normalise(name)).or_default();
    ranges.push(range);
    ranges.sort();
    ranges.dedup();
    if ranges.contains(&None) {
        *ranges = vec![None];
    }
}

/// A range with its parts in one order.
fn range(text: &str) -> String {
    let mut parts: Vec<String> =
        text.split(',').map(|part| part.split_whitespace().collect()).collect();
    parts.sort();
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::stale;

    const LOCK: &str = r#"
version = 1
[[package]]
name = "six"
version = "1.17.0"
source = { registry = "https://index.example.invalid/simple" }
[[package]]
name = "x"
version = "1"
source = { virtual = "." }
[package.metadata]
requires-dist = [
    { name = "idna", marker = "extra == 'more'", specifier = ">=3" },
    { name = "six", specifier = ">=1.16,<2" },
    { name = "torch", index = "https://index.example.invalid/simple", specifier = ">=2" },
    { name = "own", path = "own.whl" },
]
"#;

    fn project(dependencies: &str, more: &str) -> String {
        format!(
            "[project]\nname = \"x\"\ndependencies = [{dependencies}]\n\
             [project.optional-dependencies]\nmore = [{more}]\n\
             [tool.uv.sources]\ntorch = {{ index = \"lab\" }}\nown = {{ path = \"own.whl\" }}\n"
        )
    }

    #[test]
    fn a_lock_of_another_project() {
        let same = project("\"Six<2, >=1.16\", \"torch>=2\", \"own>=1\"", "\"idna >=3\"");
        assert_eq!(stale(LOCK, &same), None);
        let said = |dependencies: &str| stale(LOCK, &project(dependencies, "\"idna>=3\"")).unwrap();
        assert_eq!(
            said("\"six>=1.17\", \"torch>=2\", \"own\""),
            "it was made for one that has six<2,>=1.16, and this one has six>=1.17"
        );
        assert_eq!(
            said("\"six<2,>=1.16\", \"torch>=2\", \"own\", \"attrs\""),
            "it was made for one that does not have attrs, and this one has attrs"
        );
        assert_eq!(
            said("\"six<2,>=1.16\", \"own\""),
            "it was made for one that has torch>=2, and this one does not have torch"
        );
    }

    #[test]
    fn what_does_not_say() {
        let any = project("\"attrs\"", "");
        for lock in ["", "version = 1", "[[package]]\nname = \"x\"\nsource = { virtual = \".\" }"] {
            assert_eq!(stale(lock, &any), None, "{lock}");
        }
        for project in ["", "[project]\nname = \"x\"\ndependencies = [\"not a name\"]", "not toml"]
        {
            assert_eq!(stale(LOCK, project), None, "{project}");
        }
    }
}
