//! Layers from anywhere, read from their blobs and unpacked into trees.
//!
//! One pass: a thread inflates, one hashes, one takes the tar apart and writes. The tree gets its
//! name only when the hash is the DiffID. Entries may be hostile: see [`TreeBuilder`] for paths;
//! sizes are believed only as far as bytes come.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::bufread::MultiGzDecoder;
use rustix::fs::{FileType, makedev};
use sconce_blob::{Digest, Hasher};
use tar::EntryType;

use crate::Store;
use crate::blobs::CHUNK;
use crate::error::{Error, at};
use crate::meta::Meta;
use crate::tree::{TreeBuilder, Twice};

/// Chunks waiting between two threads: what bounds the memory.
const WAITING: usize = 8;

/// The largest extended header (a long name, PAX records) that is read, bytes.
const HEADER_LIMIT: u64 = 1 << 20;

/// The largest number of entries in a layer. The largest images have some hundred thousand.
const MAX_ENTRIES: u64 = 10_000_000;

type Chunk = Arc<Vec<u8>>;

impl Store {
    /// The tree of a layer, extracted from its blob if it isn't there yet. `progress` is told of
    /// uncompressed bytes as they are dealt with.
    pub fn extract(
        &self,
        diff_id: Digest,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<PathBuf, Error> {
        if let Some(tree) = self.tree(diff_id) {
            return Ok(tree);
        }
        let _lock = self.lock("tree", diff_id)?;
        if let Some(tree) = self.tree(diff_id) {
            return Ok(tree);
        }
        let layer = self.layer_anywhere(diff_id)?.ok_or(Error::MissingLayer(diff_id))?;
        let mut blob = BufReader::with_capacity(CHUNK, self.open_blob(layer.digest)?);
        let builder = self.create_tree(Twice::Replace)?;
        let name = Path::new("layer");
        let actual = match blob.fill_buf().map_err(at("read", name))? {
            [0x1f, 0x8b, ..] => unpack(MultiGzDecoder::new(blob), &builder, diff_id, progress)?,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                return Err(Error::BadLayer {
                    layer: diff_id.to_string(),
                    entry: String::new(),
                    why: "it is compressed with zstd, which this sconce can't unpack".to_owned(),
                });
            }
            _ => unpack(blob, &builder, diff_id, progress)?,
        };
        if actual != diff_id {
            let what = format!("what layer {} holds uncompressed", layer.digest);
            return Err(Error::WrongDigest { what, expected: diff_id, actual });
        }
        builder.finish(diff_id)
    }

    /// The trees of several layers, in their order; `threads` layers at a time.
    pub fn extract_all(
        &self,
        diff_ids: &[Digest],
        threads: usize,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Vec<PathBuf>, Error> {
        let mut missing = Vec::new();
        for diff_id in diff_ids.iter().filter(|diff_id| self.tree(**diff_id).is_none()) {
            let size = self.layer_anywhere(*diff_id)?.map(|layer| layer.size);
            missing.push((size, *diff_id));
        }
        missing.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
        missing.dedup();
        let threads = threads.clamp(1, missing.len().max(1));
        let queue = Mutex::new(VecDeque::from(missing));
        let failure = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                        let Some((_, diff_id)) = next else { return };
                        if let Err(error) = self.extract(diff_id, progress) {
                            queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
                            let mut failure =
                                failure.lock().unwrap_or_else(PoisonError::into_inner);
                            failure.get_or_insert(error);
                        }
                    }
                });
            }
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => diff_ids.iter().map(|diff_id| self.extract(*diff_id, progress)).collect(),
        }
    }
}

/// Unpacks a tar and returns the digest of all its bytes, those after its end included.
fn unpack(
    source: impl Read + Send,
    builder: &TreeBuilder,
    diff_id: Digest,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Digest, Error> {
    let (to_tar, tar) = sync_channel::<Chunk>(WAITING);
    let (to_hasher, hasher) = sync_channel::<Chunk>(WAITING);
    std::thread::scope(|scope| {
        let inflating = scope.spawn(|| inflate(source, to_tar, to_hasher, progress));
        let hashing = scope.spawn(move || {
            let mut hash = Hasher::new();
            hasher.iter().for_each(|chunk| hash.update(&chunk));
            hash.finish()
        });
        let mut chunks = Chunks { chunks: tar, current: Arc::default(), used: 0 };
        let unpacked = entries(&mut chunks, builder, diff_id);
        if unpacked.is_ok() {
            // Bytes after the end belong to the DiffID too.
            while chunks.chunks.recv().is_ok() {}
        }
        drop(chunks);
        let inflated = inflating.join();
        let digest = hashing.join();
        // What broke the stream is the cause of what broke in the tar.
        match inflated {
            Ok(Err(error)) => {
                Err(bad(diff_id, Path::new(""), &format!("it can't be read: {error}")))
            }
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(Ok(())) => {
                unpacked?;
                digest.map_err(|panic| std::panic::resume_unwind(panic))
            }
        }
    })
}

fn inflate(
    mut source: impl Read,
    tar: SyncSender<Chunk>,
    hasher: SyncSender<Chunk>,
    progress: &(dyn Fn(u64) + Sync),
) -> io::Result<()> {
    loop {
        let mut chunk = vec![0; CHUNK];
        let mut filled = 0;
        while filled < chunk.len() {
            match source.read(&mut chunk[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        chunk.truncate(filled);
        if chunk.is_empty() {
            return Ok(());
        }
        let chunk = Arc::new(chunk);
        // Nobody listens any more when the tar was found bad: that is the error to report.
        if hasher.send(chunk.clone()).is_err() || tar.send(chunk).is_err() {
            return Ok(());
        }
        progress(filled as u64);
    }
}

/// The chunks of the tar as one stream.
struct Chunks {
    chunks: Receiver<Chunk>,
    current: Chunk,
    used: usize,
}

impl Read for Chunks {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.used == self.current.len() {
            let Ok(next) = self.chunks.recv() else { return Ok(0) };
            (self.current, self.used) = (next, 0);
        }
        let rest = self.current.get(self.used..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        self.used += n;
        Ok(n)
    }
}

/// What extended headers said of the entry after them.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    capability: Option<Vec<u8>>,
}

fn entries(source: &mut Chunks, builder: &TreeBuilder, diff_id: Digest) -> Result<(), Error> {
    let broken =
        |error: io::Error| bad(diff_id, Path::new(""), &format!("its tar is damaged: {error}"));
    let mut archive = tar::Archive::new(source);
    let mut extended = Extended::default();
    let mut buffer = vec![0; CHUNK];
    // Raw: long names come as entries of their own, so that their size is ours to bound.
    for (number, entry) in archive.entries().map_err(broken)?.raw(true).enumerate() {
        let mut entry = entry.map_err(broken)?;
        if number as u64 > MAX_ENTRIES {
            return Err(bad(diff_id, Path::new(""), "it has too many entries"));
        }
        let kind = entry.header().entry_type();
        if matches!(
            kind,
            EntryType::GNULongName
                | EntryType::GNULongLink
                | EntryType::XHeader
                | EntryType::XGlobalHeader
        ) {
            let size = entry.header().entry_size().map_err(broken)?;
            if size > HEADER_LIMIT {
                return Err(bad(diff_id, Path::new(""), "an extended header is too large"));
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(broken)?;
            extended.take(kind, bytes).map_err(broken)?;
            continue;
        }
        let extended = std::mem::take(&mut extended);
        let name = extended.path.unwrap_or_else(|| entry.path_bytes().into_owned());
        let path = clean(&name).ok_or_else(|| {
            bad(diff_id, Path::new(std::ffi::OsStr::from_bytes(&name)), "the path has a `..` part")
        })?;
        let header = entry.header();
        let size = header.entry_size().map_err(broken)?;
        if extended.size.is_some_and(|said| said != size) {
            return Err(bad(
                diff_id,
                &path,
                "files of 8 GiB or more in PAX form are not supported",
            ));
        }
        let meta = Meta {
            mode: header.mode().map_err(broken)? & 0o7777,
            uid: extended.uid.map_or_else(|| id(header.uid()), Ok).map_err(broken)?,
            gid: extended.gid.map_or_else(|| id(header.gid()), Ok).map_err(broken)?,
            mtime: header.mtime().ok().and_then(|time| time.try_into().ok()).unwrap_or(0),
        };
        let link = extended.link.or_else(|| entry.link_name_bytes().map(|l| l.into_owned()));
        let link = || link.as_deref().ok_or_else(|| bad(diff_id, &path, "its link has no target"));
        if let Some(hidden) = hidden_by(&path) {
            match hidden {
                Hidden::Path(path) => builder.whiteout(path),
                Hidden::Contents(path) => builder.opaque(path),
                Hidden::Nothing => Ok(()),
            }
            .map_err(|error| named(error, diff_id))?;
            continue;
        }
        let is_folder = kind.is_dir() || (kind.is_file() && name.ends_with(b"/"));
        let done = match kind {
            _ if is_folder => builder.directory(&path, meta),
            EntryType::Regular | EntryType::Continuous => {
                builder.file(&path, meta, size).and_then(|mut file| {
                    let mut left = size;
                    while left > 0 {
                        let n = match entry.read(&mut buffer) {
                            Ok(0) => return Err(bad(diff_id, &path, "it is cut off")),
                            Ok(n) => n,
                            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                            Err(error) => return Err(broken(error)),
                        };
                        file.write_all(&buffer[..n]).map_err(at("write", &path))?;
                        left = left.saturating_sub(n as u64);
                    }
                    match &extended.capability {
                        Some(value) => builder.xattr(&path, "security.capability", value),
                        None => Ok(()),
                    }
                })
            }
            EntryType::Link => {
                let target = clean(link()?)
                    .ok_or_else(|| bad(diff_id, &path, "its hard link has a `..` part"))?;
                builder.hardlink(&path, target)
            }
            EntryType::Symlink => {
                builder.symlink(&path, std::ffi::OsStr::from_bytes(link()?), meta)
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let device = match (header.device_major(), header.device_minor()) {
                    (Ok(Some(major)), Ok(Some(minor))) => makedev(major, minor),
                    _ => 0,
                };
                let kind = match kind {
                    EntryType::Char => FileType::CharacterDevice,
                    EntryType::Block => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                builder.node(&path, meta, kind, device)
            }
            _ => Err(bad(diff_id, &path, "an entry of a kind that no layer has")),
        };
        done.map_err(|error| named(error, diff_id))?;
    }
    Ok(())
}

impl Extended {
    fn take(&mut self, kind: EntryType, mut bytes: Vec<u8>) -> io::Result<()> {
        match kind {
            EntryType::GNULongName | EntryType::GNULongLink => {
                let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
                bytes.truncate(end);
                match kind {
                    EntryType::GNULongName => self.path = Some(bytes),
                    _ => self.link = Some(bytes),
                }
            }
            EntryType::XHeader => {
                let number = |value: &[u8]| str::from_utf8(value).ok()?.parse::<u64>().ok();
                for record in tar::PaxExtensions::new(&bytes) {
                    let record = record?;
                    let value = record.value_bytes();
                    match record.key_bytes() {
                        b"path" => self.path = Some(value.to_owned()),
                        b"linkpath" => self.link = Some(value.to_owned()),
                        b"size" => self.size = number(value),
                        b"uid" => self.uid = number(value).and_then(|id| id.try_into().ok()),
                        b"gid" => self.gid = number(value).and_then(|id| id.try_into().ok()),
                        b"SCHILY.xattr.security.capability" => {
                            self.capability = Some(value.to_owned());
                        }
                        _ => {}
                    }
                }
            }
            // Global headers hold comments in practice (git archive).
            _ => {}
        }
        Ok(())
    }
}

/// A path as container engines take it: below the root, whatever stands before it.
fn clean(name: &[u8]) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in Path::new(std::ffi::OsStr::from_bytes(name)).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

enum Hidden {
    Path(PathBuf),
    Contents(PathBuf),
    Nothing,
}

/// What a whiteout entry hides (OCI image-spec, layer.md, "Whiteouts").
fn hidden_by(path: &Path) -> Option<Hidden> {
    let hidden = path.file_name()?.as_bytes().strip_prefix(b".wh.")?;
    let parent = path.parent().unwrap_or(Path::new(""));
    Some(match hidden {
        b".wh..opq" => Hidden::Contents(parent.to_owned()),
        // AUFS's own files; and names that are none.
        _ if hidden.starts_with(b".wh.") => Hidden::Nothing,
        b"" | b"." | b".." => Hidden::Nothing,
        name => Hidden::Path(parent.join(std::ffi::OsStr::from_bytes(name))),
    })
}

fn id(id: io::Result<u64>) -> io::Result<u32> {
    id?.try_into().map_err(|_| io::Error::other("an owner's number is too large"))
}

fn bad(diff_id: Digest, path: &Path, why: &str) -> Error {
    Error::BadLayer {
        layer: diff_id.to_string(),
        entry: path.display().to_string(),
        why: why.to_owned(),
    }
}

/// The tree builder doesn't know which layer it unpacks.
fn named(error: Error, diff_id: Digest) -> Error {
    match error {
        Error::BadLayer { entry, why, .. } => {
            Error::BadLayer { layer: diff_id.to_string(), entry, why }
        }
        error => error,
    }
}
