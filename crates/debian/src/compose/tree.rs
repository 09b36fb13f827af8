//! A root file system in the making: paths, who brought them, and the rules for two claims.

use std::collections::BTreeMap;

use sconce_layer::{Content, Entry, Kind, Meta, ReadAt};

use crate::Error;
use crate::relation::{Group, Operator};
use crate::version::Version;

/// How many links one look-up follows (Linux's own limit).
const MAX_LINKS: usize = 40;

/// Who brought a path.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub(super) name: String,
    pub(super) version: Option<Version>,
    /// The package's `Replaces` (Policy §7.6.1).
    pub(super) replaces: Vec<Group>,
}

impl Owner {
    /// For what no package ships.
    pub(super) fn sconce() -> Self {
        Self { name: "sconce".into(), version: None, replaces: Vec::new() }
    }

    /// Whether this package may overwrite files of `other`.
    fn replaces(&self, other: &Self) -> bool {
        self.replaces.iter().flatten().any(|relation| {
            let admits = |(operator, bound): &(Operator, Version)| {
                other.version.as_ref().is_some_and(|version| operator.admits(version, bound))
            };
            relation.name == other.name && relation.version.as_ref().is_none_or(admits)
        })
    }
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) meta: Meta,
    owner: usize,
}

/// All paths, sorted; parents come before what is in them.
#[derive(Default)]
pub(super) struct Tree {
    nodes: BTreeMap<String, Node>,
    owners: Vec<Owner>,
}

impl Tree {
    /// A package whose entries follow, or sconce itself.
    pub(super) fn owner(&mut self, owner: Owner) {
        self.owners.push(owner);
    }

    fn name(&self, owner: usize) -> String {
        self.owners.get(owner).map(|owner| owner.name.clone()).unwrap_or_default()
    }

    pub(super) fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)
    }

    pub(super) fn is_directory(&self, path: &str) -> bool {
        path.is_empty() || matches!(self.get(path), Some(Node { kind: Kind::Directory, .. }))
    }

    /// Adds a path of the owner named last.
    ///
    /// A folder may come from many packages; the first one's metadata stays. Two equal files or
    /// links are one. Else the package that replaces the other wins, and without that it is an
    /// error. Nothing is ever placed through a link.
    pub(super) fn add(&mut self, path: &str, kind: Kind, meta: Meta) -> Result<(), Error> {
        let owner = self.owners.len().saturating_sub(1);
        self.check_parents(path, owner)?;
        let node = Node { kind, meta, owner };
        let Some(known) = self.nodes.get(path) else {
            self.nodes.insert(path.to_owned(), node);
            return Ok(());
        };
        if matches!((&known.kind, &node.kind), (Kind::Directory, Kind::Directory)) {
            return Ok(());
        }
        if known.owner != owner && same(known, &node).map_err(|error| unreadable(path, &error))? {
            return Ok(());
        }
        let (first, second) = (self.owners.get(known.owner), self.owners.get(owner));
        let wins = |a: Option<&Owner>, b: Option<&Owner>| matches!((a, b), (Some(a), Some(b)) if a.replaces(b));
        let folder = matches!(known.kind, Kind::Directory) || matches!(node.kind, Kind::Directory);
        if !folder && wins(second, first) {
            self.nodes.insert(path.to_owned(), node);
        } else if folder || !wins(first, second) {
            let (first, second) = (self.name(known.owner), self.name(owner));
            return Err(Error::Overlap { path: path.to_owned(), first, second });
        }
        Ok(())
    }

    /// Every part above `path` is a folder; missing ones are made.
    fn check_parents(&mut self, path: &str, owner: usize) -> Result<(), Error> {
        for (at, _) in path.match_indices('/') {
            let parent = path.get(..at).unwrap_or_default();
            match self.nodes.get(parent).map(|node| &node.kind) {
                Some(Kind::Directory) => {}
                Some(Kind::Symlink { .. }) => {
                    return Err(Error::ThroughLink {
                        path: path.to_owned(),
                        package: self.name(owner),
                        link: parent.to_owned(),
                    });
                }
                Some(_) => {
                    return Err(Error::UnderFile {
                        path: path.to_owned(),
                        package: self.name(owner),
                        parent: parent.to_owned(),
                    });
                }
                None => {
                    let node = Node { kind: Kind::Directory, meta: Meta::DIRECTORY, owner };
                    self.nodes.insert(parent.to_owned(), node);
                }
            }
        }
        Ok(())
    }

    /// Takes a path out, with what is below it.
    pub(super) fn remove(&mut self, path: &str) {
        let below = format!("{path}/");
        self.nodes.retain(|known, _| known != path && !known.starts_with(&below));
    }

    /// Whether anything is below `path`.
    pub(super) fn has_children(&self, path: &str) -> bool {
        self.below(path).next().is_some()
    }

    /// Everything below a folder, at any depth, with paths from the root.
    pub(super) fn below(&self, path: &str) -> impl Iterator<Item = (&str, &Node)> {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let from = self.nodes.range(prefix.clone()..);
        from.take_while(move |(known, _)| known.starts_with(&prefix)).map(|(p, n)| (p.as_str(), n))
    }

    /// Names and nodes directly in a folder.
    pub(super) fn children(&self, path: &str) -> impl Iterator<Item = (&str, &Node)> {
        let skip = if path.is_empty() { 0 } else { path.len() + 1 };
        self.below(path).filter_map(move |(known, node)| {
            let name = known.get(skip..).filter(|name| !name.contains('/'))?;
            Some((name, node))
        })
    }

    /// Where a path leads once all links on the way are followed, or nothing if nowhere.
    pub(super) fn follow(&self, path: &str) -> Option<String> {
        let mut parts: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let mut at = String::new();
        let mut links = 0;
        while let Some(part) = parts.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => at.truncate(at.rfind('/').unwrap_or(0)),
                name => {
                    let parent = at.len();
                    if !at.is_empty() {
                        at.push('/');
                    }
                    at.push_str(name);
                    if let Kind::Symlink { target } = &self.get(&at)?.kind {
                        links += 1;
                        if links > MAX_LINKS {
                            return None;
                        }
                        at.truncate(if target.starts_with('/') { 0 } else { parent });
                        parts.extend(target.split('/').rev().map(str::to_owned));
                    }
                }
            }
        }
        Some(at)
    }

    /// The regular file a path leads to.
    pub(super) fn file(&self, path: &str) -> Option<&Content> {
        match &self.get(&self.follow(path)?)?.kind {
            Kind::File(content) => Some(content),
            Kind::Hardlink { target } => match &self.get(target)?.kind {
                Kind::File(content) => Some(content),
                _ => None,
            },
            _ => None,
        }
    }

    /// The bytes of a small file.
    pub(super) fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let fault = |reason: &str| Error::Compose { path: path.into(), reason: reason.into() };
        let content = self.file(path).ok_or_else(|| fault("it is missing"))?;
        if content.len() > limit {
            return Err(fault("it is larger than it can sensibly be"));
        }
        let mut bytes = vec![0; content.len() as usize];
        read_at(content, &mut bytes, 0).map_err(|error| unreadable(path, &error))?;
        Ok(bytes)
    }

    /// The entries, sorted by path; a hard link must still have its file.
    pub(super) fn into_entries(self) -> Result<Vec<Entry>, Error> {
        for (path, node) in &self.nodes {
            let Kind::Hardlink { target } = &node.kind else { continue };
            let file = self.get(target);
            let fits = file
                .is_some_and(|file| matches!(file.kind, Kind::File(_)) && file.owner == node.owner);
            if !fits {
                let reason = format!("the file it is another name of, /{target}, isn't there");
                return Err(Error::Compose { path: path.clone(), reason });
            }
        }
        let entry = |(path, node): (String, Node)| Entry { path, kind: node.kind, meta: node.meta };
        Ok(self.nodes.into_iter().map(entry).collect())
    }
}

fn unreadable(path: &str, error: &std::io::Error) -> Error {
    Error::Compose { path: path.to_owned(), reason: format!("can't be read back: {error}") }
}

fn same(a: &Node, b: &Node) -> std::io::Result<bool> {
    Ok(match (&a.kind, &b.kind) {
        (Kind::Symlink { target: a }, Kind::Symlink { target: b }) => a == b,
        (Kind::File(x), Kind::File(y)) => a.meta == b.meta && same_bytes(x, y)?,
        _ => false,
    })
}

fn same_bytes(a: &Content, b: &Content) -> std::io::Result<bool> {
    if a.len() != b.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut at = 0;
    while at < a.len() {
        let n = usize::try_from(a.len() - at).unwrap_or(usize::MAX).min(left.len());
        let (left, right) = (&mut left[..n], &mut right[..n]);
        read_at(a, left, at)?;
        read_at(b, right, at)?;
        if left != right {
            return Ok(false);
        }
        at += n as u64;
    }
    Ok(true)
}

/// Fills `buf` from a file's content.
pub(super) fn read_at(content: &Content, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
    let end = offset.checked_add(buf.len() as u64);
    if end.is_none_or(|end| end > content.len()) {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    match content {
        Content::Bytes(bytes) => {
            let start = offset as usize;
            buf.copy_from_slice(&bytes[start..start + buf.len()]);
            Ok(())
        }
        Content::Range { source, offset: start, .. } => source.read_exact_at(buf, start + offset),
        Content::Path { path, .. } => std::fs::File::open(path)?.read_exact_at(buf, offset),
    }
}
