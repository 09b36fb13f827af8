//! Logs of containers, read while they are written: one that has grown too long becomes `log.1` at any moment.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::Listed;
use crate::error::{Doing, Error};

/// How often the files are opened anew because a new log was begun meanwhile, which takes 64 MiB of output each time.
const AGAIN: u32 = 100;

/// A file of a log.
#[derive(Debug)]
pub struct Log {
    /// Where it was when it was opened.
    pub path: PathBuf,
    /// The file, which stays the same whatever it is called later.
    pub file: File,
}

impl Listed {
    /// The files of its log as they are at one moment, the older one first.
    ///
    /// # Errors
    /// One can't be opened.
    pub fn logs(&self) -> Result<Vec<Log>, Error> {
        let mut logs = Vec::new();
        for _ in 0..AGAIN {
            logs = self.opened()?;
            if logs.iter().all(is_there) {
                break;
            }
        }
        Ok(logs)
    }

    /// The file that was begun after `log`, once there is one. Nothing more is written to `log` then.
    ///
    /// # Errors
    /// As [`Listed::logs`].
    pub fn log_after(&self, log: &File) -> Result<Option<Log>, Error> {
        let mut now = self.logs()?.into_iter();
        let Some(id) = identity(log) else { return Ok(None) };
        let mut oldest = None;
        while let Some(one) = now.next() {
            if identity(&one.file) == Some(id) {
                return Ok(now.next());
            }
            oldest.get_or_insert(one);
        }
        // It is gone: what came between is too.
        Ok(oldest)
    }

    fn opened(&self) -> Result<Vec<Log>, Error> {
        let mut logs = Vec::new();
        for name in ["log.1", "log"] {
            let path = self.path.join(name);
            match File::open(&path) {
                Ok(file) => logs.push(Log { path, file }),
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
