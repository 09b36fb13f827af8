//! Who works at what: tasks in order, on as many threads as were asked for.
//!
//! A layer that is more than one thread's share of the whole work gets slots for more threads with its
//! task: on one it would outlast everything else. When no task is left, every free slot is for
//! whoever can use it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::assemble::{Task, lock};

/// Tasks, and slots for threads.
pub(crate) struct Slots {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Each with the number of threads that are its share. Popped from the end.
    tasks: Vec<(Task, usize)>,
    free: usize,
    stopped: bool,
}

/// A task's own slot, and those for threads beside its own.
pub(crate) struct Granted<'a> {
    slots: &'a Slots,
    unused: Mutex<usize>,
}

/// A slot for one more thread, given back when it is dropped.
pub(crate) struct Lent<'a>(&'a Granted<'a>);

impl Slots {
    /// The last task is the first.
    pub(crate) fn new(tasks: Vec<(Task, usize)>, threads: usize) -> Self {
        let state = State { tasks, free: threads, stopped: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Waits for a slot and takes a task: nothing when none is left.
    pub(crate) fn next(&self) -> Option<(Task, Granted<'_>)> {
        let mut state = lock(&self.state);
        while state.free == 0 && !state.tasks.is_empty() && !state.stopped {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.stopped {
            return None;
        }
        let (task, share) = state.tasks.pop()?;
        let more = share.saturating_sub(1).min(state.free - 1);
        state.free -= 1 + more;
        Some((task, Granted { slots: self, unused: Mutex::new(more) }))
    }

    /// No task is begun any more.
    pub(crate) fn stop(&self) {
        lock(&self.state).stopped = true;
        self.changed.notify_all();
    }

    fn free(&self, mut state: MutexGuard<'_, State>, count: usize) {
        state.free += count;
        drop(state);
        self.changed.notify_all();
    }
}

impl Granted<'_> {
    /// A slot for one more thread, if there is one.
    pub(crate) fn lend(&self) -> Option<Lent<'_>> {
        let mut unused = lock(&self.unused);
        if *unused > 0 {
            *unused -= 1;
            return Some(Lent(self));
        }
        let mut state = lock(&self.slots.state);
        if state.free == 0 || !state.tasks.is_empty() {
            return None;
        }
        state.free -= 1;
        Some(Lent(self))
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut unused = lock(&self.0.unused);
        let state = lock(&self.0.slots.state);
        if state.tasks.is_empty() {
            self.0.slots.free(state, 1);
        } else {
            *unused += 1;
        }
    }
}

impl Drop for Granted<'_> {
    fn drop(&mut self) {
        let unused = *lock(&self.unused);
        self.slots.free(lock(&self.slots.state), 1 + unused);
    }
}
