//! NCCL: collectives over the GPUs of this machine, one process for all.
//!
//! Signatures and numbers: NVIDIA's public `nccl.h`.

use std::ffi::{c_int, c_void};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::absurd;
use crate::library::{Opened, table};
use crate::{Buffer, Context, Device, Places, Refusal, Stream};

/// The library's names.
pub const NAMES: &[&str] = &["libnccl.so.2"];

/// `ncclComm_t`.
type Communicator = *mut c_void;

table! {
    /// The functions of `libnccl.so`.
    Functions, words,
    ncclGetVersion(version: *mut c_int);
    ncclCommInitAll(communicators: *mut Communicator, count: c_int, devices: *const c_int);
    ncclCommDestroy(communicator: Communicator);
    ncclGroupStart();
    ncclGroupEnd();
    ncclAllReduce(
        send: *const c_void, receive: *mut c_void, count: usize, kind: c_int, operation: c_int,
        communicator: Communicator, stream: *mut c_void,
    );
    ncclReduceScatter(
        send: *const c_void, receive: *mut c_void, count: usize, kind: c_int, operation: c_int,
        communicator: Communicator, stream: *mut c_void,
    );
    ncclAllGather(
        send: *const c_void, receive: *mut c_void, count: usize, kind: c_int, communicator: Communicator,
        stream: *mut c_void,
    );
    ncclBroadcast(
        send: *const c_void, receive: *mut c_void, count: usize, kind: c_int, root: c_int,
        communicator: Communicator, stream: *mut c_void,
    );
    ncclSend(
        send: *const c_void, count: usize, kind: c_int, peer: c_int, communicator: Communicator,
        stream: *mut c_void,
    );
    ncclRecv(
        receive: *mut c_void, count: usize, kind: c_int, peer: c_int, communicator: Communicator,
        stream: *mut c_void,
    );
}

fn words(library: &Opened, code: c_int) -> Option<String> {
    library.words(c"ncclGetErrorString", code)
}

/// `ncclFloat32`, of 4 bytes, and `ncclSum`.
const FLOAT: c_int = 7;
const BYTES: usize = 4;
/// How many numbers further on the last call of several sends from: a multiple of what any alignment asks for.
pub const APART: usize = 1024;
const SUM: c_int = 0;

/// What ranks do together; all of it in 32-bit floating point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collective {
    /// Everyone gets the sum of all.
    AllReduce,
    /// Everyone gets what each has.
    AllGather,
    /// Everyone gets its part of the sum.
    ReduceScatter,
    /// Everyone gets what the first has.
    Broadcast,
    /// Everyone sends a part to each.
    AllToAll,
    /// Everyone sends all to the next.
    SendReceive,
}

/// One GPU of a group.
#[derive(Debug)]
struct Rank {
    communicator: Communicator,
    send: Buffer,
    receive: Buffer,
    stream: Stream,
}

/// GPUs that work together.
#[derive(Debug)]
pub struct Group {
    functions: Functions,
    ranks: Vec<Rank>,
}

impl Group {
    /// A communicator over these devices, each with buffers of so many bytes.
    pub fn open(
        places: &Places,
        devices: &[(Device, Context)],
        bytes: usize,
    ) -> Result<Self, Refusal> {
        let functions = Functions::of(places.open(NAMES)?);
        let mut ranks = Vec::with_capacity(devices.len());
        for (_, context) in devices {
            ranks.push(Rank {
                communicator: std::ptr::null_mut(),
                send: Buffer::new(context, bytes + APART * BYTES)?,
                receive: Buffer::new(context, bytes)?,
                stream: Stream::new(context)?,
            });
        }
        let ordinals: Vec<c_int> = devices.iter().map(|(device, _)| device.ordinal).collect();
        let count =
            c_int::try_from(ordinals.len()).map_err(|_| absurd("devices", ordinals.len()))?;
        let mut communicators = vec![std::ptr::null_mut(); ordinals.len()];
        // SAFETY: both arrays have `count` places.
        unsafe { functions.ncclCommInitAll(communicators.as_mut_ptr(), count, ordinals.as_ptr()) }?;
        for (rank, communicator) in ranks.iter_mut().zip(communicators) {
            rank.communicator = communicator;
        }
        Ok(Self { functions, ranks })
    }

    /// 22907 is 2.29.7.
    pub fn version(&self) -> Result<i32, Refusal> {
        let mut version = 0;
        // SAFETY: `version` outlives the call.
        unsafe { self.functions.ncclGetVersion(&mut version) }.map(|()| version)
    }

    /// How many GPUs.
    pub fn len(&self) -> usize {
        self.ranks.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.ranks.is_empty()
    }

    /// The stream of the first, to take the time on.
    pub fn stream(&self) -> Option<&Stream> {
        self.ranks.first().map(|rank| &rank.stream)
    }

    /// The contents that each sends; [`APART`] more than what the largest collective sends.
    pub fn set(&self, rank: usize, values: &[f32]) -> Result<(), Refusal> {
        self.ranks.get(rank).map_or(Ok(()), |rank| rank.send.write(values))
    }

    /// Fills what all receive with ones: no number, so that what is not written shows.
    pub fn poison(&self) -> Result<(), Refusal> {
        self.ranks.iter().try_for_each(|rank| rank.receive.fill(&rank.stream, 0xff))?;
        self.wait()
    }

    /// So many of the first numbers that one has received.
    pub fn received(&self, rank: usize, count: usize) -> Result<Vec<f32>, Refusal> {
        self.ranks.get(rank).map_or(Ok(Vec::new()), |rank| rank.receive.first(count))
    }

    /// Puts a collective on the streams of all. `bytes` counts as nccl-tests does: what the larger of the two buffers of a
    /// rank holds, cut to whole numbers for each rank.
    pub fn run(&self, what: Collective, bytes: usize) -> Result<(), Refusal> {
        let ask = |rank| self.ask(rank, what, (bytes, 0));
        self.grouped(|| (0..self.ranks.len()).try_for_each(ask))
    }

    /// Does it so many times and waits for all; the time since all threads were ready. Each GPU is asked by a thread of its
    /// own, as by the processes of a job: one thread for all would be the limit of small sizes. `run` comes first, as
    /// connections are made by the first call, all at once. The last one sends from [`APART`] numbers further on: what it leaves
    /// none before it has left.
    pub fn repeat(&self, what: Collective, bytes: usize, count: u32) -> Result<Duration, Refusal> {
        let ready = Barrier::new(self.ranks.len() + 1);
        thread::scope(|scope| {
            let asking: Vec<_> = (0..self.ranks.len())
                .map(|rank| {
                    let (one, ready) = (Asked { group: self, rank }, &ready);
                    scope.spawn(move || one.repeat(what, bytes, count, ready))
                })
                .collect();
            ready.wait();
            let begun = Instant::now();
            for one in asking {
                one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            }
            self.wait()?;
            Ok(begun.elapsed())
        })
    }

    /// What is asked within goes to the GPUs together.
    fn grouped(&self, ask: impl FnOnce() -> Result<(), Refusal>) -> Result<(), Refusal> {
        // SAFETY: it takes nothing.
        unsafe { self.functions.ncclGroupStart() }?;
        let asked = ask();
        // SAFETY: begun above; it must end in any case.
        asked.and(unsafe { self.functions.ncclGroupEnd() })
    }

    /// Asks for the part of one rank.
    fn ask(
        &self,
        number: usize,
        what: Collective,
        (bytes, apart): (usize, usize),
    ) -> Result<(), Refusal> {
        let Some(rank) = self.ranks.get(number) else { return Ok(()) };
        let ranks = self.ranks.len();
        let part = bytes / BYTES / ranks;
        let all = part * ranks;
        let functions = &self.functions;
        let send = rank.send.pointer().wrapping_byte_add(apart * BYTES);
        let receive = rank.receive.pointer();
        let (communicator, stream) = (rank.communicator, rank.stream.handle());
        let peer = |number: usize| c_int::try_from(number % ranks).unwrap_or(0);
        // SAFETY: every buffer holds `all` numbers (`bytes` is no more than they were made with; what is sent has `APART`
        // more), and lives until its stream was waited for.
        unsafe {
            match what {
                Collective::AllReduce => {
                    functions.ncclAllReduce(send, receive, all, FLOAT, SUM, communicator, stream)
                }
                Collective::AllGather => {
                    functions.ncclAllGather(send, receive, part, FLOAT, communicator, stream)
                }
                Collective::ReduceScatter => functions.ncclReduceScatter(
                    send,
                    receive,
                    part,
                    FLOAT,
                    SUM,
                    communicator,
                    stream,
                ),
                Collective::Broadcast => {
                    functions.ncclBroadcast(send, receive, all, FLOAT, 0, communicator, stream)
                }
                Collective::AllToAll => (0..ranks).try_for_each(|other| {
                    let place = |base: *mut c_void| base.byte_add(other * part * BYTES);
                    let (to, from) = (place(send), place(receive));
                    functions.ncclSend(to, part, FLOAT, peer(other), communicator, stream)?;
                    functions.ncclRecv(from, part, FLOAT, peer(other), communicator, stream)
                }),
                Collective::SendReceive => {
                    let (to, from) = (peer(number + 1), peer(number + ranks - 1));
                    functions.ncclSend(send, all, FLOAT, to, communicator, stream).and_then(|()| {
                        functions.ncclRecv(receive, all, FLOAT, from, communicator, stream)
                    })
                }
            }
        }
    }

    /// Waits for all.
    pub fn wait(&self) -> Result<(), Refusal> {
        self.ranks.iter().try_for_each(|rank| rank.stream.wait())
    }
}

/// One rank, to be asked by a thread of its own.
struct Asked<'a> {
    group: &'a Group,
    rank: usize,
}

// SAFETY: NCCL takes calls for different communicators of one process from different threads; each rank is asked by one
// thread alone, which touches only that rank's buffers and stream, and the driver takes calls from any thread.
unsafe impl Send for Asked<'_> {}

impl Asked<'_> {
    fn repeat(
        self,
        what: Collective,
        bytes: usize,
        count: u32,
        ready: &Barrier,
    ) -> Result<(), Refusal> {
        let Self { group, rank } = self;
        let entered = group.ranks.get(rank).map_or(Ok(()), |one| one.stream.context().enter());
        ready.wait();
        entered?;
        (0..count).try_for_each(|at| {
            let apart = if at + 1 == count { APART } else { 0 };
            group.grouped(|| group.ask(rank, what, (bytes, apart)))
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for rank in self.ranks.iter().filter(|rank| !rank.communicator.is_null()) {
            // SAFETY: made once, destroyed once.
            _ = unsafe { self.functions.ncclCommDestroy(rank.communicator) };
        }
    }
}
