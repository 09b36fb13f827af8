//! Logs of containers, read while they are written: one that has grown too long becomes `log.1` at any moment.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::Listed;
use crate::error::{Doing, Error};
use crate::output::DROPPED;

/// How often the files are opened anew because a new log was begun meanwhile, which takes 64 MiB of output each time.
const AGAIN: u32 = 100;
/// Bytes read of how many are gone.
const LIMIT: u64 = 64;

/// A file of a log.
#[derive(Debug)]
pub struct Log {
    /// Where it was when it was opened.
    pub path: PathBuf,
    /// The file, which stays the same whatever it is called later.
    pub file: File,
    /// How many were begun before it; nothing where the shim is an older sconce's, which did not say.
    number: Option<u64>,
}

/// What follows a file of a log.
#[derive(Debug)]
pub struct Next {
    /// The file.
    pub log: Log,
    /// Others were between, and are gone.
    pub gap: bool,
}

impl Listed {
    /// The files of its log as they are at one moment, the older one first.
    ///
    /// # Errors
    /// One can't be opened.
    pub fn logs(&self) -> Result<Vec<Log>, Error> {
        let mut logs = Vec::new();
        for _ in 0..AGAIN {
            let dropped = self.dropped();
            logs = self.opened(dropped)?;
            if logs.iter().all(is_there) && self.dropped() == dropped {
                break;
            }
        }
        Ok(logs)
    }

    /// The file that was begun after `log`, once there is one. Nothing more is written to `log` then.
    ///
    /// # Errors
    /// As [`Listed::logs`].
    pub fn log_after(&self, log: &Log) -> Result<Option<Next>, Error> {
        let mut now = self.logs()?;
        let same =
            |one: &Log| identity(&one.file).is_some_and(|id| identity(&log.file) == Some(id));
        Ok(match now.iter().position(same) {
            Some(at) if at + 1 < now.len() => Some(Next { log: now.remove(at + 1), gap: false }),
            Some(_) => None,
            None if now.is_empty() => None,
            None => {
                let oldest = now.remove(0);
                let gap = match (log.number, oldest.number) {
                    (Some(before), Some(number)) => number > before + 1,
                    _ => true,
                };
                Some(Next { log: oldest, gap })
            }
        })
    }

    /// Whether its first output is no longer in its log, which is kept to two files.
    pub fn logs_are_cut(&self) -> bool {
        self.dropped() != Some(0)
    }

    /// How many files of its log are gone; nothing where that is not said.
    fn dropped(&self) -> Option<u64> {
        let path = self.path.join("log").with_extension(DROPPED);
        match sconce_open::read_to_string(&path, LIMIT) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(0),
            text => text.ok()?.trim().parse().ok(),
        }
    }

    fn opened(&self, dropped: Option<u64>) -> Result<Vec<Log>, Error> {
        let mut logs = Vec::new();
        for name in ["log.1", "log"] {
            let path = self.path.join(name);
            match File::open(&path) {
                Ok(file) => {
                    let number = dropped.map(|dropped| dropped + logs.len() as u64);
                    logs.push(Log { path, file, number });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).doing_to("opening", &path),
            }
        }
        Ok(logs)
    }
}

/// Whether a file is still called so.
fn is_there(log: &Log) -> bool {
    let there = fs::metadata(&log.path).map(|about| (about.dev(), about.ino()));
    there.ok().is_some_and(|there| identity(&log.file) == Some(there))
}

fn identity(file: &File) -> Option<(u64, u64)> {
    file.metadata().ok().map(|about| (about.dev(), about.ino()))
}
