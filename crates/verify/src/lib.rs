//! What `sconce verify` checks inside a container: the checks as rows, the Python program that makes
//! those of PyTorch, and the reading of what comes back.
//!
//! Two programs run in the container. The *probe* is sconce itself and needs nothing of the image: it
//! asks the driver. The *program* (`python/`, embedded here) needs a Python with torch. Both append a
//! line of JSON for each check to a file that the caller follows with a [`Reader`]; what it holds comes
//! from inside a container and is not trusted. Nothing here starts anything.

mod answer;
mod checks;
mod page;
mod program;
mod report;

pub use answer::{Answer, Malformed, Outcome, Reader};
pub use checks::{By, CHECKS, Check, check};
pub use page::page;
pub use program::PROGRAM;
pub use report::{Report, Tally};
