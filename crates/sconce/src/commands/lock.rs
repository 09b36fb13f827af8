//! `sconce lock`.

use std::process::ExitCode;

use sconce_lock::Lock;
use sconce_lock::reaches::When;
use sconce_start::Target;

use crate::cli::Global;
use crate::context::Context;
use crate::error::{Failure, Kind};
use crate::trust;

/// Work out exactly what an environment is, and write it down
///
/// Torch is chosen from the facts for the GPUs and the driver you name; the rest is resolved by uv
/// for the target, wheels only, and checked; Debian's packages come from its signed indexes. A lock
/// that fits sconce.toml is left alone unless --upgrade is given.
#[derive(clap::Args)]
pub struct Args {
    /// A folder with a sconce.toml, or a tag such as torch:2.15.0
    #[arg(default_value = ".", value_name = "TARGET")]
    project: String,
    /// Say why each thing was chosen and what was refused; resolves anew, and writes nothing if a
    /// lock is there
    #[arg(long)]
    explain: bool,
    /// Resolve anew even if the lock fits
    #[arg(long)]
    upgrade: bool,
    /// Only say whether the lock fits sconce.toml (exit code 1 if not)
    #[arg(long, conflicts_with_all = ["explain", "upgrade", "unseal"])]
    check: bool,
    /// Take the seal off; the next build seals anew
    #[arg(long, conflicts_with_all = ["explain", "upgrade"])]
    unseal: bool,
    /// Allow once what the project asks for outside its folder (see `sconce trust`)
    #[arg(long)]
    trust: bool,
    /// With --explain: as JSON {choices: [{subject, choice, why, refused}], notes}
    #[arg(long, requires = "explain")]
    json: bool,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let context = Context::open(global)?;
    let project = Target::find_project(&args.project, "lock")?;
    let mirror = project.spec().base.mirror.clone();
    let builder = context.builder(mirror.as_deref());
    if args.check {
        return match builder.existing_lock(&project)? {
            None => {
                eprintln!("there is no lock");
                Ok(ExitCode::from(Kind::No as u8))
            }
            Some(lock) => match lock.check_spec(project.spec()) {
                Ok(()) => {
                    eprintln!("the lock fits");
                    Ok(ExitCode::SUCCESS)
                }
                Err(stale) => {
                    eprintln!("{stale}");
                    Ok(ExitCode::from(Kind::No as u8))
                }
            },
        };
    }
    if args.unseal {
        let lock = builder.existing_lock(&project)?;
        let lock =
            lock.ok_or_else(|| Failure::new(Kind::Document, "there is no lock to unseal"))?;
        builder.keep_lock(&project, &Lock { sealed: None, ..lock })?;
        return Ok(ExitCode::SUCCESS);
    }
    // A lock that can't be read is not used either.
    let before = builder.existing_lock(&project).ok().flatten();
    trust::check(&project, before.as_ref(), When::Lock, args.trust)?;
    let host = sconce_start::host();
    if args.explain {
        let before = builder.existing_lock(&project)?;
        let locked = builder.lock(&project, &host, true)?;
        if let Some(before) = before.filter(|lock| lock.check_spec(project.spec()).is_ok()) {
            if before.digest() != locked.lock.digest() {
                eprintln!("note: `sconce lock --upgrade` would change the lock that is there");
            }
            builder.keep_lock(&project, &before)?;
        }
        let explanation = locked.explanation.unwrap_or_default();
        if args.json {
            let text = serde_json::to_string_pretty(&explanation).map_err(Failure::unwritable)?;
            println!("{text}");
        } else {
            print!("{}", explanation.render());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let locked = builder.lock(&project, &host, args.upgrade)?;
    match locked.explanation {
        None => eprintln!("the lock fits; nothing to do"),
        Some(explanation) => {
            for note in &explanation.notes {
                eprintln!("note: {note}");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
