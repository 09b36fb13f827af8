//! The last minutes, as rules look at them.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::metric::Metric;
use crate::ports::Port;
use crate::sample::{Event, Gpu, Sample};

/// How far back samples are kept.
const MOST_MS: u64 = 600_000;
/// The most samples that are kept.
const MOST: usize = 1200;
/// How far back events are kept.
const EVENTS_MS: u64 = 86_400_000;
/// The most events that are kept.
const MOST_EVENTS: usize = 4096;
/// The most GPUs of which it is kept that they are gone.
const MOST_GONE: usize = 64;

/// Samples of ten minutes, and events of a day.
#[derive(Default)]
pub struct Window {
    samples: VecDeque<Arc<Sample>>,
    events: VecDeque<Event>,
    /// The newest sample in which NVML answered.
    answered: Option<Arc<Sample>>,
    /// GPUs that were listed once, and are not.
    gone: Vec<Gpu>,
}

/// One GPU over the last so many seconds.
pub struct Recent<'a> {
    looks: Vec<&'a Gpu>,
}

impl Window {
    /// Takes the next sample. One that is older than the last (the clock was set back) begins anew.
    pub fn push(&mut self, sample: Arc<Sample>) {
        if self.samples.back().is_some_and(|last| last.at_ms > sample.at_ms) {
            self.samples.clear();
        }
        let now = sample.at_ms;
        if sample.silence.is_none() {
            let listed = |one: &Gpu| sample.gpus.iter().any(|gpu| gpu.uuid == one.uuid);
            let before = self.answered.as_ref().map_or(&[][..], |last| last.gpus.as_slice());
            self.gone.extend(before.iter().filter(|gpu| gpu.named() && !listed(gpu)).cloned());
            self.gone.retain(|gpu| !listed(gpu));
            self.gone.truncate(MOST_GONE);
            self.answered = Some(Arc::clone(&sample));
        }
        self.events.extend(sample.events.iter().cloned());
        if let Some(last) = self.samples.pop_back() {
            self.samples.push_back(lean(last));
        }
        self.samples.push_back(sample);
        while self.samples.len() > MOST
            || self.samples.front().is_some_and(|old| old.at_ms + MOST_MS < now)
        {
            self.samples.pop_front();
        }
        while self.events.len() > MOST_EVENTS
            || self.events.front().is_some_and(|old| old.at_ms.saturating_add(EVENTS_MS) < now)
        {
            self.events.pop_front();
        }
    }

    /// The newest sample.
    pub fn now(&self) -> Option<&Sample> {
        self.samples.back().map(Arc::as_ref)
    }

    /// The oldest sample that is kept.
    pub fn oldest(&self) -> Option<&Sample> {
        self.samples.front().map(Arc::as_ref)
    }

    /// The GPUs of the newest sample.
    pub fn gpus(&self) -> &[Gpu] {
        self.now().map_or(&[], |sample| sample.gpus.as_slice())
    }

    /// GPUs that an earlier sample has, and the newest has not.
    pub fn gone(&self) -> &[Gpu] {
        &self.gone
    }

    /// The ports of the newest sample.
    pub fn ports(&self) -> &[Port] {
        self.now().map_or(&[], |sample| sample.ports.as_slice())
    }

    /// By how much a port's counter grew in the window; one that began anew counts from there.
    pub fn port_growth(&self, port: &Port, counter: &str) -> u64 {
        let same = |one: &&Port| (&one.device, one.port) == (&port.device, port.port);
        let counts = self
            .samples
            .iter()
            .filter_map(|sample| sample.ports.iter().find(same)?.counters.get(counter).copied());
        let (mut last, mut grown) = (None, 0);
        for count in counts {
            grown += last.map_or(0, |last| count.saturating_sub(last));
            last = Some(count);
        }
        grown
    }

    /// The events of the last so many seconds, oldest first.
    pub fn events(&self, seconds: u64) -> impl Iterator<Item = &Event> {
        let since = self.now().map_or(0, |now| now.at_ms).saturating_sub(seconds * 1000);
        self.events.iter().filter(move |event| event.at_ms >= since)
    }

    /// A GPU over the last so many seconds; nothing where that long has not been seen, or it did not answer.
    pub fn recent(&self, gpu: &Gpu, seconds: u64) -> Option<Recent<'_>> {
        let since = self.now()?.at_ms.saturating_sub(seconds * 1000);
        // The oldest sample must be about as old as was asked for.
        let slack = seconds * 200;
        let whole = self.samples.front()?.at_ms <= since + slack;
        self.so_far(gpu, seconds).filter(|_| whole)
    }

    /// The same as far as it was seen: of what counts from the first on there can only be more.
    pub fn so_far(&self, gpu: &Gpu, seconds: u64) -> Option<Recent<'_>> {
        let since = self.now()?.at_ms.saturating_sub(seconds * 1000);
        let looks: Vec<&Gpu> = self
            .samples
            .iter()
            .rev()
            .take_while(|sample| sample.at_ms >= since)
            .filter_map(|sample| sample.gpus.iter().find(|one| one.uuid == gpu.uuid))
            .filter(|one| one.lost.is_none() && one.age_ms < 10_000)
            .collect();
        (looks.len() >= 2).then_some(Recent { looks })
    }
}

/// A sample that is no longer the newest: of those, rules look at values and holders. Processes take most of one's memory, and events
/// are kept beside.
fn lean(sample: Arc<Sample>) -> Arc<Sample> {
    let mut sample = Arc::unwrap_or_clone(sample);
    sample.events = Vec::new();
    for gpu in &mut sample.gpus {
        (gpu.processes, gpu.instances) = (None, Vec::new());
    }
    Arc::new(sample)
}

impl<'a> Recent<'a> {
    fn values(&self, metric: Metric) -> impl Iterator<Item = f64> + '_ {
        self.looks.iter().filter_map(move |gpu| gpu.values.get(metric))
    }

    /// The mean of a metric; nothing where most samples lack it.
    pub fn mean(&self, metric: Metric) -> Option<f64> {
        let (count, sum) =
            self.values(metric).fold((0usize, 0.0), |(count, sum), value| (count + 1, sum + value));
        (count * 2 > self.looks.len()).then(|| sum / count as f64)
    }

    /// The smallest.
    pub fn least(&self, metric: Metric) -> Option<f64> {
        self.values(metric).reduce(f64::min)
    }

    /// The largest.
    pub fn most(&self, metric: Metric) -> Option<f64> {
        self.values(metric).reduce(f64::max)
    }

    /// By how much a counter grew; one that began anew counts from there.
    pub fn growth(&self, metric: Metric) -> Option<f64> {
        let newest_first: Vec<f64> = self.values(metric).collect();
        let pairs = newest_first.windows(2);
        let grown = pairs.map(|pair| match pair {
            [new, old] if new >= old => new - old,
            _ => 0.0,
        });
        (newest_first.len() >= 2).then(|| grown.sum())
    }

    /// The share of samples in which that holds.
    pub fn share(&self, holds: impl Fn(&Gpu) -> bool) -> f64 {
        let count = self.looks.iter().filter(|gpu| holds(gpu)).count();
        count as f64 / self.looks.len().max(1) as f64
    }

    /// The share of samples in which one of these bits holds the clocks.
    pub fn held_by(&self, bits: u64) -> f64 {
        self.share(|gpu| {
            gpu.values.get(Metric::ClockReasons).is_some_and(|all| all as u64 & bits != 0)
        })
    }
}
