//! Running containers: `sconce ps`, and the words that find one.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use sconce_run::{Exit, Listed};
use serde_json::{Value, json};

use crate::cli::Global;
use crate::commands::inspect::for_a_terminal;
use crate::context::Context;
use crate::error::Failure;
use crate::output::hides;

/// List containers, the newest first
///
/// Those that run; with -a also detached ones that ended and keep their log.
#[derive(clap::Args)]
pub struct Args {
    /// Also those that ended
    #[arg(short, long)]
    all: bool,
    /// Only ids; so does -q, as in Docker
    #[arg(long)]
    ids: bool,
    /// Whole ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// As JSON: a list of {id, name, image, early, command, status, exit_code, error, created, started,
    /// finished, pid, gpus, ports, labels, detached}; times in seconds since 1970
    #[arg(long)]
    json: bool,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let mut listed = sconce_run::list(&folder(global)?)?;
    listed.retain(|one| args.all || one.alive);
    if args.json {
        let rows: Vec<Value> = listed.iter().map(describe).collect();
        let text = serde_json::to_string_pretty(&rows).map_err(Failure::unwritable)?;
        println!("{}", for_a_terminal(&text));
        return Ok(ExitCode::SUCCESS);
    }
    if args.ids || global.quiet {
        listed.iter().for_each(|one| println!("{}", one.id));
        return Ok(ExitCode::SUCCESS);
    }
    let width = |words: &dyn Fn(&Listed) -> String, least: usize| {
        listed.iter().map(|one| words(one).chars().count()).max().unwrap_or(0).max(least)
    };
    let name = |one: &Listed| one.container.name.clone().unwrap_or_else(|| "-".to_owned());
    let image = |one: &Listed| plain(&one.container.image);
    let gpus = |one: &Listed| match one.container.gpus.is_empty() {
        true => "-".to_owned(),
        false => one.container.gpus.join(","),
    };
    let (names, images) = (width(&name, 4), width(&image, 5));
    let (states, cards) = (width(&status, 6), width(&gpus, 4));
    let id = |one: &Listed| match args.no_trunc {
        true => one.id.clone(),
        false => one.id.get(..12).unwrap_or(&one.id).to_owned(),
    };
    let ids = width(&id, 12);
    println!(
        "{:<ids$}  {:<names$}  {:<images$}  {:<states$}  {:<cards$}  COMMAND",
        "ID", "NAME", "IMAGE", "STATUS", "GPUS"
    );
    for one in &listed {
        let mut command = plain(&one.container.command.join(" "));
        if !args.no_trunc && command.chars().count() > 40 {
            command = command.chars().take(39).chain(['…']).collect();
        }
        println!(
            "{:<ids$}  {:<names$}  {:<images$}  {:<states$}  {:<cards$}  {command}",
            id(one),
            name(one),
            image(one),
            status(one),
            gpus(one)
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// A text of an image or a container, fit for a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if hides(c) { ' ' } else { c }).collect()
}

/// Where containers keep their state.
pub fn folder(global: &Global) -> Result<PathBuf, Failure> {
    Ok(Context::open(global)?.store.containers()?)
}

/// Every container that has a record.
pub fn all(global: &Global) -> Result<Vec<Listed>, Failure> {
    Ok(sconce_run::list(&folder(global)?)?)
}

/// The folders of this machine that containers can write to.
pub fn writable_volumes(global: &Global) -> Result<Vec<PathBuf>, Failure> {
    let volumes = all(global)?.into_iter().flat_map(|one| one.container.volumes);
    Ok(volumes.filter(|volume| !volume.read_only).map(|volume| volume.source).collect())
}

/// The container that people call `name`.
pub fn find(global: &Global, name: &str) -> Result<Listed, Failure> {
    Ok(sconce_run::find(&folder(global)?, name)?)
}

/// The exit code that says how a container ended.
pub fn exit_code(exit: Exit) -> ExitCode {
    ExitCode::from(exit.code())
}

/// What became of one of several containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It is done, and its name is printed.
    Named,
    /// It is done, and what there is to print was printed.
    Told,
    /// There was nothing to do.
    Not,
}

/// `sconce stop`'s and others' names, each of which may fail: the first failure is the answer, and
/// all are printed.
pub fn each(
    names: &[String],
    mut work: impl FnMut(&str) -> Result<Done, Failure>,
) -> Result<ExitCode, Failure> {
    let mut failed = None;
    for name in names {
        match work(name) {
            Ok(Done::Named) => println!("{name}"),
            Ok(Done::Told | Done::Not) => {}
            Err(failure) => {
                if let Some(before) = failed.replace(failure) {
                    before.print();
                }
            }
        }
    }
    failed.map_or(Ok(ExitCode::SUCCESS), Err)
}

/// `up 3 hours`, `exited (1) 2 minutes ago`.
fn status(one: &Listed) -> String {
    let ago = |moment: u64| since(moment);
    if one.alive {
        return match one.state.started {
            Some(moment) if one.container.early => format!("up {} (early)", ago(moment)),
            Some(moment) => format!("up {}", ago(moment)),
            None => "starting".to_owned(),
        };
    }
    let ended = one.state.finished.map_or(String::new(), |moment| format!(" {} ago", ago(moment)));
    match (one.state.exit, &one.state.error) {
        (Some(code), _) if one.state.out_of_memory => format!("out of memory ({code}){ended}"),
        (Some(code), _) => format!("exited ({code}){ended}"),
        (None, _) => format!("lost{ended}"),
    }
}

/// `3 hours`, since a moment in seconds since 1970.
pub fn since(moment: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let seconds = now.saturating_sub(moment);
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    let unit = units.iter().find(|(size, _)| seconds >= *size);
    unit.map_or("a moment".to_owned(), |(size, name)| {
        let count = seconds / size;
        format!("{count} {name}{}", if count == 1 { "" } else { "s" })
    })
}

/// One container as JSON.
pub fn describe(one: &Listed) -> Value {
    let (container, state) = (&one.container, &one.state);
    // One whose command could not be executed has an exit code and an error.
    let status = match (one.alive, state.started, state.exit, &state.error) {
        (true, Some(_), ..) => "running",
        (true, None, ..) => "starting",
        (false, _, None, Some(_)) => "lost",
        (false, ..) => "exited",
    };
    json!({
        "id": one.id,
        "name": container.name,
        "image": container.image,
        "early": container.early,
        "command": container.command,
        "status": status,
        "exit_code": state.exit,
        "out_of_memory": state.out_of_memory,
        "error": state.error,
        "created": state.created,
        "started": state.started,
        "finished": state.finished,
        "pid": state.pid,
        "gpus": container.gpus,
        "ports": container.ports,
        "labels": container.labels,
        "detached": container.detach,
    })
}
