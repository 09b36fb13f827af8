//! What runs in a container for sconce: programs and a file of answers are put into it, it is started,
//! and the answers are read while they are written.
//!
//! A [`Session`] makes the checks of `sconce-verify` in one container after the other; [`probe`] is
//! the half of it that runs inside. [`bench`] measures in a container, and [`measure`] is its half inside. What comes from inside is not trusted: files are bounded, and a
//! program that ends, hangs or lies is an answer of its own.

pub mod bench;
mod child;
mod error;
pub mod measure;
mod orphans;
mod packages;
pub mod probe;
mod session;
mod stage;
mod tail;
mod torch;

pub use error::Error;
pub use session::{Listener, Session};
