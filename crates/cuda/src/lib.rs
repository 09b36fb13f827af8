//! CUDA's libraries, opened while the program runs: the driver, NVRTC, cuBLASLt, cuSPARSELt, cuDNN and NCCL.
//!
//! Nothing is linked. Each library is a table of the functions that are used of it ([`library::table`]); one
//! that a library lacks is an error when it is called, not before. What CUDA gives is owned: memory, streams, events,
//! modules and graphs are given back when they are dropped.
//! A driver in trouble can crash or hang whoever asks it: the program that does should be one that may.
//!
//! Signatures and numbers: NVIDIA's public headers `cuda.h`, `nvrtc.h`, `cublasLt.h`, `cusparseLt.h`,
//! `cudnn_cnn.h`, `nccl.h`.

#![allow(unsafe_code)]

pub mod blas;
pub mod convolution;
mod driver;
mod error;
pub mod kernels;
mod library;
mod memory;
pub mod nccl;
pub mod nvrtc;
mod places;
pub mod sparse;
mod stream;

pub use driver::{Context, Cuda, Device};
pub use error::Refusal;
pub use memory::{Buffer, Pinned};
pub use nvrtc::Nvrtc;
pub use places::Places;
pub use stream::{Event, Graph, Kernel, Module, Stream};
