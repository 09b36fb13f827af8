//! What the payload of one entry of each code tells of all: cubins without kernels, PTX that says more than its header.

use super::{Code, Entry, Fatbin, Form, Variant};
use crate::elf::Elf;
use crate::read::Named;
use crate::{ptx, unpack};

/// A cubin larger than this has a kernel, bytes when unpacked: those without one have some kilobytes.
const MAX_HOLLOW: u64 = 256 << 10;
/// Different codes of one library of which a sample is looked into.
const MAX_SAMPLES: usize = 64;

impl Fatbin {
    /// Keeps the entry that tells of all of its code.
    pub(super) fn sample(&mut self, entry: Entry) {
        let room = self.samples.len() < MAX_SAMPLES;
        let better = match (entry.code.form, self.samples.get(&entry.code)) {
            (Form::Cubin | Form::Ptx, None) => room,
            (Form::Cubin, Some(known)) => entry.unpacked > known.unpacked,
            (Form::Ptx, Some(known)) => entry.packed < known.packed,
            _ => false,
        };
        if better {
            self.samples.insert(entry.code, entry);
        }
    }

    /// Looks into samples: where no cubin has a kernel, as the linker leaves them behind in libcufftw, they count for
    /// nothing; PTX is for whom its text says, where its header says less. A cubin without beside others that have some still
    /// counts. So does PTX without a kernel: all 132 cubins and 22 PTX of libcudnn_ext of cuDNN 9 are such, and what is left of it
    /// here, the PTX, reads as code for 12.1 alone.
    pub fn settle(&mut self, file: Named<'_>) {
        let samples: Vec<Entry> = self.samples.values().copied().collect();
        let mut cubins = samples.iter().filter(|entry| entry.code.form == Form::Cubin);
        let hollow = cubins.all(|entry| is_hollow(file, entry));
        for sample in samples {
            match sample.code.form {
                Form::Cubin if hollow => self.rename(sample.code, None),
                Form::Ptx if sample.code.target.variant == Variant::Plain => {
                    let target = unpack::payload(file.bytes, &sample)
                        .and_then(|text| ptx::directives(&text))
                        .map(|(_, target)| target)
                        .filter(|target| target.number == sample.code.target.number);
                    if let Some(target) = target.filter(|target| *target != sample.code.target) {
                        self.rename(sample.code, Some(Code { target, ..sample.code }));
                    }
                }
                _ => {}
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

/// Whether a cubin has no kernel.
fn is_hollow(file: Named<'_>, entry: &Entry) -> bool {
    entry.unpacked <= MAX_HOLLOW
        && unpack::payload(file.bytes, entry).is_some_and(|cubin| {
            Elf::parse(Named::new(file.name, &cubin)).is_ok_and(|elf| !elf.has_kernel())
        })
}
