//! What calls cost: how often, how long, and how much of a processor. Off unless it is asked for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

static ON: AtomicBool = AtomicBool::new(false);
static COSTS: Mutex<BTreeMap<String, Cost>> = Mutex::new(BTreeMap::new());

/// What all calls of one name cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// How many there were.
    pub calls: u64,
    /// How long they took.
    pub took: Duration,
    /// The longest.
    pub longest: Duration,
    /// Processor time.
    pub processor: Duration,
}

/// Begins to measure.
pub fn begin() {
    ON.store(true, Ordering::Relaxed);
}

/// Measures this, under that name.
pub fn measure<T>(name: &str, work: impl FnOnce() -> T) -> T {
    if !ON.load(Ordering::Relaxed) {
        return work();
    }
    let (begun, before) = (Instant::now(), processor());
    let result = work();
    let (took, used) = (begun.elapsed(), processor().saturating_sub(before));
    let mut costs = COSTS.lock().unwrap_or_else(PoisonError::into_inner);
    let cost = costs.entry(name.to_owned()).or_default();
    cost.calls += 1;
    cost.took += took;
    cost.longest = cost.longest.max(took);
    cost.processor += used;
    result
}

/// All so far, the dearest first.
pub fn all() -> Vec<(String, Cost)> {
    let costs = COSTS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut all: Vec<_> = costs.iter().map(|(name, cost)| (name.clone(), *cost)).collect();
    all.sort_by_key(|(_, cost)| std::cmp::Reverse(cost.processor));
    all
}

/// The processor time of this thread.
fn processor() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` outlives the call.
    let _ = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    let nanoseconds = time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec);
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))
}
