//! `sconce init`.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use sconce_lock::{ProjectFile, Spec};

use crate::commands::paths;
use crate::error::{Failure, Kind};

/// Write an annotated sconce.toml
///
/// Every key is there, commented out, with its default and what it does; a requirements.txt, pyproject.toml, environment.yml or
/// pylock.toml in the folder is named in it. Nothing is overwritten.
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
    let folder = paths::reach(&args.dir).and_then(|reached| paths::make(&reached.real));
    let folder = folder.map_err(failed)?;
    let mut written =
        File::create_new(sconce_open::held(&folder).join("sconce.toml")).map_err(failed)?;
    let file = sconce_lock::project_file(&args.dir);
    let reads = file.as_ref().filter(|file| file.way.is_none()).map(|file| file.name);
    written.write_all(Spec::template(reads).as_bytes()).map_err(failed)?;
    let reads = reads.map(|name| format!(", which reads {name}")).unwrap_or_default();
    let dir = args.dir.display();
    eprintln!("wrote {}{reads}; `sconce run {dir}` takes it from here", path.display());
    if let Some(ProjectFile { name, way: Some(way) }) = file {
        eprintln!("note: {name} is not read: {way}");
    }
    Ok(ExitCode::SUCCESS)
}
