//! Several pieces of work at a time; the first failure stops the others.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::error::Error;

/// The most connections to one registry. Each unpacks on three threads and keeps some 5 MiB.
const MAX_CONNECTIONS: usize = 8;
/// The fewest: a connection waits more than it works.
const MIN_CONNECTIONS: usize = 3;

/// Does `work` for each item, in their order. Work that takes long looks at the flag it is given now
/// and then, and gives up when that is set.
pub(crate) fn each<T: Sync>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T, &AtomicBool) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let failure = Mutex::new(None);
    let threads = threads.clamp(MIN_CONNECTIONS, MAX_CONNECTIONS).min(items.len());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    if let Err(error) = work(item, &stop) {
                        // First noted, then told: whoever stops for it has a lesser reason.
                        failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                        stop.store(true, Ordering::Release);
                    }
                }
            });
        }
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}
