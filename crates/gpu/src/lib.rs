//! The NVIDIA driver on this machine: libraries, nodes, NVML, CDI, and which GPUs a container gets.
//!
//! The way of a request: [`select::parse`] reads `--gpus`, [`driver::find`] finds the driver,
//! [`select::choose`] picks and locks GPUs, [`cdi::edits`] says what the container must receive.
//! Nothing here is linked to a CUDA or NVML library, and nothing of NVIDIA's container software is
//! needed. Every file is read through [`Machine`], so that a machine can also be a recorded one.

pub mod affinity;
pub mod cdi;
pub mod compat;
pub mod driver;
mod error;
pub mod job;
pub mod linker;
pub mod lock;
mod machine;
pub mod mig;
pub mod nvml;
mod opening;
pub mod programs;
pub mod select;

pub use error::Error;
pub use machine::{Given, HostName, Machine, Node, Opening};
