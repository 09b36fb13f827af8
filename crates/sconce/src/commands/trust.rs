//! `sconce trust`.

use std::path::PathBuf;
use std::process::ExitCode;

use sconce_build::Project;

use crate::cli::Global;
use crate::commands::paths;
use crate::context::Context;
use crate::error::{Failure, Kind};
use crate::trust::{self, Trusted};

/// Accept what a project asks for outside its folder
///
/// A project's own files can ask for more than its folder: folders of this machine as volumes,
/// files and indexes elsewhere, variables of yours. Without trust that is refused, or asked on a
/// terminal. This lists what it is and remembers that you accept it; when the list changes, it
/// is asked again. Options on your command line need no trust.
#[derive(clap::Args)]
pub struct Args {
    /// The project's folder
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Forget that it was trusted
    #[arg(long)]
    revoke: bool,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let folder = paths::of_option("the folder", &args.dir)?;
    if args.revoke {
        let known = Trusted::open()?.forget(&folder)?;
        eprintln!(
            "{} {}",
            args.dir.display(),
            if known { "is trusted no more" } else { "was not trusted" }
        );
        return Ok(if known { ExitCode::SUCCESS } else { ExitCode::from(Kind::No as u8) });
    }
    let project = Project::folder(&folder)?;
    let lock = Context::open(global)?.builder(None).existing_lock(&project)?;
    let reaches = trust::reaches(&project, lock.as_ref());
    if reaches.is_empty() {
        eprintln!("{} asks for nothing outside its folder", args.dir.display());
        return Ok(ExitCode::SUCCESS);
    }
    Trusted::open()?.remember(&folder, &reaches)?;
    eprintln!("trusted: {}{}", args.dir.display(), trust::listed(&reaches));
    Ok(ExitCode::SUCCESS)
}
