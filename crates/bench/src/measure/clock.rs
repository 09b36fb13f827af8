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

/// Repeated times of one thing, in seconds.
#[derive(Clone, Debug, Default)]
pub struct Times(pub Vec<f64>);

/// How many times longer the host may wait for something than the device says that it took: what a launch costs beside it.
const MOST_WAITED: f64 = 100.0;
/// The same where how many to time is what is to be found out: then it is the launches of one or two.
const MOST_LAUNCHING: f64 = 20.0;
/// Seconds by which the two clocks may be apart whatever the share: the host does something else now and then.
const SHORT: f64 = 0.05;
/// Most repeats of a thing in one timed group.
const MOST: u32 = 100_000;

impl Clock {
    /// On this device.
    pub fn new(context: &Context) -> Result<Self, Refusal> {
        let (begin, end) = (Event::new(context)?, Event::new(context)?);
        Ok(Self { stream: Stream::new(context)?, begin, end })
    }

    /// Puts `count` times `work` on the stream, and does not wait for it: [`Clock::taken`] does.
    pub fn begin(
        &self,
        count: u32,
        work: &mut dyn FnMut(&Stream) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        self.begin.record(&self.stream)?;
        for _ in 0..count {
            work(&self.stream)?;
        }
        self.end.record(&self.stream)
    }

    /// Waits for what was begun last: its seconds.
    ///
    /// # Errors
    /// A call that fails; a time that can't be.
    pub fn taken(&self) -> Result<f64, Refusal> {
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
        self.begin(count, work)?;
        Ok(self.taken()? / f64::from(count.max(1)))
    }

    /// The time of each of `count` bursts of about `seconds`, each after a pause in which the power that the GPU draws falls
    /// again: what it does before its power limit slows it down.
    pub fn bursts(
        &self,
        seconds: f64,
        pause: Duration,
        count: u32,
        work: &mut dyn FnMut(&Stream) -> Result<(), Refusal>,
    ) -> Result<Times, Refusal> {
        thread::sleep(pause);
        let once = self.once(1, work)?;
        let launches = ((seconds / once).round() as u32).clamp(1, MOST);
        let mut lies = Lies::default();
        let burst = |_| {
            thread::sleep(pause);
            lies.watch(|| self.time(launches, work), launches)
        };
        (0..count).map(burst).collect::<Result<_, _>>().map(Times)
    }

    /// About how long one takes. A timer that says next to nothing of what took its time by the host's clock is not gone by: as many
    /// as it lets one think would take minutes.
    fn once(
        &self,
        count: u32,
        work: &mut dyn FnMut(&Stream) -> Result<(), Refusal>,
    ) -> Result<f64, Refusal> {
        let begun = Instant::now();
        let once = self.time(count, work)?;
        let waited = begun.elapsed().as_secs_f64() / f64::from(count.max(1));
        Ok(once.max(waited / MOST_LAUNCHING).max(1e-7))
    }

    /// The time of each of `groups` groups that take `seconds` together or more, after one to warm up.
    pub fn repeat(
        &self,
        seconds: f64,
        groups: u32,
        work: &mut dyn FnMut(&Stream) -> Result<(), Refusal>,
    ) -> Result<Times, Refusal> {
        // The first one may have loaded what it needs.
        let first = self.once(1, work)?;
        let once = self.once(2, work)?.min(first);
        let count = (seconds / f64::from(groups.max(1)) / once).ceil();
        let count = (count as u32).clamp(1, MOST);
        let mut lies = Lies::default();
        let group = |_| lies.watch(|| self.time(count, work), count);
        (0..groups).map(group).collect::<Result<_, _>>().map(Times)
    }
}

/// How often a timer has said what can't be.
#[derive(Default)]
struct Lies(u32);

impl Lies {
    /// Holds the seconds that each of `count` took to the host's clock. A host that was busy itself lets one or two of them look
    /// as if they had taken nothing; more are the timer's.
    fn watch(
        &mut self,
        timed: impl FnOnce() -> Result<f64, Refusal>,
        count: u32,
    ) -> Result<f64, Refusal> {
        let begun = Instant::now();
        let each = timed()?;
        let (seconds, waited) = (each * f64::from(count.max(1)), begun.elapsed().as_secs_f64());
        let too_little = seconds * MOST_WAITED < waited && waited > SHORT;
        let too_much = seconds > waited + SHORT;
        self.0 = if too_little || too_much || seconds == 0.0 { self.0 + 1 } else { 0 };
        if self.0 > 2 { Err(nonsense(seconds)) } else { Ok(each) }
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
    /// The middle one.
    pub fn median(&self) -> f64 {
        median(&self.0)
    }

    /// How far the middle half lies apart, as a share of the median.
    pub fn spread(&self) -> f64 {
        spread(&self.0)
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
        let slow = || {
            thread::sleep(Duration::from_millis(60));
            Ok(0.0001)
        };
        let mut lies = Lies::default();
        assert!(lies.watch(slow, 1).is_ok() && lies.watch(slow, 1).is_ok());
        // In between it was right.
        assert!(lies.watch(|| Ok(1e-6), 1).is_ok());
        assert!(lies.watch(slow, 1).is_ok() && lies.watch(slow, 1).is_ok());
        assert!(matches!(lies.watch(slow, 1), Err(Refusal::Absurd { .. })));
        for seconds in [0.0, 7.0] {
            let mut lies = Lies::default();
            let said: Vec<bool> = (0..3).map(|_| lies.watch(|| Ok(seconds), 10).is_ok()).collect();
            assert_eq!(said, [true, true, false], "{seconds}");
        }
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
