//! Libraries that LD_LIBRARY_PATH brings from the machine, from outside of what is inspected.
//!
//! A folder, a virtual environment and a wheel run on the machine itself, so a folder named there is
//! the machine's when they have none of that name. Of such a folder only what somebody asks for is
//! read, and only what a process then loads counts.

use std::collections::BTreeSet;
use std::path::Path;

use crate::elf::Machine;
use crate::finding::{Finding, Kind, Severity};
use crate::loader::HWCAPS;
use crate::names;
use crate::scan::{self, Library, Scan};
use crate::tree::Tree;

/// Folders of one LD_LIBRARY_PATH.
const MAX_FOLDERS: usize = 256;
/// Entries of these folders that are looked at for one name with `*`.
const MAX_ENTRIES: usize = 100_000;
/// Files that such a name stands for.
const MAX_MATCHES: usize = 64;

/// The folders of an LD_LIBRARY_PATH; ld.so(8) takes `:` and `;`.
pub fn folders(library_path: &str) -> impl Iterator<Item = &str> {
    library_path.split([':', ';']).filter(|folder| !folder.is_empty()).take(MAX_FOLDERS)
}

/// Adds to `scan` what `library_path` brings from the machine, and says which of its folders are
/// neither there nor in `tree`.
pub fn read(tree: &Tree, scan: &mut Scan, library_path: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut outside = Vec::new();
    for folder in folders(library_path).filter(|folder| !folder.contains('$')) {
        if tree.is_directory(folder) {
            continue;
        }
        match Path::new(folder).is_absolute() && Path::new(folder).is_dir() {
            true => outside.push(folder.trim_end_matches('/').to_owned()),
            false => findings.push(absent(folder)),
        }
    }
    if outside.is_empty() {
        return findings;
    }
    let mut known: BTreeSet<String> = BTreeSet::new();
    let mut at = 0;
    // What is found needs more: `scan` grows while it is gone through.
    while let Some(library) = scan.libraries.get(at) {
        at += 1;
        let new: Vec<String> = wanted(library).filter(|name| known.insert(name.clone())).collect();
        for name in new.iter().flat_map(|name| matching(&outside, name)) {
            find(scan, &outside, &name);
        }
    }
    findings
}

/// What `library` may ask the loader for.
fn wanted(library: &Library) -> impl Iterator<Item = String> {
    let needed = library.dynamic.iter().flat_map(|dynamic| dynamic.needed.iter());
    let plugins = names::plugins(library.soname()).into_iter().flat_map(|row| row.names.iter());
    needed.chain(plugins).chain(&library.opens).filter(|name| !name.contains('/')).cloned()
}

/// The names of files that `name` stands for: itself or, with a `*` at its end, those that begin so.
fn matching(folders: &[String], name: &str) -> BTreeSet<String> {
    let Some(start) = name.strip_suffix('*') else { return BTreeSet::from([name.to_owned()]) };
    let entries = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
    let names =
        entries.take(MAX_ENTRIES).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with(start)).take(MAX_MATCHES).collect()
}

fn find(scan: &mut Scan, folders: &[String], name: &str) {
    for folder in folders {
        for below in [""].iter().chain(HWCAPS) {
            let path = format!("{folder}/{below}{name}");
            if !Path::new(&path).is_file() {
                continue;
            }
            let unread = Library::unread(&path, 0, Machine::Cuda);
            let file = Library { outside: true, ..unread };
            let read = file.open(&Tree::new()).and_then(|bytes| scan::library(&path, &*bytes));
            let read = read.map(|found| found.map(|found| Library { outside: true, ..found }));
            scan.take(&path, read);
        }
    }
}

fn absent(folder: &str) -> Finding {
    Finding::new(
        Severity::Warning,
        Kind::LibraryPath,
        folder,
        "LD_LIBRARY_PATH names a folder that is not there: the loader passes over it",
    )
    .fix("correct the path, or take it out of LD_LIBRARY_PATH")
}
