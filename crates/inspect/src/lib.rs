//! What these bytes can run on: ELF, fatbins, closures, wheels and images.
//!
//! Nothing here runs what it reads, and no input makes it panic: parsers take [`read::ReadAt`],
//! read the few ranges they need, and bound every count and size they are told.

mod answer;
pub mod archive;
mod beside;
mod bindings;
mod builds;
mod by_cuda;
mod checks;
pub mod closure;
mod compilers;
pub mod cubin;
mod cuda_asked;
mod drivers;
pub mod dynamic;
pub mod elf;
mod elsewhere;
mod error;
mod facts;
#[cfg(test)]
mod failures;
pub mod fatbin;
mod files;
pub mod finding;
#[cfg(test)]
mod forge;
pub mod inflate;
pub mod ldcache;
mod libcuda;
pub mod loader;
mod loads;
pub mod mentions;
pub mod names;
mod numpy;
#[cfg(test)]
mod once_wrong;
mod one_release;
mod opened;
mod outline;
mod outside;
pub mod packages;
mod page;
mod plugins;
mod preload;
mod ptx;
mod pythons;
pub mod read;
mod recorded;
pub mod report;
mod requirements;
pub mod scan;
pub mod sieve;
pub mod skeleton;
pub mod source;
mod static_tls;
pub mod stream;
pub mod symbols;
pub mod tree;
mod unpack;
mod variants;
pub mod verdict;
pub mod weight;
pub mod zip;

pub use answer::{Answer, Says};
pub use drivers::Drivers;
pub use error::Error;
pub use facts::{Known, by_facts};
pub use outside::Host;
pub use page::bytes;
pub use report::{Basis, Moved, Options, Report, inspect};
pub use source::Subject;
pub use tree::Tree;
