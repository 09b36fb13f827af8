//! One at a time: the turn to use much memory.

use std::sync::{Condvar, Mutex, PoisonError};

static TAKEN: Mutex<bool> = Mutex::new(false);
static FREE: Condvar = Condvar::new();

/// The turn, until it is dropped. It may go to another thread with what it belongs to.
pub(crate) struct Turn(());

/// Waits for the turn.
pub(crate) fn take_turn() -> Turn {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    while *taken {
        taken = FREE.wait(taken).unwrap_or_else(PoisonError::into_inner);
    }
    *taken = true;
    Turn(())
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) = false;
        FREE.notify_one();
    }
}
