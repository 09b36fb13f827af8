//! `sconce completions`.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::error::Failure;

/// Print a completion script for a shell
#[derive(clap::Args)]
pub struct Args {
    /// Which shell
    shell: Shell,
}

pub fn main(args: &Args) -> Result<ExitCode, Failure> {
    // The generator panics where it can't write: it gets memory, which it always can.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "sconce", &mut script);
    print!("{}", String::from_utf8_lossy(&script));
    Ok(ExitCode::SUCCESS)
}
