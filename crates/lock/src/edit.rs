//! Changing the requirements in the text of a `sconce.toml`: comments, order and layout stay.

use std::path::Path;

use toml_edit::{Array, DocumentMut, Item, Table, Value};

use crate::error::Error;
use crate::requirements::{FileKind, RequirementsFile};
use crate::requirements_txt::checked;
use crate::wheel_name::normalise;

/// The text with these requirements in `environment.requirements`; one of the same name is replaced. A
/// file that stands there becomes the first item of a list: `-r requirements.txt`.
///
/// # Errors
/// The text is no `sconce.toml`, or a requirement is none.
pub fn add(text: &str, requirements: &[String]) -> Result<String, Error> {
    for requirement in requirements {
        checked(requirement, Path::new("")).map_err(|(why, builds)| Error::Edit {
            message: format!("`{requirement}`: {why}"),
            hint: builds.then(|| crate::error::NO_BUILDS.to_owned()),
        })?;
    }
    let mut document = parse(text)?;
    let array = list(&mut document)?;
    for requirement in requirements {
        let name = name_of(requirement);
        let known = array.iter().position(|item| item.as_str().map(name_of) == Some(name.clone()));
        match known {
            Some(at) => {
                let decor = array.get(at).map(|old| old.decor().clone());
                array.replace(at, requirement.as_str());
                if let (Some(new), Some(decor)) = (array.get_mut(at), decor) {
                    *new.decor_mut() = decor;
                }
            }
            None => push(array, requirement),
        }
    }
    Ok(document.to_string())
}

/// The package that a requirement asks for, normalised; `None` where it is not a requirement.
pub fn package_of(requirement: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    Some(name_of(requirement)).filter(|name| !name.is_empty() && name.chars().all(plain))
}

/// The text without the requirements of these names.
///
/// # Errors
/// The text is no `sconce.toml`, or a name does not stand there.
pub fn remove(text: &str, names: &[String]) -> Result<String, Error> {
    let mut document = parse(text)?;
    let array = document
        .get_mut("environment")
        .and_then(Item::as_table_like_mut)
        .and_then(|table| table.get_mut("requirements"))
        .and_then(Item::as_array_mut);
    let missing = |name: &str| Error::Edit {
        message: format!("`{name}` is not in the requirements of sconce.toml"),
        hint: Some("what a file that it names asks for is removed there".into()),
    };
    let Some(array) = array else { return Err(missing(names.first().map_or("", |name| name))) };
    for name in names {
        let is = |item: &Value| item.as_str().map(name_of) == Some(name_of(name));
        let at = array.iter().position(is).ok_or_else(|| missing(name))?;
        take(array, at);
    }
    Ok(document.to_string())
}

fn parse(text: &str) -> Result<DocumentMut, Error> {
    // What is wrong is said by whoever reads it for what it means.
    crate::spec::Spec::parse(text)?;
    text.parse().map_err(|error: toml_edit::TomlError| Error::Edit {
        message: format!("sconce.toml: {}", error.message()),
        hint: None,
    })
}

/// The list of requirements, made where there is none.
fn list(document: &mut DocumentMut) -> Result<&mut Array, Error> {
    let wrong = |message: &str| Error::Edit { message: message.to_owned(), hint: None };
    let environment = document.entry("environment").or_insert(Item::Table(Table::new()));
    let table = environment
        .as_table_like_mut()
        .ok_or_else(|| wrong("[environment] of sconce.toml is not a table"))?;
    let item = table.entry("requirements").or_insert(Item::Value(Array::new().into()));
    if let Some(path) = item.as_str().map(str::to_owned) {
        if RequirementsFile::new(&path)
            .is_some_and(|file| matches!(file.kind, FileKind::Pylock | FileKind::UvLock))
        {
            return Err(Error::Edit {
                message: format!("{path} is taken as it is: nothing can be added to it here"),
                hint: Some("add it where that file is made".into()),
            });
        }
        if RequirementsFile::new(&path).is_some_and(|file| file.kind == FileKind::Conda) {
            return Err(Error::Edit {
                message: format!("nothing can be added beside {path} here"),
                hint: Some(format!("add it under `pip:` in {path}")),
            });
        }
        let mut list = Value::from(Array::from_iter([format!("-r {path}")]));
        if let Some(file) = item.as_value() {
            *list.decor_mut() = file.decor().clone();
        }
        *item = Item::Value(list);
    }
    item.as_array_mut().ok_or_else(|| wrong("`requirements` of sconce.toml is not a list"))
}

/// What an item asks for, by name: the whole of it where it is not a requirement.
fn name_of(item: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let item = item.trim();
    match item.split(|c| !plain(c)).next() {
        Some(name) if !name.is_empty() && !item.starts_with('-') => normalise(name),
        _ => item.to_owned(),
    }
}

/// What stands before a value: the rest of the line before it, and its own lines.
fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once('\n') {
        Some((head, lines)) => (head, Some(lines)),
        None => (text, None),
    }
}

fn prefix(value: &Value) -> String {
    value.decor().prefix().and_then(|raw| raw.as_str()).unwrap_or_default().to_owned()
}

/// Adds an item: on a line of its own where the last one has that, with the comment behind the last one
/// left where it is.
fn push(array: &mut Array, requirement: &str) {
    let last = array.len().checked_sub(1).and_then(|at| array.get(at)).map(prefix);
    let indent = last.as_deref().and_then(|last| Some(last.rsplit_once('\n')?.1.to_owned()));
    let Some(indent) = indent else {
        array.push(requirement);
        return;
    };
    let mut behind = array.trailing().as_str().unwrap_or_default().to_owned();
    if let Some(last) = array.len().checked_sub(1).and_then(|at| array.get_mut(at)) {
        // Without a comma behind it, what follows the last value is its own.
        let suffix = last.decor().suffix().and_then(|raw| raw.as_str()).unwrap_or_default();
        behind.insert_str(0, suffix);
        last.decor_mut().set_suffix("");
    }
    let (head, lines) = split(&behind);
    let end = lines.and_then(|lines| lines.rsplit_once('\n')).map_or(lines, |(_, end)| Some(end));
    let between = lines.and_then(|lines| lines.rsplit_once('\n')).map(|(between, _)| between);
    let between = between.map(|between| format!("{between}\n")).unwrap_or_default();
    let new = Value::from(requirement).decorated(format!("{head}\n{between}{indent}"), "");
    let end = format!("\n{}", end.unwrap_or_default());
    array.push_formatted(new);
    array.set_trailing(end);
    array.set_trailing_comma(true);
}

/// Takes an item out, with its own comments; the comment behind the item before it stays.
fn take(array: &mut Array, at: usize) {
    let removed = prefix(&array.remove(at));
    let (head, lines) = split(&removed);
    let joined = |next: &str| match (lines, split(next)) {
        (Some(_), (_, Some(rest))) => format!("{head}\n{rest}"),
        // All on one line.
        _ if at == 0 => head.to_owned(),
        _ => next.to_owned(),
    };
    if let Some(next) = array.get_mut(at) {
        let text = joined(&prefix(next));
        next.decor_mut().set_prefix(text);
    } else {
        let text = joined(array.trailing().as_str().unwrap_or_default());
        array.set_trailing(text);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(
        edit: fn(&str, &[String]) -> Result<String, Error>,
        text: &str,
        words: &[&str],
        expected: Expect,
    ) {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        match edit(text, &words) {
            Ok(new) => {
                crate::spec::Spec::parse(&new).unwrap_or_else(|error| panic!("{error} in:\n{new}"));
                expected.assert_eq(&new);
            }
            Err(error) => expected.assert_eq(&error.to_string()),
        }
    }

    const LINES: &str = "# mine\n[environment] # env\ntorch = false\nrequirements = [\n    \"a\", # why a\n    # about b\n    \"B_b>=1\", # why b\n    \"c\", # why c\n    # the end\n]\n\n[app]\nworkdir = \"/w\" # w\n";

    #[test]
    fn adds() {
        check(
            add,
            "",
            &["einops"],
            expect![[r#"
            [environment]
            requirements = ["einops"]
        "#]],
        );
        check(
            add,
            "[environment]\nrequirements = ['a', \"b\"] # x\n",
            &["c>1", "b==2"],
            expect![[r#"
            [environment]
            requirements = ['a', "b==2", "c>1"] # x
        "#]],
        );
        check(
            add,
            LINES,
            &["d"],
            expect![[r#"
            # mine
            [environment] # env
            torch = false
            requirements = [
                "a", # why a
                # about b
                "B_b>=1", # why b
                "c", # why c
                # the end
                "d",
            ]

            [app]
            workdir = "/w" # w
        "#]],
        );
        check(
            add,
            "[environment]\nrequirements = [\n  \"a\" # why a\n]\n",
            &["b"],
            expect![[r#"
            [environment]
            requirements = [
              "a", # why a
              "b",
            ]
        "#]],
        );
        check(
            add,
            "[environment]\nrequirements = \"requirements.txt\" # x\n",
            &["b"],
            expect![[r#"
            [environment]
            requirements = ["-r requirements.txt", "b"] # x
        "#]],
        );
        check(
            add,
            "",
            &["./folder"],
            expect!["`./folder`: it is a folder, whose code would run here to build it"],
        );
        check(
            add,
            "[environment]\nrequirements = 'pylock.toml'",
            &["b"],
            expect!["pylock.toml is taken as it is: nothing can be added to it here"],
        );
    }

    #[test]
    fn removes() {
        check(
            remove,
            LINES,
            &["b.b"],
            expect![[r#"
            # mine
            [environment] # env
            torch = false
            requirements = [
                "a", # why a
                "c", # why c
                # the end
            ]

            [app]
            workdir = "/w" # w
        "#]],
        );
        check(
            remove,
            LINES,
            &["a", "c"],
            expect![[r#"
            # mine
            [environment] # env
            torch = false
            requirements = [
                # about b
                "B_b>=1", # why b
                # the end
            ]

            [app]
            workdir = "/w" # w
        "#]],
        );
        check(
            remove,
            "[environment]\nrequirements = ['a', 'b', 'c']\n",
            &["a", "c"],
            expect![[r#"
            [environment]
            requirements = ['b']
        "#]],
        );
        check(remove, LINES, &["z"], expect!["`z` is not in the requirements of sconce.toml"]);
        check(remove, "", &["z"], expect!["`z` is not in the requirements of sconce.toml"]);
    }
}
