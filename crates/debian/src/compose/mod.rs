//! A root file system of packages, as entries of a layer.
//!
//! No maintainer script runs. Packages are unpacked by several threads into scratch files, and
//! merged in one fixed order into a tree of paths, with `/usr` merged and what nobody reads in
//! an image left out; then what the scripts would have done is added as data. Every time is 0;
//! owners and modes are the packages' own. The result depends on the packages alone.

mod accounts;
mod certificates;
mod effects;
mod filter;
mod ldcache;
mod tree;

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sconce_layer::{Content, Entry, Kind, Meta, ReadAt};

use crate::deb::{Control, Deb};
use crate::tar::{EntryKind, TarEntry};
use crate::version::Version;
use crate::{DebError, Error, Target, relation};
use tree::{Owner, Tree};

/// Folders at the root that are links into `/usr` (Debian's usr-merge; base-files ships the
/// links from trixie on, and `init-system-helpers` saw to them before).
const MERGED: [&str; 6] = ["bin", "lib", "lib32", "lib64", "libx32", "sbin"];

/// A .deb to unpack.
#[derive(Clone)]
pub struct DebFile {
    /// The name it must have.
    pub name: String,
    /// The version it must have.
    pub version: String,
    /// Its bytes, already checked against the lock.
    pub source: Arc<dyn ReadAt>,
}

/// How to compose.
pub struct Options<'a> {
    /// What for.
    pub target: Target,
    /// A folder for scratch files: as large as the packages unpacked. They have no names, and
    /// are gone once the entries that refer to them are dropped.
    pub scratch: &'a Path,
    /// Threads to unpack with; 0 is 1.
    pub threads: usize,
    /// Told the length of every .deb that is unpacked, by any thread.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

/// The root file system of `packages`, sorted by path, parents first.
///
/// The order of `packages` doesn't matter. Peak memory is a decompressor (up to 80 MiB, 8 for
/// what dpkg writes) for each thread and some bytes for each path.
pub fn compose(packages: &[DebFile], options: &Options<'_>) -> Result<Vec<Entry>, Error> {
    let mut order: Vec<usize> = (0..packages.len()).collect();
    // base-files first, for the metadata of the folders that every package ships.
    order.sort_by_key(|&at| {
        packages.get(at).map(|package| (package.name != "base-files", package.name.as_str()))
    });
    let unpacked = unpack_all(packages, &order, options)?;
    let mut tree = Tree::default();
    let mut stanzas = Vec::new();
    for (package, unpacked) in unpacked {
        tree.owner(owner(package, &unpacked.control)?);
        for (path, kind, meta) in unpacked.entries {
            tree.add(&path, kind, meta)?;
        }
        stanzas.push((package, unpacked.control));
    }
    tree.owner(Owner::sconce());
    for name in MERGED {
        if tree.get(name).is_none() && tree.is_directory(&format!("usr/{name}")) {
            let target = format!("usr/{name}");
            tree.add(name, Kind::Symlink { target }, Meta::SYMLINK)?;
        }
    }
    let names: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    accounts::add(&mut tree)?;
    effects::add(&mut tree, &names, options.target)?;
    certificates::add(&mut tree)?;
    for (package, control) in stanzas {
        status(&mut tree, package, control)?;
    }
    ldcache::add(&mut tree, options.target.arch)?;
    prune(&mut tree);
    tree.into_entries()
}

fn owner(package: &DebFile, control: &Control) -> Result<Owner, Error> {
    let replaces = control.stanza.get("Replaces").unwrap_or("");
    let replaces = relation::parse(replaces)
        .map_err(|piece| Error::Relation { package: package.name.clone(), piece })?;
    let version = Version::parse(&package.version).ok();
    Ok(Owner { name: package.name.clone(), version, replaces })
}

/// `var/lib/dpkg/status.d/NAME`: distroless's convention, which scanners read.
fn status(tree: &mut Tree, package: &DebFile, control: Control) -> Result<(), Error> {
    let mut stanza = control.stanza;
    stanza.set("Status", "install ok installed");
    let path = format!("var/lib/dpkg/status.d/{}", package.name);
    tree.add(&path, Kind::File(Content::bytes(stanza.to_text().into_bytes())), Meta::FILE)
}

/// Takes out folders of left-out files that are empty now, the deepest first.
fn prune(tree: &mut Tree) {
    for prefix in filter::PRUNED {
        let folder = prefix.trim_end_matches('/');
        let mut folders: Vec<String> = tree
            .below(folder)
            .filter(|(_, node)| matches!(node.kind, Kind::Directory))
            .map(|(path, _)| path.to_owned())
            .collect();
        folders.reverse();
        for path in folders.iter().filter(|path| !path.is_empty()) {
            if !tree.has_children(path) {
                tree.remove(path);
            }
        }
    }
}

struct Unpacked {
    control: Control,
    entries: Vec<(String, Kind, Meta)>,
}

/// Unpacks all packages by several threads; the results stand in `order`.
fn unpack_all<'p>(
    packages: &'p [DebFile],
    order: &[usize],
    options: &Options<'_>,
) -> Result<Vec<(&'p DebFile, Unpacked)>, Error> {
    let slots: Vec<Mutex<Option<Result<Unpacked, Error>>>> =
        order.iter().map(|_| Mutex::new(None)).collect();
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = || {
        let mut scratch = Spool::new(options.scratch);
        while !failed.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let (Some(slot), Some(package)) =
                (slots.get(at), order.get(at).and_then(|&index| packages.get(index)))
            else {
                break;
            };
            let result = unpack(package, &mut scratch);
            match &result {
                Ok(_) => (options.progress)(package.source.size().unwrap_or(0)),
                Err(_) => failed.store(true, Ordering::Relaxed),
            }
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..options.threads {
            scope.spawn(work);
        }
        work();
    });
    // Slots before the first failure are filled: they were taken in this order.
    let mut all = Vec::with_capacity(order.len());
    for (slot, &index) in slots.into_iter().zip(order) {
        let result = slot.into_inner().unwrap_or_else(PoisonError::into_inner);
        match (result, packages.get(index)) {
            (Some(Ok(unpacked)), Some(package)) => all.push((package, unpacked)),
            (Some(Err(error)), _) => return Err(error),
            _ => {}
        }
    }
    Ok(all)
}

fn unpack(package: &DebFile, scratch: &mut Spool<'_>) -> Result<Unpacked, Error> {
    let name = format!("{} {}", package.name, package.version);
    let fault = |source: DebError| Error::Deb { deb: name.clone(), source };
    let deb = Deb::open(&*package.source).map_err(fault)?;
    let control = deb.control().map_err(fault)?;
    let field = |field: &str| control.stanza.get(field).unwrap_or("").to_owned();
    let found = format!("{} {}", field("Package"), field("Version"));
    if found != name {
        return Err(Error::WrongPackage { deb: name.clone(), expected: name, found });
    }
    let mut seen = HashSet::new();
    let mut entries = Vec::new();
    let mut tar = deb.data().map_err(fault)?;
    while let Some(entry) = tar.next_entry().map_err(fault)? {
        if entry.path.is_empty() {
            continue;
        }
        if !seen.insert(entry.path.clone()) {
            let reason = format!("/{} stands twice", entry.path);
            return Err(fault(DebError::Format { member: "data.tar", offset: 0, reason }));
        }
        let TarEntry { kind, mode, uid, gid, link, size, .. } = entry;
        let Some(path) = merged(&entry.path, kind) else { continue };
        if !filter::keeps(&path) {
            continue;
        }
        let kind = match kind {
            EntryKind::Directory => Kind::Directory,
            EntryKind::Symlink => Kind::Symlink { target: link },
            EntryKind::Hardlink => Kind::Hardlink { target: merged(&link, kind).unwrap_or(link) },
            EntryKind::File => {
                let read = |buf: &mut [u8]| tar.read(buf).map_err(fault);
                Kind::File(scratch.keep(size, read)?)
            }
        };
        // A link's mode means nothing to Linux, and has one spelling here.
        let mode = if matches!(kind, Kind::Symlink { .. }) { Meta::SYMLINK.mode } else { mode };
        entries.push((path, kind, Meta { mode, uid, gid, mtime: 0 }));
    }
    scratch.flush()?;
    Ok(Unpacked { control, entries })
}

/// A path with `/usr` merged: `lib/x` is `usr/lib/x`. The folder `lib` itself becomes
/// `usr/lib`, while a link `lib` is what makes the merge.
fn merged(path: &str, kind: EntryKind) -> Option<String> {
    let (first, rest) = path.split_once('/').map_or((path, None), |(a, b)| (a, Some(b)));
    if !MERGED.contains(&first) {
        return Some(path.to_owned());
    }
    match rest {
        None if kind == EntryKind::Symlink => Some(path.to_owned()),
        _ => Some(format!("usr/{path}")),
    }
}

/// A file that content is put into, one piece behind the other; made when first needed.
struct Spool<'a> {
    folder: &'a Path,
    file: Option<(Arc<File>, BufWriter<File>)>,
    len: u64,
}

impl<'a> Spool<'a> {
    fn new(folder: &'a Path) -> Self {
        Self { folder, file: None, len: 0 }
    }

    /// Takes `size` bytes from `read`.
    fn keep(
        &mut self,
        size: u64,
        mut read: impl FnMut(&mut [u8]) -> Result<usize, Error>,
    ) -> Result<Content, Error> {
        if size == 0 {
            return Ok(Content::bytes(Vec::new()));
        }
        let folder = self.folder;
        let fault = |source| Error::Scratch { path: folder.to_owned(), source };
        let (source, writer) = match &mut self.file {
            Some(file) => file,
            none => {
                let file = tempfile::tempfile_in(folder).map_err(fault)?;
                let again = file.try_clone().map_err(fault)?;
                none.insert((Arc::new(file), BufWriter::with_capacity(256 << 10, again)))
            }
        };
        let offset = self.len;
        let mut buffer = [0; 16 << 10];
        let mut left = size;
        while left > 0 {
            let n = read(&mut buffer)?;
            let piece = buffer.get(..n).filter(|piece| !piece.is_empty());
            let piece = piece.ok_or_else(|| fault(std::io::ErrorKind::UnexpectedEof.into()))?;
            writer.write_all(piece).map_err(fault)?;
            self.len += n as u64;
            left = left.saturating_sub(n as u64);
        }
        let source: Arc<dyn ReadAt> = Arc::<File>::clone(source);
        Ok(Content::Range { source, offset, len: size })
    }

    fn flush(&mut self) -> Result<(), Error> {
        let Some((_, writer)) = &mut self.file else { return Ok(()) };
        let path = self.folder.to_owned();
        writer.flush().map_err(|source| Error::Scratch { path, source })
    }
}
