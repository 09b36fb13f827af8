//! What a start is: the target that a person names, what they ask of the container, the GPUs it
//! gets, the defaults, and the container that comes of it all.
//!
//! Nothing here starts a container or prints: [`ready`] gives a [`sconce_run::Container`], and
//! remarks go to a callback. [`Request`] is serialisable, so that whatever starts containers on
//! other machines or later can say the same as `sconce run`.

mod admit;
mod archive;
pub mod docker;
mod env;
mod error;
mod gpus;
mod limits;
mod machine;
mod network;
mod project;
mod ready;
mod request;
mod security;
mod subject;
mod target;
mod variables;
mod volumes;

pub use admit::{admit_file, admit_stored, pulled_as};
pub use archive::read_archive;
pub use env::{Environment, env_file, label, label_file};
pub use error::Error;
pub use gpus::Gpus;
pub use limits::{cpus_of_quota, processors, signal, swap, ulimit};
pub use machine::{host, platform};
pub use network::{HostAddress, host_line, network, ports};
pub use ready::{Ready, ready};
pub use request::{Pull, Request};
pub use security::{SecurityOption, capability, seccomp_profile, security_option};
pub use subject::of_target;
pub use target::{Kind, Target};
pub use volumes::{Bind, Device, Mount, device, mount, tmpfs, volume};
