//! What is inspected: files by path, from one folder, from layers over each other, from wheels.
//!
//! Paths are relative to the root of the environment, with `/` between their parts and none in
//! front: `opt/venv/bin/python`. Symbolic links are kept as links and followed inside the tree, so
//! an image's absolute links never reach the machine it lies on.

mod folder;
mod follow;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

use crate::Error;
use crate::read::{OnDisk, ReadAt, Slice};
use crate::skeleton::{Holes, Skeleton};

/// Directories below each other; deeper ones are loops or lies.
const MAX_DEPTH: usize = 128;
/// Files, folders and links; some 150 bytes of memory each.
const MAX_NODES: usize = 3_000_000;
/// What to do about something that could not be read.
const LET_READ: &str = "let this user read it, and inspect again";
/// What to do about something that is too large.
const PART: &str = "inspect the part of it that matters: one environment, or one package";
/// Troubles that are told one by one.
const MAX_TROUBLES: usize = 256;

/// Where a file's bytes are.
#[derive(Clone)]
enum Bytes {
    /// Below root number `n` on disk, at the same path as in the tree after `Root::below`.
    Disk(u32),
    /// Behind a reader.
    Reader(Arc<dyn ReadAt>),
    /// In source number `source`, from `offset` on.
    Part { source: u32, offset: u64 },
    /// Behind something that makes a reader.
    Opener(Arc<dyn Opener>),
    /// Not kept, because nobody needs them: neither code nor a text that is read.
    Blank,
}

/// Makes the reader of a file's bytes when they are wanted, so that a reader's memory (a decoder,
/// its kept states) is there only while the file is looked at.
pub trait Opener: Send + Sync {
    /// A reader of the whole file.
    ///
    /// # Errors
    /// What the archive says.
    fn open(&self) -> Result<Arc<dyn ReadAt>, Error>;
}

/// What stands at a path.
#[derive(Clone)]
enum Node {
    Directory,
    File { size: u64, bytes: Bytes },
    Link(Box<str>),
}

/// A node and the layer that brought it.
#[derive(Clone)]
struct Placed {
    layer: u16,
    node: Node,
}

struct Root {
    path: PathBuf,
    /// Where in the tree it starts; empty or ending in `/`.
    below: String,
}

/// Files by path.
#[derive(Default)]
pub struct Tree {
    nodes: BTreeMap<Box<str>, Placed>,
    /// The layer being added: whiteouts hide what older ones have.
    layer: u16,
    roots: Vec<Root>,
    /// Archives whose parts are files.
    sources: Vec<Arc<dyn ReadAt>>,
    /// Paths of lower layers that upper ones hide, with their bytes.
    hidden: Vec<(String, u64)>,
    /// Directories of which nothing older is left in this layer.
    cleared: HashSet<Box<str>>,
    /// Files in folders for programs that nobody may execute.
    idle: HashSet<Box<str>>,
    /// What of it could not be listed or read.
    troubles: Vec<Trouble>,
    /// How many entries it may have, and whether it had more.
    room: Room,
}

/// How many entries a tree may have.
struct Room {
    most: usize,
    /// Whether there were more.
    over: bool,
}

impl Default for Room {
    fn default() -> Self {
        Self { most: MAX_NODES, over: false }
    }
}

/// Something of a tree that could not be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Its path in the tree.
    pub path: String,
    /// Why not.
    pub why: String,
    /// What to do about it.
    pub fix: &'static str,
}

impl Tree {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    fn trouble(&mut self, path: &str, why: &str, fix: &'static str) {
        if self.troubles.len() < MAX_TROUBLES {
            self.troubles.push(Trouble { path: path.to_owned(), why: why.to_owned(), fix });
        }
    }

    /// Whether there is room for something at `path`; the first time that there is none is told.
    fn has_room(&mut self, path: &str) -> bool {
        if self.nodes.len() < self.room.most || self.nodes.contains_key(path) {
            return true;
        }
        if !self.room.over {
            self.room.over = true;
            let why = format!(
                "is one of more than {} files and folders: this one and what comes after it were not inspected",
                self.room.most
            );
            self.trouble(path, &why, PART);
        }
        false
    }

    /// What could not be listed or read; at most a few hundred.
    pub fn troubles(&self) -> &[Trouble] {
        &self.troubles
    }

    /// Whether there were more files than it takes.
    pub const fn is_cut(&self) -> bool {
        self.room.over
    }

    /// Adds a file whose bytes are behind a reader.
    pub fn add_file(&mut self, path: &str, bytes: Arc<dyn ReadAt>) {
        if let Some(path) = normal(path) {
            self.parents(&path);
            self.insert(&path, Node::File { size: bytes.size(), bytes: Bytes::Reader(bytes) });
        }
    }

    /// Takes an archive, of which [`Tree::add_part`] makes files, and says its number.
    pub fn add_source(&mut self, source: Arc<dyn ReadAt>) -> u32 {
        self.sources.push(source);
        self.sources.len() as u32 - 1
    }

    /// Adds a file that is `size` bytes of archive number `source` from `offset` on: of millions of
    /// files none has a reader of its own.
    pub fn add_part(&mut self, path: &str, source: u32, offset: u64, size: u64) {
        if let Some(path) = normal(path) {
            self.parents(&path);
            self.insert(&path, Node::File { size, bytes: Bytes::Part { source, offset } });
        }
    }

    /// Adds a file of `size` bytes that `opener` opens when they are wanted.
    pub fn add_opener(&mut self, path: &str, size: u64, opener: Arc<dyn Opener>) {
        if let Some(path) = normal(path) {
            self.parents(&path);
            self.insert(&path, Node::File { size, bytes: Bytes::Opener(opener) });
        }
    }

    /// Adds a file of `size` bytes that are neither code nor a text that is read, so that they need
    /// not be kept; they read as zeros.
    pub fn add_blank(&mut self, path: &str, size: u64) {
        if let Some(path) = normal(path) {
            self.parents(&path);
            self.insert(&path, Node::File { size, bytes: Bytes::Blank });
        }
    }

    /// Adds a directory.
    pub fn add_directory(&mut self, path: &str) {
        if let Some(path) = normal(path) {
            self.parents(&path);
            self.insert(&path, Node::Directory);
        }
    }

    /// Adds a symbolic link with this target.
    pub fn add_link(&mut self, path: &str, target: &str) {
        if let Some(path) = normal(path) {
            self.parents(&path);
            self.insert(&path, Node::Link(target.into()));
        }
    }

    /// Makes `path` the same file as `target`, as a hard link in an archive does.
    pub fn add_hard_link(&mut self, path: &str, target: &str) {
        let Some((path, target)) = normal(path).zip(normal(target)) else { return };
        if let Some(node) = self.get(target.as_str()).cloned() {
            self.parents(&path);
            self.insert(&path, node);
        }
    }

    /// Hides what lower layers have at `victim` in the directory `folder`; the name `.wh..opq`
    /// hides all they have there.
    pub fn whiteout(&mut self, folder: &str, victim: &str) {
        if victim == ".wh..opq" {
            let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
            self.remove_below(&prefix);
        } else if folder.is_empty() {
            self.remove(victim);
        } else {
            self.remove(&format!("{folder}/{victim}"));
        }
    }

    /// What is added from now on lies over what is there.
    pub fn begin_layer(&mut self) {
        self.layer = self.layer.saturating_add(1);
        self.cleared.clear();
    }

    fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path).map(|placed| &placed.node)
    }

    fn parents(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            if !self.nodes.contains_key(&path[..at]) && self.has_room(&path[..at]) {
                let placed = Placed { layer: self.layer, node: Node::Directory };
                self.nodes.insert(path[..at].into(), placed);
            }
        }
    }

    fn insert(&mut self, path: &str, node: Node) {
        if !self.has_room(path) {
            return;
        }
        self.idle.remove(path);
        let directory = matches!(node, Node::Directory);
        let old = self.nodes.insert(path.into(), Placed { layer: self.layer, node });
        match old.map(|placed| placed.node) {
            Some(Node::File { size, .. }) => self.hidden.push((path.to_owned(), size)),
            // Something else in a directory's place hides all that was in it.
            Some(Node::Directory) if !directory => self.remove_below(&format!("{path}/")),
            _ => {}
        }
    }

    /// Removes what older layers have at `path`.
    fn remove(&mut self, path: &str) {
        if self.nodes.get(path).is_some_and(|placed| placed.layer < self.layer)
            && let Some(Placed { node: Node::File { size, .. }, .. }) = self.nodes.remove(path)
        {
            self.hidden.push((path.to_owned(), size));
        }
        self.remove_below(&format!("{path}/"));
    }

    /// Removes what older layers have below `prefix`. Nothing older comes there again before the
    /// next layer, so a directory is gone through once, however often an archive asks for it.
    fn remove_below(&mut self, prefix: &str) {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let below = self.nodes.range::<str, _>(from).next();
        if below.is_none_or(|(path, _)| !path.starts_with(prefix))
            || !self.cleared.insert(prefix.into())
        {
            return;
        }
        let old = self
            .nodes
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(path, _)| path.starts_with(prefix))
            .filter(|(_, placed)| placed.layer < self.layer)
            .map(|(path, _)| path.clone())
            .collect::<Vec<Box<str>>>();
        for path in old {
            if let Some(Placed { node: Node::File { size, .. }, .. }) = self.nodes.remove(&path) {
                self.hidden.push((path.into(), size));
            }
        }
    }

    /// Notes the permission bits of the file at `path`, where those of a program matter.
    fn mode(&mut self, path: &str, mode: u32) {
        let in_bin = path.rsplit('/').nth(1) == Some("bin");
        if in_bin && mode & 0o111 == 0 {
            self.idle.insert(path.into());
        }
    }

    /// Whether a program is at `path`, links followed: a file with bytes in it that somebody may execute, as far as that
    /// is known.
    pub fn is_program(&self, path: &str) -> bool {
        self.resolve(path).is_some_and(|real| {
            self.size(&real).is_some_and(|size| size > 0) && !self.idle.contains(real.as_str())
        })
    }

    /// All regular files with their sizes, sorted by path.
    pub fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        self.nodes.iter().filter_map(|(path, placed)| match &placed.node {
            Node::File { size, .. } => Some((&**path, *size)),
            Node::Directory | Node::Link(_) => None,
        })
    }

    /// The size of the regular file at exactly `path`, bytes.
    pub fn size(&self, path: &str) -> Option<u64> {
        match self.get(path) {
            Some(Node::File { size, .. }) => Some(*size),
            _ => None,
        }
    }

    /// Regular files below the directory `folder`, all the way down.
    pub fn files_below(&self, folder: &str) -> Vec<(&str, u64)> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        self.nodes
            .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded))
            .take_while(|(path, _)| path.starts_with(&prefix))
            .filter_map(|(path, placed)| match &placed.node {
                Node::File { size, .. } => Some((&**path, *size)),
                Node::Directory | Node::Link(_) => None,
            })
            .collect()
    }

    /// Symbolic links and their targets, sorted by path.
    pub fn links(&self) -> impl Iterator<Item = (&str, &str)> {
        self.nodes.iter().filter_map(|(path, placed)| match &placed.node {
            Node::Link(target) => Some((&**path, &**target)),
            Node::Directory | Node::File { .. } => None,
        })
    }

    /// Whether a symbolic link stands at exactly `path`.
    pub fn is_link(&self, path: &str) -> bool {
        matches!(self.get(path), Some(Node::Link(_)))
    }

    /// Files of lower layers that upper ones hide, and their bytes: weight that nobody can see.
    pub fn hidden(&self) -> &[(String, u64)] {
        &self.hidden
    }

    /// The bytes of the regular file at exactly `path`.
    ///
    /// # Errors
    /// [`Error::Open`] when there is none or it can't be opened.
    pub fn open(&self, path: &str) -> Result<Arc<dyn ReadAt>, Error> {
        let error = |source| Error::Open { path: PathBuf::from(path), source };
        match self.get(path) {
            Some(Node::File { bytes: Bytes::Reader(reader), .. }) => Ok(Arc::clone(reader)),
            Some(Node::File { bytes: Bytes::Opener(opener), .. }) => opener.open(),
            Some(Node::File { bytes: Bytes::Part { source, offset }, size }) => {
                let missing = || error(io::ErrorKind::NotFound.into());
                let source = self.sources.get(*source as usize).ok_or_else(missing)?;
                Ok(Arc::new(Slice::new(Arc::clone(source), *offset, *size)))
            }
            Some(Node::File { bytes: Bytes::Blank, size }) => {
                let none = Arc::new(Vec::new()) as Arc<dyn ReadAt>;
                Ok(Arc::new(Skeleton::new(*size, [], none, 0, Holes::Zeros)))
            }
            Some(Node::File { bytes: Bytes::Disk(root), .. }) => {
                let missing = || error(io::ErrorKind::NotFound.into());
                let root = self.roots.get(*root as usize).ok_or_else(missing)?;
                let rest = path.strip_prefix(&root.below).ok_or_else(missing)?;
                Ok(Arc::new(OnDisk::open(&root.path.join(rest)).map_err(error)?))
            }
            _ => Err(error(io::ErrorKind::NotFound.into())),
        }
    }

    /// The whole text of a small file, links followed; `None` when there is no such file, it is
    /// larger than `limit` bytes or can't be read.
    pub fn text(&self, path: &str, limit: u64) -> Option<String> {
        let real = self.resolve(path)?;
        let bytes = self.open(&real).ok()?;
        let size = bytes.size();
        if size > limit {
            return None;
        }
        let mut buf = vec![0; size as usize];
        let n = bytes.read_at(&mut buf, 0).ok()?;
        buf.truncate(n);
        Some(String::from_utf8_lossy(&buf).into_owned())
    }
}

/// `path` without empty, `.` and leading parts; `None` if it is empty or climbs out.
fn normal(path: &str) -> Option<String> {
    let parts: Vec<&str> =
        path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let bad = parts.is_empty() || parts.len() > MAX_DEPTH || parts.contains(&"..");
    (!bad && !path.contains('\0')).then(|| parts.join("/"))
}
