//! `sconce logs`.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use sconce_run::{Line, Listed, Log, Next, Pulse};

use crate::cli::Global;
use crate::commands::ps;
use crate::error::{Failure, Kind};
use crate::output::passed_on;

/// What a log has.
const KEPT: &str = "of a log the last 64 to 128 MiB are kept";
/// How often is looked for more.
const LOOK: Duration = Duration::from_millis(100);

/// Show what a detached container wrote
///
/// Its standard output goes to standard output, its standard error to standard error. The last 64 to 128 MiB of a log are
/// kept, with what it takes to tell the two and the time apart.
#[derive(clap::Args)]
pub struct Args {
    /// Name or id
    container: String,
    /// Go on until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Begin with the last N lines; `all` or a negative number for all of them
    #[arg(short = 'n', long, value_name = "N", default_value = "all", allow_hyphen_values = true, value_parser = tail)]
    tail: Tail,
    /// Put the time before each line
    #[arg(short, long)]
    timestamps: bool,
}

/// How many lines of a log are shown at first; nothing for all.
#[derive(Clone, Copy)]
struct Tail(Option<usize>);

/// As docker reads it.
fn tail(text: &str) -> Result<Tail, String> {
    match text.parse::<i64>() {
        Ok(lines) => Ok(Tail(usize::try_from(lines).ok())),
        Err(_) if text == "all" => Ok(Tail(None)),
        Err(_) => Err("it is a number of lines, or `all`".to_owned()),
    }
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let one = ps::find(global, &args.container)?;
    if !one.container.detach {
        let what = format!("{} was not started with -d: its output went to its caller", one.id);
        return Err(Failure::new(Kind::Usage, what));
    }
    let mut lines = Vec::new();
    let mut end = None;
    let is_cut = one.logs_are_cut();
    let cut = || {
        eprintln!("note: its first output is no longer there: {KEPT}");
    };
    if is_cut && args.tail.0.is_none() {
        cut();
    }
    for log in one.logs()? {
        let mut reader = BufReader::new(&log.file);
        loop {
            let mut text = String::new();
            match reader.read_line(&mut text).map_err(|error| unreadable(&log.path, error))? {
                0 => break,
                // A line that is being written has no end yet: it is read when it has.
                length if !text.ends_with('\n') => {
                    let length = i64::try_from(length).unwrap_or(0);
                    reader.seek_relative(-length).map_err(|error| unreadable(&log.path, error))?;
                    break;
                }
                _ if args.tail.0.is_none() => show(&text, args.timestamps),
                _ => lines.push(text),
            }
            if let Some(most) = args.tail.0
                && lines.len() > most.saturating_mul(2) + 1024
            {
                lines.drain(..lines.len() - most);
            }
        }
        let position = reader.stream_position().map_err(|error| unreadable(&log.path, error))?;
        end = Some((log, position));
    }
    if is_cut && args.tail.0.is_some_and(|most| most > lines.len()) {
        cut();
    }
    let skip = args.tail.0.map_or(0, |most| lines.len().saturating_sub(most));
    lines.iter().skip(skip).for_each(|line| show(line, args.timestamps));
    drop(lines);
    if args.follow
        && let Some((log, position)) = end
    {
        follow(&one, log, position, args.timestamps)?;
    }
    // Read anew: it may have ended meanwhile.
    let state = ps::find(global, &one.id).map_or(one.state, |one| one.state);
    if let Some(why) = state.output_lost {
        eprintln!("note: the end of its output could not be kept: {why}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows what comes in `log` from `position` on, and in those after it, until the container has ended.
fn follow(one: &Listed, mut log: Log, mut position: u64, timestamps: bool) -> Result<(), Failure> {
    let mut begun = String::new();
    let mut pulse = one.pulse();
    loop {
        // Asked before reading: what was written before is read after it.
        let last = !one.lives();
        let next = one.log_after(&log)?;
        let mut reader = BufReader::new(&log.file);
        let moved = reader.seek(SeekFrom::Start(position));
        moved.map_err(|error| unreadable(&log.path, error))?;
        loop {
            let mut more = Vec::new();
            let read = (&mut reader).take(1 << 20).read_until(b'\n', &mut more);
            position += read.map_err(|error| unreadable(&log.path, error))? as u64;
            begun.push_str(&String::from_utf8_lossy(&more));
            if !begun.ends_with('\n') {
                break;
            }
            show(&begun, timestamps);
            begun.clear();
        }
        if let Some(Next { log: after, gap }) = next {
            if gap {
                let _ = std::io::stdout().flush();
                eprintln!(
                    "note: output is missing here, which came faster than it was read: {KEPT}"
                );
            }
            (log, position) = (after, 0);
            continue;
        }
        if last {
            return Ok(());
        }
        if let Some(text) = pulse.as_mut().and_then(Pulse::word) {
            eprintln!("note: {text}");
        }
        thread::sleep(LOOK);
    }
}

fn unreadable(path: &Path, error: std::io::Error) -> Failure {
    Failure::new(Kind::Storage, format!("can't read {}: {error}", path.display()))
}

fn show(text: &str, timestamps: bool) {
    let Ok(line) = serde_json::from_str::<Line>(text) else { return };
    let time = if timestamps { format!("{} ", line.time) } else { String::new() };
    let text = format!("{time}{}", line.log);
    match line.stream.as_str() {
        "stderr" => passed_on(&text),
        _ => print!("{text}"),
    }
}
