//! `sconce attach`.

use std::process::ExitCode;

use crate::cli::Global;
use crate::commands::ps;
use crate::error::Failure;

/// Join a detached container's output, and input if it takes any, until it ends
///
/// Signals go to the container; its exit code becomes this one's.
#[derive(clap::Args)]
pub struct Args {
    /// Name or id
    container: String,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    Ok(ps::exit_code(ps::find(global, &args.container)?.attach()?))
}
