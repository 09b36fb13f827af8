//! One run on many GPUs and machines: what each node runs and why, the engines that start it, and what is found
//! when it fails or hangs.
//!
//! A node is `sconce run IMAGE` with the small program of `python/node.py` inside, which starts torchrun and says, a
//! line of JSON an event, what its ranks do. The launcher ([`Group`]) speaks to it over the standard streams, so that
//! this machine and one behind ssh are the same. The launcher's lines are the node's lease: without them the node ends.
//! Where another system starts the nodes ([`slurm`], [`kubernetes`]), what it is to run is written down instead.
//!
//! [`Outside`] looks at processes that anybody started, from their memory, with the same judgement.
//!
//! Nothing here prints, and but for the question to NCCL ([`ras`]) nothing opens a connection: the caller hands in commands to start and
//! is told what happens.

mod attempt;
mod choices;
mod cpython;
mod error;
mod event;
mod evidence;
mod failure;
mod group;
mod hang;
mod judge;
pub mod kubernetes;
mod layouts;
mod meet;
mod memory;
mod node;
mod outside;
pub mod plan;
mod preflight;
pub mod ras;
mod settings;
pub mod slurm;
mod tree;
mod words;
mod yaml;

pub use choices::{Choice, INSIDE, container, torchrun, variables};
pub use error::Error;
pub use evidence::Evidence;
pub use group::{Group, Outcome, Told};
pub use outside::{Outside, Seen, Stands};
pub use settings::{OnHang, Program, Settings, duration};
pub use words::{quoted, shell_line};
