//! What differs between two locks or images.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use pep440_rs::Version as Pep440;
use sconce_blob::Digest;
use sconce_debian::Version as Debian;
use sconce_facts::DriverVersion;
use serde::Serialize;

use crate::contents::{Contents, Kind, LayerSize, Versions};
use crate::gpus::{self, Gpus};

/// What has a version that is higher or lower.
const VERSIONS: [&str; 7] = ["python", "glibc", "torch", "cuda", "cudnn", "nccl", "triton"];

/// In which way something is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// It was not there.
    Added,
    /// It is no longer there.
    Removed,
    /// A higher version.
    Newer,
    /// A lower version.
    Older,
    /// The same version, from another file.
    OtherFile,
    /// Neither is higher.
    Changed,
}

/// Whether two are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Nothing differs.
    Same,
    /// Something does.
    Differs,
    /// Nothing was found that differs, and not all could be read.
    Unknown,
}

/// One of the two.
#[derive(Debug, Clone, Serialize)]
pub struct Side {
    /// What was named.
    pub name: String,
    /// `lock` or `image`.
    pub kind: &'static str,
    /// Its digest.
    pub digest: Digest,
    /// The digest of what is locked.
    pub lock: Option<Digest>,
}

/// Something that the environment rests on.
#[derive(Debug, Clone, Serialize)]
pub struct FactChange {
    /// What: "python", "cuda".
    pub what: String,
    /// Before.
    pub before: Option<String>,
    /// After.
    pub after: Option<String>,
    /// In which way.
    pub how: How,
}

/// A package.
#[derive(Debug, Clone, Serialize)]
pub struct PackageChange {
    /// Whose.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The version before; several where an image had it several times.
    pub before: Option<String>,
    /// The version after.
    pub after: Option<String>,
    /// In which way.
    pub how: How,
}

/// A layer.
#[derive(Debug, Clone, Serialize)]
pub struct LayerChange {
    /// What is in it.
    pub name: String,
    /// Its bytes before.
    pub before: Option<u64>,
    /// Its bytes after.
    pub after: Option<u64>,
    /// Whether it is the same layer, whose bytes need not move.
    pub same: bool,
}

/// Bytes.
#[derive(Debug, Clone, Serialize)]
pub struct Layers {
    /// Of all layers before.
    pub before: u64,
    /// Of all layers after.
    pub after: u64,
    /// Of those after that were not there before: what a pull moves.
    pub new: u64,
    /// Each.
    pub rows: Vec<LayerChange>,
}

/// Bytes before and after.
#[derive(Debug, Clone, Serialize)]
pub struct Moved {
    /// Before.
    pub before: u64,
    /// After.
    pub after: u64,
}

/// What differs.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    /// The first.
    pub before: Side,
    /// The second.
    pub after: Side,
    /// Whether they are the same.
    pub verdict: Change,
    /// What they rest on.
    pub facts: Vec<FactChange>,
    /// GPUs.
    pub gpus: Gpus,
    /// Packages: Python's first, each kind by name.
    pub packages: Vec<PackageChange>,
    /// Layers, where both have them.
    pub layers: Option<Layers>,
    /// Bytes to download, of two locks, as far as sizes are known.
    pub download: Option<Moved>,
    /// What could not be read or compared.
    pub notes: Vec<String>,
}

/// Compares two.
#[must_use]
pub fn difference(before: &Contents, after: &Contents) -> Difference {
    let facts = facts(before, after);
    let packages = packages(before, after);
    let layers = before.layers.as_ref().zip(after.layers.as_ref());
    let layers = layers.map(|(before, after)| self::layers(before, after));
    let mut notes: Vec<String> = Vec::new();
    for one in [before, after] {
        notes.extend(one.unread.iter().map(|what| format!("{}: {what}", one.name)));
    }
    let other_layers = layers.as_ref().is_some_and(|layers| {
        let rows = &layers.rows;
        !rows.iter().all(|row| row.same) && (before.kind == after.kind || !is_app_alone(rows))
    });
    let verdict = match (facts.is_empty() && packages.is_empty() && !other_layers, notes.is_empty())
    {
        (false, _) => Change::Differs,
        (true, true) => Change::Same,
        (true, false) => Change::Unknown,
    };
    if before.kind == "lock"
        && after.kind == "lock"
        && verdict == Change::Same
        && before.lock != after.lock
    {
        notes.push(
            "what the locks were made for differs (requirements, indexes, what wheels are built with), and nothing of what is in the image"
                .to_owned(),
        );
    }
    Difference {
        before: side(before),
        after: side(after),
        verdict,
        facts,
        gpus: gpus::compare(before, after),
        packages,
        layers,
        download: before
            .download
            .zip(after.download)
            .map(|(before, after)| Moved { before, after }),
        notes,
    }
}

/// An image has the layers that its lock is sealed with, and may have one more on top, of the project's own files.
fn is_app_alone(rows: &[LayerChange]) -> bool {
    let mut others = rows.iter().filter(|row| !row.same);
    let only = others.next().is_some_and(|row| row.before.is_some() != row.after.is_some());
    only && others.next().is_none()
}

fn side(contents: &Contents) -> Side {
    Side {
        name: contents.name.clone(),
        kind: contents.kind,
        digest: contents.digest,
        lock: contents.lock,
    }
}

fn facts(before: &Contents, after: &Contents) -> Vec<FactChange> {
    let mut found = Vec::new();
    let mut put = |what: &str, before: Option<&str>, after: Option<&str>| {
        if before != after {
            let how = match (before, after) {
                (None, _) => How::Added,
                (_, None) => How::Removed,
                (Some(before), Some(after)) => match what {
                    "driver" => direction::<DriverVersion>(before, after),
                    _ if VERSIONS.contains(&what) => direction::<Pep440>(before, after),
                    _ => How::Changed,
                },
            };
            let [before, after] = [before, after].map(|one| one.map(str::to_owned));
            found.push(FactChange { what: what.to_owned(), before, after, how });
        }
    };
    for (what, value) in &before.facts {
        // What one of them does not say is no difference.
        if let Some(other) = after.fact(what) {
            put(what, value.as_deref(), other);
        }
    }
    if let (Some(old), Some(new)) = (&before.architectures, &after.architectures) {
        let text = |all: &[sconce_facts::Sm]| {
            let all: BTreeSet<&sconce_facts::Sm> = all.iter().collect();
            let all: Vec<String> = all.into_iter().map(ToString::to_string).collect();
            (!all.is_empty()).then(|| all.join(" "))
        };
        put("GPU code", text(old).as_deref(), text(new).as_deref());
    }
    if let (Some(old), Some(new)) = (&before.env, &after.env) {
        // A variable may hold a token: its value is not repeated.
        let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for name in names {
            let said = |value: Option<&String>, words| value.map(|_| words);
            let (old, new) = (old.get(name), new.get(name));
            if old != new {
                let what = format!("variable {name}");
                put(
                    &what,
                    said(old, "a value"),
                    said(new, if old.is_some() { "another value" } else { "a value" }),
                );
            }
        }
    }
    found
}

fn packages(before: &Contents, after: &Contents) -> Vec<PackageChange> {
    let own: Vec<&String> =
        [before, after].into_iter().filter_map(|one| one.own.as_ref()).collect();
    let keys: BTreeSet<_> = before.packages.keys().chain(after.packages.keys()).collect();
    let differs = |what| before.fact(what) != after.fact(what);
    let other_tags = differs("platform") || differs("python");
    let mut found = Vec::new();
    for key in keys {
        let (kind, name) = key;
        let (old, new) = (before.packages.get(key), after.packages.get(key));
        // Of the project itself a lock knows the name alone.
        if *kind == Kind::Python && own.contains(&name) && before.kind != after.kind {
            continue;
        }
        let how = match (old, new) {
            (None, _) => How::Added,
            (_, None) => How::Removed,
            (Some(old), Some(new)) => match compared(*kind, old, new, other_tags) {
                Some(how) => how,
                None => continue,
            },
        };
        let text = |one: Option<&Versions>| {
            one.map(|one| one.versions.iter().cloned().collect::<Vec<_>>().join(", "))
        };
        found.push(PackageChange {
            kind: *kind,
            name: name.clone(),
            before: text(old),
            after: text(new),
            how,
        });
    }
    found
}

/// How one is another than the other; nothing where they are the same. With `other_tags` a file of another name is the one for
/// another processor or Python.
fn compared(kind: Kind, old: &Versions, new: &Versions, other_tags: bool) -> Option<How> {
    if old.versions == new.versions {
        let ((old_file, old), (new_file, new)) = old.file.as_ref().zip(new.file.as_ref())?;
        let expected = other_tags && old_file != new_file;
        return (old != new && !expected).then_some(How::OtherFile);
    }
    let one = |versions: &Versions| match versions.versions.len() {
        1 => versions.versions.first().cloned(),
        _ => None,
    };
    let (Some(old), Some(new)) = (one(old), one(new)) else { return Some(How::Changed) };
    Some(match kind {
        Kind::Python => direction::<Pep440>(&old, &new),
        Kind::Debian => match (Debian::parse(&old), Debian::parse(&new)) {
            (Ok(old), Ok(new)) => ordered(old.cmp(&new)),
            _ => How::Changed,
        },
    })
}

fn direction<V: FromStr + Ord>(old: &str, new: &str) -> How {
    match (old.parse::<V>(), new.parse::<V>()) {
        (Ok(old), Ok(new)) => ordered(old.cmp(&new)),
        _ => How::Changed,
    }
}

const fn ordered(order: Ordering) -> How {
    match order {
        Ordering::Less => How::Newer,
        Ordering::Greater => How::Older,
        // `1.0` and `1.0.0`.
        Ordering::Equal => How::Changed,
    }
}

fn layers(before: &[LayerSize], after: &[LayerSize]) -> Layers {
    let sum = |layers: &mut dyn Iterator<Item = &LayerSize>| {
        layers.fold(0_u64, |sum, layer| sum.saturating_add(layer.size))
    };
    let there: BTreeSet<Digest> = before.iter().map(|layer| layer.diff_id).collect();
    let kept: BTreeSet<Digest> = after.iter().map(|layer| layer.diff_id).collect();
    // The same one, wherever it lies; else the one of its name. Of several, the lowest first.
    let mut same: BTreeMap<Digest, Vec<usize>> = BTreeMap::new();
    let mut named: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, layer) in before.iter().enumerate().rev() {
        match kept.contains(&layer.diff_id) {
            true => same.entry(layer.diff_id).or_default().push(at),
            false => named.entry(&layer.name).or_default().push(at),
        }
    }
    let mut left: Vec<Option<&LayerSize>> = before.iter().map(Some).collect();
    let mut rows = Vec::new();
    for layer in after {
        let unchanged = same.get_mut(&layer.diff_id).and_then(Vec::pop);
        let of_name = || named.get_mut(&*layer.name).and_then(Vec::pop);
        let old = unchanged.or_else(of_name).and_then(|at| left.get_mut(at)?.take());
        rows.push(LayerChange {
            name: layer.name.clone(),
            before: old.map(|old| old.size),
            after: Some(layer.size),
            same: unchanged.is_some(),
        });
    }
    rows.extend(left.into_iter().flatten().map(|old| LayerChange {
        name: old.name.clone(),
        before: Some(old.size),
        after: None,
        same: false,
    }));
    Layers {
        before: sum(&mut before.iter()),
        after: sum(&mut after.iter()),
        new: sum(&mut after.iter().filter(|layer| !there.contains(&layer.diff_id))),
        rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str, bytes: &str, size: u64) -> LayerSize {
        LayerSize { name: name.to_owned(), diff_id: Digest::of(bytes.as_bytes()), size }
    }

    #[test]
    fn layers_are_the_same_by_their_bytes_and_paired_by_their_names() {
        let before = [layer("base", "a", 1), layer("torch", "b", 10), layer("app", "c", 100)];
        let after = [layer("base", "a", 1), layer("numpy", "n", 5), layer("torch", "d", 20)];
        let found = layers(&before, &after);
        let rows: Vec<_> = found
            .rows
            .iter()
            .map(|row| (row.name.as_str(), row.before, row.after, row.same))
            .collect();
        let expected = [
            ("base", Some(1), Some(1), true),
            ("numpy", None, Some(5), false),
            ("torch", Some(10), Some(20), false),
            ("app", Some(100), None, false),
        ];
        assert_eq!(rows, expected);
        assert_eq!((found.before, found.after, found.new), (111, 26, 25));
    }

    /// A lock may name as many as its 16 MiB hold.
    #[test]
    fn many_layers_take_no_time() {
        let many = |end: &str| -> Vec<LayerSize> {
            (0..80_000).map(|at| layer("same", &format!("{at}{end}"), 1)).collect()
        };
        assert_eq!(layers(&many("a"), &many("b")).rows.len(), 80_000);
        assert!(layers(&many("a"), &many("a")).rows.iter().all(|row| row.same));
    }
}
