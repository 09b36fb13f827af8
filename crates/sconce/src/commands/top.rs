//! `sconce top`.

mod addresses;
mod live;
mod machines;
mod screen;
mod tables;
mod view;

use std::fs::File;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use sconce_monitor::recording::Replay;

use crate::cli::Global;
use crate::commands::monitor_replay;
use crate::error::{Failure, Kind};
use machines::{LISTENS, Machine, Silent, Source};

/// Show the GPUs and who uses them, live
///
/// Of this machine, or of others on which `sconce monitor` listens: GPUs with their history, instances of MIG, processes
/// with user, container, image and job, and what is wrong. Keys: q ends, s sorts the processes, / filters them,
/// k sends a signal to one, arrows scroll: the processes, and all where GPUs take most of the screen. Where standard output is no terminal it prints once.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sconce top                              this machine
  sconce top gpu1:9400 gpu[2-8]:9400      others, where `sconce monitor --listen :9400` runs
  sconce top '[2001:db8::7]:9400'         an address of IPv6
  sconce top --ca ca.pem --login me.txt https://gpu1:9400
                                          one that encrypts and asks for a login (`sconce monitor --web-config`)
  sconce top --replay day.gz              what `sconce monitor --record day.gz` recorded
  sconce top --once                       a table, and no more")]
pub struct Args {
    /// Other machines, by the address of their monitor: HOST:PORT, several as gpu[1-4]:9400, https://HOST:PORT
    #[arg(value_name = "HOST")]
    hosts: Vec<String>,
    #[command(flatten)]
    reach: addresses::Reach,
    /// Show a recording of `sconce monitor --record`, at its own pace; with --once its last moment
    #[arg(long, value_name = "FILE", conflicts_with = "hosts")]
    replay: Option<PathBuf>,
    /// Print once and end
    #[arg(long)]
    once: bool,
    /// As JSON, once: {at_ms, driver, gpus: [{index, uuid, model, values, instances, processes, holders, …}]}, values in base
    /// units; of several machines {host: {sample, findings}}
    #[arg(long)]
    json: bool,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    if let Some(path) = &args.replay {
        return recorded(args, monitor_replay::open(path)?);
    }
    let sources = Source::of(&args.hosts, &args.reach)?;
    let terminals = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if terminals && !args.once && !args.json {
        let local = matches!(sources.as_slice(), [Source::Here]);
        let (machines, answers) = machines::follow(&sources);
        return live::run(machines, &answers, local).map(|()| ExitCode::SUCCESS);
    }
    let machines: Vec<Machine> = machines::once(&sources);
    if let [Machine { name: None, answer: Some(Err(silent)), .. }] = machines.as_slice() {
        let failure = Failure::new(Kind::Machine, format!("NVML does not answer: {}", silent.why));
        return Err(failure.hint("`sconce doctor` says what is wrong with the driver"));
    }
    if args.json {
        println!("{}", machines::json(&machines).map_err(Failure::unwritable)?);
    } else {
        for machine in &machines {
            print!("{}", once(machine));
        }
    }
    let silent: Vec<Silent> = machines.iter().filter_map(Machine::silence).collect();
    if !silent.is_empty() {
        let why: Vec<&str> = silent.iter().map(|one| one.why.as_str()).collect();
        let mut hints: Vec<&str> = Vec::new();
        for hint in silent.iter().map(|one| one.hint.as_deref().unwrap_or(LISTENS)) {
            if !hints.contains(&hint) {
                hints.push(hint);
            }
        }
        return Err(Failure::new(Kind::Machine, why.join("\n  ")).hint(hints.join("\n")));
    }
    if !terminals && !args.once && !args.json && !global.quiet {
        eprintln!("note: standard output is no terminal: this is one look");
    }
    Ok(ExitCode::SUCCESS)
}

/// A recording: live, or its last moment.
fn recorded(args: &Args, mut samples: Replay<File>) -> Result<ExitCode, Failure> {
    let terminals = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if terminals && !args.once && !args.json {
        let (machine, answers, playing) = machines::play(samples)?;
        live::run(vec![machine], &answers, false)?;
        // Who ended before its end knows nothing of the rest.
        if playing.is_finished()
            && let Ok(samples) = playing.join()
        {
            monitor_replay::whole(&samples, "nothing is shown")?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let machine = machines::last_of(&mut samples);
    if let Some(Err(silent)) = &machine.answer {
        let what = format!("NVML did not answer at the recording's end: {}", silent.why);
        return Err(Failure::new(Kind::Machine, what));
    }
    if args.json {
        println!("{}", machines::json(&[machine]).map_err(Failure::unwritable)?);
    } else {
        print!("{}", once(&machine));
    }
    monitor_replay::whole(&samples, "nothing is shown").map(|()| ExitCode::SUCCESS)
}

/// A machine as tables.
fn once(machine: &Machine) -> String {
    let Some(Ok(now)) = &machine.answer else { return String::new() };
    let head = machine.name.as_ref().map(|name| format!("{}:\n", tables::plain(name, 60)));
    let (sample, findings) = (&now.sample, tables::findings(&now.findings));
    head.unwrap_or_default() + &tables::gpus(sample) + &tables::processes(sample) + &findings
}
