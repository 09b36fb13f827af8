//! GPU code inside a library: containers ("fatbins"), each with entries for several GPUs.
//!
//! Only headers are read; what they describe is skipped. The layout is not documented by NVIDIA;
//! it was measured on the libraries of CUDA 11.0 to 13.5 and agrees with `cuobjdump --list-elf` and
//! `--list-ptx`:
//!
//! - container: `u32` magic 0xBA55ED50, `u16` version 1, `u16` header size, `u64` size of the
//!   entries; 8-aligned in `.nv_fatbin` and `__nv_relfatbin`;
//! - entry: see the offsets in `entry`; the next one follows header and payload;
//! - concat entry (kind 0x100, from nvcc 13.5): records of its members stand in its own header.
//!
//! The array of wrappers in `.nvFatBinSegment` can miss containers, so the data is walked instead.

mod code;
mod samples;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use sconce_facts::CudaVersion;
use serde::Serialize;

use crate::Error;
use crate::cubin::Notes;
use crate::elf::Elf;
use crate::read::{Fields, Named};
use crate::unpack;

pub use code::{Code, Form, Target, Variant};
pub(crate) use samples::Samples;

/// Marks a container.
pub const MAGIC: u32 = 0xBA55_ED50;
pub(crate) const CONTAINER: u64 = 16;
pub(crate) const ENTRY: u64 = 64;
/// The kind of an entry that holds others.
pub(crate) const CONCAT: u16 = 0x100;
/// Headers of 64 to 264 bytes were seen; a concat entry's grows with its members.
pub(crate) const MAX_HEADER: u64 = 1 << 20;
/// Entries of one library; the most seen is some ten thousand.
const MAX_ENTRIES: usize = 1 << 20;
/// Findings about one library; a file of garbage would give one for each of its words.
const MAX_FLAWS: usize = 16;
/// A cubin smaller than this has no notes, bytes when unpacked.
const MIN_TELLING: u64 = 1 << 10;
/// Different sets of targets in the containers of one library.
const MAX_SETS: usize = 4096;

const FLAG_LZ4: u64 = 0x2000;
const FLAG_ZSTD: u64 = 0x8000;
const FLAG_SPECIFIC: u64 = 0x10_0000;
const FLAG_FAMILY: u64 = 0x20_0000;

/// How a payload is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// As it is.
    None,
    /// One raw LZ4 block.
    Lz4,
    /// One zstd frame.
    Zstd,
}

/// One entry of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it holds and for whom.
    pub code: Code,
    /// Where its payload starts in the file.
    pub payload: u64,
    /// Bytes of its payload in the file, without padding.
    pub packed: u64,
    /// Bytes it takes in the file, padding and its share of a concat entry included.
    pub size: u64,
    /// Bytes when unpacked.
    pub unpacked: u64,
    /// PTX ISA, or the version of the cubin format.
    pub version: (u16, u16),
    /// How it is packed.
    pub packing: Packing,
}

/// Something wrong in the bytes, with where; the walk went on behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flaw {
    /// Bytes from the start of the file.
    pub offset: u64,
    /// What is wrong.
    pub what: String,
    /// Whether code is lost by it: what is there is not all.
    #[serde(skip)]
    pub lost: bool,
}

/// How often a code occurs and what it weighs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Entries.
    pub entries: u64,
    /// Bytes in the file.
    pub bytes: u64,
    /// The newest PTX ISA among them, for PTX.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ptx_isa: Option<(u16, u16)>,
    /// The oldest PTX ISA among them, for PTX.
    #[serde(skip)]
    pub oldest_ptx_isa: Option<(u16, u16)>,
}

/// All GPU code of one file, summed up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fatbin {
    /// Containers walked.
    pub containers: u64,
    /// What there is, by form and target.
    pub codes: BTreeMap<Code, Tally>,
    /// Containers with the same set of codes, and how many there are.
    pub sets: BTreeMap<Vec<Code>, u64>,
    /// What is wrong with them; at most a few.
    pub flaws: Vec<Flaw>,
    samples: Samples,
    /// The smallest cubin that is large enough to say where it comes from.
    smallest: Option<Entry>,
    /// How many entries were read.
    entries: usize,
}

impl Fatbin {
    /// A bare cubin, or PTX of this ISA, of `bytes` bytes.
    pub fn single(code: Code, bytes: u64, ptx_isa: Option<(u16, u16)>) -> Self {
        let mut fatbin = Self { containers: 1, ..Self::default() };
        let tally = Tally { entries: 1, bytes, ptx_isa, oldest_ptx_isa: ptx_isa };
        fatbin.codes.insert(code, tally);
        fatbin.sets.insert(vec![code], 1);
        fatbin
    }

    /// Walks the containers in `len` bytes of `file` from `start` on, and adds them.
    ///
    /// # Errors
    /// Only when reading fails; bad bytes become [`Fatbin::flaws`].
    pub fn walk(&mut self, file: Named<'_>, start: u64, len: u64) -> Result<(), Error> {
        let end = start.saturating_add(len);
        if end > file.size() {
            self.lose(start, format!("GPU code claims {len} bytes, beyond the end of the file"));
        }
        let end = end.min(file.size());
        let mut at = start.checked_next_multiple_of(8).unwrap_or(end);
        while end.saturating_sub(at) >= CONTAINER {
            let head: [u8; CONTAINER as usize] = file.array(at, "fatbin header")?;
            let head = Fields(&head);
            if head.u32(0) != MAGIC {
                at = next_magic(file, at, end)?;
                continue;
            }
            at = self.container(file, at, end, head)?;
            if self.entries >= MAX_ENTRIES {
                self.flaw(at, format!("more than {MAX_ENTRIES} entries; the rest was not read"));
                break;
            }
        }
        Ok(())
    }

    /// Reads one container and says where to look for the next.
    fn container(
        &mut self,
        file: Named<'_>,
        at: u64,
        end: u64,
        head: Fields<'_>,
    ) -> Result<u64, Error> {
        let (version, header, size) = (head.u16(4), u64::from(head.u16(6)), head.u64(8));
        if version != 1 || header < CONTAINER {
            self.flaw(at, format!("fatbin of version {version} with a header of {header} bytes"));
            return Ok(at + 8);
        }
        let first = at + header;
        let claimed = first.saturating_add(size);
        if claimed > end {
            self.lose(at, format!("fatbin of {size} bytes ends beyond its section"));
        }
        let stop = claimed.min(end);
        let mut set = Vec::new();
        let mut place = first;
        while stop.saturating_sub(place) >= ENTRY && self.entries < MAX_ENTRIES {
            let head: [u8; ENTRY as usize] = file.array(place, "fatbin entry")?;
            let head = Fields(&head);
            let (header, padded) = (u64::from(head.u32(4)), head.u64(8));
            let next = place.checked_add(header).and_then(|p| p.checked_add(padded));
            let Some(next) = next.filter(|next| *next <= stop && header >= ENTRY) else {
                let why = format!("entry with a header of {header} bytes and {padded} of payload");
                self.lose(place, format!("{why} does not fit its fatbin"));
                // What follows can't be told from a lie: look for the next container instead.
                self.close(set);
                return Ok(place.max(at + 8));
            };
            if head.u16(0) == CONCAT {
                self.concat(file, place, head, &mut set)?;
            } else {
                let entry = entry(head, place + header, header + padded);
                self.add(entry, &mut set);
            }
            place = next;
        }
        self.close(set);
        // Containers are 8-aligned.
        Ok(stop.max(at + 8).next_multiple_of(8))
    }

    /// The members of a concat entry: `u32` count and `u32` table size at 64, then records of 64
    /// bytes like an entry's header, each with a trailer whose length the table's size tells.
    fn concat(
        &mut self,
        file: Named<'_>,
        at: u64,
        head: Fields<'_>,
        set: &mut Vec<Code>,
    ) -> Result<(), Error> {
        let header = u64::from(head.u32(4));
        if !(ENTRY + 8..=MAX_HEADER).contains(&header) {
            self.flaw(at, format!("concat entry with a header of {header} bytes"));
            return Ok(());
        }
        let bytes = file.range(at, header, MAX_HEADER, "concat entry")?;
        let count = u64::from(Fields(&bytes).u32(64));
        let records = members(&bytes, count);
        if records.len() as u64 != count {
            let why = format!("concat entry of {count} members has records of {}", records.len());
            self.flaw(at, why);
        }
        // Members are packed together: each carries its part of the packed bytes.
        let whole: u64 = records.iter().map(|row| row.u64(8)).fold(0, u64::saturating_add);
        let packed = header.saturating_add(head.u64(8));
        for row in records {
            let share = u128::from(packed) * u128::from(row.u64(8)) / u128::from(whole.max(1));
            let mut member = entry(row, at + header, u64::try_from(share).unwrap_or(packed));
            member.unpacked = row.u64(8);
            // All of them are one payload: none is unpacked alone.
            member.packed = u64::MAX;
            member.packing = packing(head.u64(40));
            self.add(member, set);
        }
        Ok(())
    }

    fn add(&mut self, entry: Entry, set: &mut Vec<Code>) {
        self.entries += 1;
        self.samples.add(entry);
        let telling = entry.code.form == Form::Cubin && entry.unpacked >= MIN_TELLING;
        if telling && self.smallest.is_none_or(|known| entry.packed < known.packed) {
            self.smallest = Some(entry);
        }
        if let Form::Unknown(kind) = entry.code.form {
            self.flaw(entry.payload, format!("entry of unknown kind {kind:#x}"));
        }
        let tally = self.codes.entry(entry.code).or_default();
        tally.entries += 1;
        tally.bytes = tally.bytes.saturating_add(entry.size);
        if entry.code.form == Form::Ptx {
            tally.ptx_isa = tally.ptx_isa.max(Some(entry.version));
            tally.oldest_ptx_isa =
                Some(tally.oldest_ptx_isa.map_or(entry.version, |isa| isa.min(entry.version)));
        }
        if let Err(place) = set.binary_search(&entry.code) {
            set.insert(place, entry.code);
        }
    }

    fn close(&mut self, set: Vec<Code>) {
        self.containers += 1;
        if self.sets.len() < MAX_SETS || self.sets.contains_key(&set) {
            *self.sets.entry(set).or_default() += 1;
        }
    }

    fn flaw(&mut self, offset: u64, what: String) {
        if self.flaws.len() < MAX_FLAWS {
            self.flaws.push(Flaw { offset, what, lost: false });
        }
    }

    /// A flaw by which code is lost.
    fn lose(&mut self, offset: u64, what: String) {
        if self.flaws.len() < MAX_FLAWS {
            self.flaws.push(Flaw { offset, what, lost: true });
        }
    }

    /// Holds nothing for lost: what looked like code may have been something else.
    pub fn forgive(&mut self) {
        for flaw in &mut self.flaws {
            flaw.lost = false;
        }
    }

    /// Bytes of all entries in the file.
    pub fn bytes(&self) -> u64 {
        self.codes.values().map(|tally| tally.bytes).fold(0, u64::saturating_add)
    }

    /// The release of the toolkit that made the smallest cubin, where that says so.
    pub fn toolkit(&self, file: Named<'_>) -> Option<CudaVersion> {
        let cubin = unpack::payload(file.bytes, self.smallest.as_ref()?)?;
        let file = Named::new(file.name, &cubin);
        Notes::read(file, &Elf::parse(file).ok()?).toolkit
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.containers == 0
    }
}

/// An entry from its header's first 64 bytes.
pub(crate) fn entry(head: Fields<'_>, payload: u64, size: u64) -> Entry {
    let flags = head.u64(40);
    let form = match head.u16(0) {
        1 => Form::Ptx,
        2 => Form::Cubin,
        8 => Form::Nvvm,
        other => Form::Unknown(other),
    };
    let variant = match () {
        () if flags & FLAG_SPECIFIC != 0 => Variant::Specific,
        () if flags & FLAG_FAMILY != 0 => Variant::Family,
        () => Variant::Plain,
    };
    let compressed = u64::from(head.u32(16));
    Entry {
        code: Code { form, target: Target { number: head.u32(28), variant } },
        payload,
        packed: if compressed == 0 { head.u64(8) } else { compressed },
        size,
        unpacked: if compressed == 0 { head.u64(8) } else { head.u64(56) },
        version: (head.u16(26), head.u16(24)),
        packing: packing(flags),
    }
}

const fn packing(flags: u64) -> Packing {
    if flags & FLAG_ZSTD != 0 {
        Packing::Zstd
    } else if flags & FLAG_LZ4 != 0 {
        Packing::Lz4
    } else {
        Packing::None
    }
}

/// The next 8-aligned place (counted from `at`) behind `at` where a container's magic stands.
fn next_magic(file: Named<'_>, at: u64, end: u64) -> Result<u64, Error> {
    /// libcufft has 18,000 gaps of a few bytes: the search starts small.
    const FIRST_PIECE: u64 = 256;
    const PIECE: u64 = 64 << 10;
    let mut place = at + 8;
    let mut piece = FIRST_PIECE;
    while place < end {
        let len = piece.min(end - place);
        let bytes = file.skim(place, len as usize, "GPU code")?;
        let found = bytes.chunks(8).position(|word| word.starts_with(&MAGIC.to_le_bytes()));
        if let Some(words) = found {
            return Ok(place + words as u64 * 8);
        }
        place += len;
        piece = (piece * 4).min(PIECE);
    }
    Ok(end)
}

/// The records of a concat entry's header. Trailers differ in length, so a record is known by its
/// place in the unpacked bytes (the field at 4): where the member before it ended.
fn members(header: &[u8], count: u64) -> Vec<Fields<'_>> {
    let table = Fields(header).u32(68) as usize;
    let end = header.len().min(64usize.saturating_add(table));
    let mut out = Vec::new();
    let (mut at, mut expected) = (72, 0);
    while (out.len() as u64) < count && at + ENTRY as usize <= end {
        let row = Fields(&header[at..at + ENTRY as usize]);
        let known = matches!(row.u16(0), 1 | 2 | 8);
        let place = u64::from(row.u32(4));
        if known && place >= expected && place - expected < 8 {
            out.push(row);
            expected = place.saturating_add(row.u64(8));
            at += ENTRY as usize;
        } else {
            at += 8;
        }
    }
    out
}
