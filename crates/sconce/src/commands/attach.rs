//! `sconce attach`.

use std::process::ExitCode;

use crate::cli::Global;
use crate::commands::ps;
use crate::error::Failure;

/// Join a detached container's output, and input if it takes any, until it ends
///
/// Signals go to the container; its exit code becomes this one's. Ctrl-P, Ctrl-Q leaves a container that
/// has a terminal, and it runs on.
#[derive(clap::Args)]
pub struct Args {
    /// Name or id
    container: String,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let one = ps::find(global, &args.container)?;
    match one.attach(&mut |text| eprintln!("note: {text}"))? {
        Some(exit) => Ok(ps::exit_code(exit)),
        None => {
            eprintln!("{0} runs on; `sconce attach {0}` joins it again", args.container);
            Ok(ExitCode::SUCCESS)
        }
    }
}
