//! `sconce wait`.

use std::process::ExitCode;

use crate::cli::Global;
use crate::commands::ps::{self, Done};
use crate::error::Failure;

/// Wait until containers have ended, and print the exit code of each
#[derive(clap::Args)]
pub struct Args {
    /// Names or ids
    #[arg(required = true)]
    container: Vec<String>,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    // As Docker's: one that is not there keeps the others' codes from nobody.
    ps::each(&args.container, |name| {
        let one = ps::find(global, name)?;
        println!("{}", one.wait(&mut |text| eprintln!("note: {text}"))?.code());
        Ok(Done::Told)
    })
}
