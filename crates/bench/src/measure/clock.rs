//! Taking the time of work on a device, again and again.

use std::thread;
use std::time::{Duration, Instant};

use sconce_cuda::{Context, Event, Refusal, Stream};

/// A stream with two events around what is timed.
pub struct Clock {
    /// Where the work goes.
    pub stream: Stream,
    begin: Event,
    end: Event,
}

/// Repeated times of one thing.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// In seconds.
    pub seconds: Vec<f64>,
    /// How far the host's clock was from the device's, as a share.
    pub apart: f64,
    /// The device's clock said more than the host's.
    pub longer: bool,
}

/// Where a piece of work stands in what is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Before the last group: nothing is timed yet, and what will be written is to be poisoned.
    Before,
    /// One of several.
    One,
    /// The last of a group, or the only one: it writes to a place of its own, so that it is known to have been done.
    Last,
}

/// Work on a stream.
pub type Work<'a> = dyn FnMut(&Stream, Turn) -> Result<(), Refusal> + 'a;

/// How far the two clocks may be apart where a figure is as expected: less than half of what a verdict allows below the best that
/// is known (7 %). The device takes the time from the first launch on, and waiting ends some microseconds after the work. What
/// the host was kept from by others makes single groups longer, which are then taken again.
pub const CLOSE: f64 = 0.03;
/// So many times longer is a group that is to show whether the timer is right, where the host is too slow to say it of short ones:
/// what waking costs is then so many times less of it.
const LONGER: u32 = 10;
/// How much longer the host may wait for something than the device says that it took, where a figure is to be one at all: as a share
/// of that, and in seconds beside it.
const MOST_WAITED: f64 = 1.25;
const WAKING: f64 = 0.003;
/// The device can't have been at work for longer than the host waited: the two clocks run apart by less than this, and by
/// these seconds.
const MOST_AHEAD: f64 = 1.1;
const APART: f64 = 0.001;
/// Where how many to time is what is to be found out, the host may wait so many times longer: then it is the launches of one or
/// two.
const MOST_LAUNCHING: f64 = 20.0;
/// Most repeats of a thing in one timed group.
const MOST: u32 = 100_000;

impl Clock {
    /// On this device.
    pub fn new(context: &Context) -> Result<Self, Refusal> {
        let (begin, end) = (Event::new(context)?, Event::new(context)?);
        Ok(Self { stream: Stream::new(context)?, begin, end })
    }

    /// Waits for what was begun last: its seconds. A time that can't be is none.
    fn taken(&self) -> Result<f64, Refusal> {
        self.end.wait()?;
        let seconds = self.end.since(&self.begin)?;
        // After a month at most: no group may take as long.
        match (0.0..3e6).contains(&seconds) {
            true => Ok(seconds),
            false => Err(nonsense(seconds)),
        }
    }

    /// Seconds for each of `count` times `work`, which puts something on the stream.
    pub fn time(
        &self,
        count: u32,
        work: &mut dyn FnMut(&Stream) -> Result<(), Refusal>,
    ) -> Result<f64, Refusal> {
        self.begin.record(&self.stream)?;
        for _ in 0..count {
            work(&self.stream)?;
        }
        self.end.record(&self.stream)?;
        Ok(self.taken()? / f64::from(count.max(1)))
    }

    /// Seconds of `count` times `work` together, by the device's clock and by the host's.
    pub fn both(&self, count: u32, work: &mut Work) -> Result<(f64, f64), Refusal> {
        let begun = Instant::now();
        self.begin.record(&self.stream)?;
        for _ in 1..count {
            work(&self.stream, Turn::One)?;
        }
        work(&self.stream, Turn::Last)?;
        self.end.record(&self.stream)?;
        self.end.wait()?;
        let waited = begun.elapsed().as_secs_f64();
        Ok((self.taken()?, waited))
    }

    /// The time of one of `count` times `work`, if the two clocks do not contradict each other; and how far the host's is
    /// [`ahead`].
    ///
    /// # Errors
    /// They have disagreed more often than `lies` allows.
    pub fn honest(
        &self,
        count: u32,
        lies: &mut Lies,
        work: &mut Work,
    ) -> Result<Option<(f64, f64)>, Refusal> {
        let (seconds, waited) = self.both(count, work)?;
        let honest = lies.hold(seconds, waited)?;
        Ok(honest.then(|| (seconds / f64::from(count.max(1)), ahead(seconds, waited))))
    }

    /// Poisons what will be written, which is not part of any time.
    pub fn before(&self, work: &mut Work) -> Result<(), Refusal> {
        work(&self.stream, Turn::Before)?;
        self.stream.wait()
    }

    /// As many groups of `launches` as are wanted, each after a pause, the last over poisoned memory. Those of which the host's clock
    /// says the same are enough; where it does not, it is asked about longer ones.
    fn groups(
        &self,
        wanted: u32,
        launches: u32,
        pause: Duration,
        work: &mut Work,
    ) -> Result<Times, Refusal> {
        /// A busy host may disturb so many times as many groups as are wanted.
        const BUSY: u32 = 3;
        /// Longer groups, of which one that is not disturbed is enough.
        const TRIES: u32 = 3;
        let mut lies = Lies::of(BUSY * wanted);
        let (wanted, mut close, mut far) = (wanted as usize, Vec::new(), Vec::new());
        while close.len() < wanted && far.len() < 2 * wanted {
            if close.len() + 1 == wanted || far.len() + 1 == 2 * wanted {
                self.before(work)?;
            }
            thread::sleep(pause);
            match self.honest(launches, &mut lies, work)? {
                Some((seconds, ahead)) if ahead.abs() <= CLOSE => close.push((seconds, ahead)),
                Some(one) => far.push(one),
                None => {}
            }
        }
        if close.len() >= wanted {
            return Ok(Times::of(close));
        }
        close.extend(far);
        let mut times = Times::of(close);
        // What is compared is what was timed last.
        self.before(work)?;
        let count = launches.saturating_mul(LONGER).min(MOST);
        let mut best: Option<(f64, f64)> = None;
        for _ in 0..TRIES {
            let (seconds, waited) = self.both(count, work)?;
            if best.is_none_or(|best| apart(seconds, waited) < apart(best.0, best.1)) {
                best = Some((seconds, waited));
            }
            if apart(seconds, waited) <= CLOSE {
                break;
            }
        }
        if let Some((seconds, waited)) = best {
            (times.apart, times.longer) = (apart(seconds, waited), seconds > waited);
            if times.apart > MOST_WAITED - 1.0 {
                return Err(disagreement(seconds, waited));
            }
        }
        Ok(times)
    }

    /// The time of each of `count` bursts of about `seconds`, each after a pause in which the power that the GPU draws falls
    /// again: what it does before its power limit slows it down.
    pub fn bursts(
        &self,
        seconds: f64,
        pause: Duration,
        count: u32,
        work: &mut Work,
    ) -> Result<Times, Refusal> {
        let launches = |once: f64| ((seconds / once).round() as u32).clamp(1, MOST);
        thread::sleep(pause);
        // Of a short one, what its launch costs the host is most of what it waits for: many at once say more.
        let few = launches(self.once(1, work)?);
        let launches = launches(self.once(few, work)?);
        self.groups(count, launches, pause, work)
    }

    /// About how long one takes. A timer that says next to nothing of what took its time by the host's clock is not gone by: as many
    /// as it lets one think would take minutes.
    pub fn once(&self, count: u32, work: &mut Work) -> Result<f64, Refusal> {
        let (seconds, waited) = self.both(count, work)?;
        let count = f64::from(count.max(1));
        Ok((seconds / count).max(waited / count / MOST_LAUNCHING).max(1e-7))
    }

    /// The time of each of `groups` groups that take `seconds` together or more, after one to warm up.
    pub fn repeat(&self, seconds: f64, groups: u32, work: &mut Work) -> Result<Times, Refusal> {
        // The first one may have loaded what it needs.
        let first = self.once(1, work)?;
        let once = self.once(2, work)?.min(first);
        let count = (seconds / f64::from(groups.max(1)) / once).ceil();
        let count = (count as u32).clamp(1, MOST);
        self.groups(groups, count, Duration::ZERO, work)
    }
}

/// How much more the host's clock says than the device's, as a share of what that says; below 0 where it says less.
pub fn ahead(seconds: f64, waited: f64) -> f64 {
    if seconds > 0.0 { waited / seconds - 1.0 } else { f64::MAX }
}

/// How far the host's clock is from the device's, as a share of what that says.
pub fn apart(seconds: f64, waited: f64) -> f64 {
    ahead(seconds, waited).abs()
}

/// The host has waited for much longer than the device says that it worked, or for less.
pub fn contradict(seconds: f64, waited: f64) -> bool {
    let too_little = waited > seconds * MOST_WAITED + WAKING;
    let too_much = seconds > waited * MOST_AHEAD + APART;
    too_little || too_much || seconds <= 0.0
}

/// How often a timer has said what can't be.
pub struct Lies {
    found: u32,
    most: u32,
}

impl Lies {
    /// So many are taken for a host that was busy itself.
    pub fn of(most: u32) -> Self {
        Self { found: 0, most: most.max(3) }
    }

    /// Whether the device's seconds are those that the host waited.
    fn hold(&mut self, seconds: f64, waited: f64) -> Result<bool, Refusal> {
        if !contradict(seconds, waited) {
            return Ok(true);
        }
        self.found += 1;
        if self.found > self.most { Err(disagreement(seconds, waited)) } else { Ok(false) }
    }
}

/// The device's clock against the host's.
pub fn disagreement(seconds: f64, waited: f64) -> Refusal {
    Refusal::Absurd {
        call: "cuEventElapsedTime",
        answer: format!(
            "{:.2} ms for what took {:.2} ms by the host's clock: without a timer that the host bears out there is no figure (a timer that is wrong, or a host that is kept from its work)",
            seconds * 1e3,
            waited * 1e3
        ),
    }
}

/// A timer's answer that can't be.
fn nonsense(seconds: f64) -> Refusal {
    Refusal::Absurd {
        call: "cuEventElapsedTime",
        answer: format!("{} ms, which can't be: without a timer there is no figure", seconds * 1e3),
    }
}

impl Times {
    /// Of groups: the seconds of one, and how far the host's clock was [`ahead`].
    pub fn of(groups: Vec<(f64, f64)>) -> Self {
        let (seconds, ahead): (Vec<f64>, Vec<f64>) = groups.into_iter().unzip();
        let apart: Vec<f64> = ahead.iter().map(|ahead| ahead.abs()).collect();
        Self { seconds, apart: median(&apart), longer: median(&ahead) < 0.0 }
    }

    /// The middle one.
    pub fn median(&self) -> f64 {
        median(&self.seconds)
    }
}

/// The middle of some numbers; 0 of none.
pub fn median(numbers: &[f64]) -> f64 {
    quantile(numbers, 0.5)
}

/// How far the middle half lies apart, as a share of the median.
pub fn spread(numbers: &[f64]) -> f64 {
    let median = median(numbers);
    if median == 0.0 { 0.0 } else { (quantile(numbers, 0.75) - quantile(numbers, 0.25)) / median }
}

/// Between the two numbers that are next to it, in proportion.
fn quantile(numbers: &[f64], share: f64) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = share * last as f64;
    let (low, high) = (place.floor() as usize, place.ceil() as usize);
    sorted[low] + (sorted[high] - sorted[low]) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_that_lie() {
        // Launches, waking, and a host that was busy itself.
        for (seconds, waited) in [(0.01, 0.0101), (0.01, 0.015), (0.1, 0.12), (1e-6, 0.002)] {
            assert!(Lies::of(5).hold(seconds, waited).unwrap(), "{seconds} {waited}");
        }
        // A tenth, a half, more than there was, nothing.
        for (seconds, waited) in [(0.01, 0.1), (0.01, 0.02), (0.1, 0.05), (0.0, 0.001), (7.0, 0.01)]
        {
            let mut lies = Lies::of(5);
            let said: Vec<_> = (0..6).map(|_| lies.hold(seconds, waited)).collect();
            assert!(said.iter().take(5).all(|one| *one == Ok(false)), "{seconds} {waited}");
            assert!(matches!(said[5], Err(Refusal::Absurd { .. })), "{seconds} {waited}");
            // What was right in between is kept, and pardons nothing.
            assert!(lies.hold(0.01, 0.0101).unwrap() && lies.hold(seconds, waited).is_err());
        }
    }

    /// What the host's clock leaves open is less than half of what makes a figure low.
    #[test]
    fn the_clocks_are_closer_than_a_verdict() {
        let margin = 1.0 - sconce_facts::least(sconce_facts::Compared::Device);
        assert!(CLOSE < margin / 2.0, "{CLOSE} {margin}");
        assert!(apart(0.01, 0.0102) < CLOSE && apart(0.01, 0.0104) > CLOSE);
        assert!(apart(0.0, 0.01) > 1.0 && apart(0.01, 0.0095) > CLOSE);
    }

    #[test]
    fn middles() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(spread(&[1.0, 2.0, 3.0, 4.0, 5.0]), 2.0 / 3.0);
        assert_eq!(spread(&[2.0, 2.0, 2.0]), 0.0);
    }
}
