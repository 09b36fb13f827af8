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
        let one = ps::find(global, name)?;
        println!("{}", one.wait(&mut |text| eprintln!("note: {text}"))?.code());
    }
    Ok(ExitCode::SUCCESS)
}
