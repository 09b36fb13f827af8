//! What a library names in its data, to open it when it runs: libraries, and NumPy's C API.
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
const PIECE: u64 = 256 << 10;
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
    each_piece(file, elf, |at, piece| {
        let is_first =
            elf.sections.iter().any(|section| section.name == TEXTS && section.offset == at);
        search(file, at, piece, is_first, &mut out)
    })?;
    out.sort();
    out.dedup();
    Ok(out)
}

/// The newest major release of NumPy whose C API a module asks for, if it does.
///
/// # Errors
/// Those of [`names`].
pub fn numpy(file: Named<'_>, elf: &Elf) -> Result<Option<u16>, Error> {
    let mut newest = None;
    each_piece(file, elf, |start, piece| {
        for (major, text) in names::numpy_apis() {
            if newest >= Some(*major) {
                continue;
            }
            let Some(at) = memchr::memmem::find(piece, text.as_bytes()) else { continue };
            // Read, not only passed over, so that what is kept of a layer has it.
            file.range(start + at as u64, text.len() as u64, MAX_NAME as u64, "name of NumPy")?;
            newest = Some(*major);
        }
        Ok(())
    })?;
    Ok(newest)
}

/// A program's texts, piece by piece, with the place of each.
fn each_piece(
    file: Named<'_>,
    elf: &Elf,
    mut take: impl FnMut(u64, &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut buffer = Vec::new();
    for section in elf.sections.iter().filter(|section| section.name == TEXTS) {
        let end = section.offset.saturating_add(section.size.min(MAX_SEARCHED)).min(file.size());
        let mut at = section.offset;
        while at < end {
            let len = (end - at).min(PIECE);
            buffer.resize(buffer.len().max(len as usize), 0);
            let piece = &mut buffer[..len as usize];
            file.skim_into(piece, at, "texts")?;
            take(at, piece)?;
            if len < PIECE {
                break;
            }
            // A name may lie across the end of a piece.
            at += PIECE - MAX_NAME as u64;
        }
    }
    Ok(())
}

/// `is_first` says that no byte of the section stands before `piece`.
fn search(
    file: Named<'_>,
    start: u64,
    piece: &[u8],
    is_first: bool,
    out: &mut Vec<String>,
) -> Result<(), Error> {
    for dot in memchr::memmem::find_iter(piece, b".so.") {
        if out.len() >= MAX_NAMES {
            break;
        }
        let before = &piece[dot.saturating_sub(MAX_NAME)..dot];
        let after = &piece[dot..piece.len().min(dot + MAX_NAME)];
        // Whole texts only: a zero stands on both sides, or before them a byte of what is not a text, as of a table of
        // jumps: no UTF-8 has it.
        let is_no_text = |byte: &u8| matches!(*byte, 0 | 0xc0 | 0xc1 | 0xf5..);
        let starts_here = is_first && before.len() == dot;
        let first = match before.iter().rposition(is_no_text) {
            Some(zero) => dot - (before.len() - zero) + 1,
            None if starts_here => 0,
            None => continue,
        };
        let Some(end) = after.iter().position(|byte| *byte == 0) else { continue };
        let text = &piece[first..dot + end];
        if text.len() > MAX_NAME || !text.starts_with(b"lib") {
            continue;
        }
        let Some(name) = str::from_utf8(text).ok().filter(|name| names::is_opened(name)) else {
            continue;
        };
        // Read, not only passed over, so that what is kept of a layer has it.
        let place = start + first as u64;
        file.range(place, text.len() as u64, MAX_NAME as u64, "library name")?;
        out.push(name.to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::forge::{Library, cubin, fatbin};
    use crate::scan;

    #[test]
    fn whole_names_behind_other_data() {
        let data = b"\x24\x19\xed\xfflibcufft.so.11\0no libcublas.so.12\0\0libcudnn.so.9\0libcurand.so.10 is\0";
        let bytes = Library::new("x").code(&[fatbin(&[cubin(90)])]).data(data).build();
        let library = scan::library("x", &bytes).unwrap().unwrap();
        assert_eq!(library.opens, ["libcudnn.so.9", "libcufft.so.11"]);
    }

    #[test]
    fn a_name_with_nothing_before_it() {
        let opens = |data: &[u8]| {
            let bytes = Library::new("x").code(&[fatbin(&[cubin(90)])]).data(data).build();
            scan::library("x", &bytes).unwrap().unwrap().opens
        };
        assert_eq!(opens(b"libcufft.so.11\0"), ["libcufft.so.11"]);
        assert_eq!(opens(b"no libcufft.so.11\0"), [] as [&str; 0]);
    }
}
