//! Planned layers to digests and unpacked trees, on as many threads as there are.
//!
//! Each layer is two tasks. One unpacks ([`crate::pass`]): it inflates every file once and, with the
//! same bytes, computes the DiffID, compares RECORD and fills the tree. The other digests the layer's
//! blob, which the plan knows already. Tasks start largest first; very large ones, and the last, have
//! more than one thread ([`crate::slots`]): a large file is then inflated, digested and written by up
//! to three, and those after it are inflated before their turn ([`crate::ahead`]). No result
//! depends on any of this. A container needs the first task's work alone: each can be had by itself.

use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use sconce_blob::{Digest, Hasher, Segment};

use crate::ahead::Memory;
use crate::content::Inflater;
use crate::pass;
use crate::plan::LayerPlan;
use crate::slots::{Granted, Slots};
use crate::{Error, Unpack};

/// Bytes are handed on in pieces of this size: they stay in a core's cache.
pub(crate) const CHUNK: usize = 256 << 10;
/// What digesting costs beside unpacking, a byte of the blob for so many unpacked.
const DIGEST_SHARE: u64 = 4;

/// What an image says of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the tar.
    pub diff_id: Digest,
    /// Digest of the blob, the tar in gzip members.
    pub digest: Digest,
    /// Length of the blob, bytes.
    pub size: u64,
}

impl Layer {
    /// The media type of every layer made here (OCI image-spec, "Image layer").
    pub const MEDIA_TYPE: &'static str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// The media type of a layer that is not compressed: its blob is the tar, and so its digest the DiffID.
    pub const TAR: &'static str = "application/vnd.oci.image.layer.v1.tar";

    /// What its blob is.
    pub fn media_type(&self) -> &'static str {
        match self.digest == self.diff_id {
            true => Self::TAR,
            false => Self::MEDIA_TYPE,
        }
    }
}

/// Which of its tasks are done for a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// Both.
    All,
    /// It is unpacked: all that a container needs.
    Tree,
    /// Its blob is digested: what a registry asks for, of a layer that was unpacked before.
    Blob,
}

/// What was asked for of a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Assembled {
    /// Digest and length of the tar, of a layer that was unpacked.
    pub tar: Option<(Digest, u64)>,
    /// Digest and length of the blob, where it was digested.
    pub blob: Option<(Digest, u64)>,
}

impl Assembled {
    fn whole(self) -> Option<Layer> {
        let ((diff_id, _), (digest, size)) = (self.tar?, self.blob?);
        Some(Layer { diff_id, digest, size })
    }
}

/// One layer to assemble.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// Which.
    pub plan: &'a LayerPlan,
    /// Where to unpack it in the same pass, if anywhere.
    pub unpack: Option<&'a dyn Unpack>,
}

/// Is told how the work goes, from any thread.
pub trait LayerProgress: Sync {
    /// So many more bytes of files have been unpacked.
    fn unpacked(&self, bytes: u64) {
        let _ = bytes;
    }

    /// The job of this index is done, tree and all. An error ends the whole work.
    fn finished(&self, job: usize, layer: &Layer) -> io::Result<()> {
        let _ = (job, layer);
        Ok(())
    }
}

impl LayerProgress for () {}

/// Assembles all layers. The results stand in the order of the jobs. On an error nothing is
/// finished any more, and trees begun are left as they are.
pub fn assemble_all(
    jobs: &[Job<'_>],
    threads: NonZeroUsize,
    progress: &dyn LayerProgress,
) -> Result<Vec<Layer>, Error> {
    let all = assemble_parts(jobs, Parts::All, threads, progress)?;
    Ok(all.into_iter().filter_map(Assembled::whole).collect())
}

/// As [`assemble_all`], but only the `parts` that are asked for. Without both of them `progress` is not told
/// that a layer is finished.
pub fn assemble_parts(
    jobs: &[Job<'_>],
    parts: Parts,
    threads: NonZeroUsize,
    progress: &dyn LayerProgress,
) -> Result<Vec<Assembled>, Error> {
    let mut tasks: Vec<(u64, Task)> = (0..jobs.len())
        .flat_map(|job| {
            let plan = jobs[job].plan;
            let digest = plan.assembly().len() / DIGEST_SHARE;
            let unpack = (parts != Parts::Blob).then_some((plan.unpacked(), Task::Unpack(job)));
            let digest = (parts != Parts::Tree).then_some((digest, Task::Digest(job)));
            unpack.into_iter().chain(digest)
        })
        .collect();
    // Popped from the end: the largest first, of equal ones the first job.
    tasks.sort_by_key(|&(cost, task)| (cost, std::cmp::Reverse(task.job())));
    let all = tasks.iter().map(|(cost, _)| cost).sum::<u64>().max(1);
    let tasks = tasks.into_iter().map(|(cost, task)| {
        let share = u128::from(cost) * threads.get() as u128 / u128::from(all);
        (task, usize::try_from(share).unwrap_or(usize::MAX))
    });
    let work = Work {
        jobs,
        progress,
        slots: Slots::new(tasks.collect(), threads.get()),
        results: Mutex::new(vec![Assembled::default(); jobs.len()]),
        failure: Mutex::new(None),
        stop: AtomicBool::new(false),
        memory: Memory::new(threads),
    };
    thread::scope(|scope| {
        for _ in 1..threads.get() {
            scope.spawn(|| work.run());
        }
        work.run();
    });
    if let Some(error) = work.failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    Ok(work.results.into_inner().unwrap_or_else(PoisonError::into_inner))
}

#[derive(Clone, Copy)]
pub(crate) enum Task {
    Unpack(usize),
    Digest(usize),
}

impl Task {
    fn job(self) -> usize {
        match self {
            Self::Unpack(job) | Self::Digest(job) => job,
        }
    }
}

pub(crate) struct Work<'a> {
    jobs: &'a [Job<'a>],
    pub(crate) progress: &'a dyn LayerProgress,
    slots: Slots,
    results: Mutex<Vec<Assembled>>,
    failure: Mutex<Option<Error>>,
    stop: AtomicBool,
    pub(crate) memory: Memory,
}

/// What holds no invariant is sound after a panic, too.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Work<'_> {
    fn run(&self) {
        let mut inflater = Inflater::new();
        let mut buffer = vec![0; CHUNK];
        while let Some((task, granted)) = self.slots.next() {
            if let Err(error) = self.task(task, &granted, &mut inflater, &mut buffer) {
                lock(&self.failure).get_or_insert(error);
                self.stop();
            }
        }
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Ends the whole work: each thread notices with its next piece.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.slots.stop();
        self.memory.wake();
    }

    fn task(
        &self,
        task: Task,
        granted: &Granted<'_>,
        inflater: &mut Inflater,
        buffer: &mut [u8],
    ) -> Result<(), Error> {
        let job = task.job();
        let Job { plan, unpack } = self.jobs[job];
        match task {
            Task::Unpack(_) => {
                let tar = pass::unpack(self, granted, plan, unpack, inflater, buffer)?;
                self.result(job, |made| made.tar = Some(tar))
            }
            Task::Digest(_) => {
                let digest = self.digest(plan, buffer)?;
                self.result(job, |made| made.blob = Some((digest, plan.assembly().len())))
            }
        }
    }

    /// Notes one half of a result; with the second the layer is finished.
    fn result(&self, job: usize, note: impl FnOnce(&mut Assembled)) -> Result<(), Error> {
        let made = {
            let mut results = lock(&self.results);
            note(&mut results[job]);
            results[job]
        };
        match made.whole() {
            Some(layer) if !self.stopped() => {
                self.progress.finished(job, &layer).map_err(|source| Error::Finished {
                    layer: self.jobs[job].plan.name().to_owned(),
                    source,
                })
            }
            _ => Ok(()),
        }
    }

    /// The digest of the blob that the plan describes.
    fn digest(&self, plan: &LayerPlan, buffer: &mut [u8]) -> Result<Digest, Error> {
        let wheels = plan.blobs();
        let assembly = plan.assembly();
        let mut literals = assembly.literals.as_slice();
        let mut hasher = Hasher::new();
        for segment in &assembly.segments {
            match *segment {
                Segment::Literal { len } => {
                    let (now, later) = literals.split_at(len as usize);
                    hasher.update(now);
                    literals = later;
                }
                Segment::Blob { digest, mut offset, mut len } => {
                    let Some(wheel) = wheels.get(&digest) else { continue };
                    while len > 0 {
                        let n = len.min(buffer.len() as u64);
                        let piece = &mut buffer[..n as usize];
                        wheel.source.read_exact_at(piece, offset).map_err(|source| {
                            Error::Read { what: wheel.file_name.clone(), source }
                        })?;
                        hasher.update(piece);
                        offset += n;
                        len -= n;
                        if self.stopped() {
                            return Ok(Digest::of(b""));
                        }
                    }
                }
            }
        }
        Ok(hasher.finish())
    }
}
