//! What GPUs really deliver: the figures ([`FIGURES`]), how they are measured ([`measure`]), what came out
//! ([`answer`]), what should have come out ([`judge`]) and what can't have ([`impossible`]), and the report of it.
//!
//! Measuring is done inside a container, by libraries of the image, and through its torch by a program in Python ([`PROGRAM`]);
//! judging outside, and what to make of it ([`advice`]).

pub mod advice;
pub mod answer;
mod asked;
mod baseline;
mod bound;
pub mod comparison;
mod contradiction;
mod doubt;
mod figures;
mod html;
pub mod judge;
mod markdown;
pub mod measure;
mod page;
mod program;
pub mod report;
mod sentence;
mod siblings;

pub use asked::Asked;
pub use baseline::Baseline;
pub use bound::impossible;
pub use figures::{FIGURES, GPUS, GROUPS, Group, NVML, Row, figure};
pub use page::page;
pub use program::PROGRAM;
pub use sentence::Sentence;
