//! Trying again what failed in a passing way, and how long to wait before.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use super::Options;
use crate::error::Error;

/// The longest a server's `Retry-After` is obeyed; asked for more, we give up at once.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// How long `Retry-After` asks to wait (RFC 9110, section 10.2.3): seconds, or a date. `now` is in seconds since 1970.
pub(super) fn retry_after(text: &str, now: u64) -> Option<Duration> {
    let text = text.trim();
    let seconds = text.parse().ok();
    let seconds = seconds.or_else(|| Some(sconce_debian::date(text)?.saturating_sub(now)));
    seconds.map(Duration::from_secs)
}

pub(super) fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |time| time.as_secs())
}

/// How much must have come since the last count for the count to begin anew, bytes.
const PROGRESS: u64 = 64 << 10;

/// The most tries of one thing, whatever comes: who sends a little and hangs up holds nobody for ever.
const MOST_IN_ALL: u32 = 1000;

/// Counts the tries of one thing that brought nothing, one after the other, and pauses between them.
pub struct Tries<'a> {
    options: &'a Options,
    most: u32,
    done: u32,
    all: u32,
    came: u64,
    /// The last try brought something, and so is none of those in vain.
    progressed: bool,
}

impl<'a> Tries<'a> {
    /// None so far.
    pub fn new(options: &'a Options) -> Self {
        Self { options, most: options.tries, done: 0, all: 0, came: 0, progressed: false }
    }

    /// None so far, and another number of them than the options have.
    pub(super) fn at_most(options: &'a Options, most: u32) -> Self {
        Self { most, ..Self::new(options) }
    }

    /// The last try brought so many bytes: where they are enough with those before, the count begins anew.
    pub fn came(&mut self, bytes: u64) {
        self.came = self.came.saturating_add(bytes);
        if self.came >= PROGRESS {
            self.came = 0;
            self.progressed = true;
        }
    }

    /// Takes the failure of a try: pauses, or returns it when there is no use in another.
    pub fn after(&mut self, error: Error) -> Result<(), Error> {
        self.done = if std::mem::take(&mut self.progressed) { 0 } else { self.done + 1 };
        self.all += 1;
        let mut pause =
            self.options.backoff.saturating_mul(1 << self.done.saturating_sub(1).min(10));
        if let Error::Status { retry_after: Some(asked), .. } = &error {
            pause = pause.max(*asked);
        }
        if !error.is_passing() {
            return Err(error);
        }
        if self.done >= self.most || self.all >= MOST_IN_ALL || pause > LONGEST_WAIT {
            return Err(Error::GaveUp { tries: self.done.max(1), source: Box::new(error) });
        }
        let end = Instant::now() + pause;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) {
            if self.options.cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_in_seconds_and_as_a_date() {
        let now = 1_795_252_544;
        let seconds = |text| retry_after(text, now).map(|wait| wait.as_secs());
        assert_eq!(seconds("7"), Some(7));
        assert_eq!(seconds("Sat, 21 Nov 2026 09:16:44 GMT"), Some(60));
        // One that has passed is no wait.
        assert_eq!(seconds("Sat, 21 Nov 2026 09:10:00 GMT"), Some(0));
        assert_eq!(seconds("soon"), None);
        assert_eq!(seconds("-1"), None);
    }
}
