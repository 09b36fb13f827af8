//! `sconce launch`.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use sconce_launch::{Choice, Evidence, Group, OnHang, Outcome, Program, Settings, Told, duration};
use sconce_lock::Launch;
use sconce_run::{Interrupts, parse_env};
use sconce_start::Target;

use crate::cli::Global;
use crate::commands::launch_nodes::{Remote, idle_gpus, local_name};
use crate::commands::launch_schedulers::{self, KubernetesArgs, SlurmArgs};
use crate::commands::paths;
use crate::context::{Context, environment};
use crate::error::{Failure, Kind};
use crate::output::passed_on;
use crate::trust;

/// Start a run on several GPUs or machines
///
/// Each machine gets a container of the same image with torchrun inside, told all that it would else
/// guess. Without anything said it is this machine with its idle GPUs, and the command of the project.
/// What `[launch]` in sconce.toml says, flags of the same names overrule. Exit code: that of the rank
/// that failed first; 8 machines that can't work together; 124 the time was over; 1 the ranks hung, or
/// a machine was lost.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sconce launch . -- train.py --epochs 3               all idle GPUs of this machine
  sconce launch --ranks 4 . -- train.py                four ranks on the CPU, through Gloo
  sconce launch --hosts gpu[1-4] lab/train:1 -- -m train
  sconce launch --hang-after 5m --restarts 3 .
  sconce launch --dry-run --explain .                  what would run, and why
  sconce launch --engine slurm --nodes 4 --gpus-per-node 8 --submit host/train@sha256:... -- train.py
  sconce launch --engine kubernetes --kind jobset --nodes 4 --gpus-per-node 8 host/train@sha256:... -- train.py")]
pub struct Args {
    /// A folder with a sconce.toml, a tag such as torch:2.15.0, or an image
    #[arg(value_name = "TARGET", default_value = ".")]
    pub(super) target: String,
    /// What each rank runs, behind `--`: train.py --epochs 3, or -m train
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
    /// What starts it: this machine (local), other machines (ssh), or a script or manifest is written (slurm,
    /// kubernetes). ssh if there are hosts, else local
    #[arg(long, value_name = "ENGINE")]
    engine: Option<Engine>,
    /// Machines; as many as there are hosts, or 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    nodes: Option<u32>,
    /// Machines that are reached over ssh, as in gpu1, gpu[2-8] or gpu1,lab; sconce's address is each's own. May be given more
    /// than once
    #[arg(long, value_name = "HOST", value_delimiter = ' ')]
    hosts: Vec<String>,
    /// GPUs of each machine, a rank for each; all that are idle here if not given
    #[arg(long, value_name = "N", conflicts_with = "ranks", value_parser = clap::value_parser!(u32).range(0..=1024))]
    gpus_per_node: Option<u32>,
    /// Ranks of each machine, on the CPU
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    ranks: Option<u32>,
    /// The port of node 0 where machines meet; 29500 if not given
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// The address of node 0 that the others reach; found out if not given
    #[arg(long, value_name = "ADDRESS")]
    master_addr: Option<String>,
    /// Run a short all-reduce over all ranks before the first step, and name machines that are slow or wrong; it is
    /// given up after TIME, 2m if not given
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "2m")]
    preflight: Option<String>,
    /// Keep the last N hosts as spares, which take the places of machines that can't be used or are lost
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=4096))]
    spares: Option<u32>,
    /// How often all ranks are started again after one failed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1000))]
    restarts: Option<u32>,
    /// When it is ended: 90m, 2h
    #[arg(long, value_name = "TIME")]
    time_limit: Option<String>,
    /// When ranks that say nothing are looked into: 5m, or never; 10m if not given
    #[arg(long, value_name = "TIME")]
    hang_after: Option<String>,
    /// What becomes of ranks that hang: abort, or continue
    #[arg(long, value_name = "WHAT", default_value = "abort")]
    on_hang: Hang,
    /// How long a machine may say nothing before it counts as lost
    #[arg(long, value_name = "TIME", default_value = "5s")]
    node_timeout: String,
    /// Set a variable of the ranks: NAME=VALUE, or NAME to pass this machine's on
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Show a folder or file of each machine inside: HOST:CONTAINER[:ro]
    #[arg(short, long, value_name = "HOST:CONTAINER")]
    pub(super) volume: Vec<String>,
    /// Size of /dev/shm, such as 8g
    #[arg(long, value_name = "SIZE")]
    pub(super) shm_size: Option<String>,
    /// The folder that gets a folder of logs and evidence for each launch; `launches` beside sconce.toml if not given
    #[arg(long, value_name = "DIR")]
    pub(super) evidence: Option<PathBuf>,
    /// Whose output is shown: all (each line with its rank) or rank0; all of it is in files
    #[arg(long, value_name = "WHOSE", default_value = "all")]
    output: Shown,
    /// Say what is chosen, and why
    #[arg(long)]
    explain: bool,
    /// Print what would run, and start nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Allow once what the project asks for outside its folder (see `sconce trust`)
    #[arg(long)]
    trust: bool,
    /// What sconce is called on other machines; where it is not there, or another version, it is copied
    #[arg(long, value_name = "PROGRAM", default_value = "sconce")]
    remote_program: String,
    #[command(flatten)]
    pub(super) slurm: SlurmArgs,
    #[command(flatten)]
    pub(super) kubernetes: KubernetesArgs,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
enum Engine {
    Local,
    Ssh,
    Slurm,
    Kubernetes,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
enum Hang {
    Abort,
    Continue,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
enum Shown {
    All,
    Rank0,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let target =
        Target::find_for(&paths::target(&args.target)?, "launch", sconce_start::Kind::STARTABLE)?;
    let project = target.project();
    let asked = project.map(|project| project.spec().launch.clone()).unwrap_or_default();
    let words = if args.hosts.is_empty() { &asked.hosts } else { &args.hosts };
    let hosts = sconce_doctor::fleet::names(words)?;
    let engine = args.engine.unwrap_or(if hosts.is_empty() { Engine::Local } else { Engine::Ssh });
    let app = project.map(|project| project.spec().app.command.clone()).unwrap_or_default();
    let settings = settings(args, &asked, &app, engine, &hosts)?;
    match engine {
        Engine::Slurm => return launch_schedulers::slurm(args, &asked, &settings),
        Engine::Kubernetes => return launch_schedulers::kubernetes(args, &settings),
        Engine::Local | Engine::Ssh => {}
    }
    let context = Context::open(global)?;
    // Where it is started on other machines, who makes its image for them says it.
    if engine == Engine::Local || args.dry_run {
        context.say_hidden(&target, &args.target)?;
    }
    if !args.dry_run {
        trust::check_target(&target, &context.builder(None), args.trust)?;
    }
    let beside = match project {
        Some(sconce_build::Project::Folder { folder, .. }) => folder.clone(),
        _ => PathBuf::from("."),
    };
    let parent = match (&args.evidence, &asked.evidence) {
        (Some(given), _) => paths::of_option("--evidence", given)?,
        (None, Some(given)) => beside.join(given),
        (None, None) => beside.join("launches"),
    };
    let parent = std::path::absolute(&parent).unwrap_or(parent);
    let launch = Launching { global, args, settings: &settings, hosts: &hosts, parent: &parent };
    match args.dry_run {
        true => launch.show(),
        false => launch.run(engine),
    }
}

/// What is asked, by flags and `[launch]`.
fn settings(
    args: &Args,
    asked: &Launch,
    app: &[String],
    engine: Engine,
    hosts: &[String],
) -> Result<Settings, Failure> {
    let words =
        [&args.command[..], &asked.command, app].into_iter().find(|words| !words.is_empty());
    let program = Program::of(words.unwrap_or_default())?;
    let count = hosts.len() as u32;
    let spares = args.spares.unwrap_or(asked.spares);
    let nodes = args.nodes.or(asked.nodes).unwrap_or(count.saturating_sub(spares).max(1));
    let usage = |what: String, hint: &str| Failure::new(Kind::Usage, what).hint(hint);
    match engine {
        Engine::Local if nodes != 1 => {
            let what =
                format!("{nodes} nodes were asked for, and the engine `local` is one machine");
            return Err(usage(what, "name the machines: `--hosts gpu[1-4]`"));
        }
        Engine::Ssh if count == 0 => {
            let what = "the engine `ssh` needs machines".to_owned();
            return Err(usage(what, "name them: `--hosts gpu[1-4]`"));
        }
        Engine::Ssh if nodes.saturating_add(spares) != count => {
            let what = match spares {
                0 => format!("{nodes} nodes were asked for, and {count} hosts are named"),
                _ => format!(
                    "{nodes} nodes and {spares} spares were asked for, and {count} hosts are named"
                ),
            };
            return Err(usage(what, "leave `--nodes` out, or name as many hosts"));
        }
        Engine::Local if spares > 0 => {
            let what = "spares are machines, and the engine `local` has one".to_owned();
            return Err(usage(what, "name the machines: `--hosts gpu[1-4] --spares 1`"));
        }
        Engine::Slurm | Engine::Kubernetes if spares > 0 => {
            let what = "a scheduler has its own way with machines that fail".to_owned();
            return Err(usage(what, "leave `--spares` out"));
        }
        Engine::Slurm | Engine::Kubernetes
            if args.preflight.as_ref().is_some_and(|given| given != "never") =>
        {
            let what =
                "`--preflight` is made by the launcher, which a scheduler has not".to_owned();
            return Err(usage(what, "leave it out; `sconce bench` measures one machine in a job"));
        }
        _ => {}
    }
    for (at, host) in hosts.iter().enumerate() {
        if hosts[..at].contains(host) {
            return Err(usage(format!("`{host}` is named twice"), "name each machine once"));
        }
    }
    let given = args.gpus_per_node.or(asked.gpus_per_node);
    let (ranks_per_node, gpus) = match (args.ranks, given) {
        (Some(ranks), _) => (ranks, false),
        // Two are the fewest that show whether a program is right with several.
        (None, Some(0)) => (2, false),
        (None, Some(gpus)) => (gpus, true),
        (None, None) if engine == Engine::Local => match idle_gpus()? {
            0 => (2, false),
            idle => (idle, true),
        },
        (None, None) => {
            let what = "how many GPUs each machine has is not said".to_owned();
            return Err(usage(what, "`--gpus-per-node 8`, or `--ranks 2` for the CPU"));
        }
    };
    let limit = args.time_limit.as_ref().or(asked.time_limit.as_ref());
    let hang = args.hang_after.as_ref().or(asked.hang_after.as_ref());
    let timeout = duration("node-timeout", &args.node_timeout)?;
    let mut env = asked.env.clone();
    for given in &args.env {
        match parse_env(given, |name| environment().get(name))? {
            (name, Some(value)) => _ = env.insert(name, value),
            (name, None) => _ = env.remove(&name),
        }
    }
    Ok(Settings {
        nodes,
        ranks_per_node,
        gpus,
        program,
        port: args.port.or(asked.port).unwrap_or(29500),
        master: args.master_addr.clone(),
        restarts: args.restarts.unwrap_or(asked.restarts),
        time_limit: match limit {
            Some(given) => duration("time-limit", given)?,
            None => None,
        },
        hang_after: duration("hang-after", hang.map_or("10m", String::as_str))?,
        on_hang: match args.on_hang {
            Hang::Abort => OnHang::Abort,
            Hang::Continue => OnHang::GoOn,
        },
        node_timeout: timeout.ok_or_else(|| {
            usage(
                "a machine that may be silent for ever is never lost".to_owned(),
                "`--node-timeout 30s`",
            )
        })?,
        preflight: match args.preflight.as_ref().or(asked.preflight.as_ref()) {
            Some(given) => duration("preflight", given)?,
            None => None,
        },
        env,
    })
}

/// A launch on this machine or behind ssh.
struct Launching<'a> {
    global: &'a Global,
    args: &'a Args,
    settings: &'a Settings,
    hosts: &'a [String],
    parent: &'a Path,
}

impl Launching<'_> {
    /// The words that start a node's container.
    fn words(&self, program: &str, folder: &Path, target: &str, node: u32) -> Vec<String> {
        let gpus = match self.settings.gpus {
            true => self.settings.ranks_per_node.to_string(),
            false => "none".to_owned(),
        };
        let mut options = Vec::new();
        for volume in &self.args.volume {
            options.extend(["-v".to_owned(), volume.clone()]);
        }
        if let Some(size) = &self.args.shm_size {
            options.extend(["--shm-size".to_owned(), size.clone()]);
        }
        // It was asked here already, and a node has nobody to ask.
        options.push("--trust".to_owned());
        if self.global.offline {
            options.push("--offline".to_owned());
        }
        sconce_launch::container(program, &gpus, folder, &options, target, node, self.settings)
    }

    /// Prints what would run.
    fn show(&self) -> Result<ExitCode, Failure> {
        let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32);
        for node in 0..self.settings.nodes {
            let local = self.hosts.is_empty();
            let words = self.words(
                "sconce",
                &self.parent.join(format!("ID/node-{node}")),
                &self.args.target,
                node,
            );
            let line = sconce_launch::shell_line(&words);
            match self.hosts.get(node as usize) {
                Some(host) => println!("# node {node}, over ssh on {host}\nssh {host} -- {line}"),
                None => println!("# node {node}\n{line}"),
            }
            let master = self.settings.master.as_deref().unwrap_or("ADDRESS-OF-NODE-0");
            let arguments = sconce_launch::torchrun(self.settings, node, "ID", master);
            let chosen: Vec<String> = arguments
                .iter()
                .map(|choice| format!("{}={}", choice.name, choice.value))
                .collect();
            println!(
                "# in it\ntorchrun {} {}",
                sconce_launch::shell_line(&chosen),
                self.settings.program.text()
            );
            if node == 0 {
                let variables = sconce_launch::variables(self.settings, cpus, 0);
                for choice in &variables {
                    println!(
                        "# {}={}{}",
                        choice.name,
                        choice.value,
                        if local { "" } else { " (by this machine's processors)" }
                    );
                }
                if self.args.explain {
                    arguments.iter().chain(&variables).for_each(explain);
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn run(&self, engine: Engine) -> Result<ExitCode, Failure> {
        let interrupts = Interrupts::listen()?;
        let moment = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let moment = sconce_run::rfc3339(moment.map_or(0, |moment| moment.as_secs()));
        let plain = |c: &char| c.is_ascii_digit() || *c == 'T';
        let id =
            format!("{}-{}", moment.chars().filter(plain).collect::<String>(), std::process::id());
        let mut evidence = Evidence::make(self.parent, &id)?;
        let mut remotes = Vec::new();
        let mut machines = vec![local_name()];
        let folder = match engine {
            Engine::Ssh => {
                remotes = Remote::prepare(
                    self.hosts,
                    self.settings.nodes as usize,
                    &self.args.remote_program,
                    &self.args.target,
                    self.global,
                    self.args.trust,
                )?;
                machines = remotes.iter().map(|remote| remote.host.clone()).collect();
                PathBuf::new()
            }
            _ => evidence.node(0)?,
        };
        let myself = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("sconce"));
        let command = |node: u32, machine: usize| match remotes.get(machine) {
            Some(remote) => {
                let words =
                    self.words(&remote.program, Path::new(&remote.folder), &remote.target, node);
                remote.command(&words)
            }
            None => {
                let words = self.words("sconce", &folder, &self.args.target, node);
                let mut command = Command::new(&myself);
                command.args(&words[1..]);
                command
            }
        };
        let interrupted = || interrupts.came();
        let group = Group {
            settings: self.settings,
            machines,
            command: &command,
            id,
            interrupted: &interrupted,
        };
        let several = self.settings.world() > 1 && self.args.output == Shown::All;
        let mut tell = |told: Told<'_>| match told {
            Told::Line { rank, .. } if self.args.output == Shown::Rank0 && rank > 0 => {}
            Told::Line { rank, error, text } => match (error, several) {
                (false, true) => println!("[{rank}] {text}"),
                (false, false) => println!("{text}"),
                (true, true) => passed_on(&format!("[{rank}] {text}\n")),
                (true, false) => passed_on(&format!("{text}\n")),
            },
            Told::Note(text) => eprintln!("note: {text}"),
            Told::Choice(choice) if self.args.explain => explain(choice),
            Told::Choice(_) => {}
            Told::Page(text) => eprintln!("{text}"),
        };
        let outcome = group.run(&mut evidence, &mut tell);
        drop(remotes);
        evidence.remove_nodes(self.settings.nodes);
        self.end(outcome?, evidence.folder())
    }

    /// One screen, and the exit code.
    fn end(&self, outcome: Outcome, folder: &Path) -> Result<ExitCode, Failure> {
        let indented = |text: &str| text.trim_end().replace('\n', "\n  ");
        let code = match outcome {
            Outcome::Done => return Ok(ExitCode::SUCCESS),
            Outcome::Failed { rank, node, code, why } => {
                let who = match rank {
                    Some(rank) => format!("rank {rank} on {node} failed first"),
                    None => format!("torchrun on {node} failed"),
                };
                Failure::new(Kind::No, format!("{who} (exit code {code}):\n  {}", indented(&why)))
                    .print();
                code
            }
            Outcome::Lost { node, why } => {
                Failure::new(Kind::No, format!("{node} was lost: {}", indented(&why))).print();
                1
            }
            Outcome::Refused(why) => return Err(Failure::new(Kind::Machine, indented(&why))),
            Outcome::Hung => {
                Failure::new(Kind::No, "the ranks hung, and were ended").print();
                1
            }
            Outcome::TimeLimit => {
                Failure::new(Kind::No, "the time was over").print();
                124
            }
            Outcome::Interrupted(signal) => u8::try_from(128 + signal).unwrap_or(130),
        };
        eprintln!("logs and evidence: {}", folder.display());
        Ok(ExitCode::from(code))
    }
}

fn explain(choice: &Choice) {
    eprintln!("{}={}\n    {}", choice.name, choice.value, choice.why);
}
