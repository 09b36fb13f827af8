//! `sconce man`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory;

use crate::cli::Cli;
use crate::error::{Failure, Kind};

/// Write the manual pages, one for each command
#[derive(clap::Args)]
pub struct Args {
    /// The folder to write them to, such as /usr/local/share/man/man1
    dir: PathBuf,
}

pub fn main(args: &Args) -> Result<ExitCode, Failure> {
    std::fs::create_dir_all(&args.dir)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), &args.dir))
        .map_err(|error| {
            Failure::new(Kind::Storage, format!("can't write to {}: {error}", args.dir.display()))
        })?;
    Ok(ExitCode::SUCCESS)
}
