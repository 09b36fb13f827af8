//! `--replay`: a recording is opened, played at its own pace, and told to be damaged where it is.

use std::fs::File;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use sconce_monitor::recording::{Damage, Replay};
use sconce_monitor::sample::Sample;
use sconce_monitor::sampler;
use sconce_monitor::window::{Follows, Pace};

use crate::commands::paths;
use crate::error::{Failure, Kind};

/// How long is waited in place of a gap.
const GAP: Duration = Duration::from_secs(5);
/// The longest interval that a monitor has.
const LONGEST: Duration = Duration::from_secs(3600);

/// Opens the recording that `--replay` names.
pub fn open(path: &Path) -> Result<Replay<File>, Failure> {
    let path = &paths::of_option("--replay", path)?;
    let file = sconce_open::file(path).map_err(|error| {
        Failure::new(Kind::Storage, format!("can't read {}: {error}", path.display()))
    })?;
    Ok(Replay::open(file)?)
}

/// Plays it at its own pace, until then at most. A gap is over after a moment: `take` hears of how many milliseconds it was.
pub fn play(
    samples: &mut Replay<File>,
    until: Option<Instant>,
    mut take: impl FnMut(Sample, Option<u64>) -> bool,
) {
    let mut pace = Pace::default();
    let mut last: Option<u64> = None;
    for mut sample in samples {
        let pause = last.map_or(0, |last| sample.at_ms.saturating_sub(last));
        last = Some(sample.at_ms);
        let gap = pace.next(sample.at_ms) == Follows::Gap;
        let wait = Duration::from_millis(pause);
        let wait = wait.min(if gap { GAP } else { LONGEST });
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left < wait) {
            thread::sleep(left.unwrap_or_default());
            return;
        }
        thread::sleep(wait);
        // For who reads it, it is now, and so is what happened.
        let now = sampler::now_ms();
        for event in &mut sample.events {
            event.at_ms = now.saturating_sub(sample.at_ms.saturating_sub(event.at_ms));
        }
        sample.at_ms = now;
        if !take(sample, gap.then_some(pause)) {
            return;
        }
    }
}

/// Whether it was read to its end. One that breaks off is that of a monitor that was killed; a damaged one is a failure that says
/// where, and what comes of it.
pub fn whole(samples: &Replay<File>, then: &str) -> Result<(), Failure> {
    if samples.torn() {
        eprintln!(
            "note: the recording breaks off there, as that of a monitor that was killed does"
        );
    }
    samples.damage().map_or(Ok(()), |damage| Err(failure(damage, then)))
}

/// What is said of a damaged recording.
pub fn failure(damage: &Damage, then: &str) -> Failure {
    let what = format!("{damage}: {then} from there on");
    Failure::new(Kind::Document, what).hint(damage.hint())
}
