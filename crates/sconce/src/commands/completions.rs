//! `sconce completions`.

use std::io;
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
    clap_complete::generate(args.shell, &mut Cli::command(), "sconce", &mut io::stdout());
    Ok(ExitCode::SUCCESS)
}
