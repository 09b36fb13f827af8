//! `sconce monitor rules`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use sconce_monitor::rules;
use sconce_monitor::watch::{Change, Finding, Watch};
use serde_json::json;

use crate::commands::monitor::time;
use crate::commands::monitor_output::line;
use crate::commands::monitor_replay::{failure, open};
use crate::error::Failure;

#[derive(clap::Args)]
pub struct Args {
    /// Judge this recording: what began when, and what ended
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// As JSON
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// As a file of alerts for Prometheus
    #[arg(long, value_name = "FORMAT", conflicts_with = "replay")]
    format: Option<Format>,
    /// Tell of what holds for this long already, and take it for over as soon: for trials
    #[arg(long, value_name = "TIME", value_parser = time)]
    hold: Option<Duration>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// A file of rules, as `promtool check rules` takes it
    Prometheus,
}

pub fn main(args: &Args) -> Result<ExitCode, Failure> {
    match (&args.replay, args.format) {
        (Some(path), _) => judge(path, args),
        (None, Some(Format::Prometheus)) => {
            print!("{}", sconce_monitor::alerts());
            Ok(ExitCode::SUCCESS)
        }
        (None, None) => list(args),
    }
}

fn list(args: &Args) -> Result<ExitCode, Failure> {
    if args.json {
        let rows = rules::RULES.iter().map(|rule| {
            json!({
                "id": rule.id,
                "title": rule.title,
                "severity": rule.severity.word(),
                "why": rule.why,
                "action": rule.action,
                "source": rule.source,
                "hold_seconds": rule.hold.as_secs(),
                "clear_seconds": rule.clear.as_secs(),
            })
        });
        let rows: Vec<_> = rows.collect();
        println!("{}", serde_json::to_string_pretty(&rows).map_err(Failure::unwritable)?);
        return Ok(ExitCode::SUCCESS);
    }
    let width = rules::RULES.iter().map(|rule| rule.id.len()).max().unwrap_or(0);
    for rule in rules::RULES {
        let hold = sconce_monitor::time(rule.hold);
        println!("{:<width$}  {:<8}  {hold:>7}  {}", rule.id, rule.severity.word(), rule.title);
    }
    Ok(ExitCode::SUCCESS)
}

/// How the time of a recording goes.
#[derive(Default)]
struct Course {
    last: Option<u64>,
    /// Milliseconds since the first sample, as far as the clock went on.
    elapsed: u64,
    /// How often the clock was set back.
    set_back: usize,
    /// The last two pauses; of the newer one it is not known whether it is a gap.
    pauses: [u64; 2],
    /// Gaps, and how long they were together.
    gaps: (usize, u64),
}

impl Course {
    /// Takes the time of the next sample.
    fn next(&mut self, at_ms: u64) {
        let Some(last) = self.last.replace(at_ms) else { return };
        match at_ms.checked_sub(last) {
            Some(pause) => {
                self.elapsed = self.elapsed.saturating_add(pause);
                self.judge(pause);
            }
            None => self.set_back += 1,
        }
    }

    /// A pause is a gap if it is much longer than both beside it: where the interval changes it is not.
    fn judge(&mut self, next: u64) {
        const LEAST: u64 = 10_000;
        let [before, pause] = self.pauses;
        if pause > LEAST && pause / 3 > before.max(next) {
            self.gaps = (self.gaps.0 + 1, self.gaps.1.saturating_add(pause));
        }
        self.pauses = [pause, next];
    }

    /// How long ago the sample of now says that was.
    fn of(&self, at_ms: u64) -> u64 {
        self.elapsed.saturating_sub(self.last.unwrap_or(0).saturating_sub(at_ms))
    }
}

/// What was wrong: the finding, and since when and until when, in milliseconds from the first sample.
struct Row {
    finding: Finding,
    since: u64,
    until: Option<u64>,
    until_ms: Option<u64>,
}

/// What was wrong in a recording.
fn judge(path: &Path, args: &Args) -> Result<ExitCode, Failure> {
    let mut watch = Watch::new(args.hold);
    let mut samples = open(path)?;
    let (mut first, mut last, mut count) = (None, 0, 0usize);
    let mut course = Course::default();
    let (mut silent, mut silence, mut gpus, mut mig) = (0usize, None, 0, false);
    let mut rows: Vec<Row> = Vec::new();
    for sample in samples.by_ref() {
        first.get_or_insert(sample.at_ms);
        last = sample.at_ms;
        course.next(last);
        count += 1;
        gpus = gpus.max(sample.gpus.len());
        mig |= sample.gpus.iter().any(|gpu| gpu.mig);
        if sample.silence.is_some() {
            silent += 1;
            silence.clone_from(&sample.silence);
        }
        for change in watch.push(Arc::new(sample)) {
            let (finding, begins, at) = match change {
                Change::Begins(finding) => (finding, true, last),
                Change::Ends(finding, at) => (finding, false, at),
            };
            let same = |row: &&mut Row| {
                let known = &row.finding;
                row.until.is_none()
                    && (known.rule, &known.uuid, &known.key)
                        == (finding.rule, &finding.uuid, &finding.key)
            };
            // What was seen when it began tells more than what was while it ended.
            let until = course.of(at);
            let known = rows.iter_mut().find(same).map(|row| {
                (row.until, row.until_ms) = (Some(until.max(row.since)), Some(at));
            });
            if begins {
                // One that has become worse is worse from now on.
                let since_ms = if known.is_some() { at } else { finding.since_ms };
                let (finding, since) = (Finding { since_ms, ..finding }, course.of(since_ms));
                rows.push(Row { finding, since, until: None, until_ms: None });
            }
        }
    }
    // The last pause is followed by none.
    course.judge(0);
    let unseen = watch.blind().and_then(|(samples, step)| Some((samples, rules::unseen(step)?)));
    let damaged = || match samples.damage() {
        None => Ok(ExitCode::SUCCESS),
        Some(damage) => Err(failure(damage, "nothing was judged")),
    };
    if args.json {
        let rows = rows.iter().map(|Row { finding, until_ms, .. }| {
            json!({
                "rule": finding.rule,
                "severity": finding.severity.word(),
                "gpu": finding.gpu,
                "uuid": finding.uuid,
                "since_ms": finding.since_ms,
                "until_ms": until_ms,
                "evidence": finding.evidence,
                "action": finding.action,
            })
        });
        let all = json!({
            "samples": count,
            "from_ms": first,
            "to_ms": last,
            "torn": samples.torn(),
            "bad_line": samples.damage().map(|damage| damage.line),
            "seconds": course.elapsed as f64 / 1e3,
            "gaps": course.gaps.0,
            "set_back": course.set_back,
            "silent": silent,
            "unseen": unseen.as_ref().map(|(samples, why)| json!({"samples": samples, "why": why})),
            "gpus": gpus,
            "mig": mig,
            "findings": rows.collect::<Vec<_>>(),
        });
        println!("{}", serde_json::to_string_pretty(&all).map_err(Failure::unwritable)?);
        return damaged();
    }
    let torn = if samples.torn() { ", which break off there" } else { "" };
    let seconds = |ms: u64| format!("{:.0} s", ms as f64 / 1e3);
    println!("{count} samples of {}{torn}", seconds(course.elapsed));
    for Row { finding, since, until, .. } in &rows {
        let end = until.map_or("the end".to_owned(), seconds);
        println!("{} to {end}: {}: {}", seconds(*since), finding.severity.word(), line(finding));
        println!("  hint: {}", finding.action);
    }
    // What was not seen was not judged.
    if let Some(why) = silence {
        println!("can't tell what was in {silent} of {count} samples: NVML did not answer: {why}");
    } else if gpus == 0 {
        println!("can't tell: no sample has a GPU");
    }
    match course.gaps {
        (0, _) => {}
        (1, ms) => println!("can't tell what was in a gap of {}", seconds(ms)),
        (gaps, ms) => println!("can't tell what was in {gaps} gaps of {} together", seconds(ms)),
    }
    if course.set_back > 0 {
        let times = if course.set_back == 1 { "once" } else { "more than once" };
        println!("note: the clock was set back {times}: times are counted from sample to sample");
    }
    if let Some((samples, why)) = &unseen {
        println!("can't tell all in {samples} of {count} samples: {why}");
    }
    if mig {
        println!("can't tell what loads instances of MIG had: rules of loads look at whole GPUs");
    }
    let told = !rows.is_empty() || silent > 0 || gpus == 0 || samples.damage().is_some();
    match (told, unseen.is_some() || mig) {
        (true, _) => {}
        (false, true) => println!("nothing was wrong by the other rules, as far as they can tell"),
        (false, false) => println!("nothing was wrong, as far as the rules can tell"),
    }
    damaged()
}
