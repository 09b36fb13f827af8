//! `sconce monitor --print-unit`: a systemd unit.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use crate::commands::monitor::{Args, LISTEN};

/// What a unit's program is told.
pub fn options(args: &Args) -> String {
    let listen = args.listen.map_or_else(|| LISTEN.to_owned(), |address| address.to_string());
    let mut options = format!("--listen {listen}");
    if args.interval != Duration::from_secs(1) {
        options += &format!(" --interval {}ms", args.interval.as_millis());
    }
    for name in &args.host_name {
        options += &format!(" --host-name {name}");
    }
    if let Some(names) = args.names.to_possible_value().filter(|names| names.get_name() != "dcgm") {
        options += &format!(" --names {}", names.get_name());
    }
    options
}

/// Which program a unit starts: this one, if the unit's user can reach it.
pub fn program() -> PathBuf {
    const INSTALLED: &str = "/usr/local/bin/sconce";
    let Ok(own) = std::env::current_exe() else { return INSTALLED.into() };
    if sconce_monitor::reachable(&own) {
        return own;
    }
    eprintln!(
        "note: a service without privileges can't start {0}: the unit starts {INSTALLED}, which `sudo install -m 755 {1} {INSTALLED}` puts there",
        own.display(),
        crate::trust::quoted(&own),
    );
    INSTALLED.into()
}
