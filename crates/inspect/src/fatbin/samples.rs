//! What the payload of one entry of each code tells of all: code without a kernel, and whom it is for by its own word.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Code, Entry, Fatbin, Form, Variant};
use crate::elf::{Elf, Machine};
use crate::read::Named;
use crate::{cubin, ptx, unpack};

/// Code without a kernel takes no more, bytes in the file: all there is of it in cuDNN and cuFFT has some hundred.
const MAX_HOLLOW: u64 = 16 << 10;
/// PTX that is asked for whom it is takes no more, bytes in the file.
const MAX_PTX: u64 = 256 << 10;
/// Different codes of one library of which samples are looked into.
const MAX_CODES: usize = 64;

/// Of each code the entries that tell of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Samples(BTreeMap<Code, Sample>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    /// Where this one has no kernel, none has.
    largest: Entry,
    /// What is cheapest to read.
    smallest: Entry,
}

impl Samples {
    /// Takes note of an entry, and says whether it is a sample now.
    pub(crate) fn add(&mut self, entry: Entry) -> bool {
        if !matches!(entry.code.form, Form::Cubin | Form::Ptx) {
            return false;
        }
        let room = self.0.len() < MAX_CODES;
        let Some(known) = self.0.get_mut(&entry.code) else {
            if room {
                self.0.insert(entry.code, Sample { largest: entry, smallest: entry });
            }
            return room;
        };
        let larger = entry.unpacked > known.largest.unpacked;
        let smaller = entry.packed < known.smallest.packed;
        if larger {
            known.largest = entry;
        }
        if smaller {
            known.smallest = entry;
        }
        larger || smaller
    }

    /// The parts of the file that [`Fatbin::settle`] reads.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range<u64>> {
        let read = self.0.values().flat_map(|sample| {
            [(sample.largest, MAX_HOLLOW), (sample.smallest, telling(sample.smallest.code.form))]
        });
        read.filter(|(entry, most)| entry.packed <= *most)
            .map(|(entry, _)| entry.payload..entry.payload.saturating_add(entry.packed))
    }
}

/// The most bytes in the file of an entry that is asked for whom it is.
const fn telling(form: Form) -> u64 {
    if matches!(form, Form::Ptx) { MAX_PTX } else { MAX_HOLLOW }
}

impl Fatbin {
    /// Looks into samples: code without a kernel counts for nothing, as the linker leaves it behind in libcufftw, nor does PTX
    /// for 32 bits; and code is for whom it says itself, whatever its header says.
    pub fn settle(&mut self, file: Named<'_>) {
        let samples: Vec<Sample> = self.samples.0.values().copied().collect();
        for Sample { largest, smallest } in samples {
            let code = largest.code;
            if is_hollow(file, &largest) {
                self.rename(code, None);
                continue;
            }
            if smallest.packed > telling(code.form) {
                continue;
            }
            let Some(payload) = unpack::payload(file.bytes, &smallest) else { continue };
            match code.form {
                Form::Ptx => self.ptx_says(code, &payload),
                _ => self.cubin_says(code, Named::new(file.name, &payload)),
            }
        }
    }

    fn ptx_says(&mut self, code: Code, text: &[u8]) {
        let Some(directives) = ptx::directives(text) else { return };
        if directives.bits == Some(32) {
            return self.rename(code, None);
        }
        if let Some(tally) = self.codes.get_mut(&code) {
            tally.ptx_isa = tally.ptx_isa.max(Some(directives.isa));
        }
        // A family's PTX has a plain target in its text with some releases of nvcc.
        let target = directives.target;
        let same = target.number == code.target.number;
        if !same || code.target.variant == Variant::Plain {
            self.rename(code, Some(Code { target, ..code }));
        }
    }

    fn cubin_says(&mut self, code: Code, cubin: Named<'_>) {
        let Ok(elf) = Elf::parse(cubin) else { return };
        let Ok(ident) = cubin.array::<16>(0, "first bytes") else { return };
        if elf.machine != Machine::Cuda {
            return;
        }
        let target = cubin::target(cubin, &elf, ident[8]);
        let known = target.number > 0;
        let narrower = target.variant != Variant::Plain && code.target.variant == Variant::Plain;
        if known && (target.number != code.target.number || narrower) {
            self.rename(code, Some(Code { target, ..code }));
        }
    }

    /// Takes all entries of a code for others, or for none.
    fn rename(&mut self, from: Code, to: Option<Code>) {
        if to == Some(from) {
            return;
        }
        let Some(tally) = self.codes.remove(&from) else { return };
        if let Some(to) = to {
            let known = self.codes.entry(to).or_default();
            known.entries = known.entries.saturating_add(tally.entries);
            known.bytes = known.bytes.saturating_add(tally.bytes);
            known.ptx_isa = known.ptx_isa.max(tally.ptx_isa);
            let oldest = [known.oldest_ptx_isa, tally.oldest_ptx_isa];
            known.oldest_ptx_isa = oldest.into_iter().flatten().min();
        }
        for (set, count) in std::mem::take(&mut self.sets) {
            let mut set: Vec<Code> = set
                .into_iter()
                .filter_map(|code| if code == from { to } else { Some(code) })
                .collect();
            set.sort();
            set.dedup();
            match set.is_empty() {
                true => self.containers = self.containers.saturating_sub(count),
                false => *self.sets.entry(set).or_default() += count,
            }
        }
        if self.codes.is_empty() {
            *self = Self { flaws: std::mem::take(&mut self.flaws), ..Self::default() };
        }
    }
}

/// Whether an entry is known to have no kernel.
fn is_hollow(file: Named<'_>, entry: &Entry) -> bool {
    if entry.packed > MAX_HOLLOW {
        return false;
    }
    let Some(payload) = unpack::payload(file.bytes, entry) else { return false };
    match entry.code.form {
        Form::Ptx => ptx::directives(&payload).is_some() && !ptx::has_code(&payload),
        _ => Elf::parse(Named::new(file.name, &payload)).is_ok_and(|elf| !elf.has_kernel()),
    }
}
