//! What was, on disk: numbers of hours at full resolution, and their means for weeks (`docs/format/history.md`).
//!
//! A segment is a line of JSON that says what its rows hold, and rows of one length, each with a checksum. It is only
//! ever appended to: after a kill it is read up to the tear, and the next start begins another. Segments go when their
//! time is over, and the oldest when all together are too large. Whoever reads needs no lock.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use flate2::Crc;
use serde::{Deserialize, Serialize};

use crate::events::Events;
use crate::metric::Metric;
use crate::sample::Sample;

/// The version that is written, and the newest that is read.
pub const VERSION: u32 = 1;

/// What is kept of a GPU.
pub const KEPT: &[Metric] = &[
    Metric::Utilization,
    Metric::Graphics,
    Metric::SmActive,
    Metric::Tensor,
    Metric::Fp32,
    Metric::Dram,
    Metric::MemoryUsed,
    Metric::Power,
    Metric::Temperature,
    Metric::MemoryTemperature,
    Metric::SmClock,
    Metric::NvlinkTx,
    Metric::NvlinkRx,
    Metric::PcieTx,
    Metric::PcieRx,
];

/// A resolution, how many rows a segment has, and how long they are kept.
struct Tier {
    name: &'static str,
    /// Milliseconds of which a row is the mean; 0 for each sample as it is.
    every: u64,
    rows: u64,
    keep: u64,
}

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

/// Finest first. Eight GPUs have rows of 492 bytes: 11, 21 and 4 MB.
const TIERS: [Tier; 3] = [
    Tier { name: "sample", every: 0, rows: 1800, keep: 6 * HOUR },
    Tier { name: "minute", every: 60_000, rows: 1440, keep: 30 * DAY },
    Tier { name: "quarter", every: 900_000, rows: 672, keep: 90 * DAY },
];

/// Bytes of all segments together.
const LARGEST: u64 = 60 << 20;
/// Files of one tier: a monitor that is started every few seconds begins as many.
const MOST_FILES: usize = 512;
/// Bytes of a segment's first line.
const LONGEST_HEAD: u64 = 256 << 10;
/// GPUs of a segment.
const MOST_GPUS: usize = 1024;
/// Rows that one question reads.
const MOST_ROWS: u64 = 20_000;

/// A GPU, as segments name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// `GPU-…`.
    pub uuid: String,
    /// Its number then.
    pub index: u32,
    /// `NVIDIA H100 80GB HBM3`.
    #[serde(default)]
    pub model: String,
}

#[derive(Serialize, Deserialize)]
struct Head {
    sconce_history: u32,
    every_ms: u64,
    metrics: Vec<String>,
    gpus: Vec<Named>,
}

/// A GPU, and its values in the order of [`KEPT`]; NaN where there is none.
type Values = (Named, Vec<f32>);

/// Writes it.
pub struct History {
    folder: PathBuf,
    tiers: Vec<Open>,
    events: Events,
    _lock: File,
}

/// A tier, its segment, and the mean that is under way.
struct Open {
    tier: &'static Tier,
    segment: Option<Segment>,
    sums: Sums,
}

struct Segment {
    file: File,
    gpus: Vec<Named>,
    rows: u64,
    last: u64,
    /// Up to the end of the last whole row.
    bytes: u64,
}

#[derive(Default)]
struct Sums {
    slot: u64,
    gpus: BTreeMap<String, (Named, Vec<Mean>)>,
}

#[derive(Clone, Default)]
struct Mean {
    sum: f64,
    count: u32,
}

impl Mean {
    fn add(&mut self, value: f32) {
        self.sum += f64::from(value);
        self.count += 1;
    }

    fn value(&self) -> Option<f32> {
        (self.count > 0).then(|| (self.sum / f64::from(self.count)) as f32)
    }
}

/// Why there is no history.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another monitor writes there.
    #[error("another monitor writes its history into {}", .0.display())]
    Taken(PathBuf),
    /// The folder can't be used.
    #[error("{}: {source}", .folder.display())]
    Io {
        /// Which.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Taken(_) => {
                Some("`--history FOLDER` names another folder, `--no-history` none".to_owned())
            }
            Self::Io { .. } => {
                Some("`--history FOLDER` names a folder that can be written".to_owned())
            }
        }
    }
}

impl History {
    /// Opens a folder, which is made if need be.
    ///
    /// # Errors
    /// [`Error::Taken`], or what making files meets.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let fault = |source| Error::Io { folder: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(fault)?;
        let mut options = File::options();
        let lock = options.create(true).truncate(false).write(true).open(folder.join("lock"));
        let lock = lock.map_err(fault)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Taken(folder.to_owned())),
            Err(TryLockError::Error(source)) => return Err(fault(source)),
        }
        let tiers = TIERS.iter().map(|tier| Open { tier, segment: None, sums: Sums::default() });
        let (tiers, events) = (tiers.collect(), Events::new(folder));
        Ok(Self { folder: folder.to_owned(), tiers, events, _lock: lock })
    }

    /// What began and ended with a sample, and what runs, into the same folder.
    pub fn events(&mut self) -> &mut Events {
        &mut self.events
    }

    /// Takes the next sample.
    ///
    /// # Errors
    /// What writing meets; the next sample begins a new segment.
    pub fn push(&mut self, sample: &Sample) -> io::Result<()> {
        let rows: Vec<Values> = sample
            .gpus
            .iter()
            .take(MOST_GPUS)
            .filter(|gpu| gpu.lost.is_none() && gpu.age_ms < 10_000)
            .map(|gpu| {
                let (uuid, model) = (gpu.uuid.clone(), gpu.model.clone());
                let value =
                    |metric: &Metric| gpu.values.get(*metric).map_or(f32::NAN, |v| v as f32);
                (Named { uuid, index: gpu.index, model }, KEPT.iter().map(value).collect())
            })
            .collect();
        for open in &mut self.tiers {
            if open.tier.every == 0 {
                open.write(&self.folder, sample.at_ms, &rows)?;
            } else if let Some((at, means)) = open.sums.add(sample.at_ms, open.tier.every, &rows) {
                open.write(&self.folder, at, &means)?;
            }
        }
        Ok(())
    }
}

impl Sums {
    /// Adds a sample; the means of the slot before, where this one begins another.
    fn add(&mut self, at: u64, every: u64, rows: &[Values]) -> Option<(u64, Vec<Values>)> {
        let slot = at / every;
        let done = (slot != self.slot && !self.gpus.is_empty()).then(|| {
            let mean = |mean: &Mean| mean.value().unwrap_or(f32::NAN);
            let gpus = std::mem::take(&mut self.gpus).into_values();
            let means = gpus.map(|(named, sums)| (named, sums.iter().map(mean).collect()));
            (self.slot * every + every / 2, means.collect())
        });
        self.slot = slot;
        for (named, values) in rows {
            let place = self.gpus.entry(named.uuid.clone());
            let (_, sums) =
                place.or_insert_with(|| (named.clone(), vec![Mean::default(); KEPT.len()]));
            for (mean, value) in sums.iter_mut().zip(values).filter(|(_, value)| value.is_finite())
            {
                mean.add(*value);
            }
        }
        done
    }
}

impl Open {
    fn write(&mut self, folder: &Path, at: u64, rows: &[Values]) -> io::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let fits = self.segment.as_ref().is_some_and(|segment| {
            segment.rows < self.tier.rows
                && segment.last < at
                && segment.gpus.iter().eq(rows.iter().map(|(named, _)| named))
        });
        if !fits {
            self.segment = None;
            tidy(folder, at);
            self.segment = Some(Segment::begin(folder, self.tier, at, rows)?);
        }
        let Some(segment) = &mut self.segment else { return Ok(()) };
        let mut row = at.to_le_bytes().to_vec();
        row.extend(rows.iter().flat_map(|(_, values)| values.iter().flat_map(|v| v.to_le_bytes())));
        row.extend(checksum(&row).to_le_bytes());
        if let Err(error) = segment.file.write_all(&row) {
            // Half a row ends what can be read of a segment: it goes, and the next row takes its place. On a disk that is
            // full for hours each new file would be one more, and old ones go where there are too many.
            let file = &mut segment.file;
            let cut = file
                .set_len(segment.bytes)
                .and_then(|()| file.seek(SeekFrom::Start(segment.bytes)));
            if cut.is_err() {
                self.segment = None;
            }
            return Err(error);
        }
        (segment.rows, segment.last) = (segment.rows + 1, at);
        segment.bytes += row.len() as u64;
        Ok(())
    }
}

impl Segment {
    fn begin(folder: &Path, tier: &Tier, at: u64, rows: &[Values]) -> io::Result<Self> {
        let gpus: Vec<Named> = rows.iter().map(|(named, _)| named.clone()).collect();
        let metrics = KEPT.iter().map(|metric| metric.key().to_owned()).collect();
        let head =
            Head { sconce_history: VERSION, every_ms: tier.every, metrics, gpus: gpus.clone() };
        let mut line = serde_json::to_vec(&head)?;
        line.push(b'\n');
        let path = folder.join(format!("{}-{at:013}.rows", tier.name));
        // A name that is there is of the same millisecond, before the clock was set back: it goes.
        let mut file = File::create(&path)?;
        if let Err(error) = file.write_all(&line) {
            fs::remove_file(&path)?;
            return Err(error);
        }
        Ok(Self { file, gpus, rows: 0, last: 0, bytes: line.len() as u64 })
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// A segment on the disk.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    /// When its first row is of.
    begins: u64,
    path: PathBuf,
    bytes: u64,
}

/// The segments of a tier, oldest first.
fn segments(folder: &Path, tier: &Tier) -> Vec<Found> {
    let mut found: Vec<Found> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let begins = name.strip_prefix(tier.name)?.strip_prefix('-')?.strip_suffix(".rows")?;
            let (begins, bytes) = (begins.parse().ok()?, entry.metadata().ok()?.len());
            Some(Found { begins, path: entry.path(), bytes })
        })
        .collect();
    found.sort();
    found
}

/// Removes segments whose time is over, and the oldest where there are too many bytes or files.
fn tidy(folder: &Path, now: u64) {
    let mut all: Vec<Vec<Found>> = TIERS.iter().map(|tier| segments(folder, tier)).collect();
    let mut total: u64 = all.iter().flatten().map(|found| found.bytes).sum();
    // What can't be removed is tried again with the next segment.
    let remove = |list: &mut Vec<Found>| {
        let found = list.remove(0);
        let _ = fs::remove_file(found.path);
        found.bytes
    };
    for (tier, list) in TIERS.iter().zip(&mut all) {
        // A segment is over when the next has begun.
        let over = |list: &[Found]| list.get(1).is_some_and(|next| next.begins + tier.keep < now);
        while over(list) || list.len() > MOST_FILES {
            total -= remove(list);
        }
    }
    for list in &mut all {
        while list.len() > 1 && total > LARGEST {
            total -= remove(list);
        }
    }
}

/// Part of a history: each metric of each GPU at each time; absent where nothing was there.
#[derive(Debug, Default, Serialize)]
pub struct Span {
    /// Milliseconds of which each value is the mean.
    pub every_ms: u64,
    /// The GPUs that there were.
    pub gpus: Vec<Named>,
    /// Milliseconds since 1970.
    pub at_ms: Vec<u64>,
    /// By the metric's name, then GPU, then time.
    pub values: BTreeMap<&'static str, Vec<Vec<Option<f32>>>>,
}

/// The means of a time in about so many points.
pub fn read(folder: &Path, from: u64, to: u64, points: usize) -> Span {
    let (long, points) = (to.saturating_sub(from).max(1), points.clamp(2, 2000) as u64);
    let Some((tier, list)) = choose(folder, from, to) else { return Span::default() };
    let every = (long / points).max(tier.every).max(1);
    let mut sums = Slots::default();
    let mut left = MOST_ROWS;
    for (number, found) in list.iter().enumerate() {
        let ends = list.get(number + 1).map_or(u64::MAX, |next| next.begins);
        // A mean stands in the middle of its time.
        if found.begins > to || ends < from.saturating_sub(tier.every) {
            continue;
        }
        let mut take = |row: &Row<'_>| {
            if (from..=to).contains(&row.at) {
                sums.add((row.at - from) / every, row);
            }
            left = left.saturating_sub(1);
            left > 0
        };
        // What can't be read is a gap.
        let _ = rows(&found.path, &mut take);
    }
    let mut span = Span { every_ms: every, gpus: sums.gpus, ..Span::default() };
    span.at_ms = sums.slots.keys().map(|slot| from + slot * every + every / 2).collect();
    for (number, metric) in KEPT.iter().enumerate() {
        let of_gpu = |gpu: usize| -> Vec<Option<f32>> {
            let mean = |slot: &Vec<Mean>| slot.get(gpu * KEPT.len() + number).and_then(Mean::value);
            sums.slots.values().map(mean).collect()
        };
        let all: Vec<Vec<Option<f32>>> = (0..span.gpus.len()).map(of_gpu).collect();
        if all.iter().flatten().any(Option::is_some) {
            span.values.insert(metric.key(), all);
        }
    }
    span
}

/// The finest tier that reaches back so far with few rows, else the one of few rows that reaches back furthest.
fn choose(folder: &Path, from: u64, to: u64) -> Option<(&'static Tier, Vec<Found>)> {
    let mut best: Option<(&Tier, Vec<Found>, u64)> = None;
    // Of a monitor that is young a fine one has few rows too. The last one is kept so short that all of it is few.
    let few = |at: usize, tier: &Tier, begins: u64| {
        let rows = to.saturating_sub(begins.max(from)) / tier.every.max(1000);
        at + 1 == TIERS.len() || rows <= MOST_ROWS / 4
    };
    for (at, tier) in TIERS.iter().enumerate() {
        let mut list = segments(folder, tier);
        // What can't be read reaches back nowhere.
        let is_readable = |found: &Found| rows(&found.path, &mut |_| false).is_ok();
        let Some(first) = list.iter().position(is_readable) else { continue };
        list.drain(..first);
        let Some(begins) = list.first().map(|first| first.begins) else { continue };
        if !few(at, tier, begins) {
            continue;
        }
        // Coarser ones begin in the middle of their first mean.
        let known = best.as_ref().map(|(_, _, known)| *known);
        if known.is_none_or(|known| begins + tier.every < known) {
            best = Some((tier, list, begins));
        }
        if begins <= from {
            break;
        }
    }
    best.map(|(tier, list, _)| (tier, list))
}

/// A row of a segment.
struct Row<'a> {
    at: u64,
    gpus: &'a [Named],
    /// The places of its columns in [`KEPT`].
    columns: &'a [Option<usize>],
    values: &'a [u8],
}

#[derive(Default)]
struct Slots {
    gpus: Vec<Named>,
    /// By time, then GPU, then metric.
    slots: BTreeMap<u64, Vec<Mean>>,
}

impl Slots {
    fn add(&mut self, slot: u64, row: &Row<'_>) {
        let means = self.slots.entry(slot).or_default();
        let each = row.columns.len().max(1) * 4;
        for (named, values) in row.gpus.iter().zip(row.values.chunks_exact(each)) {
            let known = self.gpus.iter().position(|known| known.uuid == named.uuid);
            let gpu = known.unwrap_or_else(|| {
                self.gpus.push(named.clone());
                self.gpus.len() - 1
            });
            if means.len() < (gpu + 1) * KEPT.len() {
                means.resize((gpu + 1) * KEPT.len(), Mean::default());
            }
            for (column, bytes) in row.columns.iter().zip(values.chunks_exact(4)) {
                let value = bytes.try_into().map_or(f32::NAN, f32::from_le_bytes);
                let mean = column.and_then(|column| means.get_mut(gpu * KEPT.len() + column));
                if let Some(mean) = mean.filter(|_| value.is_finite()) {
                    mean.add(value);
                }
            }
        }
    }
}

/// Gives each row of a segment to `take` until that says no. Ends where the file is torn.
fn rows(path: &Path, take: &mut dyn FnMut(&Row<'_>) -> bool) -> io::Result<()> {
    let mut from = BufReader::new(sconce_open::file(path)?);
    let mut line = Vec::new();
    from.by_ref().take(LONGEST_HEAD).read_until(b'\n', &mut line)?;
    let head: Head = serde_json::from_slice(&line)?;
    let fits = (1..=VERSION).contains(&head.sconce_history)
        && head.gpus.len() <= MOST_GPUS
        && head.metrics.len() <= 4 * KEPT.len();
    if !fits {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let place = |name: &String| KEPT.iter().position(|metric| metric.key() == name);
    let columns: Vec<Option<usize>> = head.metrics.iter().map(place).collect();
    let mut bytes = vec![0; 8 + head.gpus.len() * columns.len() * 4 + 4];
    while from.read_exact(&mut bytes).is_ok() {
        let (said, sum) = bytes.split_at(bytes.len() - 4);
        let (at, values) = said.split_at(8);
        if sum != checksum(said).to_le_bytes() {
            break;
        }
        let at = at.try_into().map_or(0, u64::from_le_bytes);
        if !take(&Row { at, gpus: &head.gpus, columns: &columns, values }) {
            break;
        }
    }
    Ok(())
}
