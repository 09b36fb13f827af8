//! `sconce stats`.

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use sconce_run::Listed;
use serde_json::json;

use crate::cli::Global;
use crate::commands::ps;
use crate::error::Failure;
use crate::progress::bytes_in_words;

/// How long processor time is counted for one figure.
const INTERVAL: Duration = Duration::from_millis(500);

/// Show what running containers use: processor time, memory, processes
///
/// As their cgroups count it; where none could be made, `-` stands. GPUs: `nvidia-smi` on the host.
#[derive(clap::Args)]
pub struct Args {
    /// As JSON: a list of {id, name, cores, memory_bytes, memory_limit_bytes, processes}
    #[arg(long)]
    json: bool,
    /// Names or ids; all that run if none is given
    container: Vec<String>,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let mut chosen: Vec<Listed> = match args.container.is_empty() {
        true => sconce_run::list(&ps::folder(global)?)?,
        false => {
            let found = args.container.iter().map(|name| ps::find(global, name));
            found.collect::<Result<_, _>>()?
        }
    };
    // Those that were asked for by name and are not there to be counted: the others are shown all the same.
    let gone: Vec<Failure> = chosen
        .iter()
        .filter(|one| !args.container.is_empty() && !one.alive)
        .map(|one| sconce_run::Error::NotRunning(one.id.clone()).into())
        .collect();
    chosen.retain(|one| one.alive);
    let begun = Instant::now();
    let before: Vec<_> = chosen.iter().map(Listed::usage).collect();
    if !chosen.is_empty() {
        thread::sleep(INTERVAL);
    }
    let micros = begun.elapsed().as_micros().max(1) as f64;
    let rows = chosen.iter().zip(&before).map(|(one, before)| {
        let now = one.usage();
        let cores = now.processor_microseconds.zip(before.processor_microseconds);
        let cores = cores.map(|(now, before)| now.saturating_sub(before) as f64 / micros);
        (one, now, cores)
    });
    if args.json {
        let rows: Vec<_> = rows
            .map(|(one, usage, cores)| {
                json!({
                    "id": one.id,
                    "name": one.container.name,
                    "cores": cores,
                    "memory_bytes": usage.memory_bytes,
                    "memory_limit_bytes": usage.memory_limit_bytes,
                    "processes": usage.processes,
                })
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&rows).map_err(Failure::unwritable)?);
        return told(&gone);
    }
    println!("{:<12}  {:<20}  {:>6}  {:>22}  {:>9}", "ID", "NAME", "CORES", "MEMORY", "PROCESSES");
    for (one, usage, cores) in rows {
        let memory = match (usage.memory_bytes, usage.memory_limit_bytes) {
            (Some(used), Some(most)) => {
                format!("{} of {}", bytes_in_words(used), bytes_in_words(most))
            }
            (Some(used), None) => bytes_in_words(used),
            (None, _) => "-".to_owned(),
        };
        println!(
            "{:<12}  {:<20}  {:>6}  {memory:>22}  {:>9}",
            one.id.get(..12).unwrap_or(&one.id),
            one.container.name.as_deref().unwrap_or("-"),
            cores.map_or("-".to_owned(), |cores| format!("{cores:.2}")),
            usage.processes.map_or("-".to_owned(), |count| count.to_string()),
        );
    }
    told(&gone)
}

/// The exit code, once each failure is printed.
fn told(gone: &[Failure]) -> Result<ExitCode, Failure> {
    gone.iter().for_each(Failure::print);
    Ok(gone.first().map_or(ExitCode::SUCCESS, |failure| ExitCode::from(failure.code())))
}
