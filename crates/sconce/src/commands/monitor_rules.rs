//! `sconce monitor rules`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use sconce_monitor::rules;
use sconce_monitor::watch::{Change, Finding, Watch};
use serde_json::json;

use crate::commands::monitor::{DAMAGED, line, open, time};
use crate::error::{Failure, Kind};

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

/// What was wrong in a recording.
fn judge(path: &Path, args: &Args) -> Result<ExitCode, Failure> {
    let mut watch = Watch::new(args.hold);
    let mut samples = open(path)?;
    let (mut first, mut last, mut count) = (None, 0, 0usize);
    let (mut silent, mut silence, mut gpus, mut mig) = (0usize, None, 0, false);
    let mut rows: Vec<(Finding, Option<u64>)> = Vec::new();
    for sample in samples.by_ref() {
        first.get_or_insert(sample.at_ms);
        last = sample.at_ms;
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
            let same = |(known, end): &&mut (Finding, Option<u64>)| {
                end.is_none()
                    && (known.rule, &known.uuid, &known.key)
                        == (finding.rule, &finding.uuid, &finding.key)
            };
            // What was seen when it began tells more than what was while it ended.
            let known = rows.iter_mut().find(same).map(|row| row.1 = Some(at));
            if begins {
                // One that has become worse is worse from now on.
                let since_ms = if known.is_some() { at } else { finding.since_ms };
                rows.push((Finding { since_ms, ..finding }, None));
            }
        }
    }
    let begun = first.unwrap_or(0);
    let unseen = watch.blind().and_then(|(samples, step)| Some((samples, rules::unseen(step)?)));
    let damaged = || match samples.bad_line() {
        None => Ok(ExitCode::SUCCESS),
        Some(number) => {
            let what = format!(
                "line {number} of the recording is no sample: from there on nothing was judged"
            );
            Err(Failure::new(Kind::Document, what).hint(DAMAGED))
        }
    };
    let after = |at: u64| at.saturating_sub(begun) as f64 / 1e3;
    if args.json {
        let rows = rows.iter().map(|(finding, end)| {
            json!({
                "rule": finding.rule,
                "severity": finding.severity.word(),
                "gpu": finding.gpu,
                "uuid": finding.uuid,
                "since_ms": finding.since_ms,
                "until_ms": end,
                "evidence": finding.evidence,
                "action": finding.action,
            })
        });
        let all = json!({
            "samples": count,
            "from_ms": first,
            "to_ms": last,
            "torn": samples.torn(),
            "bad_line": samples.bad_line(),
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
    println!("{count} samples of {:.0} s{torn}", after(last));
    for (finding, end) in &rows {
        let end = end.map_or("the end".to_owned(), |end| format!("{:.0} s", after(end)));
        println!(
            "{:.0} s to {end}: {}: {}",
            after(finding.since_ms),
            finding.severity.word(),
            line(finding)
        );
        println!("  hint: {}", finding.action);
    }
    // What was not seen was not judged.
    if let Some(why) = silence {
        println!("can't tell what was in {silent} of {count} samples: NVML did not answer: {why}");
    } else if gpus == 0 {
        println!("can't tell: no sample has a GPU");
    }
    if let Some((samples, why)) = &unseen {
        println!("can't tell all in {samples} of {count} samples: {why}");
    }
    if mig {
        println!("can't tell what loads instances of MIG had: rules of loads look at whole GPUs");
    }
    let told = !rows.is_empty() || silent > 0 || gpus == 0 || samples.bad_line().is_some();
    match (told, unseen.is_some() || mig) {
        (true, _) => {}
        (false, true) => println!("nothing was wrong by the other rules, as far as they can tell"),
        (false, false) => println!("nothing was wrong, as far as the rules can tell"),
    }
    damaged()
}
