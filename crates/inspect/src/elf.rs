//! ELF headers: what a file is, its sections and segments. 64-bit little-endian only, which is all
//! that CUDA runs on.
//!
//! Source: System V ABI, "Object Files"; constants as in `<elf.h>`. What the dynamic loader reads
//! (`.dynamic`, versions, symbols) is in [`crate::dynamic`].

use crate::Error;
use crate::read::{Fields, Named, text_at};

/// `e_ident`: 0x7f `ELF`, class 64-bit, little-endian, version 1.
const IDENT: [u8; 7] = [0x7f, b'E', b'L', b'F', 2, 1, 1];
const HEADER: usize = 64;
const SECTION: usize = 64;
const SEGMENT: usize = 56;
/// More sections than this is not a file we care for (the largest CUDA objects have some 40,000).
const MAX_SECTIONS: u64 = 1 << 17;
const MAX_NAMES: u64 = 16 << 20;

/// `PT_LOAD`.
pub const PT_LOAD: u32 = 1;
/// `PT_DYNAMIC`.
pub const PT_DYNAMIC: u32 = 2;
/// `PT_INTERP`.
pub const PT_INTERP: u32 = 3;
/// `PT_TLS`.
pub const PT_TLS: u32 = 7;
/// `EM_CUDA`.
pub(crate) const EM_CUDA: u16 = 190;
const SHT_NOBITS: u32 = 8;

/// The machine code's processor, `e_machine`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Machine {
    /// `EM_X86_64`, 62.
    X86_64,
    /// `EM_AARCH64`, 183.
    Aarch64,
    /// `EM_CUDA`, 190: a bare cubin.
    Cuda,
    /// Any other.
    Other(u16),
}

impl Machine {
    fn from_code(code: u16) -> Self {
        match code {
            62 => Self::X86_64,
            183 => Self::Aarch64,
            EM_CUDA => Self::Cuda,
            other => Self::Other(other),
        }
    }

    /// As `uname -m` spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
            Self::Cuda => "cuda",
            Self::Other(_) => "another processor",
        }
    }
}

/// `e_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `ET_REL`: an object file.
    Relocatable,
    /// `ET_EXEC`: an executable at a fixed address.
    Executable,
    /// `ET_DYN`: a shared library or a position-independent executable.
    Shared,
    /// Anything else.
    Other(u16),
}

/// A section that has bytes in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name; empty when the string table says nothing sensible.
    pub name: String,
    /// `sh_type`.
    pub kind: u32,
    /// Where its bytes start in the file.
    pub offset: u64,
    /// How many bytes it claims.
    pub size: u64,
}

/// A program header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// `p_type`.
    pub kind: u32,
    /// Where its bytes start in the file.
    pub offset: u64,
    /// Where they are mapped.
    pub address: u64,
    /// How many bytes of the file.
    pub size: u64,
    /// How many bytes of memory.
    pub memory: u64,
    /// What its address must be a multiple of.
    pub align: u64,
}

/// The headers of one ELF file.
#[derive(Clone, Debug)]
pub struct Elf {
    /// The processor.
    pub machine: Machine,
    /// What kind of file.
    pub kind: Kind,
    /// `e_flags`; a cubin's capability is in it.
    pub flags: u32,
    /// Sections with bytes in the file, in the order of their headers. Empty when stripped.
    pub sections: Vec<Section>,
    /// Program headers.
    pub segments: Vec<Segment>,
}

impl Elf {
    /// Whether a cubin has a kernel: each is a section of its own. What has no named sections does not say.
    pub fn has_kernel(&self) -> bool {
        self.sections.iter().all(|section| section.name.is_empty())
            || self.sections.iter().any(|section| section.name.starts_with(".text"))
    }

    /// Whether a file that starts with these bytes is a 64-bit little-endian ELF file.
    pub fn sniff(head: &[u8]) -> bool {
        head.starts_with(&IDENT)
    }

    /// Reads the header and both header tables; nothing else is touched.
    ///
    /// # Errors
    /// [`Error::Malformed`] or [`Error::Truncated`] with the offset where a table lies.
    pub fn parse(file: Named<'_>) -> Result<Self, Error> {
        let head: [u8; HEADER] = file.array(0, "ELF header")?;
        if !Self::sniff(&head) {
            return Err(file.malformed(0, "ELF header", "not 64-bit little-endian ELF"));
        }
        let fields = Fields(&head);
        let kind = match fields.u16(16) {
            1 => Kind::Relocatable,
            2 => Kind::Executable,
            3 => Kind::Shared,
            other => Kind::Other(other),
        };
        Ok(Self {
            machine: Machine::from_code(fields.u16(18)),
            kind,
            flags: fields.u32(48),
            sections: sections(file, fields)?,
            segments: segments(file, fields)?,
        })
    }

    /// The first section called `name`.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// The offset in the file of a mapped address.
    pub fn offset_of(&self, address: u64) -> Option<u64> {
        self.segments.iter().filter(|segment| segment.kind == PT_LOAD).find_map(|segment| {
            let into = address.checked_sub(segment.address)?;
            (into < segment.size).then(|| segment.offset.checked_add(into))?
        })
    }
}

fn sections(file: Named<'_>, head: Fields<'_>) -> Result<Vec<Section>, Error> {
    const WHAT: &str = "section header table";
    let table = head.u64(40);
    if table == 0 {
        return Ok(Vec::new());
    }
    if usize::from(head.u16(58)) != SECTION {
        let why = format!("entries of {} bytes, not {SECTION}", head.u16(58));
        return Err(file.malformed(58, WHAT, why));
    }
    let first: [u8; SECTION] = file.array(table, WHAT)?;
    // Counts that do not fit 16 bits stand in the first entry (System V ABI, "Sections").
    let count = match head.u16(60) {
        0 => Fields(&first).u64(32),
        n => u64::from(n),
    };
    let names_index = match head.u16(62) {
        0xffff => u64::from(Fields(&first).u32(40)),
        n => u64::from(n),
    };
    let len = count.saturating_mul(SECTION as u64);
    let bytes = file.range(table, len, MAX_SECTIONS * SECTION as u64, WHAT)?;
    let rows = || bytes.chunks_exact(SECTION).map(Fields);
    let names = match usize::try_from(names_index).ok().and_then(|at| rows().nth(at)) {
        Some(row) if names_index != 0 => {
            file.range(row.u64(24), row.u64(32), MAX_NAMES, "section names")?
        }
        _ => Vec::new(),
    };
    Ok(rows()
        .filter(|row| row.u32(4) != 0 && row.u32(4) != SHT_NOBITS)
        .map(|row| Section {
            name: text_at(&names, row.u32(0) as usize).to_owned(),
            kind: row.u32(4),
            offset: row.u64(24),
            size: row.u64(32),
        })
        .collect())
}

fn segments(file: Named<'_>, head: Fields<'_>) -> Result<Vec<Segment>, Error> {
    const WHAT: &str = "program header table";
    let (table, count) = (head.u64(32), u64::from(head.u16(56)));
    if table == 0 || count == 0 {
        return Ok(Vec::new());
    }
    if usize::from(head.u16(54)) != SEGMENT {
        let why = format!("entries of {} bytes, not {SEGMENT}", head.u16(54));
        return Err(file.malformed(54, WHAT, why));
    }
    let bytes = file.range(table, count * SEGMENT as u64, u64::MAX, WHAT)?;
    Ok(bytes
        .chunks_exact(SEGMENT)
        .map(Fields)
        .map(|row| Segment {
            kind: row.u32(0),
            offset: row.u64(8),
            address: row.u64(16),
            size: row.u64(32),
            memory: row.u64(40),
            align: row.u64(48),
        })
        .collect())
}
