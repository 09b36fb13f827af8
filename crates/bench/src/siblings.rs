//! GPUs of one machine beside each other: of one kind all should be the same.

use sconce_facts::{Compared, least};

use crate::answer::{Figure, Gpu};
use crate::bound::product;
use crate::contradiction::contradiction;
use crate::doubt::doubtful;
use crate::figures::figure;
use crate::measure::clock::median;
use crate::sentence::Sentence;

/// How far each figure is below the median of the other GPUs, as a share of it, where that is much. What can't be told of a figure by
/// itself is no measure for others, and is not measured by them.
pub(crate) fn below(gpus: &[Gpu], figures: &[Figure]) -> Vec<Option<f64>> {
    let believed = |one: &Figure| {
        (contradiction(gpus, one).is_none() && doubtful(gpus, one).is_none())
            .then(|| of(gpus, one))
            .flatten()
    };
    let all: Vec<Option<Vec<&Gpu>>> = figures.iter().map(believed).collect();
    let beside = |one: &Figure, its: &[&Gpu]| -> Vec<f64> {
        let of_its_kind = |other: &[&Gpu]| {
            other.len() == its.len() && other.iter().zip(its).all(|(other, own)| alike(other, own))
        };
        let same = |(other, its): &(&Figure, &Option<Vec<&Gpu>>)| {
            other.figure == one.figure
                && other.gpus != one.gpus
                && its.as_deref().is_some_and(of_its_kind)
        };
        figures.iter().zip(&all).filter(same).map(|(other, _)| other.value).collect()
    };
    let share = |(one, its): (&Figure, &Option<Vec<&Gpu>>)| {
        let others = beside(one, its.as_deref()?);
        let middle = (!others.is_empty()).then(|| median(&others))?;
        let share = if figure(&one.figure)?.more { one.value / middle } else { middle / one.value };
        (share < least(Compared::Siblings)).then_some(1.0 - share)
    };
    figures.iter().zip(&all).map(share).collect()
}

/// The GPUs of a figure, if all are known.
fn of<'a>(gpus: &'a [Gpu], one: &Figure) -> Option<Vec<&'a Gpu>> {
    one.gpus.iter().map(|number| gpus.iter().find(|gpu| gpu.gpu == *number)).collect()
}

/// Of one product, as large, both whole or both split, and with the same power limit when they were made: some are sold with several.
fn alike(one: &Gpu, other: &Gpu) -> bool {
    let by_default = |gpu: &Gpu| gpu.board.and_then(|board| board.power_default_w);
    let limits = by_default(one).zip(by_default(other));
    one.name == other.name
        && one.sm_count == other.sm_count
        && (one.mig == Some(true)) == (other.mig == Some(true))
        && limits.is_none_or(|(one, other)| (one - other).abs() <= 1.0)
}

/// That a figure is of GPUs of two kinds: what either reaches with its own kind says nothing about them.
pub(crate) fn two_kinds(gpus: &[Gpu], one: &Figure) -> Option<Sentence> {
    let its = of(gpus, one)?;
    let kind = |gpu: &Gpu| product(gpu).map_or(gpu.name.clone(), |product| product.name.clone());
    let (first, rest) = its.split_first()?;
    let other = rest.iter().find(|other| kind(other) != kind(first))?;
    let (number, name, another, its) = (first.gpu, &first.name, other.gpu, &other.name);
    Some(Sentence::new(
        format!("GPU {number} is {name}, and GPU {another} is {its}: two kinds of GPU"),
        format!("GPU {number} 是 {name}，而 GPU {another} 是 {its}：两种 GPU"),
    ))
}
