//! `sconce top`.

mod live;
mod machines;
mod screen;
mod tables;
mod view;

use std::io::IsTerminal;
use std::process::ExitCode;

use crate::cli::Global;
use crate::error::{Failure, Kind};
use machines::{Machine, Source};

/// Show the GPUs and who uses them, live
///
/// Of this machine, or of others on which `sconce monitor` listens: GPUs with their history, instances of MIG, processes
/// with user, container, image and job, and what is wrong. Keys: q ends, s sorts the processes, / filters them,
/// k sends a signal to one, arrows scroll. Where standard output is no terminal it prints once.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sconce top                              this machine
  sconce top gpu1:9400 gpu[2-8]:9400      others, where `sconce monitor --listen :9400` runs
  sconce top --once                       a table, and no more")]
pub struct Args {
    /// Other machines, by the address of their monitor: HOST:PORT, or several as gpu[1-4]:9400
    #[arg(value_name = "HOST")]
    hosts: Vec<String>,
    /// Print once and end
    #[arg(long)]
    once: bool,
    /// As JSON, once: {at_ms, driver, gpus: [{index, uuid, model, values, instances, processes, holders, …}]}, values in base
    /// units; of several machines {host: {sample, findings}}
    #[arg(long)]
    json: bool,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let sources = Source::of(&args.hosts)?;
    let terminals = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if terminals && !args.once && !args.json {
        return live::run(sources);
    }
    let machines: Vec<Machine> = machines::once(&sources);
    if let [Machine { name: None, answer: Some(Err(why)), .. }] = machines.as_slice() {
        let failure = Failure::new(Kind::Machine, format!("NVML does not answer: {why}"));
        return Err(failure.hint("`sconce doctor` says what is wrong with the driver"));
    }
    if args.json {
        println!("{}", machines::json(&machines).map_err(Failure::unwritable)?);
    } else {
        for machine in &machines {
            print!("{}", once(machine));
        }
    }
    let silent: Vec<String> = machines.iter().filter_map(Machine::silence).collect();
    if !silent.is_empty() {
        let failure = Failure::new(Kind::Machine, silent.join("\n  "));
        return Err(
            failure.hint("`sconce monitor --listen :9400` must run there, and its port be reached")
        );
    }
    if !terminals && !args.once && !args.json && !global.quiet {
        eprintln!("note: standard output is no terminal: this is one look");
    }
    Ok(ExitCode::SUCCESS)
}

/// A machine as tables.
fn once(machine: &Machine) -> String {
    let Some(Ok(now)) = &machine.answer else { return String::new() };
    let head = machine.name.as_ref().map(|name| format!("{}:\n", tables::plain(name, 60)));
    head.unwrap_or_default() + &tables::gpus(&now.sample) + &tables::processes(&now.sample)
}
