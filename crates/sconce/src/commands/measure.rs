//! `sconce measure`: what `sconce bench` runs inside the container. Hidden: its answers go to a file that `bench` reads.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use sconce_inside::measure::{self, Order};

use crate::error::{Failure, Kind};

/// Measure GPUs from inside a container
#[derive(clap::Args)]
pub struct Args {
    /// Where a line of JSON is appended for each answer
    #[arg(long)]
    results: PathBuf,
    /// How much time: quick, usual or full
    #[arg(long)]
    effort: String,
    /// The seed of the random numbers
    #[arg(long)]
    seed: u64,
    /// Measure only these figures
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The Python whose packages may hold CUDA's libraries
    #[arg(long)]
    python: Option<PathBuf>,
    /// Where the program in Python lies that measures through torch
    #[arg(long)]
    program: PathBuf,
    /// How long `burn` takes, in seconds
    #[arg(long, default_value_t = 0)]
    burn: u64,
    /// Measure one group in this very process
    #[arg(long)]
    alone: bool,
    /// The groups, each with the seconds it may take: NAME:SECONDS
    groups: Vec<String>,
}

pub fn main(args: &Args) -> Result<ExitCode, Failure> {
    let effort = measure::effort(&args.effort)
        .ok_or_else(|| Failure::new(Kind::Usage, "the effort is quick, usual or full"))?;
    measure::run(&Order {
        results: args.results.clone(),
        effort,
        seed: args.seed,
        only: args.only.clone(),
        python: args.python.clone(),
        program: args.program.clone(),
        burn: Duration::from_secs(args.burn),
        alone: args.alone,
        groups: args.groups.clone(),
    })?;
    Ok(ExitCode::SUCCESS)
}
