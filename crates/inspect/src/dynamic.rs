//! What the dynamic loader reads in an ELF file: needed libraries, search paths, symbol versions.
//!
//! Source: System V ABI, "Dynamic Section"; Linux Standard Base, "Symbol Versioning" (the chains of
//! `Verneed` and `Verdef`). Addresses go through the program headers, as in ld.so: section headers
//! may be stripped or stale.

use std::collections::BTreeSet;

use crate::Error;
use crate::elf::{Elf, PT_DYNAMIC, PT_INTERP, PT_TLS};
use crate::read::{Fields, Named, text_at};

const MAX_ENTRIES: u64 = 1 << 16;
const MAX_STRING: u64 = 1 << 14;
/// The longest RPATH or RUNPATH: that of tensorflow 2.20.0's libtensorflow_framework.so.2 has 21,500 bytes.
const MAX_PATH: u64 = 1 << 18;
/// The largest alignment that is counted with.
const MAX_ALIGN: u64 = 1 << 16;
/// glibc has some 60 versions, the largest C++ runtimes fewer than 100.
const MAX_VERSIONS: usize = 4096;

const NEEDED: u64 = 1;
const HASH: u64 = 4;
const STRTAB: u64 = 5;
const SYMTAB: u64 = 6;
const STRSZ: u64 = 10;
const SONAME: u64 = 14;
const RPATH: u64 = 15;
const RUNPATH: u64 = 29;
const FLAGS: u64 = 30;
/// `DF_STATIC_TLS`.
const STATIC_TLS: u64 = 0x10;
const GNU_HASH: u64 = 0x6fff_fef5;
const VERSYM: u64 = 0x6fff_fff0;
const VERDEF: u64 = 0x6fff_fffc;
const VERDEFNUM: u64 = 0x6fff_fffd;
const VERNEED: u64 = 0x6fff_fffe;
const VERNEEDNUM: u64 = 0x6fff_ffff;

/// A symbol version that another library must define.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VersionNeed {
    /// The library's name, as in `NEEDED`.
    pub library: String,
    /// The version's name, for example `GLIBC_2.34`.
    pub version: String,
    /// `VER_FLG_WEAK`: its absence is only a warning at run time.
    pub weak: bool,
    /// Its number in this file's symbol version table.
    pub index: u16,
}

/// Where the tables of symbols lie in the file, bytes from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SymbolTables {
    /// The string table's offset.
    pub strings: u64,
    /// The string table's size.
    pub strings_size: u64,
    /// `.dynsym`.
    pub symbols: Option<u64>,
    /// `.gnu.hash`.
    pub gnu_hash: Option<u64>,
    /// `.hash`.
    pub hash: Option<u64>,
    /// `.gnu.version`.
    pub versions: Option<u64>,
}

impl SymbolTables {
    /// Whether there are symbols and no hash table, which alone tells how many.
    pub const fn are_uncounted(&self) -> bool {
        self.symbols.is_some() && self.gnu_hash.is_none() && self.hash.is_none()
    }
}

/// The dynamic section of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dynamic {
    /// The name other files ask for.
    pub soname: Option<String>,
    /// Libraries to load, in order.
    pub needed: Vec<String>,
    /// `DT_RPATH`: searched before `LD_LIBRARY_PATH`, also for what is loaded further down.
    pub rpath: Option<String>,
    /// `DT_RUNPATH`: searched after `LD_LIBRARY_PATH`, for this file's own needs; switches `rpath`
    /// off.
    pub runpath: Option<String>,
    /// The loader an executable asks for.
    pub interpreter: Option<String>,
    /// Versions that others must define.
    pub versions_needed: Vec<VersionNeed>,
    /// Versions this file defines, its base name left out.
    pub versions_defined: BTreeSet<String>,
    /// Names of the defined versions by their number.
    pub version_names: Vec<(u16, String)>,
    /// For symbol look-ups.
    pub symbols: SymbolTables,
    /// Bytes that it needs of the block for thread-local variables which a process has from its start
    /// (`DF_STATIC_TLS`); zero where it takes any memory.
    pub static_tls: u64,
}

impl Dynamic {
    /// Reads the dynamic section; `None` when the file has none (a static executable, an object).
    ///
    /// # Errors
    /// [`Error::Malformed`] or [`Error::Truncated`] with the offset.
    pub fn parse(file: Named<'_>, elf: &Elf) -> Result<Option<Self>, Error> {
        const WHAT: &str = "dynamic section";
        let Some(segment) = elf.segments.iter().find(|segment| segment.kind == PT_DYNAMIC) else {
            return Ok(None);
        };
        let bytes = file.range(segment.offset, segment.size, MAX_ENTRIES * 16, WHAT)?;
        let entries: Vec<(u64, u64)> = bytes
            .chunks_exact(16)
            .map(|row| (Fields(row).u64(0), Fields(row).u64(8)))
            .take_while(|(tag, _)| *tag != 0)
            .collect();
        let value = |tag| entries.iter().find(|(t, _)| *t == tag).map(|(_, value)| *value);
        let place = |tag| value(tag).and_then(|address| elf.offset_of(address));

        let strings = match value(STRTAB) {
            None => return Ok(Some(Self::default())),
            Some(address) => elf.offset_of(address).ok_or_else(|| {
                file.malformed(segment.offset, WHAT, "its string table is not in the file")
            })?,
        };
        let strings = Strings { file, start: strings, size: value(STRSZ).unwrap_or(0) };
        let text = |tag| value(tag).map(|at| strings.get(at)).transpose();
        let path = |tag| value(tag).map(|at| strings.get_within(at, MAX_PATH)).transpose();

        let variables = elf.segments.iter().find(|segment| segment.kind == PT_TLS);
        let is_static = value(FLAGS).is_some_and(|flags| flags & STATIC_TLS != 0);
        let mut dynamic = Self {
            static_tls: variables.filter(|_| is_static).map_or(0, |segment| {
                let align = segment.align.clamp(1, MAX_ALIGN);
                segment.memory.div_ceil(align).saturating_mul(align)
            }),
            soname: text(SONAME)?,
            rpath: path(RPATH)?,
            runpath: path(RUNPATH)?,
            symbols: SymbolTables {
                strings: strings.start,
                strings_size: strings.size,
                symbols: place(SYMTAB),
                gnu_hash: place(GNU_HASH),
                hash: place(HASH),
                versions: place(VERSYM),
            },
            ..Self::default()
        };
        for (_, at) in entries.iter().filter(|(tag, _)| *tag == NEEDED) {
            dynamic.needed.push(strings.get(*at)?);
        }
        if let Some(interp) = elf.segments.iter().find(|segment| segment.kind == PT_INTERP) {
            let bytes = file.range(interp.offset, interp.size, MAX_STRING, "interpreter")?;
            dynamic.interpreter = Some(text_at(&bytes, 0).to_owned());
        }
        if let Some(at) = place(VERNEED) {
            dynamic.versions_needed = versions_needed(strings, at, value(VERNEEDNUM))?;
        }
        if let Some(at) = place(VERDEF) {
            dynamic.version_names = versions_defined(strings, at, value(VERDEFNUM))?;
            dynamic.versions_defined =
                dynamic.version_names.iter().map(|(_, name)| name.clone()).collect();
        }
        Ok(Some(dynamic))
    }
}

/// The dynamic string table, read one string at a time: torch's has many megabytes.
#[derive(Clone, Copy)]
struct Strings<'a> {
    file: Named<'a>,
    start: u64,
    size: u64,
}

impl Strings<'_> {
    fn get(&self, at: u64) -> Result<String, Error> {
        self.get_within(at, MAX_STRING)
    }

    fn get_within(&self, at: u64, most: u64) -> Result<String, Error> {
        const WHAT: &str = "dynamic string";
        let place = self.start.saturating_add(at);
        let left = self.size.saturating_sub(at).min(self.file.size().saturating_sub(place));
        if left == 0 {
            return Err(self.file.malformed(place, WHAT, "outside the string table"));
        }
        // Nearly every name fits the first piece.
        for len in [left.min(128), left.min(most)] {
            let bytes = self.file.range(place, len, most, WHAT)?;
            if bytes.contains(&0) {
                return Ok(text_at(&bytes, 0).to_owned());
            }
        }
        Err(self.file.malformed(place, WHAT, format!("no end within {most} bytes")))
    }
}

/// One link of a chain: `next` is relative, zero at the end.
fn step(at: u64, next: u32) -> Option<u64> {
    (next != 0).then(|| at.checked_add(u64::from(next)))?
}

fn versions_needed(
    strings: Strings<'_>,
    start: u64,
    count: Option<u64>,
) -> Result<Vec<VersionNeed>, Error> {
    const WHAT: &str = "needed versions";
    let file = strings.file;
    let mut out = Vec::new();
    let mut place = Some(start);
    for _ in 0..count.unwrap_or(0).min(MAX_VERSIONS as u64) {
        let Some(at) = place else { break };
        let head: [u8; 16] = file.array(at, WHAT)?;
        let head = Fields(&head);
        let library = strings.get(u64::from(head.u32(4)))?;
        let mut aux = step(at, head.u32(8));
        for _ in 0..head.u16(2) {
            let Some(at) = aux else { break };
            if out.len() >= MAX_VERSIONS {
                return Err(file.malformed(at, WHAT, format!("more than {MAX_VERSIONS}")));
            }
            let row: [u8; 16] = file.array(at, WHAT)?;
            let row = Fields(&row);
            out.push(VersionNeed {
                library: library.clone(),
                version: strings.get(u64::from(row.u32(8)))?,
                weak: row.u16(4) & 2 != 0,
                index: row.u16(6) & 0x7fff,
            });
            aux = step(at, row.u32(12));
        }
        place = step(at, head.u32(12));
    }
    Ok(out)
}

fn versions_defined(
    strings: Strings<'_>,
    start: u64,
    count: Option<u64>,
) -> Result<Vec<(u16, String)>, Error> {
    const WHAT: &str = "defined versions";
    let file = strings.file;
    let mut out = Vec::new();
    let mut place = Some(start);
    for _ in 0..count.unwrap_or(0).min(MAX_VERSIONS as u64) {
        let Some(at) = place else { break };
        let head: [u8; 20] = file.array(at, WHAT)?;
        let head = Fields(&head);
        // The base entry names the library itself, not a version.
        let base = head.u16(2) & 1 != 0;
        if let Some(aux) = step(at, head.u32(12)).filter(|_| !base) {
            let row: [u8; 8] = file.array(aux, WHAT)?;
            out.push((head.u16(4) & 0x7fff, strings.get(u64::from(Fields(&row).u32(0)))?));
        }
        place = step(at, head.u32(16));
    }
    Ok(out)
}
