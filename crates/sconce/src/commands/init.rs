//! `sconce init`.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use sconce_lock::Spec;

use crate::error::{Failure, Kind};

/// Write an annotated sconce.toml
///
/// Every key is there, commented out, with its default and what it does. Nothing is overwritten.
#[derive(clap::Args)]
pub struct Args {
    /// The project's folder, made if missing
    #[arg(default_value = ".")]
    dir: PathBuf,
}

pub fn main(args: &Args) -> Result<ExitCode, Failure> {
    let path = args.dir.join("sconce.toml");
    let failed = |error: std::io::Error| {
        let failure =
            Failure::new(Kind::Storage, format!("can't write {}: {error}", path.display()));
        match error.kind() {
            ErrorKind::AlreadyExists => failure.hint("edit it, or move it away first"),
            _ => failure,
        }
    };
    fs::create_dir_all(&args.dir).map_err(failed)?;
    let mut file = File::create_new(&path).map_err(failed)?;
    file.write_all(Spec::template().as_bytes()).map_err(failed)?;
    eprintln!("wrote {}; `sconce run {}` takes it from here", path.display(), args.dir.display());
    Ok(ExitCode::SUCCESS)
}
