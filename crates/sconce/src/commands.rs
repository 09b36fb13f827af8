//! One file a command: its arguments, its help text, what it does.

pub mod build;
pub mod completions;
pub mod images;
pub mod init;
pub mod inspect;
pub mod gpus;
pub mod lock;
pub mod man;
pub mod prune;
pub mod run;

use sconce_facts::Machine;
use sconce_lock::Host;

/// This machine, as a lock sees it.
fn host() -> Host {
    Host { machine: Machine::current(), driver: None, gpus: Vec::new() }
}
