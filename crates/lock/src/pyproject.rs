//! What a pyproject.toml asks for, as far as uv reads it: `[project] dependencies` (PEP 621) and
//! `[tool.uv.sources]` for them. Whatever would have to be built is refused.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use pep440_rs::VersionSpecifiers;
use toml_edit::{Document, DocumentMut, Item, TableLike};

use crate::error::{Error, Place as TextPlace};
use crate::groups::{self, GroupFault};
use crate::leads::Leads;
use crate::place::{Place, file_url, place, wheel_place};
use crate::requirements::shown;
use crate::requirements_txt::{Fault, checked};
use crate::spec::ProjectRequest;
use crate::wheel_name::normalise;

/// A place that a dependency is taken from, and the line that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Direct {
    pub number: usize,
    /// As it is written.
    pub text: String,
    pub place: Place,
}

/// What a pyproject.toml takes from elsewhere than the indexes of sconce.toml.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sources {
    /// Wheels at a place of their own.
    pub direct: Vec<Direct>,
    /// Indexes that a source names: the line, the name, the address.
    pub indexes: Vec<(usize, String, String)>,
    /// Indexes that a source names and `[[tool.uv.index]]` has not: the line, the source, the name.
    pub undeclared: Vec<(usize, String, String)>,
    /// Where else `[tool.uv]` has all packages looked for: the line, and an option of a requirements.txt.
    pub options: Vec<(usize, String)>,
}

/// What a pyproject.toml says besides what uv reads in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Project {
    pub path: PathBuf,
    /// The text for uv.
    pub given: String,
    /// What it takes from elsewhere.
    pub sources: Sources,
    /// Its dependencies, with the line of their list.
    pub dependencies: Vec<(usize, String)>,
    /// `[tool.uv] constraint-dependencies`, with their line.
    pub constraints: Vec<(usize, String)>,
    /// `[tool.uv] override-dependencies`.
    pub overrides: Vec<String>,
    /// `requires-python`.
    pub python: Option<VersionSpecifiers>,
    /// The names under `[project.optional-dependencies]`.
    pub extras: Vec<String>,
    /// The names under `[dependency-groups]` (PEP 735).
    pub groups: Vec<String>,
    /// Its name, where it has a `[build-system]` and so is a package.
    pub package: Option<String>,
}

/// The project of a pyproject.toml that is to be installed.
pub(crate) fn to_install(leads: &Leads) -> Result<ProjectRequest, Error> {
    let path = &leads.folder().join("pyproject.toml");
    let text = match crate::requirements::read_text(leads, path) {
        Ok(text) => text,
        Err(Error::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::Request {
                message: "`install` under [app] needs a pyproject.toml in this folder".into(),
                hint: Some(
                    "write one with [project] and [build-system], as `uv init --package` does"
                        .into(),
                ),
            });
        }
        Err(error) => return Err(error),
    };
    let wrong = |message: String| Error::Request {
        message: format!("`install` under [app]: {}: {message}", path.display()),
        hint: None,
    };
    let document = parse(&text).map_err(|fault| crate::requirements::refused(path, fault))?;
    let name =
        document.get("project").and_then(|project| project.get("name")).and_then(Item::as_str);
    let name = name.map(normalise).filter(|name| is_package_name(name));
    let name = name.ok_or_else(|| wrong("it has no `name` under [project] (PEP 621)".into()))?;
    let system = document.get("build-system").map(ToString::to_string).unwrap_or_default();
    Ok(ProjectRequest { name, system })
}

/// The document, where it is one.
pub(crate) fn parse(text: &str) -> Result<Document<&str>, Fault> {
    Document::parse(text).map_err(|error| {
        let at = TextPlace::at(text, error.span().map_or(0, |span| span.start));
        let message = error.message().trim().replace('\n', "; ");
        let why = format!("column {}: {message}", at.column);
        Fault { number: at.line, text: String::new(), why, builds: false }
    })
}

/// Whether a normalised name is one (PEP 503, PEP 508).
pub(crate) fn is_package_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=128).contains(&name.len()) && name.chars().all(plain) && !name.starts_with('-')
}

/// The way of a project whose dependencies are not in its pyproject.toml in a form that is read (poetry-plugin-export;
/// uv, "Compiling requirements", which has a build backend tell what is dynamic); nothing where it has none.
pub(crate) fn way(text: &str) -> Option<Cow<'static, str>> {
    let document = parse(text).ok()?;
    let project = |key: &str| document.get("project")?.get(key);
    if project("dependencies").is_some() {
        return None;
    }
    let poetry = document.get("tool").and_then(|tool| tool.get("poetry")?.get("dependencies"));
    let poetry = poetry.and_then(Item::as_table_like);
    if poetry.is_some_and(|table| table.iter().any(|(name, _)| name != "python")) {
        return Some(
            "`poetry export -o requirements.txt` writes what it needs as a file that is read: \
             requirements = \"requirements.txt\""
                .into(),
        );
    }
    let dynamic = project("dynamic").map(strings).unwrap_or_default();
    dynamic.iter().any(|name| name == "dependencies").then(|| match setuptools(&document) {
        Some(way) => way.into(),
        None => "`uv pip compile pyproject.toml -o requirements.txt` has its build backend tell what it needs, \
                 and writes it as a file that is read: requirements = \"requirements.txt\""
            .into(),
    })
}

/// Whether a text has a [project].
pub(crate) fn has_project(text: &str) -> bool {
    parse(text).is_ok_and(|document| document.get("project").is_some())
}

/// Whether a text has dependencies below [project], whatever else is wrong with it.
pub(crate) fn names_dependencies(text: &str) -> bool {
    let document = parse(text).ok();
    let found = document.as_ref().and_then(|document| document.get("project")?.get("dependencies"));
    found.is_some_and(|item| !strings(item).is_empty())
}

/// Where setuptools has dynamic dependencies from, as what reads them here (setuptools, "Configuring setuptools using
/// pyproject.toml files", Dynamic Metadata).
fn setuptools(document: &Document<&str>) -> Option<String> {
    let tool = document.get("tool")?.get("setuptools")?.get("dynamic")?.get("dependencies")?;
    let item = tool.get("file")?;
    let files = item.as_str().map_or_else(|| strings(item), |file| vec![file.to_owned()]);
    let keys: Vec<String> = files.iter().map(|file| format!("\"-r {file}\"")).collect();
    let key = keys.join(", ");
    (!keys.is_empty()).then(|| {
        let files = files.join(", ");
        format!("setuptools reads its dependencies from {files}, and `requirements = [{key}]` under [environment] reads the same")
    })
}

/// Reads a pyproject.toml at `path`; `groups` says whether its dependency groups are asked for.
pub(crate) fn read(text: &str, path: &Path, groups: bool) -> Result<Project, Fault> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut sources = check(text, groups)?;
    for (_, _, url) in &mut sources.indexes {
        if let Place::Local(local) = place(url) {
            *url = folder.join(local).to_string_lossy().into_owned();
        }
    }
    for (_, option) in &mut sources.options {
        if let Some((name, target)) = option.split_once(' ')
            && let Place::Local(local) = place(target)
        {
            *option = format!("{name} {}", file_url(&folder.join(local)));
        }
    }
    let fault = |number, text: &str, why: String| Fault {
        number,
        text: text.chars().take(120).collect(),
        why,
        builds: false,
    };
    let document = parse(text)?;
    let number = |item: &Item| item.span().map_or(1, |span| TextPlace::at(text, span.start).line);
    let project = |key: &str| document.get("project")?.get(key);
    let uv = |key: &str| document.get("tool")?.get("uv")?.get(key);
    let list = |item: Option<&Item>| -> Vec<(usize, String)> {
        let item = item.into_iter();
        item.flat_map(|item| strings(item).into_iter().map(|text| (number(item), text))).collect()
    };
    let names = |item: Option<&Item>| -> Vec<String> {
        let table = item.and_then(Item::as_table_like).into_iter();
        table.flat_map(|table| table.iter().map(|(name, _)| normalise(name))).collect()
    };
    let python = match project("requires-python") {
        None => None,
        Some(item) => {
            let text = item.as_str().unwrap_or_default();
            let parsed = text.parse().map_err(|error| {
                let words = |error: &dyn std::fmt::Display| shown(&error.to_string());
                fault(number(item), &format!("requires-python = {text:?}"), words(&error))
            });
            Some(parsed?)
        }
    };
    let overrides = list(uv("override-dependencies"));
    let constraints = list(uv("constraint-dependencies"));
    for (number, requirement) in overrides.iter().chain(&constraints) {
        let checked = checked(requirement, Path::new("/"));
        checked.map_err(|(why, builds)| Fault { builds, ..fault(*number, requirement, why) })?;
    }
    Ok(Project {
        path: path.to_owned(),
        given: given(text, folder).map_err(|error| fault(1, "", error.to_string()))?,
        sources,
        dependencies: list(project("dependencies")),
        constraints,
        overrides: overrides.into_iter().map(|(_, text)| text).collect(),
        python,
        extras: names(project("optional-dependencies")),
        groups: names(document.get("dependency-groups")),
        package: document
            .get("build-system")
            .and(project("name"))
            .and_then(Item::as_str)
            .map(str::to_owned),
    })
}

/// The text that uv gets in place of the file: what was judged, whatever has become of the file since. It
/// stands in another folder, so paths are absolute, and it is a workspace of its own: uv looks for one in
/// the folders above it (uv, "Using workspaces").
fn given(text: &str, folder: &Path) -> Result<String, toml_edit::TomlError> {
    let mut document: DocumentMut = text.parse()?;
    let requirements = |item: &mut Item| {
        for value in item.as_array_mut().into_iter().flat_map(|array| array.iter_mut()) {
            if let Some(Ok(checked)) = value.as_str().map(|text| checked(text, folder)) {
                *value = checked.into();
            }
        }
    };
    let path = |item: Option<&mut Item>| {
        let Some(item) = item else { return };
        if let Some(Place::Local(path)) = item.as_str().map(place) {
            *item = toml_edit::value(folder.join(path).to_string_lossy().into_owned());
        }
    };
    if let Some(project) = document.get_mut("project").and_then(Item::as_table_like_mut) {
        project.get_mut("dependencies").into_iter().for_each(requirements);
        each(project.get_mut("optional-dependencies"), requirements);
    }
    each(document.get_mut("dependency-groups"), requirements);
    let tool = document.entry("tool").or_insert_with(implicit);
    let uv = tool.as_table_like_mut().map(|tool| tool.entry("uv").or_insert_with(implicit));
    if let Some(uv) = uv.and_then(Item::as_table_like_mut) {
        each(uv.get_mut("sources"), |source| {
            each_table(source, |table| path(table.get_mut("path")));
        });
        if let Some(indexes) = uv.get_mut("index") {
            each_table(indexes, |table| path(table.get_mut("url")));
        }
        uv.insert("workspace", toml_edit::table());
    }
    Ok(document.to_string())
}

fn implicit() -> Item {
    let mut table = toml_edit::Table::new();
    table.set_implicit(true);
    Item::Table(table)
}

fn each(table: Option<&mut Item>, mut change: impl FnMut(&mut Item)) {
    let table = table.and_then(Item::as_table_like_mut);
    table.into_iter().for_each(|table| table.iter_mut().for_each(|(_, item)| change(item)));
}

/// One table, or a list of them.
fn each_table(item: &mut Item, mut change: impl FnMut(&mut dyn TableLike)) {
    if let Some(tables) = item.as_array_of_tables_mut() {
        tables.iter_mut().for_each(|table| change(table));
    } else if let Some(array) = item.as_array_mut() {
        array.iter_mut().filter_map(|value| value.as_inline_table_mut()).for_each(|t| change(t));
    } else if let Some(table) = item.as_table_like_mut() {
        change(table);
    }
}

/// Checks a pyproject.toml; what it takes from elsewhere. Its dependency groups count where they are asked for.
pub(crate) fn check(text: &str, with_groups: bool) -> Result<Sources, Fault> {
    let number = |item: &Item| item.span().map_or(1, |span| TextPlace::at(text, span.start).line);
    let fault = |number, text: &str, why: String, builds| Fault {
        number,
        text: text.chars().take(120).collect(),
        why,
        builds,
    };
    let document = parse(text)?;
    let Some(project) = document.get("project").and_then(Item::as_table_like) else {
        let poetry = document.get("tool").and_then(|tool| tool.get("poetry")?.get("dependencies"));
        if let Some(poetry) = poetry {
            let why = "what it needs stands there in Poetry's own form: `poetry export -o requirements.txt` \
                       writes it as a file that is read, and [project] dependencies are read as they are";
            let number = number(poetry);
            return Err(fault(number, "[tool.poetry.dependencies]", why.into(), false));
        }
        let why = "it has no [project] table: what it needs is known only by running its build \
                   backend";
        return Err(fault(1, "[project]", why.into(), true));
    };
    if let Some(dynamic) = project.get("dynamic")
        && strings(dynamic).iter().any(|name| name == "dependencies")
    {
        let (why, builds) = match setuptools(&document) {
            Some(way) => (way, false),
            None => {
                let why =
                    "its dependencies are dynamic: only its build backend, run, could tell them";
                (why.to_owned(), true)
            }
        };
        return Err(fault(number(dynamic), "dynamic", why, builds));
    }
    if let Some(table) = document.get("dependency-groups").and_then(Item::as_table_like) {
        groups::check(table).map_err(|GroupFault { item, text, why }| {
            fault(number(item), &format!("dependency-groups.{text}"), why, false)
        })?;
    }
    let mut found = Sources::default();
    let mut names = Vec::new();
    let dependencies = project.get("dependencies").into_iter();
    let optional = items(project.get("optional-dependencies"));
    let groups = items(document.get("dependency-groups").filter(|_| with_groups));
    for item in dependencies.chain(optional).chain(groups) {
        for requirement in strings(item) {
            let checked = checked(&requirement, Path::new("/"));
            checked.map_err(|(why, builds)| fault(number(item), &requirement, why, builds))?;
            let name = requirement
                .trim()
                .split(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c));
            names.extend(name.take(1).map(normalise));
            if let Some((_, target)) = requirement.split_once('@') {
                let target = target.split(" ;").next().unwrap_or(target).trim();
                found.direct.push(Direct {
                    number: number(item),
                    text: requirement.clone(),
                    place: place(target),
                });
            }
        }
    }
    let uv = |key: &str| document.get("tool")?.get("uv")?.get(key);
    let mut wanted = Vec::new();
    for (name, item) in
        uv("sources").and_then(Item::as_table_like).into_iter().flat_map(|table| table.iter())
    {
        if !names.contains(&normalise(name)) {
            continue;
        }
        for table in tables(item) {
            let words = format!("tool.uv.sources.{name}");
            let place = source(table).map_err(|why| fault(number(item), &words, why, true))?;
            let text = || words.clone();
            found.direct.extend(place.map(|place| Direct {
                number: number(item),
                text: text(),
                place,
            }));
            let index = table.get("index").and_then(Item::as_str).map(str::to_owned);
            wanted.extend(index.map(|index| (number(item), words.clone(), index)));
        }
    }
    for table in uv("index").map(tables).into_iter().flatten() {
        let text = |key: &str| table.get(key).and_then(Item::as_str).map(str::to_owned);
        if let (Some(name), Some(url)) = (text("name"), text("url"))
            && wanted.iter().any(|(.., index)| *index == name)
        {
            let line = uv("index").map_or(1, number);
            found.indexes.push((line, name, url));
        }
    }
    wanted.retain(|(.., index)| !found.indexes.iter().any(|(_, name, _)| name == index));
    found.undeclared = wanted;
    found.options = options(&uv, &number);
    Ok(found)
}

/// Where `[tool.uv]` has all packages looked for, in uv's order (uv, "Package indexes"): `uv pip compile` reads none
/// of it in a file that it is given.
fn options<'a>(
    uv: &dyn Fn(&str) -> Option<&'a Item>,
    number: &dyn Fn(&Item) -> usize,
) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, table) in uv("index").map(|item| lines(item, number)).into_iter().flatten() {
        let is = |key: &str| table.get(key).and_then(Item::as_bool) == Some(true);
        let Some(url) = table.get("url").and_then(Item::as_str).filter(|_| !is("explicit")) else {
            continue;
        };
        let flat = table.get("format").and_then(Item::as_str) == Some("flat");
        let option = match (flat, is("default")) {
            (true, _) => "--find-links",
            (false, true) => "--index-url",
            (false, false) => "--extra-index-url",
        };
        found.push((line, format!("{option} {url}")));
    }
    for (key, option) in [
        ("index-url", "--index-url"),
        ("extra-index-url", "--extra-index-url"),
        ("find-links", "--find-links"),
    ] {
        let Some(item) = uv(key) else { continue };
        let one = item.as_str().map(str::to_owned);
        let texts = one.into_iter().chain(strings(item));
        found.extend(texts.map(|text| (number(item), format!("{option} {text}"))));
    }
    if let Some(item) = uv("no-index").filter(|item| item.as_bool() == Some(true)) {
        found.push((number(item), "--no-index".to_owned()));
    }
    found
}

/// The place that a source of uv's names (uv, "Dependency sources"); in words, why it must be built.
fn source(table: &dyn TableLike) -> Result<Option<Place>, String> {
    let text = |key: &str| table.get(key).and_then(Item::as_str);
    if table.contains_key("git") {
        return Err("it is a repository, whose code would run here to build it".into());
    }
    if table.contains_key("workspace")
        || table.get("editable").is_some_and(|item| item.as_bool() != Some(false))
    {
        return Err("it is a folder, whose code would run here to build it".into());
    }
    match text("path").or_else(|| text("url")) {
        Some(target) => wheel_place(target).map(Some),
        None => Ok(None),
    }
}

/// What stands behind the keys of a table.
fn items(table: Option<&Item>) -> impl Iterator<Item = &Item> {
    let table = table.and_then(Item::as_table_like).into_iter();
    table.flat_map(|table| table.iter().map(|(_, item)| item))
}

fn strings(item: &Item) -> Vec<String> {
    let values = item.as_array().into_iter().flat_map(|array| array.iter());
    values.filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

/// The tables of [`tables`], each with its line.
fn lines<'a>(
    item: &'a Item,
    number: &dyn Fn(&Item) -> usize,
) -> impl Iterator<Item = (usize, &'a dyn TableLike)> {
    let first = number(item);
    // Only tables of their own (`[[tool.uv.index]]`) stand on lines of their own.
    let own: Vec<usize> = item.as_array_of_tables().map_or_else(Vec::new, |tables| {
        let item = |table: &toml_edit::Table| number(&Item::Table(table.clone()));
        tables.iter().map(item).collect()
    });
    let line = move |at: usize| own.get(at).copied().unwrap_or(first);
    tables(item).into_iter().enumerate().map(move |(at, table)| (line(at), table))
}

/// One table, or a list of them (a source for each marker).
fn tables(item: &Item) -> Vec<&dyn TableLike> {
    if let Some(tables) = item.as_array_of_tables() {
        return tables.iter().map(|table| table as &dyn TableLike).collect();
    }
    if let Some(array) = item.as_array() {
        let tables = array.iter().filter_map(|value| value.as_inline_table());
        return tables.map(|table| table as &dyn TableLike).collect();
    }
    item.as_table_like().into_iter().collect()
}
