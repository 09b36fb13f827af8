//! From the rules to a program: which architecture, which call, which arguments.
//!
//! Numbers with the same action in a row are one range, and the ranges are the leaves of a balanced
//! tree of comparisons: a call passes eight or nine of them, not one for each call named.

use std::collections::BTreeMap;

use super::assembler::{Assembler, Jump, Label};
use super::numbers::Abi;
use super::rules::{self, Action, Call, Operator, Test};
use super::{Context, Filter, Profile, SeccompError};

/// Offsets in `struct seccomp_data` (linux/seccomp.h). Both architectures are little-endian: the
/// lower half of an argument comes first.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// What a C library takes for "this kernel is too old".
const ENOSYS: Action = Action::Errno(38);

impl Profile {
    /// The filter that this profile is on one machine, for one set of capabilities.
    ///
    /// # Errors
    /// [`SeccompError::TooLong`] if the kernel would not take a program of that length.
    pub fn compile(&self, context: &Context) -> Result<Filter, SeccompError> {
        let mut program = Assembler::default();
        // With a default that lets calls through, rules could be evaded through another
        // architecture's numbers: killed, as libseccomp has it for every unknown one.
        let other = if self.default.lets_through() { Action::KillProcess } else { self.default };
        let mut next = program.ret(other.value());
        let abis = rules::abis(self, context.arch);
        // Backwards: the machine's own architecture is asked for first.
        for abi in abis.iter().rev().filter(|abi| **abi != Abi::X32) {
            let mut leaves = self.leaves(context, *abi)?;
            if *abi == Abi::X86_64 {
                // x32 shares the architecture and has numbers of its own.
                if abis.contains(&Abi::X32) {
                    leaves.extend(self.leaves(context, Abi::X32)?);
                } else {
                    leaves.push(Leaf { start: Abi::X32.bounds().0, call: always(other) });
                }
            }
            leaves.dedup_by(|next, leaf| next.call == leaf.call);
            let root = tree(&mut program, &leaves)?;
            let body = program.load(NUMBER, root);
            next = program.jump(Jump::Equal, abi.audit(), body, next);
        }
        program.load(ARCH, next);
        if program.len() > Filter::MAX_INSTRUCTIONS {
            return Err(SeccompError::TooLong);
        }
        Ok(Filter::new(self.flags, program.finish(), rules::notes(self, context)))
    }

    /// What happens to each number of `abi`, in order and without gaps.
    fn leaves(&self, context: &Context, abi: Abi) -> Result<Vec<Leaf>, SeccompError> {
        let calls = rules::calls(self, context, abi)?;
        let (first, end) = abi.bounds();
        let mut starts = BTreeMap::from([(first, always(self.default))]);
        if abi == Abi::Arm {
            starts.insert(end + 1, always(self.default));
        }
        for (number, call) in calls.by_number {
            let decided = call.always.unwrap_or(self.default);
            starts.insert(number, Call { always: Some(decided), ..call });
            starts.insert(number + 1, always(self.default));
        }
        if let Some(last) = calls.last
            && !self.default.lets_through()
        {
            starts.insert(last + 1, always(ENOSYS));
        }
        Ok(starts.into_iter().map(|(start, call)| Leaf { start, call }).collect())
    }
}

/// What happens to the calls from a number up to the next leaf's.
struct Leaf {
    start: u32,
    call: Call,
}

fn always(action: Action) -> Call {
    Call { always: Some(action), before: Vec::new() }
}

/// Finds the leaf of the call's number, which is in the accumulator.
fn tree(program: &mut Assembler, leaves: &[Leaf]) -> Result<Label, SeccompError> {
    if program.len() > Filter::MAX_INSTRUCTIONS {
        return Err(SeccompError::TooLong);
    }
    match leaves {
        [] => unreachable!("every ABI has a first leaf"),
        [leaf] => Ok(decide(program, &leaf.call)),
        _ => {
            let (low, high) = leaves.split_at(leaves.len() / 2);
            let above = tree(program, high)?;
            let below = tree(program, low)?;
            Ok(program.jump(Jump::GreaterOrEqual, high[0].start, above, below))
        }
    }
}

/// Tests the call's arguments as far as its rules do, and returns an action.
fn decide(program: &mut Assembler, call: &Call) -> Label {
    let mut next = program.ret(call.always.map_or(0, Action::value));
    for (action, tests) in call.before.iter().rev() {
        let mut matched = program.ret(action.value());
        for test in tests.iter().rev() {
            matched = compare(program, test, matched, next);
        }
        next = matched;
    }
    next
}

/// Goes to `yes` if the argument passes the test, to `no` if not.
///
/// The accumulator has 32 bits: the upper halves decide unless they are equal. The upper half of a
/// narrow argument is zero whatever the register holds, and decided here.
fn compare(program: &mut Assembler, test: &Test, yes: Label, no: Label) -> Label {
    let Test { condition, narrow } = *test;
    let (value, value_two) = (halves(condition.value), halves(condition.value_two));
    let low = ARGUMENTS + 8 * condition.argument;
    let high = low + 4;
    let ((jump, (above, below)), (yes, no)) = match condition.operator {
        Operator::Equal => return equal(program, test, value, None, yes, no),
        Operator::NotEqual => return equal(program, test, value, None, no, yes),
        Operator::Masked => return equal(program, test, value_two, Some(value), yes, no),
        Operator::Greater => ((Jump::Greater, value), (yes, no)),
        Operator::LessOrEqual => ((Jump::Greater, value), (no, yes)),
        Operator::GreaterOrEqual => ((Jump::GreaterOrEqual, value), (yes, no)),
        Operator::Less => ((Jump::GreaterOrEqual, value), (no, yes)),
    };
    if narrow && above > 0 {
        return no;
    }
    let lower = program.jump(jump, below, yes, no);
    let lower = program.load(low, lower);
    if narrow {
        return lower;
    }
    let upper = program.jump(Jump::Equal, above, lower, no);
    let upper = program.jump(Jump::Greater, above, yes, upper);
    program.load(high, upper)
}

/// Goes to `yes` if the argument, masked, equals `value`.
fn equal(
    program: &mut Assembler,
    test: &Test,
    value: (u32, u32),
    mask: Option<(u32, u32)>,
    yes: Label,
    no: Label,
) -> Label {
    let low = ARGUMENTS + 8 * test.condition.argument;
    let mut half = |offset, value, mask: Option<u32>, yes| {
        let mut label = program.jump(Jump::Equal, value, yes, no);
        if let Some(mask) = mask {
            label = program.and(mask, label);
        }
        program.load(offset, label)
    };
    let lower = half(low, value.1, mask.map(|mask| mask.1), yes);
    if test.narrow {
        return lower;
    }
    half(low + 4, value.0, mask.map(|mask| mask.0), lower)
}

/// The upper and the lower half.
fn halves(value: u64) -> (u32, u32) {
    ((value >> 32) as u32, value as u32)
}
