//! A layer that passes by once: unpacked, walked, and only what matters of it kept.
//!
//! A layer that comes over the network is not stored. Each library goes to a file without a name,
//! is read there, and leaves its [`Skeleton`]; so memory does not grow with the layer, and the disk
//! holds one library at a time and a few percent of what it read before.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::Error;
use crate::archive::{self, Kind};
use crate::fatbin::MAGIC;
use crate::inflate::MAX_STREAM;
use crate::read::{Named, OnDisk, ReadAt};
use crate::skeleton::{Recorder, Scraps, Skeleton};
use crate::symbols::Symbols;
use crate::tree::Tree;
use crate::{packages, ptx, scan};

/// A library or text of this size is looked at; larger ones are no library.
const MAX_FILE: u64 = 16 << 30;
/// The first bytes of a file, by which it is known.
const HEAD: usize = 64;
const PIECE: usize = 256 << 10;
/// Entries of one layer; the largest have some hundred thousand.
pub(crate) const MAX_ENTRIES: usize = 2_000_000;

/// What is kept of a layer.
#[derive(Default)]
pub struct Layer {
    pub(crate) entries: Vec<(Box<str>, Kind, Option<Arc<Skeleton>>)>,
}

impl Layer {
    /// Reads the layer `name` from `packed` (plain, gzip or zstd) to the end of its tar; what comes
    /// behind that is left to the caller.
    ///
    /// # Errors
    /// [`Error::Read`] when the source, its compression or the disk fails, and those of
    /// [`archive::walk`].
    pub fn read(
        name: &str,
        packed: impl BufRead + Send,
        scraps: &Arc<Scraps>,
    ) -> Result<Self, Error> {
        let failed = |source| Error::Read { file: name.to_owned(), offset: 0, source };
        let forward = Forward::new(sconce_oci::unpacked(packed).map_err(failed)?);
        let spool = tempfile::tempfile().map_err(failed)?;
        let mut layer = Self::default();
        let mut failure = None;
        archive::walk(Named::new(name, &forward), &mut |path, kind| {
            if failure.is_some() {
                return;
            }
            if layer.entries.len() >= MAX_ENTRIES {
                let why = format!("more than {MAX_ENTRIES} entries");
                failure = Some(Named::new(name, &forward).malformed(0, "layer", why));
                return;
            }
            let kept = match kind {
                Kind::File { offset, size } => {
                    match keep(path, &forward, offset, size, &spool, scraps) {
                        Ok(kept) => kept.map(Arc::new),
                        Err(source) => {
                            failure = Some(Error::Read { file: name.to_owned(), offset, source });
                            return;
                        }
                    }
                }
                _ => None,
            };
            layer.entries.push((path.into(), kind, kept));
        })?;
        failure.map_or(Ok(layer), Err)
    }

    /// Puts the layer over what is in `tree`.
    pub fn put(self, tree: &mut Tree) {
        tree.begin_layer();
        for (path, kind, kept) in self.entries {
            archive::place(tree, &path, kind, |tree, path, _, size| match kept {
                Some(kept) => tree.add_file(path, kept),
                None => tree.add_blank(path, size),
            });
        }
    }
}

/// What is kept of one file; nothing when nobody will look at it.
fn keep(
    path: &str,
    layer: &dyn ReadAt,
    offset: u64,
    size: u64,
    spool: &File,
    scraps: &Arc<Scraps>,
) -> io::Result<Option<Skeleton>> {
    let code = scan::may_be_code(path);
    let text = packages::is_read(path) || ptx::is_named(path);
    if !(code || text) || size > MAX_FILE {
        return Ok(None);
    }
    let mut head = [0; HEAD];
    let wanted = size.min(HEAD as u64) as usize;
    let n = layer.read_at(&mut head[..wanted], offset)?;
    let head = &head[..n];
    let library = head.starts_with(b"\x7fELF") || head.starts_with(&MAGIC.to_le_bytes());
    if !(text || code && library) {
        return Ok(None);
    }
    spool.set_len(0)?;
    spool.write_all_at(head, 0)?;
    let mut piece = vec![0; PIECE];
    let mut at = n as u64;
    while at < size {
        let wanted = (size - at).min(PIECE as u64) as usize;
        let n = layer.read_at(&mut piece[..wanted], offset + at)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        spool.write_all_at(&piece[..n], at)?;
        at += n as u64;
    }
    let file = OnDisk::from_file(spool.try_clone()?)?;
    let recorder = Recorder::new(&file);
    if library {
        // Whatever is wrong with it comes again when the skeleton is read.
        if let Ok(Some(library)) = scan::library(path, &recorder)
            && let Some(dynamic) = &library.dynamic
        {
            let _ = Symbols::read(Named::new(path, &recorder), dynamic);
        }
    } else if size <= packages::MAX_TEXT {
        let mut whole = vec![0; size as usize];
        recorder.read_at(&mut whole, 0)?;
    }
    recorder.keep(scraps).map(Some)
}

/// A stream that can be read at offsets which only grow.
struct Forward<R> {
    state: Mutex<State<R>>,
}

struct State<R> {
    source: R,
    at: u64,
    ended: bool,
}

impl<R: Read> Forward<R> {
    fn new(source: R) -> Self {
        Self { state: Mutex::new(State { source, at: 0, ended: false }) }
    }
}

impl<R: Read + Send> Forward<R> {
    fn state(&self) -> std::sync::MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Read + Send> ReadAt for Forward<R> {
    /// Not known before the end has been seen.
    fn size(&self) -> u64 {
        let state = self.state();
        if state.ended { state.at } else { MAX_STREAM }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state();
        let Some(skip) = offset.checked_sub(state.at) else {
            return Err(io::Error::other(format!("the bytes at {offset} have passed")));
        };
        let skipped = io::copy(&mut state.source.by_ref().take(skip), &mut io::sink())?;
        state.at += skipped;
        let mut filled = 0;
        while skipped == skip && filled < buf.len() {
            match state.source.read(&mut buf[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        state.at += filled as u64;
        state.ended |= filled < buf.len();
        Ok(filled)
    }
}
