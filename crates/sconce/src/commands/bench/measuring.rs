//! Measuring in one target.

use std::time::{SystemTime, UNIX_EPOCH};

use sconce_bench::answer::{Figure, Line, Unavailable};
use sconce_bench::figure;
use sconce_bench::report::{Report, Subject};
use sconce_inside::bench::{self, Listener, Measured, Order};
use sconce_inside::measure;
use sconce_run::Interrupts;

use super::earlier::Earlier;
use super::lines::Lines;
use super::{Args, devices, log};
use crate::cli::Global;
use crate::commands::prepared;
use crate::context::Context;
use crate::error::{Failure, Kind};

/// Measures in one target; whether it was interrupted.
pub(super) fn one(
    global: &Global,
    args: &Args,
    target: &str,
    order: &Order,
    (interrupts, earlier): (&mut Option<Interrupts>, Option<&Earlier>),
) -> Result<(Report, bool), Failure> {
    let mut lines = Lines::new(!args.waits(), global.quiet).beside(earlier);
    let begun = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (target, image, mut measured) = match (args.host, interrupts.as_ref()) {
        (true, Some(interrupts)) => here(global, args, order, interrupts, &mut lines)?,
        _ => {
            // The container takes what comes meanwhile.
            drop(interrupts.take());
            let measured = inside(global, args, target, order, &mut lines)?;
            *interrupts = Some(Interrupts::listen()?);
            measured
        }
    };
    // What ended badly says so itself.
    if !measured.interrupted && measured.remarks.is_empty() {
        for line in unanswered(&args.only, &measured.lines) {
            lines.line(&line);
            measured.lines.push(line);
        }
    }
    lines.end();
    let mut report = Report::new(
        Subject {
            target,
            image,
            sconce: env!("CARGO_PKG_VERSION").to_owned(),
            time: begun.as_secs(),
            seed: order.seed,
            effort: measure::name(order.effort),
        },
        measured.lines,
        measured.remarks,
    );
    report.interrupted = measured.interrupted;
    let something = !report.figures.is_empty() || !report.wrong.is_empty();
    if !measured.interrupted && something {
        log::keep(&report)?;
    }
    Ok((report, measured.interrupted))
}

fn inside(
    global: &Global,
    args: &Args,
    target: &str,
    order: &Order,
    lines: &mut Lines,
) -> Result<(String, Option<String>, Measured), Failure> {
    let ready = prepared::ready(global, "bench", target, &args.options)?;
    if ready.gpus.devices() == 0 && !order.groups().iter().all(|group| group.without_gpu()) {
        let what = "no GPU was given, and there is nothing to measure";
        return Err(Failure::new(Kind::Machine, what).hint("`sconce doctor` says what is missing"));
    }
    lines.image(&ready.manifest.to_string());
    let folder = ready.lease.scratch().join("bench");
    let measured = bench::inside(&ready.container, &folder, order, lines)?;
    drop((ready.gpus, ready.lease));
    Ok((target.to_owned(), Some(ready.manifest.to_string()), measured))
}

fn here(
    global: &Global,
    args: &Args,
    order: &Order,
    interrupts: &Interrupts,
    lines: &mut Lines,
) -> Result<(String, Option<String>, Measured), Failure> {
    let context = Context::open(&args.options.global(global))?;
    let folder = context.store.scratch_dir()?;
    let visible = match args.options.gpus() {
        None => None,
        Some(given) => devices::visible(given, || {
            let mut silent = Lines::new(false, true);
            let seen = bench::gpus_here(&folder, order, interrupts, &mut silent)?;
            silent.end();
            Ok(seen.gpus().map(|gpu| gpu.gpu).collect())
        })?,
    };
    let order = Order { visible, ..order.clone() };
    let mut measured = bench::here(&folder, &order, interrupts, lines)?;
    let blind = order.groups().iter().all(|group| group.without_gpu());
    let missing = devices::missing(order.visible.as_deref(), measured.gpus().count());
    if let Some(reason) = missing.filter(|_| !blind && !measured.interrupted) {
        let figure = sconce_bench::GPUS.to_owned();
        let line = Line::Unavailable(Unavailable { figure, gpus: Vec::new(), reason });
        lines.line(&line);
        measured.lines.push(line);
    }
    Ok(("this machine".to_owned(), None, measured))
}

/// What was asked for by name, a figure or a group, and nothing answered.
fn unanswered(names: &[String], lines: &[Line]) -> Vec<Line> {
    let of = |name: &str| figure(name).map(|row| row.group.name());
    let answers = |name: &String| {
        lines.iter().any(|line| match line {
            Line::Figure(Figure { figure: one, .. })
            | Line::Unavailable(Unavailable { figure: one, .. })
            | Line::Wrong(Unavailable { figure: one, .. }) => {
                // The group that is asked, or that of the figure that is asked; without GPUs all was answered.
                one == name
                    || of(one) == Some(name)
                    || of(name) == Some(one)
                    || one == sconce_bench::GPUS
            }
            _ => false,
        })
    };
    let line = |name: &String| {
        let reason = "there is none of it here: it needs a newer GPU, or more than one".to_owned();
        Line::Unavailable(Unavailable { figure: name.clone(), gpus: Vec::new(), reason })
    };
    names.iter().filter(|name| !answers(name)).map(line).collect()
}
