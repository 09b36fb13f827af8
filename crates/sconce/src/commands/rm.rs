//! `sconce rm`.

use std::process::ExitCode;

use crate::cli::Global;
use crate::commands::ps;
use crate::error::Failure;

/// Remove the record and log of detached containers that ended
#[derive(clap::Args)]
pub struct Args {
    /// End those that run first
    #[arg(short, long)]
    force: bool,
    /// Names or ids
    #[arg(required = true)]
    container: Vec<String>,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    ps::each(&args.container, |name| {
        let mut one = ps::find(global, name)?;
        if one.alive && args.force {
            one.kill(9)?;
            match one.wait() {
                // With --rm its record may be gone before it is read.
                Ok(_) | Err(sconce_run::Error::Lost(_)) => {}
                Err(error) => return Err(error.into()),
            }
            // Its shim may still be tidying up; one with --rm is gone then.
            while one.lives() {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            one.alive = false;
        }
        Ok(one.remove()?)
    })
}
