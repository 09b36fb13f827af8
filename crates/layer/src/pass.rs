//! One layer's only pass: its files to DiffID, RECORD and tree.

use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;

use sconce_blob::Digest;

use crate::ahead::Ahead;
use crate::assemble::Work;
use crate::content::{ContentReader, Inflater};
use crate::install::Source;
use crate::plan::{File, LayerPlan, Node, Step};
use crate::record::{RecordHash, RecordHasher, cut};
use crate::sha::Sha256;
use crate::slots::{Granted, Lent};
use crate::wheel::WheelBlob;
use crate::zip::ZipEntry;
use crate::{Error, Unpack};

/// How many pieces may wait between two threads.
pub(crate) const DEPTH: usize = 8;
/// After so many pieces (32 MiB) threads that were lent are free for others.
pub(crate) const SEGMENT: usize = 128;
/// Files from this size on are worth a second thread.
pub(crate) const LARGE: u64 = 2 << 20;

/// Unpacks the layer, and gives its DiffID and the length of its tar.
pub(crate) fn unpack(
    work: &Work<'_>,
    granted: &Granted<'_>,
    plan: &LayerPlan,
    unpack: Option<&dyn Unpack>,
    inflater: &mut Inflater,
    buffer: &mut [u8],
) -> Result<(Digest, u64), Error> {
    if let Some(unpack) = unpack {
        for Node { path, meta, file } in &plan.nodes {
            if file.is_none() {
                unpack
                    .directory(path, meta)
                    .map_err(|source| Error::Unpack { path: cut(path), source })?;
            }
        }
    }
    thread::scope(|scope| {
        let ahead = Ahead::new(scope, work, granted, plan, unpack);
        let mut pass = Pass { work, granted, unpack, inflater, buffer, diff: Sha256::new(), ahead };
        plan.walk(|step| pass.step(step))?;
        let len = pass.diff.len();
        Ok((pass.diff.finish(), len))
    })
}

/// One layer being unpacked.
struct Pass<'a, 'scope, 'env> {
    work: &'a Work<'a>,
    granted: &'a Granted<'a>,
    unpack: Option<&'a dyn Unpack>,
    inflater: &'a mut Inflater,
    buffer: &'a mut [u8],
    diff: Sha256,
    ahead: Ahead<'scope, 'env>,
}

impl Pass<'_, '_, '_> {
    fn step(&mut self, step: Step<'_>) -> Result<(), Error> {
        match step {
            Step::Entry(node) => match &node.file {
                Some(file) if file.size == 0 => self.empty(node, file),
                _ => Ok(()),
            },
            Step::Frame(bytes) => {
                self.diff.update(bytes);
                Ok(())
            }
            Step::Content(node, file) => {
                match &file.source {
                    Source::Bytes(bytes) => {
                        self.diff.update(bytes);
                        Check::begin(self.unpack, node, file)?.whole(bytes)?;
                    }
                    Source::Wheel(wheel, entry) => self.content(node, file, wheel, entry)?,
                }
                self.work.progress.unpacked(file.size);
                Ok(())
            }
        }
    }

    /// A file that the tar has no content of.
    fn empty(&self, node: &Node, file: &File) -> Result<(), Error> {
        let check = Check::begin(self.unpack, node, file)?;
        match &file.source {
            Source::Bytes(bytes) => check.whole(bytes),
            Source::Wheel(wheel, entry) => check.finish(wheel, entry),
        }
    }

    fn content(
        &mut self,
        node: &Node,
        file: &File,
        wheel: &WheelBlob,
        entry: &ZipEntry,
    ) -> Result<(), Error> {
        let large = entry.size >= LARGE;
        if large && let Some(begun) = self.ahead.turn() {
            let diff = &mut self.diff;
            return self.ahead.read(begun, |bytes| diff.update(bytes));
        }
        let mut check = Check::begin(self.unpack, node, file)?;
        let mut pieces = Pieces { reader: self.inflater.open(&*wheel.source, entry), wheel, entry };
        loop {
            let last = match if large { self.granted.lend() } else { None } {
                None => {
                    let n = pieces.next(self.buffer)?;
                    check.update_both(&mut self.diff, &self.buffer[..n])?;
                    n < self.buffer.len()
                }
                Some(helper) => {
                    let helpers = (helper, self.granted.lend());
                    let (work, diff) = (self.work, &mut self.diff);
                    piped(work, diff, &mut pieces, &mut check, &helpers, &mut self.ahead)?
                }
            };
            if self.work.stopped() {
                return Ok(());
            }
            if last {
                return check.finish(wheel, entry);
            }
            self.ahead.look();
        }
    }
}

/// Inflates the next pieces here, digests and writes them on one or two other threads: whether the
/// end was reached.
fn piped(
    work: &Work<'_>,
    diff: &mut Sha256,
    pieces: &mut Pieces<'_>,
    check: &mut Check<'_>,
    helpers: &(Lent<'_>, Option<Lent<'_>>),
    ahead: &mut Ahead<'_, '_>,
) -> Result<bool, Error> {
    let memory = &work.memory;
    thread::scope(|scope| {
        let (to_check, checked) = sync_channel(DEPTH);
        let mut to_diff = None;
        let checker = if helpers.1.is_none() {
            scope.spawn(|| memory.drain(checked, |bytes| check.update_both(diff, bytes)))
        } else {
            let (sender, digested) = sync_channel(DEPTH);
            to_diff = Some(sender);
            scope.spawn(|| {
                memory.drain(digested, |bytes| {
                    diff.update(bytes);
                    Ok(())
                })
            });
            scope.spawn(|| memory.drain(checked, |bytes| check.update(bytes)))
        };
        let mut inflate = || {
            for _ in 0..SEGMENT {
                let mut bytes = memory.empty();
                let n = pieces.next(&mut bytes)?;
                let last = n < bytes.len();
                let piece = Arc::new((bytes, n));
                if let Some(to_diff) = &to_diff {
                    // The other end takes everything until this one is dropped.
                    let _ = to_diff.send(piece.clone());
                }
                // A closed channel means that the checker failed: its error is returned below.
                if to_check.send(piece).is_err() || last || work.stopped() {
                    return Ok(last);
                }
                ahead.look();
            }
            Ok(false)
        };
        let last = inflate();
        drop((to_check, to_diff));
        checker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        last
    })
}

/// Reads an entry and knows how to name it when that fails.
pub(crate) struct Pieces<'a> {
    pub(crate) reader: ContentReader<'a>,
    pub(crate) wheel: &'a WheelBlob,
    pub(crate) entry: &'a ZipEntry,
}

impl Pieces<'_> {
    pub(crate) fn next(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        self.reader.fill(buffer).map_err(|fault| Error::Content {
            wheel: self.wheel.file_name.clone(),
            entry: cut(&self.entry.name),
            offset: self.entry.data,
            fault,
        })
    }
}

/// What is done with a file's bytes beside the DiffID: RECORD is compared, the tree filled.
pub(crate) struct Check<'a> {
    path: &'a str,
    listed: Option<(&'a RecordHash, RecordHasher)>,
    writer: Option<Box<dyn Write + Send + 'a>>,
}

impl<'a> Check<'a> {
    pub(crate) fn begin(
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

    pub(crate) fn update(&mut self, bytes: &[u8]) -> Result<(), Error> {
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

    pub(crate) fn finish(mut self, wheel: &WheelBlob, entry: &ZipEntry) -> Result<(), Error> {
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
