//! Images between registries and the store: pull, push, and copies from one place to another.
//!
//! `sconce-registry` speaks with registries and stores nothing; `sconce-store` stores and speaks with
//! nobody. Here one is driven by the other, several blobs at a time.

mod error;
mod incoming;
mod origin;
mod peers;
mod pull;
mod push;
mod several;

use sconce_build::Progress;
use sconce_registry::Access;
use sconce_store::Store;

pub use error::Error;
pub use pull::Pulled;
pub use push::Pushed;

/// Moves images.
#[derive(Clone, Copy)]
pub struct Transfer<'a> {
    /// Where images lie on this machine.
    pub store: &'a Store,
    /// How registries are reached.
    pub access: &'a Access,
    /// Who is told what is under way.
    pub progress: &'a dyn Progress,
    /// How many threads may work at once.
    pub threads: usize,
}
