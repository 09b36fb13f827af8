//! `sconce wait`.

use std::process::ExitCode;

use crate::cli::Global;
use crate::commands::ps;
use crate::error::Failure;

/// Wait until containers have ended, and print the exit code of each
#[derive(clap::Args)]
pub struct Args {
    /// Names or ids
    #[arg(required = true)]
    container: Vec<String>,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    for name in &args.container {
        println!("{}", ps::find(global, name)?.wait()?.code());
    }
    Ok(ExitCode::SUCCESS)
}
