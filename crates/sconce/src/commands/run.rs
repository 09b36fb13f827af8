//! `sconce run`.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgAction, ValueEnum};
use sconce_blob::Digest;
use sconce_build::{Project, Trees};
use sconce_doctor::Subject;
use sconce_lock::Spec;
use sconce_lock::reaches::When;
use sconce_run::{
    Container, Exit, Network, Port, Stdio, Volume, parse_cpus, parse_env, parse_size,
};
use sconce_store::{Image, Lease};
use serde::Deserialize;

use crate::cli::Global;
use crate::commands::gpus::{self, Gpus};
use crate::commands::{defaults, subject};
use crate::context::Context;
use crate::error::{Failure, Kind};
use crate::trust;

/// Start a container from a folder, a tag or an image; make what isn't there
///
/// A folder with a sconce.toml is locked and built first if need be. Options are Docker's where
/// Docker has them. The container has the host's network unless --network none is given, a /dev/shm
/// of half the machine's memory, and limits as training needs them.
#[derive(clap::Args, Default)]
pub struct Args {
    /// A folder with a sconce.toml, a tag such as torch:2.15.0, or an image of the store
    #[arg(value_name = "DIR|TAG|IMAGE")]
    pub target: String,
    /// What to run instead of the image's command
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Which GPUs: all, none, a number, indexes or UUIDs with commas
    #[arg(long, value_name = "WHICH")]
    pub gpus: Option<String>,
    /// Where the driver's files are, if not in the usual folders
    #[arg(long, value_name = "DIR")]
    pub driver_root: Option<PathBuf>,
    /// Size of /dev/shm, such as 8g; half of the machine's memory if not given
    #[arg(long, value_name = "SIZE")]
    pub shm_size: Option<String>,
    /// Show a folder or file of this machine inside: HOST:CONTAINER[:ro]
    #[arg(short, long, value_name = "HOST:CONTAINER")]
    pub volume: Vec<String>,
    /// A port of this machine that leads to one inside: HOST:CONTAINER
    #[arg(short, long, value_name = "HOST:CONTAINER")]
    publish: Vec<String>,
    /// Set a variable: NAME=VALUE, or NAME to pass this machine's on
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Set variables from a file, one NAME=VALUE a line
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Where the command starts
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// Who it runs as: name or uid, with :group or :gid
    #[arg(short, long)]
    pub user: Option<String>,
    /// The root can't be written to; volumes and /dev/shm still can
    #[arg(long)]
    read_only: bool,
    /// Whose network it has
    #[arg(long, alias = "net", value_enum, default_value = "host")]
    network: NetworkArg,
    /// Its host name; this machine's if not given
    #[arg(long)]
    hostname: Option<String>,
    /// Most memory it may use, such as 64g
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<String>,
    /// Most processors it may use, such as 4 or 0.5
    #[arg(long, value_name = "N")]
    cpus: Option<String>,
    /// The program to run, with COMMAND as its arguments
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Start even where `sconce doctor` says that it can't work
    #[arg(long)]
    pub force: bool,
    /// Allow once what the project asks for outside its folder (see `sconce trust`)
    #[arg(long)]
    pub trust: bool,
    /// Run on all processors, not only on those near the GPUs
    #[arg(long)]
    no_affinity: bool,
    /// Leave out the variables that sconce sets for training, and the affinity (see `docs/run.md`)
    #[arg(long)]
    no_defaults: bool,
    /// Containers are always removed; taken for Docker's sake
    #[arg(long, hide = true, action = ArgAction::SetTrue)]
    rm: bool,
    /// There is always one; taken for Docker's sake
    #[arg(long, hide = true, action = ArgAction::SetTrue)]
    init: bool,
    /// /dev/shm is large anyway; taken for Docker's sake
    #[arg(long, hide = true)]
    ipc: Option<String>,
    /// Limits are as high as this machine allows; taken for Docker's sake
    #[arg(long, hide = true)]
    ulimit: Vec<String>,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum NetworkArg {
    /// The host's
    #[default]
    Host,
    /// None but its own loopback
    None,
}

/// What is read of an image's configuration (OCI image-spec, config.md).
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ImageConfig {
    user: String,
    env: Vec<String>,
    entrypoint: Vec<String>,
    cmd: Vec<String>,
    working_dir: String,
}

#[derive(Deserialize)]
struct ConfigFile {
    #[serde(default)]
    config: Option<ImageConfig>,
}

/// The largest file of variables that is read, bytes.
const ENV_FILE_LIMIT: u64 = 16 << 20;

/// A container that only waits for its start.
pub struct Ready {
    /// What is to be started.
    pub container: Container,
    /// Keeps the image and holds the scratch folder.
    pub lease: Lease,
    /// Keeps the GPUs.
    pub gpus: Gpus,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let ready = ready(global, args).map_err(|failure| match failure.kind {
        Kind::Untrusted => failure.kind(Kind::Container),
        _ => failure,
    })?;
    let exit = sconce_run::run(&ready.container, &mut |text| eprintln!("note: {text}"));
    drop((ready.lease, ready.gpus));
    match exit {
        Ok(Exit::Code(code)) => Ok(ExitCode::from(code)),
        Ok(exit @ Exit::Signal(_)) => Ok(ExitCode::from(exit.code())),
        Err(error) => {
            let code = error.exit_code();
            Failure::from(error).print();
            Ok(ExitCode::from(code))
        }
    }
}

/// Makes all that the container needs; what isn't there is locked, downloaded and built.
pub fn ready(global: &Global, args: &Args) -> Result<Ready, Failure> {
    // What can be wrong in the words is found before anything is downloaded.
    let mut container = Container::new(Vec::new(), "", Vec::<String>::new());
    request(args, &mut container)?;
    let context = Context::open(global)?;
    let project = Project::find(&args.target)?;
    if let Some(project) = &project {
        let lock = context.builder(None).existing_lock(project)?;
        trust::check(project, lock.as_ref(), When::Run, args.trust)?;
    }
    let wish = args.gpus.clone().or_else(|| project.as_ref()?.spec().run.gpus.clone());
    let mut gpus = gpus::choose(wish.as_deref(), args.driver_root.as_deref())?;
    gpus.check(None, args.force)?;
    if let Some(project) = &project {
        from_project(args, project, &mut container)?;
    }
    let check = |subject: &Subject| gpus.check(Some(subject), args.force);
    let digest = prepare(&context, &args.target, project.as_ref(), &check)?;
    let image = context.store.image(&digest.hex())?;
    container.lowers =
        sconce_build::extract(&context.store, &image, context.threads, &context.display)?;
    configure(&context, &image, args, &gpus, &mut container)?;
    if !args.no_affinity && !args.no_defaults {
        let allowed = sconce_run::processors();
        container.processors = defaults::processors(gpus.near.as_ref(), allowed.as_deref());
    }

    // From here on only the lease keeps the image; the store is free for others to prune.
    let lease = context.store.lease(digest)?;
    container.scratch = lease.scratch().join("container");
    gpus.forward(&container.lowers);
    gpus.apply(&mut container, lease.scratch())?;
    Ok(Ready { container, lease, gpus })
}

/// The options that are the same whatever is run.
fn request(args: &Args, container: &mut Container) -> Result<(), Failure> {
    container.stdio = match (args.tty, args.interactive) {
        (true, _) if !std::io::stdin().is_terminal() => {
            return Err(Failure::from(sconce_run::Error::NotATerminal("input")));
        }
        (true, _) => Stdio::Terminal,
        (false, true) => Stdio::Inherit,
        (false, false) => Stdio::Output,
    };
    for volume in &args.volume {
        container.volumes.push(volume.parse::<Volume>()?);
    }
    for port in &args.publish {
        container.ports.push(port.parse::<Port>()?);
    }
    container.shm_bytes = size("--shm-size", args.shm_size.as_deref())?;
    container.memory_bytes = size("--memory", args.memory.as_deref())?;
    container.cpus = args.cpus.as_deref().map(parse_cpus).transpose()?;
    container.network = match args.network {
        NetworkArg::Host => Network::Host,
        NetworkArg::None => Network::None,
    };
    container.user.clone_from(&args.user);
    container.read_only = args.read_only;
    container.hostname.clone_from(&args.hostname);
    Ok(())
}

fn size(option: &'static str, given: Option<&str>) -> Result<Option<u64>, Failure> {
    Ok(given.map(|given| parse_size(option, given)).transpose()?)
}

/// What `[run]` of a project adds where the command line says nothing.
fn from_project(args: &Args, project: &Project, container: &mut Container) -> Result<(), Failure> {
    let run = &project.spec().run;
    if args.shm_size.is_none() {
        container.shm_bytes = size("run.shm", run.shm.as_deref())?;
    }
    if args.publish.is_empty() {
        for port in &run.ports {
            container.ports.push(port.parse::<Port>()?);
        }
    }
    let Project::Folder { folder, .. } = project else { return Ok(()) };
    for volume in &run.volumes {
        let mut volume = volume.parse::<Volume>()?;
        // Relative to the project, wherever sconce is called from; the command line comes first.
        if volume.source.is_relative() {
            volume.source = folder.join(&volume.source);
        }
        if !container.volumes.iter().any(|given| given.target == volume.target) {
            container.volumes.push(volume);
        }
    }
    Ok(())
}

/// The image to start, made if need be. `check` judges it as soon as it is known what it needs, before
/// anything is downloaded.
fn prepare(
    context: &Context,
    target: &str,
    project: Option<&Project>,
    check: &dyn Fn(&Subject) -> Result<(), Failure>,
) -> Result<Digest, Failure> {
    let judged = |image: Image| {
        subject::of_image(target, &image).map_or(Ok(()), |subject| check(&subject))?;
        Ok(image.manifest)
    };
    let Some(project) = project else {
        return match context.store.image(target) {
            Ok(image) => judged(image),
            // `torhc:2.15.0` is rather a tag with a slip than an image.
            Err(error) => match Spec::from_tag(target) {
                Err(tag) if target.contains(':') => Err(Failure::from(tag)),
                _ => Err(Failure::from(error)),
            },
        };
    };
    // A tag that was built before means that image until `sconce lock --upgrade` says otherwise.
    if let Project::Tag { .. } = project
        && let Some(name) = project.name()
        && let Some(digest) = context.store.names()?.get(&name)
    {
        return judged(context.store.image(&digest.hex())?);
    }
    let mirror = project.spec().base.mirror.clone();
    let builder = context.builder(mirror.as_deref());
    let locked = builder.lock(project, &crate::commands::host(), false)?;
    foreign(&locked.lock)?;
    if let Some(torch) = &locked.lock.facts.torch {
        check(&subject::of_torch(target, torch))?;
    }
    for note in locked.explanation.iter().flat_map(|explanation| &explanation.notes) {
        eprintln!("note: {note}");
    }
    Ok(builder.ready(project, locked.lock, Trees::All)?.image)
}

/// An image for another processor can be built here, but not started.
fn foreign(lock: &sconce_lock::Lock) -> Result<(), Failure> {
    if sconce_facts::Machine::current() == Some(lock.facts.machine) {
        return Ok(());
    }
    let what = format!("this lock is for {}; this machine is something else", lock.facts.machine);
    Err(Failure::new(Kind::Machine, what)
        .hint("`sconce build --output oci:DIR` makes an image to take there"))
}

/// Fills in what the image's configuration says and the command line does not.
fn configure(
    context: &Context,
    image: &Image,
    args: &Args,
    gpus: &Gpus,
    container: &mut Container,
) -> Result<(), Failure> {
    let bytes = context.store.config(image)?;
    let file: ConfigFile = serde_json::from_slice(&bytes).map_err(|error| {
        Failure::new(Kind::Document, format!("the image's configuration can't be read: {error}"))
    })?;
    let config = file.config.unwrap_or_default();
    let entrypoint = match &args.entrypoint {
        Some(program) => vec![program.clone()],
        None => config.entrypoint,
    };
    let command = match (args.command.is_empty(), args.entrypoint.is_some()) {
        (true, false) => config.cmd,
        _ => args.command.clone(),
    };
    container.command = entrypoint.into_iter().chain(command).collect();
    container.workdir = match (&args.workdir, config.working_dir.as_str()) {
        (Some(dir), _) => Some(dir.clone()),
        (None, "") => None,
        (None, dir) => Some(PathBuf::from(dir)),
    };
    if container.user.is_none() && !config.user.is_empty() {
        container.user = Some(config.user);
    }
    let mut env = BTreeMap::new();
    if !args.no_defaults {
        let quota = [container.cpus, sconce_run::processor_limit()].into_iter().flatten();
        env = defaults::variables(gpus.count(), quota.reduce(f64::min));
    }
    for variable in config.env {
        if let Some((name, value)) = variable.split_once('=') {
            env.insert(name.to_owned(), value.to_owned());
        }
    }
    let host = |name: &str| std::env::var(name).ok();
    for path in &args.env_file {
        for line in read_env_file(path)?.lines().map(str::trim) {
            if !line.is_empty() && !line.starts_with('#') {
                env.extend(parse_env(line, host)?);
            }
        }
    }
    for variable in &args.env {
        env.extend(parse_env(variable, host)?);
    }
    container.env = env.into_iter().collect();
    Ok(())
}

fn read_env_file(path: &Path) -> Result<String, Failure> {
    sconce_open::read_argument(path, ENV_FILE_LIMIT).map_err(|error| {
        Failure::new(Kind::Document, format!("can't read --env-file {}: {error}", path.display()))
    })
}
