//! `sconce lock`.

use std::process::ExitCode;

use sconce_build::{Locked, Policy};
use sconce_lock::reaches::When;
use sconce_lock::{Lock, Upgrade};
use sconce_start::Target;

use crate::cli::Global;
use crate::commands::paths;
use crate::commands::registries::machine;
use crate::context::Context;
use crate::error::{Failure, Kind};
use crate::trust;

/// Work out exactly what an environment is, and write it down
///
/// Torch is chosen from the facts for the GPUs and the driver you name; the rest is resolved by uv
/// for the target, wheels only, and checked; Debian's packages come from its signed indexes. A lock
/// that fits sconce.toml is left alone; of one that does not, as little is changed as can be, and what
/// changed is said by name and version.
#[derive(clap::Args)]
pub struct Args {
    /// A folder with a sconce.toml, or a tag such as torch:2.15.0
    #[arg(default_value = ".", value_name = "TARGET")]
    project: String,
    /// Say why each thing was chosen and what was refused; resolves anew, and leaves a lock that fits as it is
    #[arg(long)]
    explain: bool,
    /// Take the newest of everything that fits, whatever the lock has
    #[arg(short = 'U', long)]
    upgrade: bool,
    /// Take the newest of this package; the others stay where they can. May be given more than once
    #[arg(short = 'P', long, value_name = "NAME", conflicts_with = "upgrade")]
    upgrade_package: Vec<String>,
    /// Only say whether the lock fits sconce.toml (exit code 1 if not)
    #[arg(long, conflicts_with_all = ["explain", "upgrade", "upgrade_package", "unseal"])]
    check: bool,
    /// Take the seal off; the next build seals anew
    #[arg(long, conflicts_with_all = ["explain", "upgrade", "upgrade_package"])]
    unseal: bool,
    /// Lock for this platform, linux/amd64 or linux/arm64. What is not that of sconce.lock has a lock beside it:
    /// sconce.arm64.lock
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Allow once what the project asks for outside its folder (see `sconce trust`)
    #[arg(long)]
    trust: bool,
    /// With --explain: as JSON {choices: [{subject, choice, why, refused}], notes}
    #[arg(long, requires = "explain")]
    json: bool,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let context = Context::open(global)?;
    let project = Target::find_project(&paths::target(&args.project)?, "lock")?;
    let mirror = project.spec().base.mirror.clone();
    let builder = context.builder(mirror.as_deref());
    let project = match &args.platform {
        Some(platform) => builder.on(project, machine(platform)?)?,
        None => project,
    };
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
    for name in &args.upgrade_package {
        match &before {
            Some(lock) if lock.has_wheel(name) => {}
            Some(_) => eprintln!("note: `{name}` is not in the lock"),
            None => eprintln!("note: `{name}` is in no lock: there is none yet"),
        }
    }
    if args.explain {
        let policy = upgrade(args);
        let kept =
            |lock: &&Lock| policy == Policy::default() && lock.check_spec(project.spec()).is_ok();
        let locked = match before.as_ref().filter(kept) {
            Some(before) => {
                // Why each thing would be chosen today: what the lock has already is looked into as well.
                let locked = builder.resolve(&project, &host, None, &Upgrade::Nothing)?;
                let changes = sconce_lock::changes(before, &locked.lock);
                if !changes.is_empty() {
                    eprintln!("note: `sconce lock --upgrade` would change the lock that is there");
                }
                Locked { changes, ..locked }
            }
            None => builder.lock(&project, &host, &policy)?,
        };
        locked.changes.iter().for_each(|change| eprintln!("{change}"));
        let explanation = locked.explanation.unwrap_or_default();
        if args.json {
            let text = serde_json::to_string_pretty(&explanation).map_err(Failure::unwritable)?;
            println!("{text}");
        } else {
            print!("{}", explanation.render());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let locked = builder.lock(&project, &host, &upgrade(args))?;
    if locked.explanation.is_none() {
        eprintln!("the lock fits; nothing to do");
    }
    say(&locked);
    Ok(ExitCode::SUCCESS)
}

fn upgrade(args: &Args) -> Policy {
    Policy::Update(match (args.upgrade, args.upgrade_package.is_empty()) {
        (true, _) => Upgrade::All,
        (_, false) => Upgrade::Packages(args.upgrade_package.clone()),
        _ => Upgrade::Nothing,
    })
}

/// What a new lock changed, a line each, and what to know about it.
pub fn say(locked: &Locked) {
    for change in &locked.changes {
        eprintln!("{change}");
    }
    for note in locked.explanation.iter().flat_map(|explanation| &explanation.notes) {
        eprintln!("note: {note}");
    }
}
