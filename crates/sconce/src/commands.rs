//! One file a command: its arguments, its help text, what it does.

pub mod build;
pub mod cdi;
pub mod completions;
pub mod doctor;
pub mod images;
pub mod init;
pub mod inspect;
pub mod lock;
pub mod man;
mod options;
pub mod probe;
pub mod prune;
pub mod run;
pub mod verify;
