//! `sconce cdi`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use sconce_gpu::{Machine, cdi, driver};

use crate::commands::paths;
use crate::error::{Failure, Kind};

/// How long NVML may take to name MIG instances.
const PATIENCE: Duration = Duration::from_secs(10);

/// Describe this machine's GPUs for other container engines
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Write a CDI specification, for `docker run --device nvidia.com/gpu=all`, podman, containerd
    Generate {
        /// Where to, such as /etc/cdi/nvidia.json; standard output if not given
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Where the driver's files are, if not in the usual folders
        #[arg(long, value_name = "DIR")]
        driver_root: Option<PathBuf>,
    },
}

pub fn main(args: &Args) -> Result<ExitCode, Failure> {
    let Action::Generate { output, driver_root } = &args.action;
    let mut machine = Machine::host();
    if let Some(root) = paths::of_given("--driver-root", driver_root.as_deref())? {
        machine = machine.with_driver_root(&root);
    }
    let mut found = driver::find(&machine)?;
    driver::with_nvml(&machine, &mut found.survey, PATIENCE);
    let text = cdi::document(&found)?.json();
    match paths::of_given("--output", output.as_deref())? {
        None => println!("{text}"),
        Some(path) => std::fs::write(&path, text).map_err(|error| {
            Failure::new(Kind::Storage, format!("can't write {}: {error}", path.display()))
        })?,
    }
    Ok(ExitCode::SUCCESS)
}
