//! The headers of GPU code, caught while a file is written.
//!
//! A wheel's libraries pass by once when its layer is made. Containers are 8-aligned and say how
//! long their entries are, so their headers can be caught without knowing the file's sections; the
//! section headers, which stand at the end, say afterwards which of them count. What is caught is a
//! [`Skeleton`] with zeros in its holes, and [`crate::scan::gpu_code`] reads it like the file.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use crate::Error;
use crate::fatbin::{self, CONCAT, CONTAINER, ENTRY, MAGIC, MAX_HEADER, Samples};
use crate::names;
use crate::read::{Fields, ReadAt};
use crate::skeleton::{Holes, Skeleton};

/// ELF and program headers.
const HEAD: u64 = 4096;
/// The names of sections stand this near before the section headers (at most 4 KiB in the libraries
/// of torch 2.1 to 2.15 and of CUDA 11 to 13 that have GPU code).
const NAMES: u64 = 64 << 10;
const SECTION: u64 = 64;
/// No more is kept of one file, bytes; all files of torch 2.15.0's set together need 7 MB.
const MAX_KEPT: usize = 64 << 20;

/// What comes next in the stream.
enum State {
    /// Nothing of interest will come.
    Done,
    /// So many bytes are of no interest.
    Skip { left: u64, then: Then },
    /// A container may start at any multiple of 8.
    Scan,
    /// So many bytes are collected first.
    Gather { wanted: usize, what: What },
}

#[derive(Clone, Copy)]
enum Then {
    Scan,
    Entry { stop: u64 },
}

#[derive(Clone, Copy)]
enum What {
    FileHead,
    Word,
    Container,
    Entry { stop: u64 },
    Concat { stop: u64 },
}

/// Catches the headers of one file. Bytes are given to [`Sieve::push`] in order.
pub struct Sieve {
    size: u64,
    at: u64,
    state: State,
    gathered: Vec<u8>,
    /// Windows that are kept whatever is in them: the start, the section headers.
    windows: Vec<(u64, u64)>,
    parts: Vec<(u64, Vec<u8>)>,
    kept: usize,
    dropped: bool,
    containers: u64,
    samples: Samples,
    /// The samples' payloads by where they start, each as far as it has passed.
    payloads: BTreeMap<u64, Vec<u8>>,
    /// Of what is called like a module of Python: whether a name by which one is imported has passed by.
    hook: Option<Hook>,
}

/// Looks for the names of the functions that make a library a module of Python.
#[derive(Default)]
struct Hook {
    seen: bool,
    /// The last bytes that passed by, one fewer than the longest name has.
    last: Vec<u8>,
}

impl Hook {
    fn push(&mut self, bytes: &[u8]) {
        let longest = names::HOOKS.iter().map(|hook| hook.len()).max().unwrap_or(0);
        let has = |bytes: &[u8]| {
            names::HOOKS.iter().any(|hook| memchr::memmem::find(bytes, hook.as_bytes()).is_some())
        };
        let seam = [&self.last, &bytes[..bytes.len().min(longest)]].concat();
        self.seen = self.seen || has(&seam) || has(bytes);
        let all = [&self.last, &bytes[bytes.len().saturating_sub(longest)..]].concat();
        self.last = all[all.len().saturating_sub(longest - 1)..].to_vec();
    }
}

/// What was caught of a file with GPU code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caught {
    /// The file's size, bytes.
    pub size: u64,
    /// Offset and length of each part, in order and apart from each other.
    pub parts: Vec<(u64, u64)>,
    /// The bytes of the parts, one after the other.
    pub bytes: Vec<u8>,
    /// Whether it is called like a module of Python and can't be imported as one: [`crate::scan::Library::by_name`].
    pub by_name: bool,
}

impl Caught {
    /// The file as far as it was caught.
    pub fn skeleton(&self) -> Skeleton {
        let kept = Arc::new(self.bytes.clone()) as Arc<dyn ReadAt>;
        Skeleton::new(self.size, self.parts.iter().copied(), kept, 0, Holes::Zeros)
    }

    /// Adds it to `out`: size, number of parts, 1 for what is no module, the parts, the bytes; numbers as `u64`,
    /// little-endian.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut number = |n: u64| out.extend_from_slice(&n.to_le_bytes());
        number(self.size);
        number(self.parts.len() as u64);
        number(u64::from(self.by_name));
        for (offset, len) in &self.parts {
            number(*offset);
            number(*len);
        }
        out.extend_from_slice(&self.bytes);
    }

    /// Takes one from the start of `rest`; `None` for bytes that [`Caught::write`] did not write.
    pub fn read(rest: &mut &[u8]) -> Option<Self> {
        let mut number = || {
            let (head, tail) = rest.split_first_chunk::<8>()?;
            *rest = tail;
            Some(u64::from_le_bytes(*head))
        };
        let (size, count) = (number()?, number()?);
        let by_name = match number()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let mut parts = Vec::new();
        let (mut end, mut total) = (0, 0u64);
        for _ in 0..count {
            let (offset, len) = (number()?, number()?);
            (offset >= end).then_some(())?;
            end = offset.checked_add(len).filter(|end| *end <= size)?;
            total = total.checked_add(len)?;
            parts.push((offset, len));
        }
        let (bytes, tail) = rest.split_at_checked(usize::try_from(total).ok()?)?;
        *rest = tail;
        Some(Self { size, parts, bytes: bytes.to_vec(), by_name })
    }
}

impl Sieve {
    /// For a file of `size` bytes.
    pub fn new(size: u64) -> Self {
        let wanted = SECTION.min(size) as usize;
        Self {
            size,
            at: 0,
            state: State::Gather { wanted, what: What::FileHead },
            gathered: Vec::new(),
            windows: vec![(0, HEAD)],
            parts: Vec::new(),
            kept: 0,
            dropped: false,
            containers: 0,
            samples: Samples::default(),
            payloads: BTreeMap::new(),
            hook: None,
        }
    }

    /// For the file of this path: its name says whether it may be a module of Python.
    #[must_use]
    pub fn called(mut self, path: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or(path);
        self.hook = names::has_tag(name).then(Hook::default);
        self
    }

    /// Takes the next bytes of the file.
    pub fn push(&mut self, bytes: &[u8]) {
        if let Some(hook) = self.hook.as_mut().filter(|hook| !hook.seen) {
            hook.push(bytes);
        }
        if matches!(self.state, State::Done) {
            return;
        }
        let (start, end) = (self.at, self.at + bytes.len() as u64);
        self.feed(bytes);
        for at in 0..self.windows.len() {
            let (from, to) = self.windows[at];
            let (from, to) = (from.clamp(start, end), to.clamp(start, end));
            self.keep(from, &bytes[(from - start) as usize..(to - start) as usize]);
        }
        let mut before = mem::take(&mut self.payloads);
        for range in self.samples.ranges() {
            // Two samples may be one entry.
            if self.payloads.contains_key(&range.start) {
                continue;
            }
            let (from, to) = (range.start.clamp(start, end), range.end.clamp(start, end));
            let mut payload = before.remove(&range.start).unwrap_or_default();
            payload.extend_from_slice(&bytes[(from - start) as usize..(to - start) as usize]);
            self.payloads.insert(range.start, payload);
        }
    }

    fn keep(&mut self, at: u64, piece: &[u8]) {
        self.dropped |= self.kept + piece.len() > MAX_KEPT;
        if piece.is_empty() || self.dropped {
            return;
        }
        self.kept += piece.len();
        match self.parts.last_mut() {
            Some((start, bytes)) if *start + bytes.len() as u64 == at => bytes.extend(piece),
            _ => self.parts.push((at, piece.to_vec())),
        }
    }

    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = match &mut self.state {
                State::Done => bytes.len(),
                State::Skip { left, then } => {
                    let n = (*left).min(bytes.len() as u64);
                    *left -= n;
                    if *left == 0 {
                        self.state = match *then {
                            Then::Scan => State::Scan,
                            Then::Entry { stop } => self.entry_at(self.at + n, stop),
                        };
                    }
                    n as usize
                }
                State::Gather { wanted, what } => {
                    let n = (*wanted - self.gathered.len()).min(bytes.len());
                    self.gathered.extend_from_slice(&bytes[..n]);
                    if self.gathered.len() == *wanted {
                        let what = *what;
                        let head = mem::take(&mut self.gathered);
                        self.at += n as u64;
                        bytes = &bytes[n..];
                        self.state = State::Scan;
                        self.collected(what, &head);
                        continue;
                    }
                    n
                }
                State::Scan => self.scan(bytes),
            };
            self.at += taken as u64;
            bytes = &bytes[taken..];
        }
    }

    /// Looks for a container's magic in whole words; says how much was looked at.
    fn scan(&mut self, bytes: &[u8]) -> usize {
        let skew = (self.at.next_multiple_of(8) - self.at) as usize;
        if skew > 0 {
            return skew.min(bytes.len());
        }
        let magic = MAGIC.to_le_bytes();
        let found = bytes.chunks_exact(8).position(|word| word[..4] == magic);
        let whole = bytes.len() / 8 * 8;
        let taken = found.map_or(whole, |words| words * 8);
        if found.is_some() || taken < bytes.len() {
            let wanted = if found.is_some() { CONTAINER as usize } else { 8 };
            let what = if found.is_some() { What::Container } else { What::Word };
            self.state = State::Gather { wanted, what };
        }
        taken
    }

    /// Something was collected; it ends at `self.at`.
    fn collected(&mut self, what: What, head: &[u8]) {
        let start = self.at - head.len() as u64;
        let fields = Fields(head);
        match what {
            What::FileHead => self.file(head),
            What::Word if fields.u32(0) == MAGIC => {
                self.gathered = head.to_vec();
                self.state = State::Gather { wanted: CONTAINER as usize, what: What::Container };
            }
            What::Word => {}
            What::Container => {
                let (version, header, size) =
                    (fields.u16(4), u64::from(fields.u16(6)), fields.u64(8));
                self.keep(start, head);
                if version != 1 || header < CONTAINER {
                    return self.back(start + 8, &head[8..]);
                }
                self.containers += 1;
                let stop = (start + header).saturating_add(size).min(self.size);
                self.skip(header - CONTAINER, Then::Entry { stop });
            }
            What::Entry { stop } => {
                self.keep(start, head);
                let (header, padded) = (u64::from(fields.u32(4)), fields.u64(8));
                let next = start.checked_add(header).and_then(|at| at.checked_add(padded));
                let Some(next) = next.filter(|next| *next <= stop && header >= ENTRY) else {
                    return self.back(start, head);
                };
                if fields.u16(0) == CONCAT && (ENTRY..=MAX_HEADER).contains(&header) {
                    self.gathered = head.to_vec();
                    let what = What::Concat { stop };
                    // Never the same length again: a concat entry's header is longer.
                    if header > ENTRY {
                        self.state = State::Gather { wanted: header as usize, what };
                        return;
                    }
                    self.gathered.clear();
                } else {
                    self.samples.add(fatbin::entry(fields, start + header, header + padded));
                }
                self.skip(next - self.at, Then::Entry { stop });
            }
            What::Concat { stop } => {
                self.keep(start + ENTRY, &head[ENTRY as usize..]);
                let next = start + u64::from(fields.u32(4)) + fields.u64(8);
                self.skip(next - self.at, Then::Entry { stop });
            }
        }
    }

    /// The first bytes: is there GPU code to be expected, and where are the section headers?
    fn file(&mut self, head: &[u8]) {
        let fields = Fields(head);
        if fields.u32(0) == MAGIC {
            return self.back(0, head);
        }
        if !head.starts_with(b"\x7fELF\x02\x01\x01") {
            self.windows.clear();
            self.state = State::Done;
            return;
        }
        let (sections, count) = (fields.u64(40), u64::from(fields.u16(60)));
        let start = sections.saturating_sub(NAMES);
        self.windows.push((start, sections.saturating_add(count * SECTION)));
    }

    /// Looks again at bytes that were taken for something else, from `at` on.
    fn back(&mut self, at: u64, bytes: &[u8]) {
        self.at = at;
        self.state = State::Scan;
        // Of an entry's 64 bytes no container with an entry can be collected: this ends.
        self.feed(bytes);
    }

    fn skip(&mut self, left: u64, then: Then) {
        self.state = match (left, then) {
            (0, Then::Scan) => State::Scan,
            (0, Then::Entry { stop }) => self.entry_at(self.at, stop),
            (left, then) => State::Skip { left, then },
        };
    }

    /// What to do at `at`, where an entry of a container that ends at `stop` may start.
    fn entry_at(&self, at: u64, stop: u64) -> State {
        match stop.saturating_sub(at) {
            left if left >= ENTRY => {
                State::Gather { wanted: ENTRY as usize, what: What::Entry { stop } }
            }
            0 => State::Scan,
            left => State::Skip { left, then: Then::Scan },
        }
    }

    /// What was caught; nothing of a file without GPU code.
    ///
    /// # Errors
    /// [`Error::Malformed`] when so many headers are in it that not all could be kept.
    pub fn finish(self, name: &str) -> Result<Option<Caught>, Error> {
        let bare = self.parts.first().is_some_and(|(_, head)| {
            Fields(head).u16(18) == crate::elf::EM_CUDA && head.starts_with(b"\x7fELF")
        });
        if self.containers == 0 && !bare {
            return Ok(None);
        }
        if self.dropped {
            return Err(Error::Malformed {
                file: name.to_owned(),
                offset: 0,
                what: "GPU code",
                why: format!("its headers take more than {MAX_KEPT} bytes"),
            });
        }
        let mut all = self.parts;
        all.extend(self.payloads);
        all.sort_by_key(|(at, bytes)| (*at, bytes.len()));
        let by_name = self.hook.is_some_and(|hook| !hook.seen);
        let mut caught = Caught { size: self.size, parts: Vec::new(), bytes: Vec::new(), by_name };
        let mut end = 0;
        for (at, bytes) in all {
            let known = end.max(at) - at;
            let Some(new) = bytes.get(known as usize..).filter(|new| !new.is_empty()) else {
                continue;
            };
            let (at, len) = (at + known, new.len() as u64);
            match caught.parts.last_mut() {
                Some((_, last)) if end == at => *last += len,
                _ => caught.parts.push((at, len)),
            }
            caught.bytes.extend_from_slice(new);
            end = at + len;
        }
        Ok(Some(caught))
    }
}

#[cfg(test)]
mod tests;
