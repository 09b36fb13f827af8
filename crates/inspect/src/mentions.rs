//! Libraries that a library names in its data, to open them when it runs.
//!
//! A statically linked CUDA runtime leaves no NEEDED entry; what stands in `.rodata` is a
//! zero-terminated `libcublas.so.12`. Only names of NVIDIA's libraries with a version behind `.so`
//! are taken: a bare `libcuda.so` in a message is none.

use crate::Error;
use crate::elf::Elf;
use crate::names;
use crate::read::Named;

/// Sections with a program's texts.
const TEXTS: &str = ".rodata";
/// Of one library no more is searched, bytes; the largest `.rodata` seen among libraries with GPU
/// code has 72 MB.
const MAX_SEARCHED: u64 = 128 << 20;
const PIECE: u64 = 1 << 20;
/// No library's name is longer.
const MAX_NAME: usize = 64;
/// Names of one library.
const MAX_NAMES: usize = 256;

/// The names in the data of one library, sorted, each once.
///
/// # Errors
/// Only when reading fails; sections that end beyond the file are cut off.
pub fn names(file: Named<'_>, elf: &Elf) -> Result<Vec<String>, Error> {
    let mut out = Vec::new();
    for section in elf.sections.iter().filter(|section| section.name == TEXTS) {
        let end = section.offset.saturating_add(section.size.min(MAX_SEARCHED)).min(file.size());
        let mut at = section.offset;
        while at < end {
            let len = (end - at).min(PIECE);
            let piece = file.skim(at, len as usize, "texts")?;
            search(file, at, &piece, &mut out)?;
            if len < PIECE {
                break;
            }
            // A name may lie across the end of a piece.
            at += PIECE - MAX_NAME as u64;
        }
    }
    out.sort();
    out.dedup();
    Ok(out)
}

fn search(file: Named<'_>, start: u64, piece: &[u8], out: &mut Vec<String>) -> Result<(), Error> {
    let mut at = 0;
    for text in piece.split(|byte| *byte == 0) {
        let whole = at > 0 && at + text.len() < piece.len();
        let place = start + at as u64;
        at += text.len() + 1;
        if !whole || text.len() > MAX_NAME || !text.starts_with(b"lib") || out.len() >= MAX_NAMES {
            continue;
        }
        let Some(name) = str::from_utf8(text).ok().filter(|name| names::is_opened(name)) else {
            continue;
        };
        // Read, not only passed over, so that what is kept of a layer has it.
        file.range(place, text.len() as u64, MAX_NAME as u64, "library name")?;
        out.push(name.to_owned());
    }
    Ok(())
}
