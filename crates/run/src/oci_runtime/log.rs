//! `--log`: what the command says, for a caller that reads files.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use serde_json::json;

use crate::time;

/// `--log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// logfmt, as runc's.
    Text,
    /// An object a line: podman shows the last one as the cause.
    Json,
}

/// A file that lines are added to.
#[derive(Debug, Clone)]
pub struct Log {
    /// The file.
    pub path: PathBuf,
    /// What its lines look like.
    pub format: Format,
    /// The least of the levels that are written.
    pub least: &'static str,
}

/// The levels, the least first.
const LEVELS: [&str; 3] = ["info", "warning", "error"];

impl Log {
    /// Adds a line; `level` is `error`, `warning` or `info`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write(&self, level: &str, message: &str) -> io::Result<()> {
        let at = |level: &str| LEVELS.iter().position(|known| *known == level);
        if at(level) < at(self.least) {
            return Ok(());
        }
        let time = time::now();
        let line = match self.format {
            Format::Json => json!({ "level": level, "msg": message, "time": time }).to_string(),
            Format::Text => format!("time=\"{time}\" level={level} msg={message:?}"),
        };
        let mut file =
            fs::OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
        file.write_all(format!("{line}\n").as_bytes())
    }
}
