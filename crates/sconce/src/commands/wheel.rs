//! `sconce wheel`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sconce_build::Project;
use sconce_lock::reaches::When;
use sconce_lock::{Lock, Rebuilt, SOURCE, Upgrade, Wheel, package_of};
use sconce_start::Target;
use serde_json::json;

use crate::cli::Global;
use crate::commands::paths;
use crate::context::Context;
use crate::error::{Failure, Kind};
use crate::trust;

/// What stands for a folder without a sconce.toml.
const NOTHING: &str = "[environment]\ntorch = false\n";

/// Build wheels from source distributions
///
/// Each is built once, in a container of the project's environment: its Python, its torch, nvcc where there is
/// CUDA code, for the GPUs that sconce.toml names; without network, and never on this machine itself. The
/// wheel is kept in the store and copied to DIR: a folder that `indexes` in sconce.toml can name. Without
/// requirements, the packages of `from-source` in sconce.toml are built. Prints the paths.
///
/// Examples:
///   sconce wheel deepspeed
///   sconce wheel -o wheels --for torch:2.15.0 "deepspeed>=0.19"
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Requirements: deepspeed, "flash-attn==2.8.3"
    #[arg(value_name = "REQUIREMENT")]
    requirements: Vec<String>,
    /// The folder that the wheels are copied to
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// What they are built for: a folder with a sconce.toml, or a tag such as torch:2.15.0
    #[arg(long = "for", value_name = "TARGET", default_value = ".")]
    target: String,
    /// Build each a second time, and note in the lock whether that gives the same bytes
    #[arg(long)]
    check: bool,
    /// Allow once what the project asks for outside its folder (see `sconce trust`)
    #[arg(long)]
    trust: bool,
    /// As JSON: [{name, version, file, sha256, size, path}]
    #[arg(long)]
    json: bool,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let failed = |error: std::io::Error| {
        let what = format!("can't write to {}: {error}", args.output.display());
        Failure::new(Kind::Storage, what)
    };
    // Before minutes of building.
    let place = paths::reach(&args.output).map_err(failed)?;
    let context = Context::open(global)?;
    let project = project(args)?;
    if project.spec().environment.from_source.is_empty() {
        let hint = "name what to build: `sconce wheel deepspeed`";
        return Err(Failure::new(Kind::Usage, "nothing is to be built from source").hint(hint));
    }
    let mirror = project.spec().base.mirror.clone();
    let builder = context.builder(mirror.as_deref());
    let before = builder.existing_lock(&project)?;
    trust::check(&project, before.as_ref(), When::Lock, args.trust)?;
    let host = sconce_start::host();
    let locked = builder.resolve(&project, &host, before.as_ref(), &Upgrade::Nothing)?;
    for note in locked.explanation.iter().flat_map(|explanation| &explanation.notes) {
        eprintln!("note: {note}");
    }
    let named: Vec<String> = args.requirements.iter().filter_map(|text| package_of(text)).collect();
    let asked = |name: &String| named.is_empty() || named.contains(name);
    let built = locked.lock.wheels.iter().filter(|wheel| wheel.index == SOURCE);
    let mut rows = Vec::new();
    let mut checked = before.clone();
    let folder = paths::make(&place.real).map_err(failed)?;
    for wheel in built.filter(|wheel| asked(&wheel.name)) {
        builder.export_wheel(wheel, &sconce_open::held(&folder))?;
        let path = args.output.join(&wheel.file);
        if args.check {
            let rebuilt = builder.rebuild(&locked.lock, wheel)?;
            eprintln!(
                "{}: {}",
                wheel.file,
                match rebuilt {
                    Rebuilt::Same => "a second build gives the same bytes",
                    Rebuilt::Differs => "a second build gives other bytes",
                }
            );
            note(checked.as_mut(), wheel, rebuilt);
        }
        if !args.json {
            println!("{}", path.display());
        }
        rows.push(json!({
            "name": wheel.name,
            "version": wheel.version,
            "file": wheel.file,
            "sha256": wheel.sha256.hex(),
            "size": wheel.size,
            "path": path,
        }));
    }
    if let Some(checked) = checked.filter(|checked| Some(checked) != before.as_ref()) {
        builder.keep_lock(&project, &checked)?;
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&rows).map_err(Failure::unwritable)?);
    }
    Ok(ExitCode::SUCCESS)
}

/// Notes in the project's lock what came of a second build. Its image says so as well: the seal is off then.
fn note(lock: Option<&mut Lock>, wheel: &Wheel, rebuilt: Rebuilt) {
    let Some(lock) = lock.filter(|lock| lock.wheel(&wheel.name) == Some(wheel)) else { return };
    for source in lock.sources.iter_mut().filter(|source| source.name == wheel.name) {
        if source.rebuilt != Some(rebuilt) {
            source.rebuilt = Some(rebuilt);
            lock.sealed = None;
        }
    }
}

/// The project, with what is to be built among its requirements.
fn project(args: &Args) -> Result<Project, Failure> {
    let here = Path::new(&args.target);
    if args.target == "." && !here.join("sconce.toml").exists() {
        eprintln!(
            "note: there is no sconce.toml here: built without torch (`--for torch:2.15.0` names one)"
        );
        let text = sconce_lock::add(NOTHING, &args.requirements)?;
        let project = Project::of_text(here, &text)?;
        return Ok(project.built_from_source(&args.requirements));
    }
    let project = Target::find_project(&paths::target(&args.target)?, "wheel")?;
    match args.requirements.is_empty() {
        true => Ok(project),
        false => Ok(project.with_sources(&args.requirements)?),
    }
}
