//! What the payload of one entry of each code tells of all: code without a kernel, PTX that says more than its header.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Code, Entry, Fatbin, Form, Variant};
use crate::elf::Elf;
use crate::read::Named;
use crate::{ptx, unpack};

/// Code without a kernel takes no more, bytes in the file: all there is of it in cuDNN and cuFFT has some hundred.
const MAX_HOLLOW: u64 = 16 << 10;
/// PTX of which the first directives are read takes no more, bytes in the file.
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
        let entries = self.0.values().flat_map(|sample| {
            let ptx = sample.smallest.code.form == Form::Ptx;
            let smallest = Some(sample.smallest).filter(|entry| ptx && entry.packed <= MAX_PTX);
            Some(sample.largest)
                .filter(|entry| entry.packed <= MAX_HOLLOW)
                .into_iter()
                .chain(smallest)
        });
        entries.map(|entry| entry.payload..entry.payload.saturating_add(entry.packed))
    }
}

impl Fatbin {
    /// Looks into samples: code without a kernel counts for nothing, as the linker leaves it behind in libcufftw, and PTX is
    /// for whom its text says, where its header says less.
    pub fn settle(&mut self, file: Named<'_>) {
        let samples: Vec<Sample> = self.samples.0.values().copied().collect();
        for Sample { largest, smallest } in samples {
            let code = largest.code;
            if is_hollow(file, &largest) {
                self.rename(code, None);
            } else if code.form == Form::Ptx && code.target.variant == Variant::Plain {
                let said = Some(smallest)
                    .filter(|entry| entry.packed <= MAX_PTX)
                    .and_then(|entry| unpack::payload(file.bytes, &entry))
                    .and_then(|text| ptx::directives(&text));
                match said {
                    Some((_, target))
                        if target.number == code.target.number && target != code.target =>
                    {
                        self.rename(code, Some(Code { target, ..code }));
                    }
                    _ => {}
                }
            }
        }
    }

    /// Takes all entries of a code for others, or for none.
    fn rename(&mut self, from: Code, to: Option<Code>) {
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
