//! What began and ended, and what ran, beside the numbers of a history: lines of JSON.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::sample::{Gpu, Sample, Workload};
use crate::watch::{Change, Finding};

/// Bytes of a file, after which another is begun.
const LARGE: u64 = 1 << 20;
/// Files that are kept.
const MOST_FILES: usize = 8;
/// The longest line.
const LONGEST: u64 = 64 << 10;
/// What a GPU shows to run on it at a time.
const MOST_RUNNING: usize = 16;

/// A line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    /// A monitor starts: what was open before is not known any more.
    Starts { at_ms: u64 },
    /// A finding begins, or has ended.
    Finding(Told),
    /// What runs on a GPU from then on.
    Runs { at_ms: u64, uuid: String, what: Vec<Running> },
}

/// A finding of the history.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Told {
    /// The rule's name.
    pub rule: String,
    /// What is wrong.
    pub title: String,
    /// How bad.
    pub severity: String,
    /// The GPU's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<u32>,
    /// The GPU.
    pub uuid: String,
    /// Since when, milliseconds since 1970.
    pub since_ms: u64,
    /// Until when; absent while it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// What was seen.
    pub evidence: String,
    /// What to do.
    pub action: String,
}

/// What runs on a GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Running {
    /// The container's name, or its id, or the program.
    pub name: String,
    /// The image, where it is known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Slurm's job.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub job: String,
    /// Whose it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
}

/// What ran on a GPU, and when.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ran {
    /// The GPU.
    pub uuid: String,
    /// Since when, milliseconds since 1970.
    pub since_ms: u64,
    /// Until when; absent while it runs.
    pub until_ms: Option<u64>,
    /// What.
    #[serde(flatten)]
    pub what: Running,
}

/// Writes them.
pub struct Events {
    folder: PathBuf,
    file: Option<(File, u64)>,
    running: BTreeMap<String, Vec<Running>>,
}

impl Events {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), file: None, running: BTreeMap::new() }
    }

    /// Takes a sample and what began and ended with it.
    ///
    /// # Errors
    /// What writing meets.
    pub fn push(&mut self, sample: &Sample, changes: &[Change]) -> io::Result<()> {
        if self.file.is_none() && self.running.is_empty() {
            self.write(sample.at_ms, &Line::Starts { at_ms: sample.at_ms })?;
        }
        for change in changes {
            let told = match change {
                Change::Begins(finding) => told(finding, None),
                Change::Ends(finding, at) => told(finding, Some(*at)),
            };
            self.write(sample.at_ms, &Line::Finding(told))?;
        }
        for gpu in sample.gpus.iter().filter(|gpu| gpu.lost.is_none()) {
            let what = running(gpu);
            if self.running.get(&gpu.uuid) != Some(&what) {
                let (at_ms, uuid) = (sample.at_ms, gpu.uuid.clone());
                self.write(at_ms, &Line::Runs { at_ms, uuid, what: what.clone() })?;
                self.running.insert(gpu.uuid.clone(), what);
            }
        }
        Ok(())
    }

    fn write(&mut self, at: u64, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        if text.len() as u64 > LONGEST {
            return Ok(());
        }
        if self.file.as_ref().is_none_or(|(_, bytes)| *bytes >= LARGE) {
            self.file = Some(open(&self.folder, at)?);
        }
        let Some((file, bytes)) = &mut self.file else { return Ok(()) };
        *bytes += text.len() as u64;
        let written = file.write_all(&text);
        if written.is_err() {
            // Half a line is ended where the file is opened again.
            self.file = None;
        }
        written
    }
}

/// The newest file, or a new one where that is large: with its bytes.
fn open(folder: &Path, at: u64) -> io::Result<(File, u64)> {
    let mut known = files(folder);
    if let Some(newest) = known.last() {
        let bytes = fs::symlink_metadata(newest)?.len();
        if bytes < LARGE {
            let mut file = File::options().append(true).open(newest)?;
            // What was killed in the middle of a line has its end: then that line alone is lost.
            file.write_all(b"\n")?;
            return Ok((file, bytes + 1));
        }
    }
    while known.len() >= MOST_FILES {
        fs::remove_file(known.remove(0))?;
    }
    let path = folder.join(format!("events-{at:013}.jsonl"));
    Ok((File::options().append(true).create(true).open(path)?, 0))
}

fn told(finding: &Finding, until_ms: Option<u64>) -> Told {
    Told {
        rule: finding.rule.to_owned(),
        title: finding.title.to_owned(),
        severity: finding.severity.word().to_owned(),
        gpu: finding.gpu,
        uuid: finding.uuid.clone(),
        since_ms: finding.since_ms,
        until_ms,
        evidence: short(&finding.evidence),
        action: short(&finding.action),
    }
}

/// What runs on a GPU: containers once, other programs by their names.
fn running(gpu: &Gpu) -> Vec<Running> {
    let of = |workload: &Workload, program: &str, user: &str| {
        let id = workload.container.get(..12).unwrap_or(&workload.container);
        let pod = workload.pod_name().unwrap_or_default();
        let names = [pod.as_str(), workload.name.as_str(), id, program];
        Running {
            name: short(names.into_iter().find(|name| !name.is_empty()).unwrap_or_default()),
            image: short(&workload.image),
            job: short(&workload.slurm_job),
            user: short(user),
        }
    };
    let holders = gpu.holders.iter().map(|holder| of(holder, "", ""));
    let processes = gpu.processes.iter().flatten().map(|process| {
        of(&process.workload, &process.name, process.user.as_deref().unwrap_or_default())
    });
    let mut all: Vec<Running> = processes.chain(holders).collect();
    all.sort();
    all.dedup_by(|b, a| a.name == b.name && a.job == b.job);
    all.truncate(MOST_RUNNING);
    all
}

/// The names are whoever's who started it.
fn short(text: &str) -> String {
    text.chars().take(400).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with("events-") && name.ends_with(".jsonl")
        })
        .collect();
    found.sort();
    found
}

/// What was wrong and what ran in that time.
pub fn read(folder: &Path, from: u64, to: u64) -> (Vec<Told>, Vec<Ran>) {
    let mut told: Vec<Told> = Vec::new();
    let mut ran: Vec<Ran> = Vec::new();
    // Those of each GPU that run still, by their places: weeks have thousands that don't.
    let mut running: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for path in files(folder) {
        // What can't be read is a gap.
        let _ = lines(&path, |line| match line {
            Line::Starts { at_ms } => {
                told.iter_mut().for_each(|one| one.until_ms = one.until_ms.or(Some(at_ms)));
                ran.iter_mut().for_each(|one| one.until_ms = one.until_ms.or(Some(at_ms)));
                running.clear();
            }
            Line::Finding(new) => {
                let same = |old: &&mut Told| {
                    old.until_ms.is_none()
                        && (&old.rule, &old.uuid, old.since_ms)
                            == (&new.rule, &new.uuid, new.since_ms)
                };
                match told.iter_mut().rev().find(same) {
                    // It has become worse.
                    Some(old) if new.until_ms.is_none() => *old = new,
                    // What was seen when it began tells more than what was while it ended.
                    Some(old) => old.until_ms = new.until_ms,
                    None => told.push(new),
                }
            }
            Line::Runs { at_ms, uuid, what } => {
                let open = running.entry(uuid.clone()).or_default();
                open.retain(|place| {
                    let Some(one) = ran.get_mut(*place) else { return false };
                    let stays = what.contains(&one.what);
                    one.until_ms = (!stays).then_some(at_ms);
                    stays
                });
                for what in what {
                    let is_it = |place: &usize| ran.get(*place).is_some_and(|one| one.what == what);
                    if !open.iter().any(is_it) {
                        open.push(ran.len());
                        ran.push(Ran { uuid: uuid.clone(), since_ms: at_ms, until_ms: None, what });
                    }
                }
            }
        });
    }
    let within =
        |since: u64, until: Option<u64>| since <= to && until.is_none_or(|until| until >= from);
    told.retain(|one| within(one.since_ms, one.until_ms));
    ran.retain(|one| within(one.since_ms, one.until_ms));
    (told, ran)
}

fn lines(path: &Path, mut each: impl FnMut(Line)) -> io::Result<()> {
    let mut from = BufReader::new(sconce_open::file(path)?.take(2 * LARGE));
    loop {
        let mut line = Vec::new();
        from.by_ref().take(LONGEST).read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Ok(());
        }
        // One that a later version has is passed by.
        if let Ok(line) = serde_json::from_slice(&line) {
            each(line);
        }
    }
}
