//! Taking the time of work on a device, again and again.

use std::thread;
use std::time::Duration;

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
    pub fn taken(&self) -> Result<f64, Refusal> {
        self.end.wait()?;
        self.end.since(&self.begin)
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
        let once = self.time(1, work)?.max(1e-7);
        let launches = ((seconds / once).round() as u32).clamp(1, MOST);
        let burst = |_| {
            thread::sleep(pause);
            self.time(launches, work)
        };
        (0..count).map(burst).collect::<Result<_, _>>().map(Times)
    }

    /// The time of each of `groups` groups that take `seconds` together or more, after one to warm up.
    pub fn repeat(
        &self,
        seconds: f64,
        groups: u32,
        work: &mut dyn FnMut(&Stream) -> Result<(), Refusal>,
    ) -> Result<Times, Refusal> {
        let once = self.time(1, work)?;
        let once = self.time(2, work)?.min(once).max(1e-7);
        let count = (seconds / f64::from(groups.max(1)) / once).ceil();
        let count = (count as u32).clamp(1, MOST);
        (0..groups).map(|_| self.time(count, work)).collect::<Result<_, _>>().map(Times)
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
    fn middles() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(spread(&[1.0, 2.0, 3.0, 4.0, 5.0]), 2.0 / 3.0);
        assert_eq!(spread(&[2.0, 2.0, 2.0]), 0.0);
    }
}
