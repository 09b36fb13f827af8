//! Recordings: samples as lines of JSON, compressed with gzip (`docs/format/recording.md`).
//!
//! The first line says what it is and of which version. Each line is flushed: what a killed recorder leaves is read up to the
//! tear. Values that do not change are not written again.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use crate::metric::Values;
use crate::sample::Sample;

/// The version that is written, and the newest that is read.
pub const VERSION: u32 = 1;
/// The longest line: 16 GPUs with 7 instances and 200 processes each have 3 MB.
const LONGEST: u64 = 16 << 20;
/// The most samples that are read.
const MOST: usize = 4_000_000;

#[derive(Serialize, Deserialize)]
struct Head {
    sconce_recording: u32,
    #[serde(default)]
    host: String,
}

/// Why a recording can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It has no such beginning.
    #[error("this is no recording of `sconce monitor`")]
    NotOne,
    /// It is of a later version.
    #[error("this recording is of version {found}; this sconce reads up to {VERSION}")]
    Newer {
        /// Which.
        found: u32,
    },
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What is wrong with a recording, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the recording {fault}")]
pub struct Damage {
    /// The line's number; the head is line 1.
    pub line: usize,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is whole, and no sample.
    #[error("is no sample")]
    NoSample,
    /// Another recording begins there.
    #[error("is the head of another recording")]
    AnotherHead,
    /// It has no end within what a line may have.
    #[error("is longer than {} MiB", LONGEST >> 20)]
    TooLong,
    /// It can't be unpacked, or all before it does not have the checksum that stands there.
    #[error("can't be unpacked: {0}")]
    Packed(String),
    /// There are more lines than are read.
    #[error("is one too many: {MOST} samples are read")]
    TooMany,
}

impl Damage {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self.fault {
            Fault::NoSample => {
                "it was changed since it was written: take another copy of it; what comes before that line holds"
            }
            Fault::AnotherHead => {
                "two recordings were joined: each by itself can be read; what comes before that line holds"
            }
            Fault::Packed(_) => {
                "it was changed since it was written, and lines before may have been as well: take another copy of it"
            }
            Fault::TooLong | Fault::TooMany => "what comes before that line holds",
        }
    }
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Newer { .. } => {
                Some("read it with the sconce that made it, or a later one".to_owned())
            }
            Self::NotOne => Some("`sconce monitor --record FILE` makes one".to_owned()),
            Self::Io(_) => None,
        }
    }
}

/// Writes one.
pub struct Recorder<W: Write> {
    out: GzEncoder<Counted<W>>,
    last: Sample,
    limit: u64,
}

struct Counted<W> {
    inner: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W: Write> Recorder<W> {
    /// Begins one that has at most about `limit` bytes.
    ///
    /// # Errors
    /// What writing meets.
    pub fn new(inner: W, host: &str, limit: u64) -> Result<Self, Error> {
        let mut out = GzEncoder::new(Counted { inner, bytes: 0 }, Compression::new(6));
        let head = Head { sconce_recording: VERSION, host: host.to_owned() };
        serde_json::to_writer(&mut out, &head).map_err(io::Error::from)?;
        out.write_all(b"\n")?;
        out.flush()?;
        Ok(Self { out, last: Sample::default(), limit })
    }

    /// Writes a sample; false once the recording is as large as it may be.
    ///
    /// # Errors
    /// What writing meets.
    pub fn push(&mut self, sample: &Sample) -> Result<bool, Error> {
        if self.out.get_ref().bytes >= self.limit {
            return Ok(false);
        }
        let short = shortened(sample, &self.last);
        serde_json::to_writer(&mut self.out, &short).map_err(io::Error::from)?;
        self.out.write_all(b"\n")?;
        self.out.flush()?;
        self.last = sample.clone();
        Ok(true)
    }

    /// Ends it.
    ///
    /// # Errors
    /// What writing meets.
    pub fn finish(self) -> Result<W, Error> {
        Ok(self.out.finish()?.inner)
    }
}

/// A line: what is as it was is left out.
#[derive(Serialize, Deserialize)]
struct Line {
    /// The sample's own, which no sample lacks.
    #[serde(skip_serializing)]
    at_ms: u64,
    #[serde(flatten)]
    sample: Sample,
    /// For GPUs that keep values of before: those, by UUID, that are gone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    gone: BTreeMap<String, Vec<String>>,
    /// GPUs whose model and processes are as before, by UUID.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    same: Vec<String>,
    /// The ports are as before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    same_ports: bool,
}

fn shortened(sample: &Sample, last: &Sample) -> Line {
    let same_ports = !sample.ports.is_empty() && sample.ports == last.ports;
    let (gone, same) = (BTreeMap::new(), Vec::new());
    let mut line = Line { at_ms: sample.at_ms, sample: sample.clone(), gone, same, same_ports };
    if same_ports {
        line.sample.ports.clear();
    }
    for gpu in &mut line.sample.gpus {
        let Some(old) = last.gpus.iter().find(|old| old.uuid == gpu.uuid) else { continue };
        let mut gone = Vec::new();
        for (metric, value) in old.values.known() {
            match gpu.values.get(metric) {
                None => gone.push(metric.key().to_owned()),
                Some(now) if now == value => gpu.values.set(metric, None),
                Some(_) => {}
            }
        }
        if !gone.is_empty() {
            line.gone.insert(gpu.uuid.clone(), gone);
        }
        if (&gpu.model, &gpu.bus_id, gpu.minor, &gpu.processes)
            == (&old.model, &old.bus_id, old.minor, &old.processes)
        {
            line.same.push(gpu.uuid.clone());
            gpu.model.clear();
            gpu.bus_id.clear();
            gpu.minor = None;
            gpu.processes = None;
        }
    }
    line
}

fn whole(line: Line, last: &Sample) -> Sample {
    let Line { at_ms, mut sample, gone, same, same_ports } = line;
    sample.at_ms = at_ms;
    if same_ports {
        sample.ports.clone_from(&last.ports);
    }
    for gpu in &mut sample.gpus {
        let Some(old) = last.gpus.iter().find(|old| old.uuid == gpu.uuid) else { continue };
        let gone = gone.get(&gpu.uuid);
        let mut values = Values::default();
        for (metric, value) in old.values.known() {
            let dropped = gone.is_some_and(|gone| gone.iter().any(|key| key == metric.key()));
            values.set(metric, Some(value).filter(|_| !dropped));
        }
        for (metric, value) in gpu.values.known() {
            values.set(metric, Some(value));
        }
        gpu.values = values;
        if same.contains(&gpu.uuid) {
            gpu.model.clone_from(&old.model);
            gpu.bus_id.clone_from(&old.bus_id);
            gpu.minor = old.minor;
            gpu.processes.clone_from(&old.processes);
        }
    }
    sample
}

/// Reads one.
pub struct Replay<R: io::Read> {
    lines: BufReader<MultiGzDecoder<R>>,
    host: String,
    last: Sample,
    count: usize,
    torn: bool,
    damage: Option<Damage>,
}

impl<R: io::Read> Replay<R> {
    /// Reads its beginning.
    ///
    /// # Errors
    /// [`Error::NotOne`], [`Error::Newer`].
    pub fn open(from: R) -> Result<Self, Error> {
        let mut lines = BufReader::new(MultiGzDecoder::new(from));
        let Ok(Read::Line(line)) = line(&mut lines) else { return Err(Error::NotOne) };
        let head: Head = serde_json::from_slice(&line).map_err(|_| Error::NotOne)?;
        match head.sconce_recording {
            1..=VERSION => {
                let (host, last) = (head.host, Sample::default());
                Ok(Self { lines, host, last, count: 0, torn: false, damage: None })
            }
            0 => Err(Error::NotOne),
            found => Err(Error::Newer { found }),
        }
    }

    /// The machine that it is of; empty where it does not say.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether it ended in the middle of something.
    pub fn torn(&self) -> bool {
        self.torn
    }

    /// Where it is none of a recorder's: what comes behind is not read, since samples rest on those before them.
    pub fn damage(&self) -> Option<&Damage> {
        self.damage.as_ref()
    }

    fn broken(&mut self, fault: Fault) -> Option<Sample> {
        // The first line is the recording's head.
        self.damage = Some(Damage { line: self.count + 1, fault });
        None
    }
}

impl<R: io::Read> Iterator for Replay<R> {
    type Item = Sample;

    fn next(&mut self) -> Option<Sample> {
        if self.torn || self.damage.is_some() {
            return None;
        }
        self.count += 1;
        let line = match line(&mut self.lines) {
            Ok(Read::Line(line)) => line,
            Ok(Read::End) => return None,
            // A recorder that was killed.
            Ok(Read::Torn) => {
                self.torn = true;
                return None;
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.torn = true;
                return None;
            }
            Ok(Read::TooLong) => return self.broken(Fault::TooLong),
            Err(error) => return self.broken(Fault::Packed(error.to_string())),
        };
        if self.count > MOST {
            return self.broken(Fault::TooMany);
        }
        let Ok(line) = serde_json::from_slice::<Line>(&line) else {
            let head = serde_json::from_slice::<Head>(&line).is_ok();
            return self.broken(if head { Fault::AnotherHead } else { Fault::NoSample });
        };
        self.last = whole(line, &self.last);
        Some(self.last.clone())
    }
}

/// What a line is.
enum Read {
    /// A whole one, without its end.
    Line(Vec<u8>),
    /// The recording's end.
    End,
    /// One without an end.
    Torn,
    /// One of more bytes than any has.
    TooLong,
}

fn line(from: &mut impl BufRead) -> io::Result<Read> {
    let mut bytes = Vec::new();
    io::Read::take(&mut *from, LONGEST).read_until(b'\n', &mut bytes)?;
    let long = bytes.len() as u64 >= LONGEST;
    Ok(match bytes.pop() {
        None => Read::End,
        Some(b'\n') => Read::Line(bytes),
        Some(_) if long => Read::TooLong,
        Some(_) => Read::Torn,
    })
}
