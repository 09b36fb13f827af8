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

use rustix::fs::{FileType, makedev};
use sconce_blob::{Digest, Hasher};
use tar::EntryType;

use crate::Store;
use crate::blobs::{CHUNK, hash};
use crate::error::{Error, at};
use crate::layers::Layer;
use crate::meta::Meta;
use crate::sparse::{Segment, Sparse};
use crate::tarball::{Entries, Entry, owner};
use crate::tree::{TreeBuilder, Twice};

/// Chunks waiting between two threads: what bounds the memory.
const WAITING: usize = 8;

/// The largest number of entries in a layer. The largest images have some hundred thousand.
const MAX_ENTRIES: u64 = 10_000_000;

/// A layer may unpack to this much whatever its size, bytes.
pub(crate) const FREE: u64 = 1 << 30;

/// Beyond that to so many times its size: program code has 2 to 5, logs some hundred.
pub(crate) const MAX_RATIO: u64 = 400;

type Chunk = Arc<Vec<u8>>;

impl Store {
    /// The tree of a layer, extracted from its blob if it isn't there yet. `progress` is told of
    /// uncompressed bytes as they are dealt with.
    pub fn extract(
        &self,
        diff_id: Digest,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<PathBuf, Error> {
        if let Some(tree) = self.tree(diff_id)? {
            return Ok(tree);
        }
        let _lock = self.lock("tree", diff_id)?;
        if let Some(tree) = self.tree(diff_id)? {
            return Ok(tree);
        }
        let layer = self.layer_anywhere(diff_id)?.ok_or(Error::MissingLayer(diff_id))?;
        let blob = self.open_blob(layer.digest)?;
        let blob = BufReader::with_capacity(CHUNK, blob);
        self.unpack_layer(diff_id, layer.size, blob, progress)
    }

    /// Extracts a layer from its blob's bytes as they come. Where its tree is here already the bytes are
    /// only held to the DiffID. [`Error::WrongDigest`] where they unpack to something else; the blob's
    /// own digest is for the caller to check.
    pub fn extract_layer(
        &self,
        layer: &Layer,
        source: impl BufRead + Send,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), Error> {
        let diff_id = layer.diff_id;
        let _lock = self.lock("tree", diff_id)?;
        if self.tree(diff_id)?.is_none() {
            return self.unpack_layer(diff_id, layer.size, source, progress).map(drop);
        }
        let mut plain = plain(layer.size, source)?;
        match hash(&mut plain) {
            Ok((actual, _)) if actual == diff_id => Ok(()),
            Ok((actual, _)) => Err(wrong_layer(diff_id, actual)),
            Err(error) => Err(bad(diff_id, Path::new(""), &format!("it can't be read: {error}"))),
        }
    }

    /// Sees to it that the blob of a layer, which is here, is known to be that of its DiffID, and that
    /// its tree is here. Errors as [`Store::extract_layer`].
    pub fn take_layer(&self, layer: &Layer) -> Result<(), Error> {
        let size = self.open_blob(layer.digest)?.len();
        if size != layer.size {
            let what = format!("the manifest of layer {}", layer.digest.short());
            let why = format!("it has {size} bytes, not {}", layer.size);
            return Err(Error::BadDocument { what, why });
        }
        // Layers are noted only once they were unpacked.
        if self.layer(layer.diff_id)?.is_some_and(|known| known.digest == layer.digest) {
            return self.extract(layer.diff_id, &|_| {}).map(drop);
        }
        let blob = BufReader::with_capacity(CHUNK, self.open_blob(layer.digest)?);
        self.extract_layer(layer, blob, &|_| {})?;
        self.put_layer(layer)
    }

    /// Hold the lock of the tree.
    fn unpack_layer(
        &self,
        diff_id: Digest,
        size: u64,
        source: impl BufRead + Send,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<PathBuf, Error> {
        let builder = self.create_tree(Twice::Replace)?;
        let actual = unpack(plain(size, source)?, most(size), &builder, diff_id, progress)
            .map_err(|error| self.full_of_a_layer(error))?;
        if actual != diff_id {
            return Err(wrong_layer(diff_id, actual));
        }
        builder.finish(diff_id)
    }

    /// That there is no room is said of the store: the path in it where a file would have been is gone when somebody
    /// reads it.
    fn full_of_a_layer(&self, error: Error) -> Error {
        match error {
            Error::NoSpace { source, .. } => {
                let (action, path) = ("unpack a layer into the store", self.root().to_owned());
                Error::NoSpace { action, path, source }
            }
            error => error,
        }
    }

    /// The trees of several layers, in their order; `threads` layers at a time.
    pub fn extract_all(
        &self,
        diff_ids: &[Digest],
        threads: usize,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Vec<PathBuf>, Error> {
        let mut missing = Vec::new();
        for diff_id in diff_ids {
            if self.tree(*diff_id)?.is_some() {
                continue;
            }
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
    most: u64,
    builder: &TreeBuilder,
    diff_id: Digest,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Digest, Error> {
    let (to_tar, tar) = sync_channel::<Chunk>(WAITING);
    let (to_hasher, hasher) = sync_channel::<Chunk>(WAITING);
    let empty = Empty::default();
    std::thread::scope(|scope| {
        let inflating = scope.spawn(|| inflate(source, &empty, to_tar, to_hasher, progress));
        let hashing = scope.spawn(|| {
            let mut hash = Hasher::new();
            for chunk in hasher {
                hash.update(&chunk);
                empty.give(chunk);
            }
            hash.finish()
        });
        let mut chunks = Chunks { chunks: tar, empty: &empty, current: Arc::default(), used: 0 };
        let unpacked = entries(&mut chunks, most, builder, diff_id);
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
    empty: &Empty,
    tar: SyncSender<Chunk>,
    hasher: SyncSender<Chunk>,
    progress: &(dyn Fn(u64) + Sync),
) -> io::Result<()> {
    loop {
        let mut chunk = empty.take();
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

/// The plain tar in a blob of `size` bytes.
fn plain<'a>(size: u64, source: impl BufRead + Send + 'a) -> Result<impl Read + Send + 'a, Error> {
    let inner = sconce_oci::unpacked_layer(source).map_err(at("read", Path::new("layer")))?;
    Ok(Bounded { inner, left: most(size) })
}

/// The most bytes that a blob of `size` bytes may unpack to.
fn most(size: u64) -> u64 {
    size.saturating_mul(MAX_RATIO).max(FREE)
}

/// That there are more.
fn bomb() -> String {
    format!("it unpacks to more than {MAX_RATIO} times its size")
}

fn wrong_layer(expected: Digest, actual: Digest) -> Error {
    let what = "what a layer holds uncompressed".to_owned();
    Error::WrongDigest { what, expected, actual }
}

/// Fails when more than `left` bytes come.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.left = self
            .left
            .checked_sub(n as u64)
            .ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, bomb()))?;
        Ok(n)
    }
}

/// The chunks of the tar as one stream.
struct Chunks<'a> {
    chunks: Receiver<Chunk>,
    empty: &'a Empty,
    current: Chunk,
    used: usize,
}

impl BufRead for Chunks<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used == self.current.len()
            && let Ok(next) = self.chunks.recv()
        {
            self.empty.give(std::mem::replace(&mut self.current, next));
            self.used = 0;
        }
        Ok(self.current.get(self.used..).unwrap_or_default())
    }

    fn consume(&mut self, n: usize) {
        self.used += n;
    }
}

impl Read for Chunks<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(buf)?;
        self.consume(n);
        Ok(n)
    }
}

/// Memory of chunks that everybody has read, to be filled again.
#[derive(Default)]
struct Empty(Mutex<Vec<Vec<u8>>>);

impl Empty {
    fn take(&self) -> Vec<u8> {
        let mut chunk =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        chunk.resize(CHUNK, 0);
        chunk
    }

    /// Takes a chunk's memory from the last who read it.
    fn give(&self, chunk: Chunk) {
        if let Some(memory) = Arc::into_inner(chunk) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
        }
    }
}

fn entries(
    source: &mut Chunks<'_>,
    most: u64,
    builder: &TreeBuilder,
    diff_id: Digest,
) -> Result<(), Error> {
    let broken =
        |error: io::Error| bad(diff_id, Path::new(""), &format!("its tar is damaged: {error}"));
    let mut entries = Entries::new(source);
    let (mut count, mut announced) = (0, 0_u64);
    while let Some(entry) = entries.next().map_err(broken)? {
        count += 1;
        if count > MAX_ENTRIES {
            return Err(bad(diff_id, Path::new(""), "it has too many entries"));
        }
        let Entry { header, size, sparse, extended } = entry;
        // Before a file's blocks are reserved: its header may claim any size.
        announced = announced.saturating_add(size);
        if announced > most {
            return Err(bad(diff_id, Path::new(""), &bomb()));
        }
        let kind = header.entry_type();
        let name = extended.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let path = clean(&name).ok_or_else(|| {
            bad(
                diff_id,
                Path::new(std::ffi::OsStr::from_bytes(&name)),
                "the path leaves the layer's root by `..`",
            )
        })?;
        if let Some(why) = unmakeable(&path) {
            return Err(bad(diff_id, &path, why));
        }
        let meta = Meta {
            mode: header.mode().map_err(broken)? & 0o7777,
            uid: extended.uid.map_or_else(|| id(header.uid()), Ok).map_err(broken)?,
            gid: extended.gid.map_or_else(|| id(header.gid()), Ok).map_err(broken)?,
            mtime: header.mtime().ok().and_then(|time| time.try_into().ok()).unwrap_or(0),
        };
        let link = extended.link.or_else(|| header.link_name_bytes().map(|l| l.into_owned()));
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
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                file(&mut entries, builder, (&path, meta, size), sparse.as_ref())
                    .map_err(|failure| failure.error(&path, diff_id, builder.place()))?;
                let mut attributes = extended.attributes.iter();
                attributes.try_for_each(|(name, value)| builder.xattr(&path, name, value))
            }
            EntryType::Link => {
                let target = clean(link()?).ok_or_else(|| {
                    bad(diff_id, &path, "its hard link leaves the layer's root by `..`")
                })?;
                builder.hardlink(&path, target)?;
                builder.describe_link(&path, meta)
            }
            EntryType::Symlink => {
                builder.symlink(&path, std::ffi::OsStr::from_bytes(link()?), meta)
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let device = match (header.device_major(), header.device_minor()) {
                    (Ok(Some(major)), Ok(Some(minor))) => makedev(major, minor),
                    _ if kind != EntryType::Char => 0,
                    // 0/0 would hide what is below it.
                    _ => return Err(bad(diff_id, &path, "a device without its number")),
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

/// Why a file was not written.
enum Failure {
    Store(Error),
    /// Its bytes don't come.
    Source(io::Error),
    Write(io::Error),
}

impl Failure {
    /// `tree` is where the layer is unpacked.
    fn error(self, path: &Path, diff_id: Digest, tree: &Path) -> Error {
        match self {
            Self::Store(error) => named(error, diff_id),
            Self::Source(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                bad(diff_id, path, "it is cut off")
            }
            Self::Source(error) => bad(diff_id, path, &format!("its tar is damaged: {error}")),
            Self::Write(error) => at("write", &tree.join(path))(error),
        }
    }
}

/// Writes a file of `size` bytes; the holes of a sparse one stay holes.
fn file(
    entries: &mut Entries<&mut Chunks<'_>>,
    builder: &TreeBuilder,
    (path, meta, size): (&Path, Meta, u64),
    sparse: Option<&Sparse>,
) -> Result<(), Failure> {
    let whole = [Segment { offset: 0, len: size }];
    let segments = sparse.map_or(&whole[..], |sparse| &sparse.segments);
    let filled = segments.iter().map(|segment| segment.len).sum();
    let mut file = builder.file_with(path, meta, size, filled).map_err(Failure::Store)?;
    let mut at = 0;
    for Segment { offset, len } in segments {
        file.skip(offset - at).map_err(Failure::Write)?;
        let mut left = *len;
        while left > 0 {
            let bytes = entries.fill_buf().map_err(Failure::Source)?;
            if bytes.is_empty() {
                return Err(Failure::Source(io::ErrorKind::UnexpectedEof.into()));
            }
            let n = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            file.write_all(&bytes[..n]).map_err(Failure::Write)?;
            entries.consume(n);
            left -= n as u64;
        }
        at = offset + len;
    }
    file.skip(size - at).map_err(Failure::Write)
}

/// A path as Docker and podman take it: below the root, whatever stands before it, and `a/../b` as `b`, wherever a link `a`
/// leads. Nothing for one that would leave the root.
fn clean(name: &[u8]) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in Path::new(std::ffi::OsStr::from_bytes(name)).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir if path.pop() => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

/// Why no file can have this path (path_resolution(7): NAME_MAX is 255 on every file system that has trees).
fn unmakeable(path: &Path) -> Option<&'static str> {
    let bytes = path.as_os_str().as_bytes();
    let longest = bytes.split(|byte| *byte == b'/').map(<[u8]>::len).max();
    match longest {
        _ if bytes.contains(&0) => Some("its path has a zero byte"),
        Some(256..) => Some("a part of its path has more than 255 bytes"),
        _ => None,
    }
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
    owner(Some(id?))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_is_given_up() {
        let mut some = Bounded { inner: io::repeat(0), left: 10 };
        assert_eq!(some.read(&mut [0; 10]).unwrap(), 10);
        let error = some.read(&mut [0; 1]).unwrap_err();
        assert!(error.to_string().contains("400 times its size"), "{error}");
    }
}
