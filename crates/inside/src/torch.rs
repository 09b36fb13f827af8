//! Figures through torch: a program in Python measures, and is believed as little as any that runs in a container.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Instant;

use sconce_bench::answer::{self, Line, MOST_LINE, MOST_LINES};
use sconce_bench::measure::watch::Watch;
use sconce_bench::{FIGURES, Group};
use serde::Deserialize;

use crate::child::{drain, how, with_words};
use crate::error::Error;
use crate::measure::{Order, append, name};
use crate::packages::interpreter;

/// Said before a figure is measured: what NVML sees from now on belongs to it.
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
    let watch = Watch::all();
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Ok(Err(format!("can't start {}: {error}", python.display()))),
    };
    let words = drain(child.stderr.take());
    let Some(stdout) = child.stdout.take() else { return Ok(Err("no pipe".to_owned())) };
    let mut answers = BufReader::new(stdout);
    let (mut begun, mut now, mut wrong) = (Instant::now(), group.name().to_owned(), None);
    let mut answered = false;
    for _ in 0..MOST_LINES {
        let mut line = Vec::new();
        let most = MOST_LINE as u64;
        let read = answers.by_ref().take(most).read_until(b'\n', &mut line).map_err(Error::Read)?;
        if read == 0 {
            break;
        }
        if let Ok(Begun { begin }) = serde_json::from_slice(&line) {
            // It names a figure, or nothing that is repeated.
            if let Some(row) = sconce_bench::figure(&begin) {
                now = row.name.to_owned();
            }
            begun = Instant::now();
            continue;
        }
        match answer::line(&line) {
            // It measures what it was asked for.
            Ok(Line::Figure(figure)) if !names.contains(&figure.figure.as_str()) => {
                wrong =
                    Some(format!("it answered for `{}`, which nobody asked for", figure.figure));
                break;
            }
            Ok(Line::Figure(mut figure)) => {
                answered = true;
                let gpu = figure.gpus.first().copied();
                figure.evidence = gpu.and_then(|gpu| watch.since(begun, gpu as usize));
                append(&order.results, &Line::Figure(figure))?;
            }
            Ok(line) => {
                answered = true;
                append(&order.results, &line)?;
            }
            Err(malformed) => {
                wrong = Some(malformed.to_string());
                break;
            }
        }
    }
    // What goes on writing is not read any more, and ends by that.
    drop(answers);
    let status = child.wait().map_err(Error::Start)?;
    let words = words.join().unwrap_or_default();
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
