//! One at a time in GPM. Of a process with a thread for each of two GPUs in it some crashed inside NVML (driver 580.159.04), at an
//! index beyond a table, though NVML as a whole may be called from any thread.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How long a turn is waited for: a call of GPM takes half a millisecond.
const PATIENCE: Duration = Duration::from_millis(250);

static TURNS: Mutex<Turns> = Mutex::new(Turns { taken: false, stuck: false });
static FREE: Condvar = Condvar::new();

struct Turns {
    taken: bool,
    /// Somebody waited in vain: whoever has the turn is blocked in the driver, and nobody waits until it is back.
    stuck: bool,
}

/// The right to call GPM, until it is dropped.
pub(super) struct Turn(());

impl Turn {
    /// Waits for it for a moment; nothing where another's call does not come back.
    pub(super) fn wait() -> Option<Self> {
        let turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.taken && turns.stuck {
            return None;
        }
        let waited = FREE.wait_timeout_while(turns, PATIENCE, |turns| turns.taken && !turns.stuck);
        let (mut turns, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if turns.taken {
            turns.stuck = true;
            FREE.notify_all();
            return None;
        }
        turns.taken = true;
        Some(Self(()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
        *turns = Turns { taken: false, stuck: false };
        FREE.notify_one();
    }
}
