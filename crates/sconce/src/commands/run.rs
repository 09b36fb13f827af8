//! `sconce run`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use sconce_build::{ImportCheck, Progress};
use sconce_run::{Invocation, Stdio};
use sconce_start::{Error, Request, Target};

use crate::cli::Global;
use crate::commands::finish;
use crate::commands::lacking;
use crate::commands::options::Options;
use crate::commands::paths;
use crate::commands::watching::Watching;
use crate::context::{Context, environment};
use crate::error::{Failure, Kind};
use crate::trust;

/// Start a container from a folder, a tag or an image; make what isn't there
///
/// A folder with a sconce.toml is locked and built first if need be. Options are Docker's where
/// Docker has them (docs/docker.md has every one), and come before the target: what follows it is the
/// command's. The container has the host's network unless --network says otherwise, a /dev/shm of half
/// the machine's memory, and limits as training needs them. Whatever fails before the command starts
/// is exit code 125.
#[derive(clap::Args)]
#[command(disable_help_flag = true, args_override_self = true, after_help = EXAMPLES)]
pub struct Args {
    /// A folder with a sconce.toml, a tag such as torch:2.15.0, an image of the store or of a registry
    /// (HOST/NAME:TAG, docker://NAME), an OCI layout or an image archive
    #[arg(value_name = "TARGET")]
    target: String,
    /// What to run instead of the image's command
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Start it in the background, and print its id
    #[arg(short, long)]
    detach: bool,
    /// Stay with it in spite of --detach: for units of systemd
    #[arg(long, hide = true)]
    attached: bool,
    /// What `sconce ps`, `logs`, `exec` and `stop` call it
    #[arg(long)]
    name: Option<String>,
    /// Leave nothing of a detached container when it ends
    #[arg(long)]
    rm: bool,
    /// The program to run, with COMMAND as its arguments; "" for none
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Write its id to a file
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,
    /// A label: KEY=VALUE
    #[arg(short, long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Labels from a file, one KEY=VALUE a line
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// What `sconce stop` sends first, such as SIGINT
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// How long `sconce stop` waits before it kills
    #[arg(long, value_name = "SECONDS")]
    stop_timeout: Option<String>,
    /// Don't import packages with native code once, beside the first run
    #[arg(long)]
    no_import_check: bool,
    /// Don't tell of errors of its GPUs (Xid, ECC, heat, a hang in NCCL) on standard error while it runs
    #[arg(long)]
    no_watch: bool,
    /// Make the whole image before the command starts, its bytecode included
    #[arg(long)]
    whole: bool,
    #[command(flatten)]
    options: Options,
}

/// How long the import check may keep the prompt from coming back.
const PATIENCE: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Examples:
  sconce run .                                        the project of this folder
  sconce run --gpus 2 torch:2.15.0 python train.py    two idle GPUs
  sconce run -it --rm -v ~/data:/data:ro . bash       a shell with data
  sconce run -d --name tb -p 6006:6006 . tensorboard --logdir /logs
  sconce run docker://alpine echo hi                  an image of Docker Hub
  sconce run docker-archive:image.tar                 what `docker save` wrote";

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    // As Docker: whatever failed before the command ran is 125, and the words say what it was.
    start(global, args).map_err(Failure::before_start)
}

fn start(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let request = request(args)?;
    let target =
        Target::find_for(&paths::target(&args.target)?, "run", sconce_start::Kind::STARTABLE)?;
    let context = Context::open(&args.options.global(global))?;
    // It gets ready beside all that follows.
    let shim = sconce_run::Shim::spawn(&context.store.containers()?)?;
    let builder = context.builder(None);
    trust::check_target(&target, &builder, args.options.trust)?;
    let access = args.options.registries.access(&context)?;
    let policy = context.policy()?;
    let environment = environment();
    let locking = request.lock.clone();
    let mut ready = sconce_start::ready(
        request,
        &target,
        &args.target,
        &builder,
        (&access, &policy),
        &environment,
    )
    .map_err(|error| lacking::not_started(&context, (&args.target, &target), error))?;
    ready.container.invocation = Some(invocation()?);
    if ready.early {
        finish::begin(global, &args.target, &locking)?;
    }
    let mut note = |text: &str| eprintln!("note: {text}");
    if ready.container.detach {
        let (container, held) = ready.into_held()?;
        println!("{}", sconce_run::start(&container, shim, held, &mut note)?);
        return Ok(ExitCode::SUCCESS);
    }
    let imports = ready.imports.take();
    let check = match &imports {
        Some(imports) if !imports.is_known() => {
            Some(imports.begin(&context.store, ready.container.lowers.clone(), context.threads)?)
        }
        _ => None,
    };
    let buses = if args.no_watch { Vec::new() } else { ready.gpus.buses() };
    let watching = Watching::begin(&buses);
    let exit = sconce_run::run(&ready.container, shim, Vec::new(), &mut note);
    drop(watching);
    let failed = exit.as_ref().is_ok_and(|exit| !exit.success());
    // Whoever interrupted it wants the prompt back.
    let stopped = exit.as_ref().map_or(true, |exit| exit.code() >= 128);
    match (check, imports) {
        (Some(check), _) => end(check, &context, if stopped { Duration::ZERO } else { PATIENCE }),
        // Known from an earlier run: worth its words where this one failed, maybe for that.
        (None, Some(imports)) if failed => {
            imports.remarks(false).iter().for_each(|text| note(text))
        }
        _ => {}
    }
    drop((ready.lease, ready.gpus));
    Ok(ExitCode::from(exit?.code()))
}

/// Says what the import check found. Whatever becomes of it, the command has its own exit code.
fn end(check: ImportCheck, context: &Context, patience: Duration) {
    let mut stage = None;
    let waiting = || stage = Some(context.display.begin("imports", None));
    let ended = check.end(&context.store, patience, waiting);
    drop(stage);
    match ended {
        Ok(imports) => imports.remarks(true).iter().for_each(|text| eprintln!("note: {text}")),
        Err(error) => eprintln!("note: the import check could not be made: {error}"),
    }
}

/// How this was called, for `sconce generate systemd`.
fn invocation() -> Result<Invocation, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(Kind::Machine, format!("can't tell how sconce was called: {error}"))
    };
    Ok(Invocation {
        program: std::env::current_exe().map_err(failed)?,
        arguments: std::env::args_os()
            .skip(1)
            .map(|word| word.to_string_lossy().into_owned())
            .collect(),
        // One that was removed meanwhile can't be started from again.
        folder: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
    })
}

fn request(args: &Args) -> Result<Request, Failure> {
    let mut request = args.options.request()?;
    request.stdio = match (args.tty, args.interactive) {
        // Only what is typed needs a terminal: `-it … | tee log` is fine.
        (true, _) if (!args.detach || args.attached) && !std::io::stdin().is_terminal() => {
            return Err(Failure::from(sconce_run::Error::NotATerminal("input")));
        }
        (true, _) => Stdio::Terminal,
        (false, true) => Stdio::Inherit,
        (false, false) => Stdio::Output,
    };
    request.command.clone_from(&args.command);
    request.entrypoint.clone_from(&args.entrypoint);
    request.detach = args.detach && !args.attached;
    request.remove = args.rm;
    request.no_import_check = args.no_import_check;
    request.early = !args.whole;
    request.name = args.name.as_deref().map(name).transpose()?;
    request.id_file = args.cidfile.as_deref().map(id_file).transpose()?;
    for path in &args.label_file {
        let path = paths::of_option("--label-file", path)?;
        let labels = paths::while_reading(&path, || sconce_start::label_file(&path));
        request.labels.extend(labels?);
    }
    for label in &args.label {
        request.labels.push(sconce_start::label(label)?);
    }
    let signal = |given: &String| sconce_start::signal("--stop-signal", given);
    request.stop_signal = args.stop_signal.as_ref().map(signal).transpose()?;
    if let Some(given) = &args.stop_timeout {
        let wrong = || option("--stop-timeout", given, "write a number of seconds, a day at most");
        let seconds = given.parse().ok().filter(|seconds: &u64| *seconds <= 86_400);
        request.stop_timeout = Some(seconds.ok_or_else(wrong)?);
    }
    Ok(request)
}

/// Where the id is written: a file in a folder that no link of a container's leads to.
fn id_file(given: &Path) -> Result<PathBuf, Failure> {
    let Some(name) = given.file_name() else {
        return Err(option("--cidfile", &given.to_string_lossy(), "name a file"));
    };
    let folder = given.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = paths::of_option("--cidfile", folder.unwrap_or(Path::new(".")))?;
    Ok(folder.join(name))
}

/// A name as Docker has them: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, and no longer than a host name.
fn name(given: &str) -> Result<String, Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric();
    let rest = |c: char| plain(c) || "_.-".contains(c);
    if given.len() > 63 || !given.starts_with(plain) || !given.chars().all(rest) {
        let why = "names have letters, digits, `_`, `.` and `-`, start with a letter or digit, and have 63 characters at most";
        return Err(option("--name", given, why));
    }
    Ok(given.to_owned())
}

fn option(option: &str, given: &str, why: &str) -> Failure {
    Error::Option { option: option.into(), given: given.into(), why: why.into() }.into()
}
