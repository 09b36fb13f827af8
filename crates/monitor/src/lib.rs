//! GPUs over time: what they do, what runs on them, and what is wrong.
mod kernel;
pub mod metric;
pub mod owner;
pub mod sample;
pub mod sampler;
mod worker;
