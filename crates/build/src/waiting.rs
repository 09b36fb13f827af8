//! What a person who waits for a lock is told: nothing where it is quick, else what is looked for.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::progress::Progress;

/// How long nobody asks what takes so long.
const PATIENCE: Duration = Duration::from_secs(2);

/// Does a piece of work that sends what it looks for; what it is at after some seconds, and all that comes
/// then, is said.
pub(crate) fn told_of<T>(progress: &dyn Progress, work: impl FnOnce(Sender<String>) -> T) -> T {
    told_after(PATIENCE, progress, work)
}

fn told_after<T>(
    patience: Duration,
    progress: &dyn Progress,
    work: impl FnOnce(Sender<String>) -> T,
) -> T {
    let (told, heard) = mpsc::channel();
    thread::scope(|scope| {
        // Without a thread it is only quieter.
        let said = move || say(patience, progress, &heard);
        let _ = thread::Builder::new().name("waiting".to_owned()).spawn_scoped(scope, said);
        work(told)
    })
}

fn say(patience: Duration, progress: &dyn Progress, heard: &Receiver<String>) {
    let begun = Instant::now();
    let (mut at, mut last) = (None, None);
    loop {
        let left = patience.saturating_sub(begun.elapsed());
        let next = match (&at, left.is_zero()) {
            (Some(_), false) => heard.recv_timeout(left),
            (Some(_), true) => Err(RecvTimeoutError::Timeout),
            (None, _) => heard.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match next {
            Ok(what) => at = Some(what),
            Err(RecvTimeoutError::Timeout) => {
                let what = at.take();
                if what != last
                    && let Some(what) = &what
                {
                    progress.looking_for(what);
                }
                last = what;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heard::Heard;

    #[test]
    fn what_is_quick_is_not_told() {
        let heard = Heard::default();
        let told = |patience, wait| {
            told_after(patience, &heard, |told| {
                for what in ["a", "b", "b"] {
                    told.send(what.to_owned()).unwrap();
                    thread::sleep(wait);
                }
            });
            std::mem::take(&mut *heard.looked_for.lock().unwrap())
        };
        assert!(told(Duration::from_secs(3600), Duration::ZERO).is_empty());
        assert_eq!(told(Duration::ZERO, Duration::from_millis(50)), ["a", "b"]);
    }
}
