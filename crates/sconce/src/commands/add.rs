//! `sconce add` and `sconce remove`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sconce_build::Project;
use sconce_lock::reaches::When;
use sconce_lock::{Error, Upgrade};

use super::lock::say;
use crate::cli::Global;
use crate::commands::paths;
use crate::context::Context;
use crate::error::Failure;
use crate::trust;

/// Add Python requirements to sconce.toml, and lock
///
/// One of the same name is replaced. Where no lock comes about, sconce.toml stays as it was.
#[derive(clap::Args)]
pub struct Add {
    /// Requirements: einops, "numpy>=2"
    #[arg(required = true, value_name = "REQUIREMENT")]
    requirements: Vec<String>,
    #[command(flatten)]
    place: Place,
}

/// Take Python requirements out of sconce.toml, and lock
///
/// Where no lock comes about, sconce.toml stays as it was.
#[derive(clap::Args)]
pub struct Remove {
    /// Names of packages
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    place: Place,
}

#[derive(clap::Args)]
struct Place {
    /// The folder with the sconce.toml
    #[arg(long, default_value = ".", value_name = "DIR")]
    project: PathBuf,
    /// Allow once what the project asks for outside its folder (see `sconce trust`)
    #[arg(long)]
    trust: bool,
}

pub fn add(global: &Global, args: &Add) -> Result<ExitCode, Failure> {
    edit(global, &args.place, |text| sconce_lock::add(text, &args.requirements))
}

pub fn remove(global: &Global, args: &Remove) -> Result<ExitCode, Failure> {
    edit(global, &args.place, |text| sconce_lock::remove(text, &args.names))
}

/// Locks what `sconce.toml` would be, and only then writes it and the lock.
fn edit(
    global: &Global,
    place: &Place,
    change: impl FnOnce(&str) -> Result<String, Error>,
) -> Result<ExitCode, Failure> {
    let context = Context::open(global)?;
    let (folder, text) = read(&paths::of_option("--project", &place.project)?)?;
    let changed = change(&text)?;
    let project = Project::of_text(&folder, &changed)?;
    let mirror = project.spec().base.mirror.clone();
    let builder = context.builder(mirror.as_deref());
    let before = builder.existing_lock(&project)?;
    trust::check(&project, before.as_ref(), When::Lock, place.trust)?;
    let host = sconce_start::host();
    let locked = builder.resolve(&project, &host, before.as_ref(), &Upgrade::Nothing)?;
    let path = project.spec().leads.folder().join("sconce.toml");
    sconce_build::write_whole(&path, &changed)?;
    if let Err(error) = builder.keep_lock(&project, &locked.lock) {
        sconce_build::write_whole(&path, &text)?;
        return Err(error.into());
    }
    say(&locked);
    Ok(ExitCode::SUCCESS)
}

fn read(folder: &Path) -> Result<(PathBuf, String), Failure> {
    let path = folder.join("sconce.toml");
    if !path.exists() {
        return Err(sconce_build::Error::NoSpec(folder.to_owned()).into());
    }
    Ok((folder.to_owned(), Project::text(folder)?))
}
