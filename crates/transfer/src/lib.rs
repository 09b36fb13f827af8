//! Images between registries and the store: pull, push, and copies from one place to another.
//!
//! `sconce-registry` speaks with registries and stores nothing; `sconce-store` stores and speaks with
//! nobody. Here one is driven by the other, several blobs at a time.

mod all;
mod attachments;
mod error;
mod evidence;
mod incoming;
mod origin;
mod peers;
mod policy;
mod pull;
mod push;
mod several;
mod signatures;

use sconce_build::Progress;
use sconce_registry::Access;
use sconce_store::Store;

pub use attachments::Carried;
pub use error::Error;
pub use evidence::Beside;
pub use policy::{Origin, PolicyError, SigningPolicy};
pub use pull::Pulled;
pub use push::{Outgoings, Pushed};
pub use signatures::Surroundings;

/// Moves images.
#[derive(Clone, Copy)]
pub struct Transfer<'a> {
    /// Where images lie on this machine.
    pub store: &'a Store,
    /// How registries are reached.
    pub access: &'a Access,
    /// Who is told what is under way.
    pub progress: &'a dyn Progress,
    /// Which keys must have signed what is taken in.
    pub policy: &'a SigningPolicy,
    /// How many threads may work at once.
    pub threads: usize,
}
