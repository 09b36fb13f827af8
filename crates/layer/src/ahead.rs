//! Large files of a layer, inflated before their turn.
//!
//! Only the DiffID takes a layer's bytes in order. Where a layer has slots for more threads
//! ([`crate::slots`]), they inflate the large files that come next, compare RECORD and fill the tree;
//! the bytes wait in memory for the DiffID. What waits is bounded over all layers together. The file whose turn it is goes on
//! beyond that bound, a few pieces at a time: so no layer waits for another.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, Scope, ScopedJoinHandle};

use crate::assemble::{CHUNK, Work, lock};
use crate::content::Inflater;
use crate::install::Source;
use crate::pass::{Check, DEPTH, LARGE, Pieces, SEGMENT};
use crate::plan::{File, LayerPlan, Node};
use crate::slots::Granted;
use crate::wheel::WheelBlob;
use crate::zip::ZipEntry;
use crate::{Error, Unpack};

/// How many pieces may wait for each thread there is: 32 MiB.
const PER_THREAD: usize = 128;
/// How many may wait at most: 512 MiB.
const MOST: usize = 2048;
/// How many files of one layer may be begun before their turn.
const FILES: usize = 6;
/// Before its turn, a file from this size on has a thread for RECORD and the tree.
const HUGE: u64 = 64 << 20;

/// Bytes of a file: how many of the memory's are filled.
pub(crate) type Piece = Arc<(Vec<u8>, usize)>;

/// The memory of pieces, and how many wait before their turn.
pub(crate) struct Memory {
    waiting: Mutex<usize>,
    room: Condvar,
    most: usize,
    /// Pieces that can be filled again.
    empty: Mutex<Vec<Vec<u8>>>,
}

/// One file's place in its layer.
#[derive(Default)]
struct Turn {
    come: AtomicBool,
    /// How many of its pieces wait.
    waiting: AtomicUsize,
}

impl Memory {
    pub(crate) fn new(threads: NonZeroUsize) -> Self {
        Self {
            waiting: Mutex::new(0),
            room: Condvar::new(),
            most: threads.get().saturating_mul(PER_THREAD).min(MOST),
            empty: Mutex::new(Vec::new()),
        }
    }

    /// Memory for one piece.
    pub(crate) fn empty(&self) -> Vec<u8> {
        lock(&self.empty).pop().unwrap_or_else(|| vec![0; CHUNK])
    }

    /// Takes a piece's memory back from the last who read it.
    pub(crate) fn read(&self, piece: Piece) {
        if let Some((memory, _)) = Arc::into_inner(piece) {
            lock(&self.empty).push(memory);
        }
    }

    /// Hands every piece to `each`, and its memory back. After an error the rest is dropped.
    pub(crate) fn drain(
        &self,
        pieces: Receiver<Piece>,
        mut each: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for piece in pieces {
            each(&piece.0[..piece.1])?;
            self.read(piece);
        }
        Ok(())
    }

    /// Waits until one more piece of a file may wait, or until `stopped`.
    fn wait(&self, turn: &Turn, stopped: impl Fn() -> bool) {
        let mut waiting = lock(&self.waiting);
        let may = |waiting: usize| {
            let its_turn = turn.come.load(Ordering::Relaxed);
            waiting < self.most || its_turn && turn.waiting.load(Ordering::Relaxed) < DEPTH
        };
        while !may(*waiting) && !stopped() {
            waiting = self.room.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        *waiting += 1;
        turn.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// The opposite of [`Memory::wait`], when the DiffID has the piece.
    fn leave(&self, turn: &Turn) {
        let mut waiting = lock(&self.waiting);
        *waiting -= 1;
        turn.waiting.fetch_sub(1, Ordering::Relaxed);
        self.room.notify_all();
    }

    fn come(&self, turn: &Turn) {
        let _waiting = lock(&self.waiting);
        turn.come.store(true, Ordering::Relaxed);
        self.room.notify_all();
    }

    /// Lets all who wait look whether the work was stopped.
    pub(crate) fn wake(&self) {
        let _waiting = lock(&self.waiting);
        self.room.notify_all();
    }
}

/// A file that is worth a thread.
#[derive(Clone, Copy)]
struct Large<'a> {
    node: &'a Node,
    file: &'a File,
    wheel: &'a WheelBlob,
    entry: &'a ZipEntry,
}

impl<'a> Large<'a> {
    fn of(node: &'a Node) -> Option<Self> {
        let file = node.file.as_ref()?;
        match &file.source {
            Source::Wheel(wheel, entry) if entry.size >= LARGE => {
                Some(Self { node, file, wheel, entry })
            }
            _ => None,
        }
    }
}

/// The large files of one layer, in its order.
pub(crate) struct Ahead<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    work: &'env Work<'env>,
    granted: &'env Granted<'env>,
    unpack: Option<&'env dyn Unpack>,
    files: Vec<Large<'env>>,
    /// How many have had their turn.
    turns: usize,
    /// The next that nobody has begun.
    next: usize,
    begun: VecDeque<Begun<'scope>>,
}

/// A file that another thread inflates.
pub(crate) struct Begun<'scope> {
    turn: Arc<Turn>,
    pieces: Receiver<Piece>,
    thread: ScopedJoinHandle<'scope, Result<(), Error>>,
}

impl<'scope, 'env> Ahead<'scope, 'env> {
    pub(crate) fn new(
        scope: &'scope Scope<'scope, 'env>,
        work: &'env Work<'env>,
        granted: &'env Granted<'env>,
        plan: &'env LayerPlan,
        unpack: Option<&'env dyn Unpack>,
    ) -> Self {
        let files = plan.nodes.iter().filter_map(Large::of).collect();
        Self { scope, work, granted, unpack, files, turns: 0, next: 0, begun: VecDeque::new() }
    }

    /// It is the next large file's turn: gives it if it was begun before.
    pub(crate) fn turn(&mut self) -> Option<Begun<'scope>> {
        self.turns += 1;
        self.next = self.next.max(self.turns);
        let begun = self.begun.pop_front()?;
        self.work.memory.come(&begun.turn);
        Some(begun)
    }

    /// Begins as many of the next as there are threads to lend.
    pub(crate) fn look(&mut self) {
        while self.begun.len() < FILES
            && let Some(&large) = self.files.get(self.next)
        {
            let Some(lent) = self.granted.lend() else { return };
            self.next += 1;
            let turn = Arc::new(Turn::default());
            let (to, pieces) = channel();
            let (work, granted, unpack) = (self.work, self.granted, self.unpack);
            let its = turn.clone();
            let thread = self.scope.spawn(move || {
                let done = inflate(work, granted, unpack, large, &its, to);
                drop(lent);
                done
            });
            self.begun.push_back(Begun { turn, pieces, thread });
        }
    }

    /// Hands a begun file's bytes to `each`, in order.
    pub(crate) fn read(
        &mut self,
        begun: Begun<'scope>,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), Error> {
        let Begun { turn, pieces, thread } = begun;
        for piece in pieces {
            each(&piece.0[..piece.1]);
            self.work.memory.leave(&turn);
            self.work.memory.read(piece);
            if self.work.stopped() {
                break;
            }
            self.look();
        }
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Nobody asks for the rest any more: whoever waits for its turn must end.
impl Drop for Ahead<'_, '_> {
    fn drop(&mut self) {
        if !self.begun.is_empty() || thread::panicking() {
            self.work.stop();
        }
    }
}

/// Inflates a file into pieces; compares RECORD and fills the tree.
fn inflate(
    work: &Work<'_>,
    granted: &Granted<'_>,
    unpack: Option<&dyn Unpack>,
    large: Large<'_>,
    turn: &Turn,
    to: Sender<Piece>,
) -> Result<(), Error> {
    let Large { node, file, wheel, entry } = large;
    let mut inflater = Inflater::new();
    let mut pieces = Pieces { reader: inflater.open(&*wheel.source, entry), wheel, entry };
    let mut check = Check::begin(unpack, node, file)?;
    // The next piece, when there is room for it: whether it was the last.
    let mut next = |each: &mut dyn FnMut(&Piece) -> Result<(), Error>| {
        work.memory.wait(turn, || work.stopped());
        let mut memory = work.memory.empty();
        let n = pieces.next(&mut memory)?;
        let last = n < memory.len() || work.stopped();
        let piece = Arc::new((memory, n));
        each(&piece)?;
        // Nobody reads them where the work was stopped.
        let _ = to.send(piece);
        Ok::<bool, Error>(last)
    };
    loop {
        let helper = if entry.size >= HUGE { granted.lend() } else { None };
        let last = match helper {
            None => next(&mut |piece| check.update(&piece.0[..piece.1]))?,
            Some(_helper) => thread::scope(|scope| {
                let (to_check, checked) = sync_channel::<Piece>(DEPTH);
                let checker =
                    scope.spawn(|| work.memory.drain(checked, |bytes| check.update(bytes)));
                let mut inflate = || {
                    for _ in 0..SEGMENT {
                        let mut closed = false;
                        let last = next(&mut |piece| {
                            closed = to_check.send(piece.clone()).is_err();
                            Ok(())
                        })?;
                        // A closed channel means that the checker failed.
                        if closed || last {
                            return Ok(last);
                        }
                    }
                    Ok(false)
                };
                let last = inflate();
                drop(to_check);
                checker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                last
            })?,
        };
        if work.stopped() {
            return Ok(());
        }
        if last {
            return check.finish(wheel, entry);
        }
    }
}
