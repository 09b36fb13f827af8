//! What a cubin says of itself: the exact target and the toolkit it was made with.
//!
//! Measured on the cubins of CUDA 12.4 to 13.5: `ptxas` and `nvlink` write a note of type 2000 named
//! `NVIDIA Corp` into `.note.nv.tkinfo`; behind its numbers stand zero-terminated texts: the tool,
//! `Cuda compilation tools, release 13.5, V13.5.37`, the build, and options such as
//! `-arch sm_100a`. Before ABI version 8 (CUDA 12.8) bit 11 of `e_flags` stands for the suffix `a`,
//! from then on bit 3 (LLVM's `EF_CUDA_ACCELERATORS`).

use sconce_facts::CudaVersion;

use crate::elf::Elf;
use crate::fatbin::{Target, Variant};
use crate::read::Named;

const NOTE: &str = ".note.nv.tkinfo";
const MAX_NOTE: u64 = 64 << 10;
/// The ABI version from which on the capability stands in the second byte of `e_flags`.
const WIDE_ABI: u8 = 8;
const SPECIFIC_BEFORE: u32 = 0x800;
const SPECIFIC: u32 = 0x8;

/// What a cubin's tool notes say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// The release of the tool that wrote it.
    pub toolkit: Option<CudaVersion>,
    /// The target it was told to compile for.
    pub target: Option<Target>,
}

impl Notes {
    /// Reads the notes of a cubin; nothing of one that has none or is malformed.
    pub fn read(file: Named<'_>, elf: &Elf) -> Self {
        let mut notes = Self::default();
        for section in elf.sections.iter().filter(|section| section.name == NOTE) {
            let Ok(bytes) = file.range(section.offset, section.size, MAX_NOTE, NOTE) else {
                continue;
            };
            for text in bytes.split(|byte| *byte == 0).filter_map(|text| str::from_utf8(text).ok())
            {
                notes.toolkit = notes.toolkit.max(release(text));
                notes.target = notes.target.or_else(|| arch(text));
            }
        }
        notes
    }
}

/// The target of a whole cubin, by its notes, else by its flags.
pub fn target(file: Named<'_>, elf: &Elf, abi: u8) -> Target {
    Notes::read(file, elf).target.unwrap_or_else(|| {
        let wide = abi >= WIDE_ABI;
        let number = if wide { elf.flags >> 8 & 0xff } else { elf.flags & 0xff };
        let specific = elf.flags & if wide { SPECIFIC } else { SPECIFIC_BEFORE } != 0;
        Target { number, variant: if specific { Variant::Specific } else { Variant::Plain } }
    })
}

/// 13.5 of `Cuda compilation tools, release 13.5, V13.5.37`.
fn release(text: &str) -> Option<CudaVersion> {
    let (_, rest) = text.strip_prefix("Cuda compilation tools")?.split_once("release ")?;
    rest.split(',').next()?.trim().parse().ok()
}

/// `sm_100a` of `-arch sm_100a -O3`.
fn arch(text: &str) -> Option<Target> {
    let mut words = text.split([' ', '=']);
    words.find(|word| matches!(*word, "-arch" | "--gpu-name"))?;
    named(words.next()?)
}

/// The target that `sm_100a` or `compute_100a` names.
pub fn named(text: &str) -> Option<Target> {
    let rest = text.strip_prefix("sm_").or_else(|| text.strip_prefix("compute_"))?;
    let (digits, variant) = match rest.as_bytes().last()? {
        b'a' => (&rest[..rest.len() - 1], Variant::Specific),
        b'f' => (&rest[..rest.len() - 1], Variant::Family),
        _ => (rest, Variant::Plain),
    };
    let plain = (2..=4).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    Some(Target { number: plain.then(|| digits.parse().ok()).flatten()?, variant })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_a_note() {
        let text = "Cuda compilation tools, release 13.5, V13.5.37";
        assert_eq!(release(text).unwrap().to_string(), "13.5");
        assert_eq!(release("release 13.5"), None);
        assert_eq!(arch("-arch sm_100a ").unwrap().to_string(), "100a");
        assert_eq!(arch("-O3 -arch sm_120f -v").unwrap().to_string(), "120f");
        assert_eq!(arch("-arch sm_é"), None);
        assert_eq!(arch("-arch"), None);
        assert_eq!(named("compute_90").unwrap().to_string(), "90");
    }
}
