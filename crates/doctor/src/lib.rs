//! Why a container would not work on this machine.
//!
//! [`Snapshot::capture`] looks at the machine once; [`examine`] judges the snapshot by [`rules::RULES`],
//! pure functions of it and of the [`Subject`] that is to run. So a snapshot saved on one machine is
//! judged the same on any other.

mod actions;
mod capture;
mod causes;
mod contradictions;
mod error;
mod fix;
pub mod fleet;
mod log;
mod page;
mod place;
mod report;
pub mod rules;
mod saved;
mod silence;
mod snapshot;
mod state;

pub use error::Error;
pub use fix::{Place, Step};
pub use page::page;
pub use report::{Finding, Report, Severity, Verdict, before_start, examine};
pub use rules::Rule;
pub use snapshot::{
    Cdi, Driver, Gpu, Imex, Link, LogError, MigInstance, Node, Os, Others, Pci, Rootless, Snapshot,
    Subject,
};
