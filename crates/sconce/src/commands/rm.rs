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
            one.end()?;
            one.alive = false;
        }
        Ok(one.remove()?)
    })
}
