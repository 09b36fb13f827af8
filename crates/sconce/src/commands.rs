//! One file a command: its arguments, its help text, what it does.

pub mod attach;
pub mod build;
pub mod cdi;
pub mod completions;
pub mod cp;
pub mod doctor;
pub mod exec;
pub mod generate;
pub mod images;
pub mod init;
pub mod inspect;
pub mod kill;
pub mod lock;
pub mod logs;
pub mod man;
mod options;
pub mod probe;
pub mod prune;
pub mod ps;
pub mod rm;
pub mod rmi;
pub mod run;
pub mod stats;
pub mod stop;
pub mod trust;
pub mod verify;
pub mod wait;
