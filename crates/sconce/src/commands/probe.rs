//! `sconce probe`: what `sconce verify` runs inside the container. Hidden: its answers go to a file that
//! `verify` reads.

use std::path::PathBuf;
use std::process::ExitCode;

use sconce_inside::probe::{self, Order};

use crate::error::Failure;

/// Check the driver from inside a container
#[derive(clap::Args)]
pub struct Args {
    /// Where a line of JSON is appended for each check
    #[arg(long)]
    results: PathBuf,
    /// How many CUDA devices were given
    #[arg(long)]
    gpus: usize,
    /// How many boards they are on
    #[arg(long)]
    boards: usize,
    /// The Python whose packages may hold NVRTC
    #[arg(long)]
    python: Option<PathBuf>,
    /// Make one check in this very process
    #[arg(long)]
    alone: bool,
    /// The checks, each with the seconds it may take: NAME:SECONDS
    checks: Vec<String>,
}

pub fn main(args: &Args) -> Result<ExitCode, Failure> {
    probe::run(&Order {
        results: args.results.clone(),
        gpus: args.gpus,
        boards: args.boards,
        python: args.python.clone(),
        alone: args.alone,
        checks: args.checks.clone(),
    })?;
    Ok(ExitCode::SUCCESS)
}
