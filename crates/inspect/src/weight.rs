//! What an environment weighs, and what of it one kind of GPU would not need.

use std::collections::BTreeMap;

use sconce_blob::{Digest, Hasher};
use sconce_facts::Capability;
use serde::Serialize;

use crate::fatbin::Code;
use crate::packages::Package;
use crate::scan::{Library, Scan};
use crate::tree::Tree;
use crate::verdict::usable;

/// Only copies of files at least this large are looked for, bytes.
const COPY_FROM: u64 = 1 << 20;
/// How much of such files is read to compare them, bytes in all.
const MAX_HASHED: u64 = 2 << 30;
const PIECE: usize = 1 << 20;

/// Bytes of an environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Weight {
    /// Files.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// GPU code by form and target: entries and bytes in the files.
    pub gpu: BTreeMap<Code, u64>,
    /// All GPU code, bytes.
    pub gpu_bytes: u64,
    /// Code for the device linker, which nothing loads, bytes.
    pub relocatable_bytes: u64,
    /// Files that no package owns, bytes.
    pub unowned_bytes: u64,
    /// Files of lower layers that upper ones hide, bytes.
    pub hidden_bytes: u64,
    /// Files with the same content.
    pub copies: Vec<Copies>,
}

/// Files with the same content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Copies {
    /// Bytes of each.
    pub bytes: u64,
    /// Where they are.
    pub paths: Vec<String>,
}

/// Weighs `tree`; copies of files are looked for when `find_copies` says so, which reads them.
pub fn weigh(tree: &Tree, scan: &Scan, packages: &[Package], find_copies: bool) -> Weight {
    let mut weight = Weight::default();
    let mut by_size: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for (path, size) in tree.files() {
        weight.files += 1;
        weight.bytes = weight.bytes.saturating_add(size);
        if size >= COPY_FROM {
            by_size.entry(size).or_default().push(path);
        }
    }
    for library in &scan.libraries {
        for (code, tally) in library.codes() {
            let bytes = weight.gpu.entry(*code).or_default();
            *bytes = bytes.saturating_add(tally.bytes);
        }
        for fatbin in [&library.gpu, &library.embedded] {
            weight.gpu_bytes = weight.gpu_bytes.saturating_add(fatbin.bytes());
        }
        weight.relocatable_bytes =
            weight.relocatable_bytes.saturating_add(library.relocatable.bytes());
    }
    let owned = packages.iter().map(|package| package.bytes).fold(0, u64::saturating_add);
    weight.unowned_bytes = weight.bytes.saturating_sub(owned);
    weight.hidden_bytes = tree.hidden().iter().map(|(_, size)| *size).fold(0, u64::saturating_add);
    if find_copies {
        weight.copies = copies(tree, &by_size);
    }
    weight
}

/// Bytes of GPU code that GPUs of these capabilities can't use: what an image for them alone would
/// not need.
pub fn not_needed(scan: &Scan, gpus: &[Capability]) -> u64 {
    scan.libraries
        .iter()
        .flat_map(Library::codes)
        .filter(|(code, _)| !gpus.iter().any(|gpu| usable(**code, *gpu)))
        .map(|(_, tally)| tally.bytes)
        .fold(0, u64::saturating_add)
}

/// Files of the same size and content. Their first and last pieces are compared before all of it.
fn copies(tree: &Tree, by_size: &BTreeMap<u64, Vec<&str>>) -> Vec<Copies> {
    let mut budget = MAX_HASHED;
    let mut out = Vec::new();
    for (size, paths) in by_size.iter().rev().filter(|(_, paths)| paths.len() > 1) {
        let ends = group(paths, |path| digest(tree, path, *size, true));
        for paths in ends.into_values().filter(|paths| paths.len() > 1) {
            let cost = size.saturating_mul(paths.len() as u64);
            if cost > budget {
                continue;
            }
            budget -= cost;
            for paths in group(&paths, |path| digest(tree, path, *size, false)).into_values() {
                if paths.len() > 1 {
                    let paths = paths.into_iter().map(str::to_owned).collect();
                    out.push(Copies { bytes: *size, paths });
                }
            }
        }
    }
    out
}

fn group<'a>(
    paths: &[&'a str],
    key: impl Fn(&str) -> Option<Digest>,
) -> BTreeMap<Digest, Vec<&'a str>> {
    let mut groups: BTreeMap<Digest, Vec<&str>> = BTreeMap::new();
    for path in paths {
        if let Some(key) = key(path) {
            groups.entry(key).or_default().push(path);
        }
    }
    groups
}

/// The digest of a file, or of its first and last 4 KiB. A file that can't be read is not a copy of
/// anything; the scan has said why if it is a library.
fn digest(tree: &Tree, path: &str, size: u64, ends_only: bool) -> Option<Digest> {
    let bytes = tree.open(path).ok()?;
    let mut hasher = Hasher::new();
    let mut buf = vec![0; if ends_only { 4096 } else { PIECE }];
    let mut at = 0;
    while at < size {
        let n = bytes.read_at(&mut buf, at).ok().filter(|n| *n > 0)?;
        hasher.update(&buf[..n]);
        let next = at + n as u64;
        at = if ends_only { next.max(size.saturating_sub(4096)) } else { next };
    }
    Some(hasher.finish())
}
