//! GPUs over time: what they do, what runs on them, and what is wrong.
//!
//! [`sampler::run`] takes a [`sample::Sample`] at every interval; [`exporter::Exporter`] gives the last one out as Prometheus's
//! text; [`watch::Watch`] judges them by [`rules::RULES`]; [`recording`] writes them down and reads them back. A scrape
//! never calls NVML. A value that a GPU does not have is absent, never 0.

pub mod exporter;
mod kernel;
pub mod metric;
mod names;
pub mod owner;
mod page;
pub mod recording;
pub mod rules;
pub mod sample;
pub mod sampler;
pub mod server;
pub mod text;
mod unit;
pub mod watch;
pub mod window;
mod worker;

pub use names::Names;
pub use page::{page, time};
pub use unit::unit;
