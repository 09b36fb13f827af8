//! An earlier result that this run is compared with: what it says of a figure, and why some of it is not believed.

mod differences;
mod document;

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::answer::{Board, Figure as Measured, Gpu as Now};
use crate::bound::product_named;
use crate::contradiction::contradiction;
use crate::doubt::doubtful;
use crate::report::Report;
use crate::sentence::Sentence;

/// An earlier result.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    interrupted: bool,
    effort: Option<String>,
    image: Option<String>,
    torch: Option<String>,
    gpus: Vec<Gpu>,
    figures: Vec<Earlier>,
    /// Why some of them are not known to be what was reached.
    doubts: Vec<(String, Vec<u32>, Sentence)>,
    /// What it says was computed wrongly.
    wrong: Vec<Wrong>,
}

/// A GPU as the earlier result says it. What it does not say contradicts nothing, and bounds nothing of a product that is known.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
struct Gpu {
    gpu: u32,
    name: String,
    capability: Option<(u32, u32)>,
    sm_count: Option<u32>,
    memory_bytes: Option<u64>,
    driver: Option<String>,
    board: Option<Board>,
    mig: Option<bool>,
    nvml_name: Option<String>,
    twin: Option<u32>,
    uuid: Option<String>,
    nvml_uuid: Option<String>,
    bus_id: Option<String>,
}

/// A figure of the earlier result.
#[derive(Clone, Debug, PartialEq)]
struct Earlier {
    figure: String,
    gpus: Vec<u32>,
    value: f64,
    spread: f64,
}

impl Earlier {
    fn of(one: &Measured) -> Self {
        let Measured { figure, gpus, value, spread, .. } = one.clone();
        Self { figure, gpus, value, spread }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Wrong {
    figure: String,
    gpus: Vec<u32>,
    reason: String,
}

impl Baseline {
    /// It was interrupted, and has not all of what it was to have.
    pub fn is_part(&self) -> bool {
        self.interrupted
    }

    /// The names of its figures, each once.
    pub fn names(&self) -> BTreeSet<&str> {
        self.figures.iter().map(|one| one.figure.as_str()).collect()
    }

    /// The value of a figure of these GPUs.
    pub(crate) fn value(&self, figure: &str, gpus: &[u32]) -> Option<f64> {
        self.figure(figure, gpus).map(|one| one.value)
    }

    /// How far its repeats were apart, as a share.
    pub(crate) fn spread(&self, figure: &str, gpus: &[u32]) -> Option<f64> {
        self.figure(figure, gpus).map(|one| one.spread)
    }

    fn figure(&self, figure: &str, gpus: &[u32]) -> Option<&Earlier> {
        self.figures.iter().find(|one| one.figure == figure && one.gpus == gpus)
    }

    /// What it says was wrong on these GPUs, of any figure: a line each.
    pub fn was_wrong(&self, gpu: u32) -> Vec<Sentence> {
        let its = self.wrong.iter().filter(|one| one.gpus.contains(&gpu));
        let said = its.map(|one| {
            let (name, reason) = (&one.figure, &one.reason);
            Sentence::new(
                format!("GPU {gpu} was wrong then: {name}: {reason}"),
                format!("GPU {gpu} 当时的结果有误：{name}：{reason}"),
            )
        });
        said.collect()
    }

    /// That it marks this figure as wrong.
    pub(crate) fn marked(&self, name: &str, gpus: &[u32]) -> Option<Sentence> {
        let one = self.wrong.iter().find(|one| one.figure == name && one.gpus == gpus)?;
        let reason = &one.reason;
        Some(Sentence::new(
            format!("the earlier one was wrong ({reason})"),
            format!("先前的结果有误（{reason}）"),
        ))
    }

    /// Why this figure is not known to be what was reached then.
    pub(crate) fn doubt(&self, name: &str, gpus: &[u32]) -> Option<Sentence> {
        let same = |one: &&(String, Vec<u32>, Sentence)| one.0 == name && one.1 == gpus;
        let Sentence { en, zh } = &self.doubts.iter().find(same)?.2;
        Some(Sentence::new(
            format!("the earlier one was \"can't tell\": {en}"),
            format!("先前的结果无法判断：{zh}"),
        ))
    }
}

/// Why a figure is not known to be what was reached, by itself: its GPU or its clock contradicts itself, or nobody believes it.
fn why_not_believed(gpus: &[Now], one: &Measured) -> Option<Sentence> {
    contradiction(gpus, one).or_else(|| doubtful(gpus, one))
}

impl From<&Report> for Baseline {
    fn from(report: &Report) -> Self {
        let figures = report.figures.iter().map(|one| &one.figure);
        let doubts = figures.clone().filter_map(|one| {
            let doubt = why_not_believed(&report.gpus, one)?;
            Some((one.figure.clone(), one.gpus.clone(), doubt))
        });
        Self {
            interrupted: report.interrupted,
            effort: Some(report.effort.to_owned()),
            // Two images are what is compared.
            image: None,
            torch: report.torch.clone(),
            gpus: report.gpus.iter().map(Gpu::of).collect(),
            figures: figures.map(Earlier::of).collect(),
            doubts: doubts.collect(),
            // Its own report says it.
            wrong: Vec::new(),
        }
    }
}

impl Gpu {
    fn of(now: &Now) -> Self {
        let Now { mig, nvml_name, twin, uuid, nvml_uuid, bus_id, .. } = now.clone();
        Self {
            gpu: now.gpu,
            name: now.name.clone(),
            capability: Some(now.capability),
            sm_count: Some(now.sm_count),
            memory_bytes: Some(now.memory_bytes),
            driver: now.driver.clone(),
            board: now.board,
            mig,
            nvml_name,
            twin,
            uuid,
            nvml_uuid,
            bus_id,
        }
    }

    /// As it was measured.
    fn as_measured(&self) -> Now {
        let Self { mig, nvml_name, twin, uuid, nvml_uuid, bus_id, .. } = self.clone();
        let known = product_named(&self.name);
        let capability = known.map(|product| product.capability);
        let capability = capability.map(|has| (u32::from(has.major), u32::from(has.minor)));
        let gb = known.and_then(|product| product.memory_gb);
        Now {
            gpu: self.gpu,
            name: self.name.clone(),
            capability: self.capability.or(capability).unwrap_or_default(),
            sm_count: self
                .sm_count
                .or(known.and_then(|product| product.sm_count))
                .unwrap_or(u32::MAX),
            memory_bytes: self.memory_bytes.or(gb.map(|gb| (gb * 1e9) as u64)).unwrap_or_default(),
            driver: self.driver.clone(),
            board: self.board,
            mig,
            nvml_name,
            twin,
            uuid,
            nvml_uuid,
            bus_id,
            ..Now::default()
        }
    }

    /// Its words, which are printed.
    fn words(&mut self) -> impl Iterator<Item = &mut String> {
        std::iter::once(&mut self.name)
            .chain(&mut self.driver)
            .chain(&mut self.nvml_name)
            .chain(&mut self.uuid)
            .chain(&mut self.nvml_uuid)
            .chain(&mut self.bus_id)
    }
}

#[cfg(test)]
mod tests;
