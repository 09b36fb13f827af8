//! A filter as the kernel takes it.

use super::SeccompError;

/// One instruction of classic BPF, `struct sock_filter` (linux/filter.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to skip if a comparison holds.
    pub jt: u8,
    /// How many instructions to skip if it does not.
    pub jf: u8,
    /// The constant: a value, an offset, a distance.
    pub k: u32,
}

/// A compiled profile: a program for seccomp(2), with the flags to install it with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    flags: u32,
    program: Vec<Instruction>,
    notes: Vec<String>,
}

impl Filter {
    /// The longest program that the kernel takes (linux/bpf_common.h, `BPF_MAXINSNS`).
    pub const MAX_INSTRUCTIONS: usize = 4096;

    pub(super) fn new(flags: u32, program: Vec<Instruction>, notes: Vec<String>) -> Self {
        Self { flags, program, notes }
    }

    /// The instructions, in order.
    #[must_use]
    pub fn program(&self) -> &[Instruction] {
        &self.program
    }

    /// The flags for seccomp(2).
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// What the profile's author may not expect, a sentence each: unknown calls, rules that have
    /// no effect, actions that cannot be had.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The filter for another process of this machine: the flags and the number of instructions,
    /// 4 bytes each, then 8 bytes an instruction, little-endian. The notes stay behind.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 * (1 + self.program.len()));
        bytes.extend(self.flags.to_le_bytes());
        bytes.extend((self.program.len() as u32).to_le_bytes());
        for instruction in &self.program {
            bytes.extend(instruction.code.to_le_bytes());
            bytes.extend([instruction.jt, instruction.jf]);
            bytes.extend(instruction.k.to_le_bytes());
        }
        bytes
    }

    /// Reads what [`Filter::to_bytes`] wrote. Whether the program is sound is the kernel's to
    /// say, when it is installed.
    ///
    /// # Errors
    /// Bytes of another length than they say themselves, or too many.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SeccompError> {
        let (words, rest) = bytes.as_chunks::<8>();
        let Some(([a, b, c, d, count @ ..], instructions)) = words.split_first() else {
            return Err(SeccompError::NoFilter("they are too few"));
        };
        let count = u32::from_le_bytes(*count) as usize;
        if !rest.is_empty() || instructions.len() != count {
            return Err(SeccompError::NoFilter("their number is not the one they give"));
        }
        if count == 0 || count > Self::MAX_INSTRUCTIONS {
            return Err(SeccompError::NoFilter("the kernel takes 1 to 4096 instructions"));
        }
        let instruction = |&[code0, code1, jt, jf, k @ ..]: &[u8; 8]| Instruction {
            code: u16::from_le_bytes([code0, code1]),
            jt,
            jf,
            k: u32::from_le_bytes(k),
        };
        let program = instructions.iter().map(instruction).collect();
        Ok(Self::new(u32::from_le_bytes([*a, *b, *c, *d]), program, Vec::new()))
    }
}
