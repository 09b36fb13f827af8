//! `sconce rm`.

use std::process::ExitCode;

use crate::cli::Global;
use crate::commands::ps::{self, Done};
use crate::error::Failure;

/// Remove the record and log of detached containers that ended
#[derive(clap::Args)]
pub struct Args {
    /// End those that run first; one that is not there is no failure
    #[arg(short, long)]
    force: bool,
    /// Names or ids
    #[arg(required = true)]
    container: Vec<String>,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    ps::each(&args.container, |name| {
        let mut one = match sconce_run::find(&ps::folder(global)?, name) {
            // As of Docker's since 20.10 (cli/command/container/rm.go): what is to be gone is gone.
            Err(error @ sconce_run::Error::NoContainer(_)) if args.force => {
                Failure::from(error).print();
                return Ok(Done::Not);
            }
            found => found?,
        };
        if one.alive && args.force {
            one.end()?;
            one.alive = false;
        }
        one.remove()?;
        Ok(Done::Named)
    })
}
