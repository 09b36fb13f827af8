//! Planned layers to digests and unpacked trees, on as many threads as there are.
//!
//! Each layer is two tasks. One unpacks: it inflates every file once and, with the same bytes,
//! computes the DiffID, compares RECORD and fills the tree. The other digests the layer's blob,
//! which the plan knows already. Tasks start largest first. A thread that finds no task left is
//! lent to the layers still being unpacked: large files are then inflated, digested and written
//! by up to three threads. No result depends on any of this.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use sconce_blob::{Digest, Hasher, Segment};

use crate::content::{ContentReader, Inflater};
use crate::install::Source;
use crate::plan::{File, LayerPlan, Node, Step};
use crate::record::{RecordHash, RecordHasher, cut};
use crate::sha::Sha256;
use crate::wheel::WheelBlob;
use crate::zip::ZipEntry;
use crate::{Error, Unpack};

/// Bytes are handed on in pieces of this size: they stay in a core's cache.
const CHUNK: usize = 256 << 10;
/// How many pieces may wait between two threads.
const DEPTH: usize = 8;
/// Files from this size on are worth a second thread.
const LARGE: u64 = 2 << 20;
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
    let mut tasks: Vec<(u64, Task)> = (0..jobs.len())
        .flat_map(|job| {
            let plan = jobs[job].plan;
            let digest = plan.assembly().len() / DIGEST_SHARE;
            [(plan.unpacked(), Task::Unpack(job)), (digest, Task::Digest(job))]
        })
        .collect();
    // Popped from the end: the largest first, of equal ones the first job.
    tasks.sort_by_key(|&(cost, task)| (cost, std::cmp::Reverse(task.job())));
    let work = Work {
        jobs,
        progress,
        tasks: Mutex::new(tasks.into_iter().map(|(_, task)| task).collect()),
        results: Mutex::new(vec![Parts::default(); jobs.len()]),
        failure: Mutex::new(None),
        stop: AtomicBool::new(false),
        spare: AtomicUsize::new(0),
        chunks: Mutex::new(Vec::new()),
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
    let results = work.results.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(results.into_iter().filter_map(|parts| parts.whole()).collect())
}

#[derive(Clone, Copy)]
enum Task {
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

/// The halves of a [`Layer`], as its two tasks bring them.
#[derive(Clone, Copy, Default)]
struct Parts {
    diff_id: Option<Digest>,
    blob: Option<(Digest, u64)>,
}

impl Parts {
    fn whole(self) -> Option<Layer> {
        let (diff_id, (digest, size)) = (self.diff_id?, self.blob?);
        Some(Layer { diff_id, digest, size })
    }
}

struct Work<'a> {
    jobs: &'a [Job<'a>],
    progress: &'a dyn LayerProgress,
    tasks: Mutex<Vec<Task>>,
    results: Mutex<Vec<Parts>>,
    failure: Mutex<Option<Error>>,
    stop: AtomicBool,
    /// Threads that have found no task left and may be stood in for.
    spare: AtomicUsize,
    /// Pieces that are read and can be filled again.
    chunks: Mutex<Vec<Vec<u8>>>,
}

/// What holds no invariant is sound after a panic, too.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Work<'_> {
    fn run(&self) {
        let mut inflater = Inflater::new();
        let mut buffer = vec![0; CHUNK];
        while !self.stopped() {
            let Some(task) = lock(&self.tasks).pop() else { break };
            if let Err(error) = self.task(task, &mut inflater, &mut buffer) {
                self.stop.store(true, Ordering::Relaxed);
                lock(&self.failure).get_or_insert(error);
            }
        }
        self.spare.fetch_add(1, Ordering::Relaxed);
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn task(&self, task: Task, inflater: &mut Inflater, buffer: &mut [u8]) -> Result<(), Error> {
        let job = task.job();
        let Job { plan, unpack } = self.jobs[job];
        match task {
            Task::Unpack(_) => {
                let mut pass = Pass { work: self, unpack, inflater, buffer, diff: Sha256::new() };
                plan.walk(|step| pass.step(step))?;
                let diff_id = pass.diff.finish();
                self.result(job, |parts| parts.diff_id = Some(diff_id))
            }
            Task::Digest(_) => {
                let digest = self.digest(plan, buffer)?;
                self.result(job, |parts| parts.blob = Some((digest, plan.assembly().len())))
            }
        }
    }

    /// Notes one half of a result; with the second the layer is finished.
    fn result(&self, job: usize, note: impl FnOnce(&mut Parts)) -> Result<(), Error> {
        let parts = {
            let mut results = lock(&self.results);
            note(&mut results[job]);
            results[job]
        };
        match parts.whole() {
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

    /// Stands in for up to `most` threads that have nothing to do.
    fn borrow(&self, most: usize) -> Borrowed<'_> {
        let mut got = 0;
        let _ = self.spare.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |spare| {
            got = spare.min(most);
            Some(spare - got)
        });
        Borrowed { spare: &self.spare, count: got }
    }

    /// An empty piece of memory.
    fn chunk(&self) -> Vec<u8> {
        lock(&self.chunks).pop().unwrap_or_else(|| vec![0; CHUNK])
    }

    /// Hands every piece to `each`, and its memory back. After an error the rest is dropped.
    fn drain(
        &self,
        pieces: Receiver<Arc<(Vec<u8>, usize)>>,
        mut each: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for piece in pieces {
            each(&piece.0[..piece.1])?;
            if let Some((memory, _)) = Arc::into_inner(piece) {
                lock(&self.chunks).push(memory);
            }
        }
        Ok(())
    }
}

/// Gives the threads back, whatever happens.
struct Borrowed<'a> {
    spare: &'a AtomicUsize,
    count: usize,
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        self.spare.fetch_add(self.count, Ordering::Relaxed);
    }
}

/// One layer being unpacked.
struct Pass<'a> {
    work: &'a Work<'a>,
    unpack: Option<&'a dyn Unpack>,
    inflater: &'a mut Inflater,
    buffer: &'a mut [u8],
    diff: Sha256,
}

impl Pass<'_> {
    fn step(&mut self, step: Step<'_>) -> Result<(), Error> {
        match step {
            Step::Entry(node) => self.entry(node),
            Step::Frame(bytes) => {
                self.diff.update(bytes);
                Ok(())
            }
            Step::Content(node, file) => {
                let check = Check::begin(self.unpack, node, file)?;
                match &file.source {
                    Source::Bytes(bytes) => {
                        self.diff.update(bytes);
                        check.whole(bytes)?;
                    }
                    Source::Wheel(wheel, entry) => self.content(wheel, entry, check)?,
                }
                self.work.progress.unpacked(file.size);
                Ok(())
            }
        }
    }

    /// What stands in the tree without content.
    fn entry(&self, node: &Node) -> Result<(), Error> {
        match (&node.file, self.unpack) {
            (None, Some(unpack)) => unpack
                .directory(&node.path, &node.meta)
                .map_err(|source| Error::Unpack { path: cut(&node.path), source }),
            (Some(file), _) if file.size == 0 => {
                let check = Check::begin(self.unpack, node, file)?;
                match &file.source {
                    Source::Bytes(bytes) => check.whole(bytes),
                    Source::Wheel(wheel, entry) => check.finish(wheel, entry),
                }
            }
            _ => Ok(()),
        }
    }

    fn content(
        &mut self,
        wheel: &WheelBlob,
        entry: &ZipEntry,
        check: Check<'_>,
    ) -> Result<(), Error> {
        let mut pieces = Pieces { reader: self.inflater.open(&*wheel.source, entry), wheel, entry };
        let most = if entry.size >= LARGE { 2 } else { 0 };
        let lent = self.work.borrow(most);
        if lent.count > 0 {
            return piped(self.work, &mut self.diff, pieces, check, lent.count);
        }
        let mut check = check;
        loop {
            let n = pieces.next(self.buffer)?;
            check.update_both(&mut self.diff, &self.buffer[..n])?;
            if n < self.buffer.len() || self.work.stopped() {
                break;
            }
        }
        if self.work.stopped() { Ok(()) } else { check.finish(wheel, entry) }
    }
}

/// Inflates here, digests and writes on one or two other threads.
fn piped(
    work: &Work<'_>,
    diff: &mut Sha256,
    mut pieces: Pieces<'_>,
    mut check: Check<'_>,
    helpers: usize,
) -> Result<(), Error> {
    let (wheel, entry) = (pieces.wheel, pieces.entry);
    thread::scope(|scope| {
        let (to_check, checked) = sync_channel(DEPTH);
        let mut to_diff = None;
        let checker = if helpers == 1 {
            scope.spawn(move || {
                work.drain(checked, |bytes| check.update_both(diff, bytes)).map(|()| check)
            })
        } else {
            let (sender, digested) = sync_channel(DEPTH);
            to_diff = Some(sender);
            scope.spawn(move || {
                work.drain(digested, |bytes| {
                    diff.update(bytes);
                    Ok(())
                })
            });
            scope.spawn(move || work.drain(checked, |bytes| check.update(bytes)).map(|()| check))
        };
        let inflated = loop {
            let mut memory = work.chunk();
            let n = match pieces.next(&mut memory) {
                Ok(n) => n,
                Err(error) => break Err(error),
            };
            let last = n < memory.len() || work.stopped();
            let piece = Arc::new((memory, n));
            if let Some(to_diff) = &to_diff {
                // The other end takes everything until this one is dropped.
                let _ = to_diff.send(piece.clone());
            }
            // A closed channel means that the checker failed: its error is returned below.
            if to_check.send(piece).is_err() || last {
                break Ok(());
            }
        };
        drop((to_check, to_diff));
        let check = match checker.join() {
            Ok(check) => check?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        inflated?;
        if work.stopped() { Ok(()) } else { check.finish(wheel, entry) }
    })
}

/// Reads an entry and knows how to name it when that fails.
struct Pieces<'a> {
    reader: ContentReader<'a>,
    wheel: &'a WheelBlob,
    entry: &'a ZipEntry,
}

impl Pieces<'_> {
    fn next(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        self.reader.fill(buffer).map_err(|fault| Error::Content {
            wheel: self.wheel.file_name.clone(),
            entry: cut(&self.entry.name),
            offset: self.entry.data,
            fault,
        })
    }
}

/// What is done with a file's bytes beside the DiffID: RECORD is compared, the tree filled.
struct Check<'a> {
    path: &'a str,
    listed: Option<(&'a RecordHash, RecordHasher)>,
    writer: Option<Box<dyn Write + Send + 'a>>,
}

impl<'a> Check<'a> {
    fn begin(
        unpack: Option<&'a dyn Unpack>,
        node: &'a Node,
        file: &'a File,
    ) -> Result<Self, Error> {
        let path = node.path.as_str();
        let writer = unpack
            .map(|unpack| unpack.file(path, &node.meta, file.size))
            .transpose()
            .map_err(|source| Error::Unpack { path: cut(path), source })?;
        Ok(Self { path, listed: file.hash.as_ref().map(|hash| (hash, hash.hasher())), writer })
    }

    fn update(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if let Some((_, hasher)) = &mut self.listed {
            hasher.update(bytes);
        }
        self.write(bytes)
    }

    /// Takes the next bytes for itself and for the DiffID.
    fn update_both(&mut self, diff: &mut Sha256, bytes: &[u8]) -> Result<(), Error> {
        match &mut self.listed {
            Some((_, hasher)) => hasher.update_both(diff, bytes),
            None => diff.update(bytes),
        }
        self.write(bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        writer.write_all(bytes).map_err(|source| Error::Unpack { path: cut(self.path), source })
    }

    /// Content that was made here needs no comparison.
    fn whole(mut self, bytes: &[u8]) -> Result<(), Error> {
        self.write(bytes)?;
        self.close()
    }

    fn finish(mut self, wheel: &WheelBlob, entry: &ZipEntry) -> Result<(), Error> {
        if let Some((listed, hasher)) = self.listed.take() {
            let real = hasher.finish();
            if real != *listed {
                return Err(Error::Hash {
                    wheel: wheel.file_name.clone(),
                    entry: cut(&entry.name),
                    real: real.to_string(),
                    listed: listed.to_string(),
                });
            }
        }
        self.close()
    }

    fn close(mut self) -> Result<(), Error> {
        let Some(mut writer) = self.writer.take() else { return Ok(()) };
        writer.flush().map_err(|source| Error::Unpack { path: cut(self.path), source })
    }
}
