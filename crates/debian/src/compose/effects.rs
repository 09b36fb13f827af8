//! What maintainer scripts would have done: the rows of `data/effects.toml`.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use sconce_layer::{Content, Kind, Meta};
use serde::Deserialize;

use super::tree::Tree;
use crate::{Error, Target};

const MAX_MASTER: u64 = 1 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Effects {
    directory: Vec<Directory>,
    link: Vec<Link>,
    copy: Vec<Copy>,
    file: Vec<File>,
    alternative: Vec<Alternative>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Directory {
    path: Vec<String>,
    mode: u32,
    #[serde(default)]
    gid: u32,
    package: String,
    #[serde(rename = "from")]
    _from: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Link {
    path: String,
    target: String,
    package: String,
    #[serde(rename = "from")]
    _from: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Copy {
    path: String,
    master: String,
    package: String,
    #[serde(rename = "from")]
    _from: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    path: String,
    text: String,
    mode: Option<u32>,
    /// A path in whose presence the row doesn't count.
    unless: Option<String>,
    package: String,
    #[serde(rename = "from")]
    _from: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Alternative {
    path: String,
    name: String,
    target: String,
    package: String,
    #[serde(rename = "from")]
    _from: String,
}

static EFFECTS: LazyLock<Effects> = LazyLock::new(|| {
    toml::from_str(include_str!("../../data/effects.toml"))
        .expect("data/effects.toml is part of the program, and a test reads it")
});

/// Adds what the scripts of `packages` would have.
pub(super) fn add(tree: &mut Tree, packages: &BTreeSet<&str>, target: Target) -> Result<(), Error> {
    let fill = |text: &str| {
        text.replace("{python}", &target.release.python).replace("{triplet}", target.arch.triplet())
    };
    let here = |package: &str| packages.contains(fill(package).as_str());
    for row in EFFECTS.directory.iter().filter(|row| here(&row.package)) {
        for path in &row.path {
            let meta = Meta { gid: row.gid, ..Meta::root(row.mode) };
            tree.add(&fill(path), Kind::Directory, meta)?;
        }
    }
    for row in EFFECTS.link.iter().filter(|row| here(&row.package)) {
        link(tree, &fill(&row.path), &row.target)?;
    }
    for row in EFFECTS.copy.iter().filter(|row| here(&row.package)) {
        // Scripts never overwrite what is there, and masters come and go between releases.
        if tree.get(&row.path).is_none() && tree.file(&row.master).is_some() {
            let content = Content::bytes(tree.read(&row.master, MAX_MASTER)?);
            tree.add(&row.path, Kind::File(content), Meta::FILE)?;
        }
    }
    for row in EFFECTS.file.iter().filter(|row| here(&row.package)) {
        let unless = row.unless.as_ref().is_some_and(|path| tree.get(path).is_some());
        if !unless && tree.get(&row.path).is_none() {
            let text = row.text.clone().into_bytes();
            let meta = row.mode.map_or(Meta::FILE, Meta::root);
            tree.add(&row.path, Kind::File(Content::bytes(text)), meta)?;
        }
    }
    for row in EFFECTS.alternative.iter().filter(|row| here(&row.package)) {
        let (path, name, target) = (fill(&row.path), fill(&row.name), fill(&row.target));
        let there = tree.follow(&target).is_some_and(|path| tree.get(&path).is_some());
        if there && tree.get(&path).is_none() {
            link(tree, &path, &format!("/etc/alternatives/{name}"))?;
            link(tree, &format!("etc/alternatives/{name}"), &target)?;
        }
    }
    Ok(())
}

/// A link where nothing or an empty folder is.
fn link(tree: &mut Tree, path: &str, target: &str) -> Result<(), Error> {
    if tree.is_directory(path) && !tree.has_children(path) {
        tree.remove(path);
    }
    match tree.get(path) {
        Some(_) => Ok(()),
        None => tree.add(path, Kind::Symlink { target: target.to_owned() }, Meta::SYMLINK),
    }
}
