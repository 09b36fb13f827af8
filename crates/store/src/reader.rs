//! Reading a blob, real or virtual, as one stream.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sconce_blob::{Assembly, Digest, Segment};

use crate::Store;
use crate::error::{Error, at};
use crate::files::{not_opened, open_regular};
use crate::place::Place;

/// The bytes of a blob from the beginning to the end.
pub struct BlobReader {
    assembly: Arc<Assembly>,
    files: HashMap<Digest, File>,
    len: u64,
    left: u64,
    /// The segment that is read now, and how far.
    segment: usize,
    within: u64,
    /// How much of the literals was read.
    literal: usize,
}

impl Store {
    /// Opens a blob. A virtual one is opened only when all its parts are there; one of a store that
    /// isn't believed is copied in and checked first.
    pub fn open_blob(&self, digest: Digest) -> Result<BlobReader, Error> {
        self.pin(digest)?;
        let places: Vec<&Place> = self.places().collect();
        match self.read_from(digest, &places)? {
            Some(reader) => Ok(reader),
            None if self.import(digest)? => {
                self.read_from(digest, &[self.place()])?.ok_or(Error::MissingBlob(digest))
            }
            None => Err(Error::MissingBlob(digest)),
        }
    }

    /// Opens a blob whose parts lie in these stores; `None` when none of them has it.
    pub(crate) fn read_from(
        &self,
        digest: Digest,
        places: &[&Place],
    ) -> Result<Option<BlobReader>, Error> {
        let find = |digest| places.iter().find_map(|place| place.find_blob(digest));
        let mut files = HashMap::new();
        let mut open = |digest: Digest, path: PathBuf| -> Result<u64, Error> {
            let file = open_regular(&path).map_err(|error| not_opened(&path, error))?;
            let len = file.metadata().map_err(at("look at", &path))?.len();
            files.insert(digest, file);
            Ok(len)
        };
        let assembly;
        if let Some(path) = find(digest) {
            let len = open(digest, path)?;
            let mut whole = Assembly::default();
            whole.blob(digest, 0, len);
            assembly = Arc::new(whole);
        } else {
            let mut found = None;
            for place in places {
                found = self.shared_assembly(place, digest)?;
                if found.is_some() {
                    break;
                }
            }
            let Some(found) = found else { return Ok(None) };
            assembly = found;
            let mut opened = HashSet::new();
            for segment in &assembly.segments {
                if let Segment::Blob { digest, .. } = segment
                    && opened.insert(*digest)
                {
                    open(*digest, find(*digest).ok_or(Error::MissingBlob(*digest))?)?;
                }
            }
        }
        let len = assembly.len();
        Ok(Some(BlobReader { assembly, files, len, left: len, segment: 0, within: 0, literal: 0 }))
    }

    /// Reads a small blob (a manifest, a config) whole and checks its digest.
    pub fn read_blob(&self, digest: Digest, limit: u64) -> Result<Vec<u8>, Error> {
        let reader = self.open_blob(digest)?;
        let what = format!("the store's blob {}", digest.short());
        if reader.len() > limit {
            return Err(Error::BadDocument {
                what,
                why: format!("{} bytes are more than the {limit} allowed", reader.len()),
            });
        }
        let mut bytes = Vec::new();
        reader.take(limit).read_to_end(&mut bytes).map_err(at("read", Path::new(&what)))?;
        match Digest::of(&bytes) {
            actual if actual == digest => Ok(bytes),
            actual => Err(Error::WrongDigest { what, expected: digest, actual }),
        }
    }
}

impl BlobReader {
    /// The blob's length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the blob has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Passes over the next `count` bytes without reading them.
    pub fn skip(&mut self, mut count: u64) {
        while let Some(segment) = self.assembly.segments.get(self.segment) {
            let (Segment::Literal { len } | Segment::Blob { len, .. }) = *segment;
            let step = count.min(len - self.within);
            self.advance(segment_is_literal(segment), len, step);
            count -= step;
            if count == 0 {
                break;
            }
        }
    }

    fn advance(&mut self, literal: bool, len: u64, step: u64) {
        self.within += step;
        self.left -= step;
        if literal {
            self.literal += step as usize;
        }
        if self.within == len {
            (self.segment, self.within) = (self.segment + 1, 0);
        }
    }
}

fn segment_is_literal(segment: &Segment) -> bool {
    matches!(segment, Segment::Literal { .. })
}

impl Read for BlobReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len()
            && let Some(segment) = self.assembly.segments.get(self.segment)
        {
            let (Segment::Literal { len } | Segment::Blob { len, .. }) = *segment;
            let room = &mut buf[done..];
            let want = room.len().min(usize::try_from(len - self.within).unwrap_or(usize::MAX));
            let n = match segment {
                Segment::Literal { .. } => {
                    let bytes = self.assembly.literals.get(self.literal..self.literal + want);
                    room[..want].copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
                    want
                }
                Segment::Blob { digest, offset, .. } => {
                    let file = self.files.get(digest).ok_or(io::ErrorKind::NotFound)?;
                    match file.read_at(&mut room[..want], offset + self.within) {
                        // A blob that was cut off on disk must not look like the end.
                        Ok(0) if len > 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                        Ok(n) => n,
                        Err(_) if done > 0 => return Ok(done),
                        Err(error) => return Err(error),
                    }
                }
            };
            self.advance(segment_is_literal(segment), len, n as u64);
            done += n;
        }
        Ok(done)
    }
}
