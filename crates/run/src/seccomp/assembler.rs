//! Classic BPF instructions, put together from the last one to the first.
//!
//! Jumps of BPF go forward only (bpf(4), the kernel's networking/filter.rst). Written backwards,
//! every target is known when its jump is written, and the offset with it.

use super::filter::Instruction;

const LD_W_ABS: u16 = 0x20;
const AND_K: u16 = 0x54;
const JA: u16 = 0x05;
const RET_K: u16 = 0x06;

/// Comparisons of the accumulator with a constant, without sign.
#[derive(Debug, Clone, Copy)]
pub(super) enum Jump {
    Equal = 0x15,
    Greater = 0x25,
    GreaterOrEqual = 0x35,
}

/// An instruction that others jump to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

/// A program under way.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    backwards: Vec<Instruction>,
}

impl Assembler {
    /// How many instructions there are so far.
    pub(super) fn len(&self) -> usize {
        self.backwards.len()
    }

    /// The program, which starts with the instruction that was written last.
    pub(super) fn finish(mut self) -> Vec<Instruction> {
        self.backwards.reverse();
        self.backwards
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.backwards.push(Instruction { code, jt, jf, k });
        Label(self.backwards.len() - 1)
    }

    /// `return value`: one that is near enough already, or a new one.
    pub(super) fn ret(&mut self, value: u32) -> Label {
        let near = self.backwards.len().saturating_sub(REACH);
        let found = self.backwards[near..].iter().rposition(|i| i.code == RET_K && i.k == value);
        match found {
            Some(index) => Label(near + index),
            None => self.push(RET_K, 0, 0, value),
        }
    }

    /// Loads 32 bits of `seccomp_data`, then goes on with `then`.
    pub(super) fn load(&mut self, offset: u32, then: Label) -> Label {
        self.before(then);
        self.push(LD_W_ABS, 0, 0, offset)
    }

    /// Masks the accumulator, then goes on with `then`.
    pub(super) fn and(&mut self, mask: u32, then: Label) -> Label {
        self.before(then);
        self.push(AND_K, 0, 0, mask)
    }

    /// Compares the accumulator with `k` and goes to `yes` or `no`.
    pub(super) fn jump(&mut self, jump: Jump, k: u32, yes: Label, no: Label) -> Label {
        let (yes, no) = (self.within_reach(yes), self.within_reach(no));
        let (jt, jf) = (self.offset(yes), self.offset(no));
        self.push(jump as u16, jt, jf, k)
    }

    /// Makes sure that what is written next is followed by `label`.
    fn before(&mut self, label: Label) {
        let between = self.backwards.len() - 1 - label.0;
        if between > 0 {
            self.push(JA, 0, 0, between as u32);
        }
    }

    /// `label`, or an instruction that leads there, near enough for a conditional jump.
    fn within_reach(&mut self, label: Label) -> Label {
        let distance = self.backwards.len() - label.0;
        if distance <= REACH {
            return label;
        }
        match self.backwards[label.0] {
            Instruction { code: RET_K, k, .. } => self.push(RET_K, 0, 0, k),
            // From the instruction after this one to the label.
            _ => self.push(JA, 0, 0, (distance - 1) as u32),
        }
    }

    /// How many instructions lie between the next one to be written and `label`.
    fn offset(&self, label: Label) -> u8 {
        let between = self.backwards.len() - 1 - label.0;
        u8::try_from(between).expect("within_reach was asked before")
    }
}

/// How far a conditional jump reaches, less two instructions for [`Assembler::within_reach`].
const REACH: usize = 255 - 2;
