//! `sconce finish`: makes the whole image beside a container that started early, in a process of its own that
//! outlives the container and yields to it.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use sconce_build::{Policy, Trees};
use sconce_start::Target;

use crate::cli::Global;
use crate::commands::paths;
use crate::context::Context;
use crate::error::{Failure, Kind};
use crate::trust::quoted;

/// Make what is missing of an image after an early start, unless somebody is at it
#[derive(clap::Args)]
pub struct Args {
    /// As `sconce run` was given it
    target: String,
    /// The lock stays as it is
    #[arg(long)]
    frozen: bool,
}

/// How long the command runs alone.
const PATIENCE: Duration = Duration::from_secs(15);

/// Starts it, and says so.
pub fn begin(global: &Global, target: &str, policy: &Policy) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(Kind::Machine, format!("can't start what finishes the image: {error}"))
            .hint("`sconce run --whole` makes the image before the command starts")
    };
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.arg("finish").arg("--quiet");
    if global.offline {
        command.arg("--offline");
    }
    if let Some(threads) = global.threads {
        command.arg("--threads").arg(threads.to_string());
    }
    if !policy.writes() {
        command.arg("--frozen");
    }
    command.arg("--").arg(target);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map_err(failed)?;
    if !global.quiet {
        eprintln!(
            "note: its bytecode is compiled and its image sealed beside the command; `sconce build {}` waits for that",
            quoted(Path::new(target))
        );
    }
    Ok(())
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    // Of the terminal's signals none is meant for it. It can't fail in a process that was just started.
    let _ = rustix::process::setsid();
    let _ = rustix::process::nice(19);
    // Most first commands import something large: they have the machine alone for that. Who runs
    // `sconce build` meanwhile does not wait for this.
    std::thread::sleep(PATIENCE);
    let root = sconce_store::default_root(|name| std::env::var_os(name))?;
    if !root.exists() {
        return Ok(ExitCode::SUCCESS);
    }
    let context = Context::open(global)?;
    let project = Target::find_project(&paths::target(&args.target)?, "finish")?;
    let mirror = project.spec().base.mirror.clone();
    let builder = context.builder(mirror.as_deref());
    // What it needs from outside the project came before the command started.
    project.spec().leads.accept([]);
    let Some(lock) = builder.existing_lock(&project)? else { return Ok(ExitCode::SUCCESS) };
    if !builder.is_unattended(&lock)? {
        return Ok(ExitCode::SUCCESS);
    }
    let policy = if args.frozen { Policy::Frozen } else { Policy::default() };
    if let Err(error) = builder.ready_under(&policy, &project, lock.clone(), Trees::All) {
        builder.note_unfinished(&lock, &error.to_string())?;
        return Err(error.into());
    }
    Ok(ExitCode::SUCCESS)
}
