//! `sconce kill`.

use std::process::ExitCode;

use crate::cli::Global;
use crate::commands::ps::{self, Done};
use crate::error::Failure;

/// Send a signal to containers
#[derive(clap::Args)]
pub struct Args {
    /// Its name or number; KILL ends all of a container at once
    #[arg(short, long, default_value = "KILL")]
    signal: String,
    /// Names or ids
    #[arg(required = true)]
    container: Vec<String>,
}

/// The signal that nothing survives.
const KILL: i32 = 9;

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let signal = sconce_start::signal("--signal", &args.signal)?;
    ps::each(&args.container, |name| {
        let one = ps::find(global, name)?;
        one.kill(signal)?;
        if signal == KILL {
            // So that `sconce kill NAME && sconce rm NAME` works; it left no record if it was `--rm`.
            let _ = one.wait(&mut |text| eprintln!("note: {text}"));
        }
        Ok(Done::Named)
    })
}
