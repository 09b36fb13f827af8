//! `sconce oci`: the command line of an OCI runtime, for podman and Slurm.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

use sconce_run::oci_runtime::{self, Create, Error, Exec, Format, Log, Note, Runtime};
use serde_json::Value;

use crate::cli::Global;
use crate::commands::ps;
use crate::error::{Failure, Kind};

/// Run bundles as an OCI runtime, for podman and Slurm (docs/oci-runtime.md)
#[derive(clap::Args)]
pub struct Args {
    /// Where containers are kept; /run/sconce/oci, or sconce/oci in $XDG_RUNTIME_DIR, if not given
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Write errors and warnings to this file as well
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// What the lines of that file look like
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    log_format: LogFormat,
    /// error writes errors alone, warning those too, info and debug all
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: String,
    /// Taken as runc takes it: `--log-level debug`
    #[arg(long = "debug", hide = true)]
    _debug: bool,
    /// Make cgroups through systemd
    #[arg(long)]
    systemd_cgroup: bool,
    /// The same in crun's words: cgroupfs or systemd
    #[arg(long, value_name = "MANAGER")]
    cgroup_manager: Option<Manager>,
    /// Taken as runc takes it; who is not root is seen
    #[arg(long = "rootless", value_name = "BOOL", num_args = 0..=1, require_equals = true, hide = true)]
    _rootless: Option<Option<String>>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Manager {
    Cgroupfs,
    Systemd,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Make a container of a bundle; its command waits for `start`
    Create(Make),
    /// Let a container's command begin
    Start { id: String },
    /// Print a container's state as JSON
    State { id: String },
    /// Send a signal to a container's first process
    Kill {
        /// To all of its processes
        #[arg(short, long)]
        all: bool,
        id: String,
        /// Its name or number
        #[arg(default_value = "TERM")]
        signal: String,
    },
    /// Remove a container that is not running
    Delete {
        /// End it first; one that is not there is no error
        #[arg(short, long)]
        force: bool,
        id: String,
    },
    /// Create, start, wait and delete
    Run {
        /// Do not wait
        #[arg(short, long)]
        detach: bool,
        /// Leave it in place when it has ended
        #[arg(long)]
        keep: bool,
        #[command(flatten)]
        make: Make,
    },
    /// Start another process in a container
    Exec(Box<Join>),
    /// List containers
    List {
        /// table or json; -q prints their ids alone
        #[arg(short, long, value_enum, default_value = "table")]
        format: ListFormat,
    },
    /// List a container's processes
    Ps {
        /// table or json
        #[arg(short, long, value_enum, default_value = "table")]
        format: ListFormat,
        id: String,
    },
    /// Freeze a container's processes
    Pause { id: String },
    /// Let them go on
    Resume { id: String },
    /// Change a container's limits
    Update {
        /// `linux.resources` of a config.json; `-` reads standard input
        #[arg(short, long, value_name = "FILE")]
        resources: PathBuf,
        id: String,
    },
    /// Print what this runtime does as JSON
    Features,
}

#[derive(clap::Args)]
struct Make {
    /// The bundle's folder
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// Write the number of the container's process to this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Send the container's terminal to this Unix socket
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Move mounts instead of pivot_root, for a root in memory
    #[arg(long)]
    no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    no_new_keyring: bool,
    /// Pass on so many descriptors, from 3 on
    #[arg(long, value_name = "N", default_value = "0")]
    preserve_fds: u16,
    id: String,
}

#[derive(clap::Args)]
struct Join {
    /// The process, as in a config.json
    #[arg(short, long, value_name = "FILE", conflicts_with = "command")]
    process: Option<PathBuf>,
    /// Do not wait
    #[arg(short, long)]
    detach: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Set a variable
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Where it starts
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Who it runs as: UID or UID:GID
    #[arg(short, long)]
    user: Option<String>,
    /// Write its number to this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Send its terminal to this Unix socket
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// In a container that is paused, too
    #[arg(long)]
    ignore_paused: bool,
    /// Pass on so many descriptors, from 3 on
    #[arg(long, value_name = "N", default_value = "0")]
    preserve_fds: u16,
    id: String,
    /// The command
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required_unless_present = "process"
    )]
    command: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum ListFormat {
    Table,
    Json,
}

/// The most that is read of a document on standard input.
const LARGEST: u64 = 1 << 20;

/// Where `--log` leads.
static LOG: OnceLock<Log> = OnceLock::new();

pub fn main(
    global: &Global,
    args: &Args,
    words: Vec<std::ffi::OsString>,
) -> Result<ExitCode, Failure> {
    if let Some(path) = &args.log {
        let path = std::path::absolute(path).map_err(|error| {
            Failure::new(Kind::Usage, format!("--log {}: {error}", path.display()))
        })?;
        let format = match args.log_format {
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        };
        let least = match args.log_level.as_str() {
            "panic" | "fatal" | "error" => "error",
            "warn" | "warning" => "warning",
            _ => "info",
        };
        let _ = LOG.set(Log { path, format, least });
    }
    work(global, args, words).map_err(|error| {
        log("error", &error.to_string());
        let kind = match error.exit_code() {
            127 => Kind::NotFound,
            126 => Kind::NotExecutable,
            _ => Kind::No,
        };
        let failure = Failure::new(kind, error.to_string());
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })
}

/// Writes a line where `--log` leads; whether it did.
fn log(level: &str, text: &str) -> bool {
    let Some(log) = LOG.get() else { return false };
    if let Err(error) = log.write(level, text) {
        eprintln!("warning: --log {}: {error}", log.path.display());
    }
    true
}

/// Standard error is the container's too: what can be elsewhere, or is no warning, is not written there.
fn note(note: Note<'_>) {
    match note {
        Note::Info(text) => {
            log("info", text);
        }
        Note::Warning(text) if !log("warning", text) => eprintln!("warning: {text}"),
        Note::Warning(_) => {}
    }
}

fn work(global: &Global, args: &Args, words: Vec<std::ffi::OsString>) -> Result<ExitCode, Error> {
    let systemd = args.systemd_cgroup || args.cgroup_manager == Some(Manager::Systemd);
    let runtime = || Runtime::new(args.root.clone(), systemd, note);
    match &args.command {
        Command::Create(make) => {
            oci_runtime::seal(words)?;
            runtime()?.create(&make.id, &make.options())?;
        }
        Command::Run { detach, keep, make } => {
            oci_runtime::seal(words)?;
            let ended = runtime()?.run(&make.id, &make.options(), *detach, *keep)?;
            return Ok(ended.map_or(ExitCode::SUCCESS, ps::exit_code));
        }
        Command::Exec(join) => {
            oci_runtime::seal(words)?;
            let (runtime, options) = (runtime()?, join.options());
            if join.detach {
                runtime.exec(&join.id, &options)?;
            } else {
                return runtime.exec_and_wait(&join.id, &options).map(ps::exit_code);
            }
        }
        Command::Start { id } => runtime()?.start(id)?,
        Command::State { id } => println!("{}", pretty(&runtime()?.state(id)?)),
        Command::Kill { all, id, signal } => {
            let number = sconce_start::signal("SIGNAL", signal)
                .map_err(|error| Error::Unsupported { field: "SIGNAL", why: error.to_string() })?;
            runtime()?.kill(id, number, *all)?;
        }
        Command::Delete { force, id } => runtime()?.delete(id, *force)?,
        Command::List { format } => list(&runtime()?.list()?, *format, global.quiet),
        Command::Ps { format, id } => {
            let all = runtime()?.processes(id)?;
            match format {
                ListFormat::Json => println!("{}", serde_json::json!(all)),
                ListFormat::Table => all.iter().for_each(|pid| println!("{pid}")),
            }
        }
        Command::Pause { id } => runtime()?.pause(id, true)?,
        Command::Resume { id } => runtime()?.pause(id, false)?,
        Command::Update { resources, id } => {
            let read = sconce_open::read_argument(resources, LARGEST);
            let text = read.map_err(|error| Error::Document {
                path: resources.clone(),
                why: error.to_string(),
            })?;
            runtime()?.update(id, text.as_bytes())?;
        }
        Command::Features => println!("{}", pretty(&oci_runtime::features())),
    }
    Ok(ExitCode::SUCCESS)
}

fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

fn list(states: &[Value], format: ListFormat, quiet: bool) {
    let text = |state: &Value, key: &str| state[key].as_str().unwrap_or_default().to_owned();
    if quiet {
        states.iter().for_each(|state| println!("{}", text(state, "id")));
        return;
    }
    if format == ListFormat::Json {
        println!("{}", Value::Array(states.to_vec()));
        return;
    }
    let width = states.iter().map(|state| text(state, "id").len()).chain([2]).max().unwrap_or(2);
    println!("{:width$} {:>8} {:8} BUNDLE", "ID", "PID", "STATUS");
    for state in states {
        let (id, status) = (text(state, "id"), text(state, "status"));
        println!(
            "{id:width$} {:>8} {status:8} {}",
            state["pid"].to_string(),
            text(state, "bundle")
        );
    }
}

impl Make {
    fn options(&self) -> Create {
        Create {
            bundle: self.bundle.clone(),
            pid_file: self.pid_file.clone(),
            console_socket: self.console_socket.clone(),
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            preserve_fds: self.preserve_fds.into(),
        }
    }
}

impl Join {
    fn options(&self) -> Exec {
        Exec {
            process: self.process.clone(),
            command: self.command.clone(),
            env: self.env.clone(),
            cwd: self.cwd.clone(),
            user: self.user.clone(),
            terminal: self.tty,
            pid_file: self.pid_file.clone(),
            console_socket: self.console_socket.clone(),
            ignore_paused: self.ignore_paused,
            preserve_fds: self.preserve_fds.into(),
        }
    }
}
