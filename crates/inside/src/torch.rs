//! Figures through torch: a program in Python measures, and is believed as little as any that runs in a container.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use sconce_bench::answer::{self, Line, MOST_LINE, MOST_LINES};
use sconce_bench::measure::watch::Watch;
use sconce_bench::{Asked, FIGURES, Group};
use serde::Deserialize;

use crate::child::{Drain, LEFTOVERS, how, with_words};
use crate::error::Error;
use crate::measure::{Order, append, name};
use crate::packages::interpreter;

/// Said before a figure is measured: what NVML sees from now on belongs to it. Said again it says nothing: a program may not
/// choose the moments that count.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Begun {
    begin: String,
}

/// Measures a group; the inner answer is why it could not be.
pub(crate) fn measure(order: &Order, group: Group) -> Result<Result<(), String>, Error> {
    let wanted = |name: &&str| order.only.is_empty() || order.only.iter().any(|one| one == name);
    let names: Vec<&str> = FIGURES
        .iter()
        .filter(|row| row.group == group)
        .map(|row| row.name)
        .filter(wanted)
        .collect();
    let Some(python) = interpreter(order.python.as_deref()) else {
        return Ok(Err("there is no Python".to_owned()));
    };
    let mut command = Command::new(&python);
    command.arg("-B").arg(&order.program).args(["--effort", name(order.effort)]);
    command.args(["--seed", &order.seed.to_string(), group.name()]).args(&names);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let watch = if group.without_gpu() { Watch::nothing() } else { Watch::all() };
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Ok(Err(format!("can't start {}: {error}", python.display()))),
    };
    let words = Drain::of(child.stderr.take());
    let Some(stdout) = child.stdout.take() else { return Ok(Err("no pipe".to_owned())) };
    let answers = lines(stdout);
    let mut asked = Asked::of(&[group], &order.only).on([0]);
    let mut begun: BTreeMap<String, Instant> = BTreeMap::new();
    let (mut last, mut now, mut wrong) = (Instant::now(), group.name().to_owned(), None);
    let mut answered = false;
    while let Some(line) = next(&answers, &mut child)? {
        if let Ok(Begun { begin }) = serde_json::from_slice(&line) {
            // It names a figure that was asked, or nothing that is repeated.
            if let Some(name) = names.iter().find(|name| **name == begin) {
                now = (*name).to_owned();
                begun.entry(begin).or_insert_with(Instant::now);
            }
            continue;
        }
        let line = answer::line(&line).map_err(|malformed| malformed.to_string());
        // It answers for what it was asked, and for nothing else.
        let mut line = match line.and_then(|line| asked.take(&line).map(|()| line)) {
            Ok(line) => line,
            Err(refused) => {
                wrong = Some(refused);
                break;
            }
        };
        answered = true;
        if let Line::Figure(figure) = &mut line {
            let gpu = figure.gpus.first().copied();
            let since = begun.get(&figure.figure).copied().unwrap_or(last);
            figure.evidence = gpu.and_then(|gpu| watch.since(since, gpu as usize));
        }
        last = Instant::now();
        append(&order.results, &line)?;
    }
    if wrong.is_some() {
        // One that has ended meanwhile is no error.
        drop(child.kill());
    }
    let status = child.wait().map_err(Error::Start)?;
    let words = words.words(Instant::now() + LEFTOVERS);
    for line in [watch.silence(group.name()), watch.lost(group.name())].into_iter().flatten() {
        append(&order.results, &line)?;
    }
    Ok(match (wrong, status.success()) {
        (Some(wrong), _) => Err(wrong),
        (None, true) if answered => Ok(()),
        (None, true) => Err(with_words("Python ended and said nothing".to_owned(), &words)),
        (None, false) => {
            let what = format!("Python ended with {} while it measured `{now}`", how(status));
            Err(with_words(what, &words))
        }
    })
}

/// The lines of what a program says, as they come; as many as are read.
fn lines(stdout: ChildStdout) -> Receiver<io::Result<Vec<u8>>> {
    let (send, lines) = mpsc::sync_channel(64);
    thread::spawn(move || {
        let mut stream = BufReader::new(stdout);
        for _ in 0..MOST_LINES {
            let mut line = Vec::new();
            let read = stream.by_ref().take(MOST_LINE as u64).read_until(b'\n', &mut line);
            let last = matches!(read, Ok(0) | Err(_));
            if read.as_ref().is_ok_and(|count| *count == 0)
                || send.send(read.map(|_| line)).is_err()
                || last
            {
                return;
            }
        }
    });
    lines
}

/// The next line; `None` where there is none any more. What a program left running may hold its output open: that is not
/// waited for.
fn next(
    lines: &Receiver<io::Result<Vec<u8>>>,
    child: &mut Child,
) -> Result<Option<Vec<u8>>, Error> {
    let mut end: Option<Instant> = None;
    loop {
        match lines.recv_timeout(Duration::from_millis(20)) {
            Ok(line) => return line.map(Some).map_err(Error::Read),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if end.is_none() && child.try_wait().map_err(Error::Start)?.is_some() {
            end = Some(Instant::now() + LEFTOVERS);
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            return Ok(None);
        }
    }
}
