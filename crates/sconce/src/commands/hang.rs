//! `sconce hang`.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use sconce_launch::ras::Nccl;
use sconce_launch::{Evidence, Outside, Seen, Stands, ras};

use crate::cli::Global;
use crate::commands::{paths, ps};
use crate::error::{Failure, Kind};

/// A dump of torch's flight recorder has 2000 entries; with stacks it is some MiB.
const LARGEST_DUMP: u64 = 64 << 20;
/// Names of the variable with the place of dumps (torch/csrc/distributed/c10d/FlightRecorder.hpp of 2.15), the older last.
const DUMPS: [&str; 2] = ["TORCH_FR_DUMP_TEMP_FILE", "TORCH_NCCL_DEBUG_INFO_TEMP_FILE"];

/// Look at processes that make no progress: where each rank is, and who is not where the others are
///
/// PID and all below it, whoever started them: torchrun, a container of any engine; or one of sconce's by its name. Python's stacks (3.10 to 3.13) are read from the
/// memory of each process for three seconds; no process is stopped, and nothing is written to one. NCCL is asked, before and after, where its
/// RAS port answers. Exit code: 0 ranks moved, or NCCL counted more collectives; 1 none moved, and one is not where the others are; 12 none moved, and
/// who holds up whom can't be told; 2 there is nothing to look at; 8 it is not ours to look at.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sconce hang $(pgrep -of torchrun)             all ranks that torchrun started
  sconce hang trainer                           a container of `sconce ps`, by its name or id
  sudo sconce hang 4711 --output evidence       another user's, or a container's; all threads in files")]
pub struct Args {
    /// The process, as this machine numbers it: torchrun, a rank, or what started them; or a container's name or id
    #[arg(value_name = "PID|CONTAINER")]
    process: String,
    /// A folder, new or empty, for stacks of all threads, NCCL's answer and dumps of torch's flight recorder
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let pid = process(global, &args.process)?;
    let refused = |what: String| {
        Failure::new(Kind::Usage, what)
            .hint("name torchrun, or a rank: `pgrep -af torchrun` lists them")
    };
    if pid == 1 {
        return Err(refused(
            "process 1 started everything here: no job is told from another below it".to_owned(),
        ));
    }
    if pid == std::process::id() || started_by(std::process::id(), pid) && is_sconce(pid) {
        return Err(refused(format!("process {pid} is sconce itself")));
    }
    let outside = Outside::find(pid)?;
    let evidence = args.output.as_ref().map(|given| folder(given)).transpose()?;
    let mut lines = Vec::new();
    let ports = ports(&outside, &mut lines);
    let before = nccl(&ports, evidence.as_ref(), &mut lines)?;
    for seen in outside.seen() {
        dumps(&seen, evidence.as_ref(), &mut lines)?;
    }
    let counted = |world: u32| {
        let now: Vec<_> = ports.iter().map(Port::ask).collect();
        let both = before.iter().zip(&now);
        let both =
            both.filter_map(|(before, now)| Some((before.as_deref().ok()?, now.as_deref().ok()?)));
        Nccl::between(both, world)
    };
    let (page, stands) = outside.page(evidence.as_ref(), &lines, counted)?;
    println!("{}", page.trim_end());
    Ok(ExitCode::from(match stands {
        Stands::Moving => 0,
        Stands::Named => Kind::No as u8,
        Stands::CantTell => Kind::CantTell as u8,
    }))
}

/// The process that is meant: a number, or the first one of a container of ours.
fn process(global: &Global, given: &str) -> Result<u32, Failure> {
    if let Some(pid) = given.parse().ok().filter(|pid| *pid > 0) {
        return Ok(pid);
    }
    let nothing = |what: String| {
        Failure::new(Kind::Usage, what)
            .hint("name a PID (`pgrep -af torchrun`), or a container that `sconce ps` lists")
    };
    let one = match sconce_run::find(&ps::folder(global)?, given) {
        Err(sconce_run::Error::NoContainer(name)) => {
            return Err(nothing(format!("`{name}` is no PID, and no container is called so")));
        }
        found => found?,
    };
    let pid = one.state.pid.filter(|_| one.alive).and_then(|pid| u32::try_from(pid).ok());
    pid.ok_or_else(|| nothing(format!("the container `{given}` does not run")))
}

/// Whether a process is below another.
fn started_by(mut pid: u32, above: u32) -> bool {
    for _ in 0..1024 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent =
            stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        match parent {
            Some(parent) if parent == above => return true,
            Some(parent) if parent > 1 => pid = parent,
            _ => return false,
        }
    }
    false
}

fn is_sconce(pid: u32) -> bool {
    let of = |pid: &str| fs::read_link(format!("/proc/{pid}/exe")).ok();
    of(&pid.to_string()).is_some_and(|program| Some(program) == of("self"))
}

fn folder(given: &Path) -> Result<Evidence, Failure> {
    let folder = paths::of_option("--output", given)?;
    let fault = |error: std::io::Error| {
        Failure::new(Kind::Storage, format!("{} can't be used: {error}", folder.display()))
            .hint("`--output DIR` names a folder that is new or empty")
    };
    // Stacks may say what nobody else is to read.
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            if fs::read_dir(&folder).map_err(fault)?.next().is_some() {
                return Err(fault(std::io::Error::other("it is not empty")));
            }
        }
        made => made.map_err(fault)?,
    }
    Ok(Evidence::of(folder))
}

/// Where NCCL answers for ranks of one network namespace.
struct Port {
    /// A process that is in there.
    pid: u32,
    /// Whether we are not.
    elsewhere: bool,
    address: SocketAddr,
}

impl Port {
    fn ask(&self) -> Answer {
        let &Self { pid, elsewhere, address } = self;
        let path = format!("/proc/{pid}/ns/net");
        // The thread that has entered the namespace ends with the question.
        let question = thread::spawn(move || {
            if elsewhere {
                let entered = File::open(&path).and_then(|file| {
                    Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?)
                });
                entered.map_err(|error| {
                    format!("its network namespace can't be entered ({error}); root may")
                })?;
            }
            ras::ask(address)
        });
        question.join().unwrap_or_else(|_| Err("the question failed".to_owned()))
    }
}

/// One of each network namespace.
fn ports(outside: &Outside, lines: &mut Vec<String>) -> Vec<Port> {
    let (mut ports, mut known) = (Vec::new(), Vec::new());
    for seen in outside.seen().filter(|seen| seen.rank.is_some()) {
        let pid = seen.pid;
        let Ok(namespace) = fs::read_link(format!("/proc/{pid}/ns/net")) else { continue };
        let Some(address) = ras::address(seen.env.get("NCCL_RAS_ADDR").map(String::as_str)) else {
            lines.push(format!("NCCL of process {pid} was not asked: its NCCL_RAS_ADDR is a name"));
            continue;
        };
        let elsewhere = fs::read_link("/proc/self/ns/net").ok().as_ref() != Some(&namespace);
        if !known.contains(&(namespace.clone(), address)) {
            known.push((namespace, address));
            ports.push(Port { pid, elsewhere, address });
        }
    }
    ports
}

/// What NCCL answered at a port, or why it did not.
type Answer = Result<Vec<u8>, String>;

/// Asks NCCL at each port, and says what came.
fn nccl(
    ports: &[Port],
    evidence: Option<&Evidence>,
    lines: &mut Vec<String>,
) -> Result<Vec<Answer>, Failure> {
    let answers: Vec<Answer> = ports.iter().map(Port::ask).collect();
    for (at, (answer, port)) in answers.iter().zip(ports).enumerate() {
        match answer {
            Ok(answer) => {
                lines.extend(ras::counts(answer));
                if let Some(evidence) = evidence {
                    evidence.keep(&format!("nccl-ras-{}.json", at + 1), answer)?;
                }
            }
            Err(why) => {
                lines.push(format!("NCCL's RAS port {} did not answer: {why}", port.address));
            }
        }
    }
    Ok(answers)
}

/// Takes the dumps of torch's flight recorder that lie where the process was told to put them.
fn dumps(
    seen: &Seen<'_>,
    evidence: Option<&Evidence>,
    lines: &mut Vec<String>,
) -> Result<(), Failure> {
    let (Some(rank), Some(prefix)) = (seen.rank, DUMPS.iter().find_map(|name| seen.env.get(*name)))
    else {
        return Ok(());
    };
    let path = format!("{prefix}{rank}");
    // Links in there lead where they lead for the process.
    let root = sconce_open::Folder::root(Path::new(&format!("/proc/{}/root", seen.pid)));
    match root.and_then(|root| root.read(Path::new(path.trim_start_matches('/')), LARGEST_DUMP)) {
        Ok(bytes) => {
            let kept = match evidence {
                Some(evidence) => {
                    evidence.keep(&format!("flight-recorder-{rank}"), &bytes)?;
                    "kept"
                }
                None => "`--output DIR` keeps it",
            };
            lines.push(format!(
                "rank {rank} has dumped torch's flight recorder, {} bytes: {kept}",
                bytes.len()
            ));
        }
        Err(error) if sconce_open::is_missing(&error) => {}
        Err(error) => {
            lines.push(format!("the flight recorder of rank {rank} can't be read: {error}"))
        }
    }
    Ok(())
}
