//! One piece of work for each of many things, several at a time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// What `work` makes of each of `items`, in their order: on this thread and at most `threads` - 1 others of this
/// name.
pub(crate) fn each<T: Sync, R: Send>(
    name: &str,
    threads: usize,
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    let run = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { break };
            let result = work(item);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(items.len()) {
            let thread = std::thread::Builder::new().name(name.to_owned());
            if thread.spawn_scoped(scope, run).is_err() {
                // The threads that there are do all of it.
                break;
            }
        }
        run();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::each;

    #[test]
    fn results_come_in_the_order_of_the_items_and_side_by_side() {
        let together = Barrier::new(4);
        let made = each("test", 4, &[3_u64, 2, 1, 0], |wait| {
            together.wait();
            std::thread::sleep(std::time::Duration::from_millis(10 * wait));
            wait * 2
        });
        assert_eq!(made, [6, 4, 2, 0]);
        assert_eq!(each("test", 4, &[] as &[u8], |_| ()).len(), 0);
        assert_eq!(each("test", 0, &[1], |n| *n), [1]);
    }
}
