//! `sconce attach`.

use std::process::ExitCode;

use crate::cli::Global;
use crate::commands::ps;
use crate::error::Failure;

/// Join a detached container's output, and input if it takes any, until it ends
///
/// Its exit code becomes this one's. A container that has a terminal is left by Ctrl-P, Ctrl-Q and by signals that end `attach`,
/// and runs on. One without gets the signals; it is left, and runs on, when the terminal of `attach` is closed (HUP).
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
