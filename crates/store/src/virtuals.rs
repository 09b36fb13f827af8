//! Virtual blobs on disk: `virtual/<2 digits>/<64 digits>`.
//!
//! | field | bytes |
//! |---|---|
//! | magic `SCONCEV1` | 8 |
//! | number of blobs, number of segments | u32, u32 |
//! | digests of the blobs | 32 each |
//! | segments: blob number (`u32::MAX`: literal), offset, length | u32, u64, u64 each |
//! | literals | the sum of the literal segments' lengths |
//! | SHA-256 of all before it | 32 |
//!
//! Numbers are little-endian.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::sync::{Arc, Weak};

use sconce_blob::{Assembly, Digest, Segment};

use crate::Store;
use crate::error::{Error, at};
use crate::files::{not_opened, open_regular};
use crate::place::Place;

const MAGIC: &[u8; 8] = b"SCONCEV1";
const NO_MAGIC: &str = "not a virtual blob of this format";
const LITERAL: u32 = u32::MAX;

/// The largest description that is read into memory, bytes. That of torch 2.15.0, with 12,000 files, takes 5 MB.
const LIMIT: u64 = 1 << 27;

impl Store {
    /// Puts a virtual blob: from now on `digest` can be opened like any other. The caller has
    /// computed `digest` over the assembled bytes; each blob it is made of must be in the store.
    /// [`Store::verify`] checks it against the bytes.
    pub fn put_virtual(&self, digest: Digest, assembly: &Assembly) -> Result<(), Error> {
        let path = self.place().virtual_blob(digest);
        let refuse = |why: String| Error::Corrupt { path: path.clone(), why };
        check(assembly).map_err(&refuse)?;
        let mut lengths = HashMap::new();
        for segment in &assembly.segments {
            let Segment::Blob { digest, offset, len } = *segment else { continue };
            let size = match lengths.get(&digest) {
                Some(size) => *size,
                None => {
                    let file = self.blob_path(digest)?.ok_or(Error::MissingBlob(digest))?;
                    let size = fs::metadata(&file).map_err(at("look at", &file))?.len();
                    lengths.insert(digest, size);
                    size
                }
            };
            if offset.checked_add(len).is_none_or(|end| end > size) {
                return Err(refuse(format!("a segment ends past the end of {digest}")));
            }
        }
        self.pin(digest)?;
        match path.exists() {
            true => Ok(()),
            false => {
                self.mark_unsynced("virtual", digest)?;
                self.write_unsynced(&path, &encode(assembly))
            }
        }
    }

    /// The assembly of a virtual blob; `None` when `digest` isn't one.
    pub fn assembly(&self, digest: Digest) -> Result<Option<Assembly>, Error> {
        self.pin(digest)?;
        for place in self.places() {
            if let Some(assembly) = self.or_skip(place, place.assembly(digest))?.flatten() {
                return Ok(Some(assembly));
            }
        }
        Ok(None)
    }

    /// The same in one store, which all readers of it at a time share: that of a large layer takes
    /// megabytes.
    pub(crate) fn shared_assembly(
        &self,
        place: &Place,
        digest: Digest,
    ) -> Result<Option<Arc<Assembly>>, Error> {
        // By its path, not its digest: what a store that is not believed says of a blob is another thing.
        let path = place.virtual_blob(digest);
        let known = self.assemblies().get(&path).and_then(Weak::upgrade);
        if known.is_some() {
            return Ok(known);
        }
        let Some(read) = place.assembly(digest)?.map(Arc::new) else { return Ok(None) };
        let mut assemblies = self.assemblies();
        assemblies.retain(|_, assembly| assembly.strong_count() > 0);
        assemblies.insert(path, Arc::downgrade(&read));
        Ok(Some(read))
    }
}

impl Place {
    /// The assembly of a virtual blob of this store.
    pub(crate) fn assembly(&self, digest: Digest) -> Result<Option<Assembly>, Error> {
        let path = self.virtual_blob(digest);
        if !self.whole("virtual", digest) {
            return Ok(None);
        }
        let mut file = match open_regular(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(not_opened(&path, error)),
        };
        let corrupt = |why: String| Error::Corrupt { path: path.clone(), why };
        // Another user may have made it: nothing of a file that can't be one is taken into memory.
        let length = file.metadata().map_err(at("look at", &path))?.len();
        if length > LIMIT {
            return Err(corrupt(format!("{length} bytes, of at most {LIMIT}")));
        }
        let mut bytes = Vec::new();
        file.by_ref()
            .take(MAGIC.len() as u64)
            .read_to_end(&mut bytes)
            .map_err(at("read", &path))?;
        if bytes.len() == MAGIC.len() && bytes != MAGIC {
            return Err(corrupt(NO_MAGIC.to_owned()));
        }
        file.take(LIMIT).read_to_end(&mut bytes).map_err(at("read", &path))?;
        decode(&bytes).map(Some).map_err(|why| Error::Corrupt { path, why })
    }
}

/// That the literal segments use the literals up, and no number overflows.
fn check(assembly: &Assembly) -> Result<(), String> {
    let (mut literals, mut total) = (0_u64, 0_u64);
    for segment in &assembly.segments {
        let (Segment::Literal { len } | Segment::Blob { len, .. }) = *segment;
        total = total.checked_add(len).ok_or("its length overflows")?;
        if matches!(segment, Segment::Literal { .. }) {
            literals = literals.checked_add(len).ok_or("its literals overflow")?;
        }
    }
    if literals != assembly.literals.len() as u64 {
        return Err(format!(
            "its segments use {literals} bytes of {} literal ones",
            assembly.literals.len()
        ));
    }
    Ok(())
}

fn encode(assembly: &Assembly) -> Vec<u8> {
    let mut numbers = HashMap::new();
    let mut blobs = Vec::new();
    let mut segments = Vec::with_capacity(assembly.segments.len() * 20);
    for segment in &assembly.segments {
        let (number, offset, len) = match *segment {
            Segment::Literal { len } => (LITERAL, 0, len),
            Segment::Blob { digest, offset, len } => {
                let number = *numbers.entry(digest).or_insert_with(|| {
                    blobs.push(digest);
                    (blobs.len() - 1) as u32
                });
                (number, offset, len)
            }
        };
        segments.extend_from_slice(&number.to_le_bytes());
        segments.extend_from_slice(&offset.to_le_bytes());
        segments.extend_from_slice(&len.to_le_bytes());
    }
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&(blobs.len() as u32).to_le_bytes());
    out.extend_from_slice(&(assembly.segments.len() as u32).to_le_bytes());
    blobs.iter().for_each(|digest| out.extend_from_slice(digest.as_bytes()));
    out.extend_from_slice(&segments);
    out.extend_from_slice(&assembly.literals);
    let digest = Digest::of(&out);
    out.extend_from_slice(digest.as_bytes());
    out
}

fn decode(bytes: &[u8]) -> Result<Assembly, String> {
    let (body, sum) = bytes.split_last_chunk::<32>().ok_or("cut off")?;
    if Digest::of(body).as_bytes() != sum {
        return Err("its checksum doesn't fit".to_owned());
    }
    let mut rest = body;
    if take::<8>(&mut rest)? != *MAGIC {
        return Err(NO_MAGIC.to_owned());
    }
    let blobs = u32::from_le_bytes(take(&mut rest)?);
    let count = u32::from_le_bytes(take(&mut rest)?);
    let blobs = (0..blobs)
        .map(|_| Ok(Digest::from_bytes(take(&mut rest)?)))
        .collect::<Result<Vec<_>, String>>()?;
    let mut assembly = Assembly::default();
    for _ in 0..count {
        let number = u32::from_le_bytes(take(&mut rest)?);
        let offset = u64::from_le_bytes(take(&mut rest)?);
        let len = u64::from_le_bytes(take(&mut rest)?);
        assembly.segments.push(match number {
            LITERAL => Segment::Literal { len },
            _ => {
                let digest = *blobs.get(number as usize).ok_or("a segment names no blob")?;
                Segment::Blob { digest, offset, len }
            }
        });
    }
    assembly.literals = rest.to_vec();
    check(&assembly)?;
    Ok(assembly)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], String> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or("cut off")?;
    *rest = tail;
    Ok(*head)
}
