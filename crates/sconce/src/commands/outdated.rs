//! `sconce outdated`.

use std::process::ExitCode;

use sconce_audit::{Contents, OutdatedTorch, outdated};
use sconce_lock::Upgrade;
use sconce_lock::reaches::When;
use sconce_start::Target;
use serde_json::json;

use crate::cli::Global;
use crate::commands::inspect::for_a_terminal;
use crate::commands::paths;
use crate::context::Context;
use crate::error::{Failure, Kind};
use crate::output::shown;
use crate::table::Table;
use crate::trust;

/// Say what of a lock is older than what there is, and what the newer torch would lose
///
/// For each wheel and Debian package the version in the lock, that which `sconce lock --upgrade` would take
/// today (FITS), and the newest release on the index (NEWEST). Nothing is written. Exit code 0 nothing
/// newer fits, 1 something does, 12 nothing is known that does, and Debian's archive could not be asked.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sconce outdated                 of the lock in this folder
  sconce outdated torch:2.10.0
  sconce outdated --json | jq -r '.packages[].name'")]
pub struct Args {
    /// A folder with a sconce.toml and its lock, or a tag such as torch:2.15.0 that was locked
    #[arg(default_value = ".", value_name = "TARGET")]
    project: String,
    /// Allow once what the project asks for outside its folder (see `sconce trust`)
    #[arg(long)]
    trust: bool,
    /// As JSON: {packages: [{kind, name, locked, fits, newest}], torch_fits, torch_newest}; a torch is {version, driver,
    /// gpus: {lost, gained, unknown}}, null where it is no other one
    #[arg(long)]
    json: bool,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let context = Context::open(global)?;
    let project = Target::find_project(&paths::target(&args.project)?, "outdated")?;
    let mirror = project.spec().base.mirror.clone();
    let builder = context.builder(mirror.as_deref());
    let Some(lock) = builder.existing_lock(&project)? else {
        let hint = format!("`sconce lock {}` makes one", trust::quoted(args.project.as_ref()));
        return Err(Failure::new(Kind::Usage, format!("`{}` has no lock", args.project)).hint(hint));
    };
    trust::check(&project, Some(&lock), When::Lock, args.trust)?;
    let host = sconce_start::host();
    let (today, debian) = match builder.resolve(&project, &host, None, &Upgrade::All) {
        Ok(today) => (today.lock, true),
        // Debian's archive may be out of reach: its packages stay as they are then.
        Err(error) => {
            let names = lock.wheels.iter().map(|wheel| wheel.name.clone()).collect();
            let wheels = Upgrade::Packages(names);
            let Ok(today) = builder.resolve(&project, &host, Some(&lock), &wheels) else {
                return Err(error.into());
            };
            eprintln!("note: of Debian packages it can't be told: {error}");
            (today.lock, false)
        }
    };
    // Of other indexes the newest is what fits from them.
    let listed = lock.wheels.iter().filter(|wheel| wheel.index == "pypi");
    let names: Vec<String> = listed.map(|wheel| wheel.name.clone()).collect();
    let newest = builder.newest(&project, &names)?;
    let [locked, fits] = [&lock, &today].map(|lock| Contents::of_lock(&args.project, lock));
    let found = outdated(&locked, &fits, &newest, lock.facts.machine);
    let code = match (found.can_be_upgraded(), debian) {
        (true, _) => ExitCode::from(Kind::No as u8),
        (false, true) => ExitCode::SUCCESS,
        (false, false) => ExitCode::from(Kind::CantTell as u8),
    };
    if args.json {
        let text = serde_json::to_string_pretty(&found).map_err(Failure::unwritable)?;
        println!("{}", for_a_terminal(&text));
        return Ok(code);
    }
    if found.packages.is_empty() {
        if debian {
            eprintln!("all is the newest that there is");
        }
        return Ok(code);
    }
    let rows = found.packages.iter();
    let rows = rows.map(|row| {
        vec![
            json!(row.name),
            json!(row.kind),
            json!(row.locked),
            json!(row.fits),
            json!(row.newest),
        ]
    });
    let table = Table {
        columns: &[
            ("name", "NAME"),
            ("kind", "KIND"),
            ("locked", "LOCKED"),
            ("fits", "FITS"),
            ("newest", "NEWEST"),
        ],
        rows: rows.collect(),
    };
    print!("{}", shown(&table.text()));
    for torch in [&found.torch_fits, &found.torch_newest].into_iter().flatten() {
        print!("{}", shown(&words(torch)));
    }
    Ok(code)
}

/// What another torch means, a line for each GPU capability.
fn words(torch: &OutdatedTorch) -> String {
    let driver =
        torch.driver.as_ref().map(|driver| format!(" starts on driver {driver} and newer"));
    let mut lines = vec![format!("torch {}{}", torch.version, driver.unwrap_or_default())];
    let gpus = &torch.gpus;
    lines.extend(gpus.lost.iter().map(|row| format!("  no longer serves {}", row.line())));
    lines.extend(gpus.gained.iter().map(|row| format!("  newly serves {}", row.line())));
    lines.extend(gpus.unknown.iter().map(|why| format!("  GPUs: can't tell, {why}")));
    lines.join("\n") + "\n"
}
