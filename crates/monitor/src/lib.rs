//! GPUs over time: what they do, what runs on them, and what is wrong.
//!
//! [`sampler::run`] takes a [`sample::Sample`] at every interval; [`exporter::Exporter`] gives the last one out as Prometheus's
//! text, and as a page; [`watch::Watch`] judges them by [`rules::RULES`]; [`recording`] writes them down and reads them back,
//! [`history`] keeps weeks of them. A scrape never calls NVML. A value that a GPU does not have is absent, never 0.

mod alerts;
#[doc(hidden)]
pub mod answers;
mod board;
pub mod counters;
pub mod events;
pub mod exporter;
mod grpc;
pub mod guarded;
pub mod history;
mod hpack;
mod kernel;
mod kubelet;
mod manual;
pub mod metric;
mod names;
pub mod owner;
pub mod pods;
pub mod ports;
pub mod recording;
pub mod rules;
pub mod sample;
pub mod sampler;
pub mod server;
pub mod text;
mod unit;
pub mod watch;
pub mod web;
pub mod window;
mod worker;
mod workloads;

pub use alerts::alerts;
pub use board::board;
pub use manual::{page, time};
pub use names::Names;
pub use unit::{reachable, unit};
