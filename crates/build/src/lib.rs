//! A lock to an image: what is missing is downloaded, layers are made in parallel, and the result
//! is sealed.
//!
//! Every step is remembered under the digest of what it was made from, so that nothing is done
//! twice: a layer that exists is not made again, a lock that was built is not looked at again.

mod app;
mod arrivals;
mod base;
mod builder;
mod bytecode;
mod contents;
mod debian_lists;
mod download;
mod early;
mod error;
mod generated;
mod gpus;
#[cfg(test)]
mod heard;
mod ignored;
mod image;
mod imports;
mod install;
mod later;
mod libraries;
mod logins;
mod modules;
mod naming;
mod native;
mod newest;
mod numpy;
mod overlaps;
mod parallel;
mod parts;
mod plain;
mod progress;
mod project;
mod python;
mod resolve;
mod seal;
mod source;
mod toolkit;
mod torch_names;
mod trees;
mod venv;
mod waiting;
mod wheels;

pub use app::AppLayer;
pub use builder::{Builder, Environment, NamedLayer, Trees};
pub use error::Error;
pub use image::Documents;
pub use imports::{ImportCheck, Imports};
pub use naming::named_by_another;
pub use progress::{Progress, Silent, Stage};
pub use project::{Locked, Policy, Project, Ready, write_whole};
pub use seal::seal;
pub use trees::{extract, mend};
