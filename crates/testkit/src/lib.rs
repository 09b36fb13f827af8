//! Worlds in a file for tests: package indexes, archives, hostile bytes; never imported outside tests.
//!
//! What is here speaks bytes: HTTP on the loopback interface, zip files; and it asks the machine for
//! what a test needs of it. It panics where it can't
//! go on, which is how a test fails.

mod gpu;
mod index;
mod machine;
mod nvml;
mod registry;
mod server;
mod wheel;

pub use gpu::FakeGpu;
pub use index::PackageIndex;
pub use machine::{MappedUser, copy_program, installed};
pub use nvml::FakeNvml;
pub use registry::{RegistryServer, Trouble};
pub use server::{Fault, Request, Server};
pub use wheel::{Wheel, ZipEntry, zip};
