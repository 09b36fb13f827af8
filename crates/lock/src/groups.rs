//! The dependency groups of a pyproject.toml (PEP 735): whether each includes only groups that are there, and none itself.
//! uv reads all of them whichever is asked for, and refuses them without a line.

use std::collections::BTreeMap;

use toml_edit::{Item, TableLike, Value};

use crate::wheel_name::normalise;

/// What is wrong with the groups: the item with the fault, what of it is shown, and why.
pub(crate) struct GroupFault<'a> {
    pub item: &'a Item,
    pub text: String,
    pub why: String,
}

/// The most groups that include each other in a row.
const MOST: usize = 64;

/// Checks the table `[dependency-groups]`.
pub(crate) fn check(table: &dyn TableLike) -> Result<(), GroupFault<'_>> {
    let mut includes: BTreeMap<String, (&Item, Vec<String>)> = BTreeMap::new();
    for (name, item) in table.iter() {
        let fault = |why: String| GroupFault { item, text: name.to_owned(), why };
        let Some(list) = item.as_array() else {
            return Err(fault("a dependency group is a list of requirements".into()));
        };
        let mut into = Vec::new();
        for value in list {
            let included = match value {
                Value::String(_) => continue,
                Value::InlineTable(table) if table.len() == 1 => table.get("include-group"),
                _ => None,
            };
            let Some(included) = included.and_then(Value::as_str) else {
                let shown = value.to_string();
                return Err(fault(format!(
                    "{} is neither a requirement nor `{{include-group = \"name\"}}`",
                    shown.trim()
                )));
            };
            into.push(included.to_owned());
        }
        includes.insert(normalise(name), (item, into));
    }
    for (name, (item, into)) in &includes {
        let fault = |why: String| GroupFault { item, text: name.clone(), why };
        if let Some(none) = into.iter().find(|other| !includes.contains_key(&normalise(other))) {
            return Err(fault(format!(
                "it includes the group `{none}`, and there is none of that name"
            )));
        }
        if returns(name, &includes) {
            return Err(fault("it includes itself, by way of the groups that it includes".into()));
        }
    }
    Ok(())
}

/// Whether a group leads back to itself.
fn returns(name: &str, includes: &BTreeMap<String, (&Item, Vec<String>)>) -> bool {
    let mut reached: Vec<String> = Vec::new();
    let mut next = vec![name.to_owned()];
    for _ in 0..MOST {
        let inner = next.iter().filter_map(|name| includes.get(name));
        let mut found: Vec<String> =
            inner.flat_map(|(_, into)| into.iter().map(|name| normalise(name))).collect();
        if found.iter().any(|found| found == name) {
            return true;
        }
        found.retain(|found| !reached.contains(found));
        found.sort();
        found.dedup();
        if found.is_empty() {
            break;
        }
        reached.extend(found.iter().cloned());
        next = found;
    }
    false
}
