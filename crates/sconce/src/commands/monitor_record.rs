//! `sconce monitor --record`: a new file, and what is said where it can't be written any more.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use sconce_monitor::recording::{Error, Recorder};
use sconce_monitor::sample::Sample;

use crate::error::{Failure, Kind};

/// The most bytes of a recording.
const LARGEST: u64 = 1 << 30;

/// A recording under way.
pub struct Recording {
    path: PathBuf,
    recorder: Recorder<File>,
    samples: u64,
}

impl Recording {
    /// Begins one in a new file: one that is there is somebody's.
    pub fn begin(path: &Path, host: &str) -> Result<Self, Failure> {
        let file = File::options().write(true).create_new(true).open(path).map_err(|error| {
            let failure =
                Failure::new(Kind::Storage, format!("can't make {}: {error}", path.display()));
            match error.kind() {
                ErrorKind::AlreadyExists => {
                    failure.hint("give a new name: a recording is not written over")
                }
                _ => failure,
            }
        })?;
        match Recorder::new(file, host, LARGEST) {
            Ok(recorder) => Ok(Self { path: path.to_owned(), recorder, samples: 0 }),
            Err(error) => Err(broken(path, 0, &error)),
        }
    }

    /// Takes the next sample; ends itself, and says so, once it is as large as it may be.
    pub fn push(mut self, sample: &Sample) -> Result<Option<Self>, Failure> {
        match self.recorder.push(sample) {
            Ok(true) => {
                self.samples += 1;
                Ok(Some(self))
            }
            Ok(false) => {
                eprintln!("note: the recording is as large as it may be; no more is recorded");
                self.finish().map(|()| None)
            }
            Err(error) => {
                // What the encoder still holds goes where it can, before it is looked at.
                drop(self.recorder);
                Err(broken(&self.path, self.samples, &error))
            }
        }
    }

    /// Ends it whole.
    pub fn finish(self) -> Result<(), Failure> {
        let ended = self.recorder.finish();
        ended.map(drop).map_err(|error| broken(&self.path, self.samples, &error))
    }
}

/// What became of a recording that can't be written. A file without a sample would pass for one: it goes.
fn broken(path: &Path, samples: u64, error: &Error) -> Failure {
    let shown = path.display();
    let failure =
        |more: &str| Failure::new(Kind::Storage, format!("can't write {shown}: {error}; {more}"));
    if samples == 0 {
        return match fs::remove_file(path) {
            Ok(()) => failure("nothing was recorded"),
            Err(_) => failure("nothing was recorded, and the file can't be removed"),
        }
        .hint("name a file on a disk with room");
    }
    failure("the recording breaks off there").hint(format!(
        "`sconce monitor rules --replay {}` judges what was recorded until then",
        crate::trust::quoted(path)
    ))
}
