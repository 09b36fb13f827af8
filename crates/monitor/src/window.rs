//! The last minutes, as rules look at them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::manual::in_words;
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
/// The most GPUs of which it is kept that they are gone, and the most GPUs and ports of which it is kept that they had a link.
const MOST_GONE: usize = 64;
const MOST_LINKED: usize = 4096;
/// Samples that are kept however old they are: two looks tell what one does not.
const LEAST: usize = 3;
/// The pauses of which the usual one is found.
const PAUSES: usize = 5;
/// As much longer than usual a pause may be: a sample that was left out, and jitter.
const LATE: u64 = 3;
/// No shorter pause is a gap: a GPU's last values count for as long.
const NO_GAP_MS: u64 = 10_000;

/// Samples of ten minutes, and events of a day.
#[derive(Default)]
pub struct Window {
    samples: VecDeque<Arc<Sample>>,
    events: VecDeque<Event>,
    /// The newest sample in which NVML answered.
    answered: Option<Arc<Sample>>,
    /// GPUs that were listed once, and are not.
    gone: Vec<Gpu>,
    /// Ports that had a link, by their names.
    linked_ports: BTreeMap<String, Port>,
    /// GPUs by their UUID that had a link, and how many at most.
    linked: BTreeMap<String, f64>,
    pace: Pace,
    /// When samples began to come without a gap.
    whole_since: u64,
}

/// How far samples are apart, as they come: no interval is written down, and it may change.
#[derive(Default)]
pub struct Pace {
    /// From each of the last samples to the next, milliseconds.
    pauses: VecDeque<u64>,
    last_ms: Option<u64>,
    /// A pause before the next sample that nobody waited for.
    skipped: Option<u64>,
}

/// How a sample follows the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// It is the first.
    First,
    /// After a pause as usual.
    InTime,
    /// After a gap: the machine slept, the driver hung, or the interval changed.
    Gap,
    /// The clock was set back.
    SetBack,
}

impl Pace {
    /// Takes the time of the next sample.
    pub fn next(&mut self, at_ms: u64) -> Follows {
        let skipped = self.skipped.take();
        let Some(last) = self.last_ms.replace(at_ms) else { return Follows::First };
        let Some(pause) = at_ms.checked_sub(last) else { return Follows::SetBack };
        let pause = skipped.unwrap_or(pause);
        // Before there is a usual pause a long one may be a gap.
        let most = self.usual_ms().map_or(NO_GAP_MS, |usual| usual.saturating_mul(LATE));
        self.pauses.push_back(pause);
        while self.pauses.len() > PAUSES {
            self.pauses.pop_front();
        }
        if skipped.is_none() && pause <= most.max(NO_GAP_MS) {
            Follows::InTime
        } else {
            Follows::Gap
        }
    }

    /// Says that the next sample follows after a gap of so many milliseconds, whatever its time: who plays a recording does not
    /// wait for it.
    pub fn skip(&mut self, pause_ms: u64) {
        self.skipped = Some(pause_ms);
    }

    /// The usual pause, milliseconds: the median of the last.
    pub fn usual_ms(&self) -> Option<u64> {
        let mut pauses: Vec<u64> = self.pauses.iter().copied().collect();
        pauses.sort_unstable();
        pauses.get(pauses.len().saturating_sub(1) / 2).copied()
    }
}

/// One GPU over the last so many seconds.
pub struct Recent<'a> {
    looks: Vec<&'a Gpu>,
    span_ms: u64,
}

impl Window {
    /// Takes the next sample, and says how it follows the one before.
    pub fn push(&mut self, sample: Arc<Sample>) -> Follows {
        let now = sample.at_ms;
        let follows = self.pace.next(now);
        if follows == Follows::SetBack {
            // It begins anew, and nothing happened later than now.
            self.samples.clear();
            self.events.iter_mut().for_each(|event| event.at_ms = event.at_ms.min(now));
        }
        if follows != Follows::InTime {
            self.whole_since = now;
        }
        if sample.silence.is_none() {
            let listed = |one: &Gpu| sample.gpus.iter().any(|gpu| gpu.uuid == one.uuid);
            let before = self.answered.as_ref().map_or(&[][..], |last| last.gpus.as_slice());
            self.gone.extend(before.iter().filter(|gpu| gpu.named() && !listed(gpu)).cloned());
            self.gone.retain(|gpu| !listed(gpu));
            self.gone.truncate(MOST_GONE);
            self.answered = Some(Arc::clone(&sample));
        }
        let up = |gpu: &Gpu| gpu.values.get(Metric::NvlinksUp).filter(|up| *up > 0.0);
        let gpus = sample.gpus.iter().filter_map(|gpu| Some((gpu.uuid.clone(), up(gpu)?)));
        for (uuid, up) in gpus {
            if self.linked.len() < MOST_LINKED || self.linked.contains_key(&uuid) {
                let most = self.linked.entry(uuid).or_default();
                *most = most.max(up);
            }
        }
        for port in sample.ports.iter().filter(|port| port.is_active()) {
            if self.linked_ports.len() < MOST_LINKED {
                self.linked_ports.entry(name_of(port)).or_insert_with(|| port.clone());
            }
        }
        self.events.extend(sample.events.iter().cloned());
        if let Some(last) = self.samples.pop_back() {
            self.samples.push_back(lean(last));
        }
        self.samples.push_back(sample);
        let old = |sample: &Arc<Sample>| sample.at_ms.saturating_add(MOST_MS) < now;
        while self.samples.len() > MOST
            || (self.samples.len() > LEAST && self.samples.front().is_some_and(old))
        {
            self.samples.pop_front();
        }
        while self.events.len() > MOST_EVENTS
            || self.events.front().is_some_and(|old| old.at_ms.saturating_add(EVENTS_MS) < now)
        {
            self.events.pop_front();
        }
        follows
    }

    /// Takes what happened since the newest sample.
    pub fn happened(&mut self, events: &[Event]) {
        self.events.extend(events.iter().cloned());
        while self.events.len() > MOST_EVENTS {
            self.events.pop_front();
        }
    }

    /// The next sample comes after a gap of so many milliseconds, whatever its time.
    pub fn skip(&mut self, pause_ms: u64) {
        self.pace.skip(pause_ms);
    }

    /// How far samples are apart as a rule, milliseconds.
    pub fn step_ms(&self) -> Option<u64> {
        self.pace.usual_ms()
    }

    /// How many active NVLinks this GPU had at most since samples are taken.
    pub fn most_links(&self, gpu: &Gpu) -> f64 {
        self.linked.get(&gpu.uuid).copied().unwrap_or(0.0)
    }

    /// Whether this port was active since samples are taken.
    pub fn was_active(&self, port: &Port) -> bool {
        self.linked_ports.contains_key(&name_of(port))
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

    /// Ports that were active and that the newest sample does not have.
    pub fn lost_ports(&self) -> impl Iterator<Item = &Port> {
        let there: Vec<String> = self.ports().iter().map(name_of).collect();
        let lost = self.linked_ports.iter().filter(move |(name, _)| !there.contains(name));
        lost.map(|(_, port)| port)
    }

    /// The ports of the newest sample.
    pub fn ports(&self) -> &[Port] {
        self.now().map_or(&[], |sample| sample.ports.as_slice())
    }

    /// By how much a port's counter grew in ten minutes; one that began anew counts from there.
    pub fn port_growth(&self, port: &Port, counter: &str) -> u64 {
        let same = |one: &&Port| (&one.device, one.port) == (&port.device, port.port);
        let since = self.now().map_or(0, |now| now.at_ms).saturating_sub(MOST_MS);
        let counts =
            self.samples.iter().filter(|sample| sample.at_ms >= since).filter_map(|sample| {
                sample.ports.iter().find(same)?.counters.get(counter).copied()
            });
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

    /// A GPU over the last so many seconds, and over two samples in any case; nothing where that long has not been seen without
    /// a gap, or it did not answer.
    pub fn recent(&self, gpu: &Gpu, seconds: u64) -> Option<Recent<'_>> {
        let since = self.now()?.at_ms.saturating_sub(seconds * 1000);
        // The oldest sample must be about as old as was asked for.
        let slack = seconds * 200;
        let whole = self.whole_since <= since + slack && self.oldest()?.at_ms <= since + slack;
        self.counted(gpu, seconds).filter(|_| whole)
    }

    /// The same as far as it was seen: a counter misses nothing between two samples, however far they are apart.
    pub fn counted(&self, gpu: &Gpu, seconds: u64) -> Option<Recent<'_>> {
        self.looks(gpu, seconds, 2)
    }

    /// The same, and of that time alone: of what counts from the first on there can only be more.
    pub fn so_far(&self, gpu: &Gpu, seconds: u64) -> Option<Recent<'_>> {
        self.looks(gpu, seconds, 0)
    }

    fn looks(&self, gpu: &Gpu, seconds: u64, least: usize) -> Option<Recent<'_>> {
        let now = self.now()?.at_ms;
        let since = now.saturating_sub(seconds * 1000);
        let samples = self.samples.iter().rev().enumerate().take_while(|(at, sample)| {
            sample.at_ms >= since || (*at < least && sample.at_ms >= self.whole_since)
        });
        let (mut looks, mut oldest) = (Vec::new(), now);
        for (_, sample) in samples {
            oldest = sample.at_ms;
            let gpu = sample.gpus.iter().find(|one| one.uuid == gpu.uuid);
            looks.extend(gpu.filter(|one| one.lost.is_none() && one.age_ms < 10_000));
        }
        (looks.len() >= 2).then_some(Recent { looks, span_ms: now - oldest })
    }
}

/// What a port is called: `mlx5_0 port 1`.
pub(crate) fn name_of(port: &Port) -> String {
    format!("{} port {}", port.device, port.port)
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

    /// The time from its oldest sample to now, in words.
    pub fn span(&self) -> String {
        in_words(Duration::from_millis(self.span_ms))
    }

    /// The same in seconds.
    pub fn seconds(&self) -> f64 {
        self.span_ms as f64 / 1e3
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
