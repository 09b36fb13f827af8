//! An earlier result that a run is compared with: what differs is said as soon as it is known.

use std::path::Path;

use sconce_bench::answer::{Gpu, Torch};
use sconce_bench::measure::Effort;
use sconce_bench::report::Report;
use sconce_bench::{Baseline, Sentence, figure};
use sconce_inside::bench::Order;
use sconce_inside::measure;

use crate::commands::paths;
use crate::error::{Failure, Kind};

/// An earlier result, and its name.
pub(super) struct Earlier {
    name: String,
    baseline: Baseline,
}

impl Earlier {
    /// Reads one, before anything is measured.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        /// Bytes of a result: more is none.
        const MOST: u64 = 16 << 20;
        let name = path.display().to_string();
        let unusable = |why: String| {
            Failure::new(Kind::Document, format!("can't compare with {name}: {why}"))
                .hint("`sconce bench --json . > FILE` writes one")
        };
        let path = &paths::of_option("--baseline", path)?;
        let text = sconce_open::read(path, MOST).map_err(|error| unusable(error.to_string()))?;
        let baseline = Baseline::read(&text).map_err(unusable)?;
        Ok(Self { name, baseline })
    }

    /// The first of several images: the others are compared with it.
    pub(super) fn first(report: &Report) -> Self {
        Self { name: report.target.clone(), baseline: Baseline::from(report) }
    }

    /// Refuses an earlier result that has nothing of what is to be measured, and says where it was measured with another effort:
    /// before minutes have passed.
    pub(super) fn comparable(&self, order: &Order) -> Result<(), Failure> {
        let (name, earlier) = (&self.name, &self.baseline);
        let groups = order.groups();
        let measured = |known: &&str| {
            let row = figure(known).filter(|row| groups.contains(&row.group));
            row.is_some_and(|row| match order.only.as_slice() {
                [] => order.effort != Effort::Quick || row.quick,
                only => only.iter().any(|one| one == row.name),
            })
        };
        let names = earlier.names();
        if !names.iter().any(measured) {
            let what =
                format!("can't compare with {name}: it has none of the figures that are asked for");
            let hint = match names.is_empty() {
                true => "`sconce bench --json . > FILE` writes one".to_owned(),
                false => {
                    let names: Vec<&str> = names.into_iter().collect();
                    format!("`--only {}` measures what it has", names.join(","))
                }
            };
            return Err(Failure::new(Kind::Usage, what).hint(hint));
        }
        if earlier.is_part() {
            eprintln!("note: {name} was interrupted: it has only what was measured until then");
        }
        let now = measure::name(order.effort);
        if let Some(other) = earlier.other_effort(now) {
            self.note(&other);
        }
        Ok(())
    }

    /// Compares a run with it.
    pub(super) fn compare(&self, report: &mut Report) {
        report.compare(&self.name, &self.baseline);
    }

    fn note(&self, other: &Sentence) {
        eprintln!("note: compared with {}: {}", self.name, other.en);
    }

    /// Says what of a machine or an image is not as it was, each thing once.
    pub(super) fn notes(&self) -> Notes<'_> {
        Notes { earlier: self, said: Vec::new(), gpus: Vec::new() }
    }
}

/// What was said already.
pub(super) struct Notes<'a> {
    earlier: &'a Earlier,
    said: Vec<Sentence>,
    gpus: Vec<Gpu>,
}

impl Notes<'_> {
    pub(super) fn image(&mut self, image: &str) {
        self.say(self.earlier.baseline.other_image(image));
    }

    pub(super) fn gpu(&mut self, gpu: &Gpu) {
        self.gpus.push(gpu.clone());
        self.say(self.earlier.baseline.other_gpu(gpu));
        self.say(self.earlier.baseline.was_wrong(gpu.gpu));
    }

    /// All GPUs have been named.
    pub(super) fn measures(&mut self) {
        let gpus = std::mem::take(&mut self.gpus);
        self.say(self.earlier.baseline.lacks(&gpus));
    }

    pub(super) fn torch(&mut self, torch: &Torch) {
        self.say(self.earlier.baseline.other_torch(torch.version.as_deref()));
    }

    fn say(&mut self, others: impl IntoIterator<Item = Sentence>) {
        for other in others {
            if !self.said.contains(&other) {
                self.earlier.note(&other);
                self.said.push(other);
            }
        }
    }
}
