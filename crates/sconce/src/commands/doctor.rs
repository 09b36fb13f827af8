//! `sconce doctor`.

use std::path::PathBuf;
use std::process::ExitCode;

use sconce_doctor::{Snapshot, Subject, examine};
use sconce_gpu::Machine;

use crate::cli::Global;
use crate::context::Context;
use crate::error::{Failure, Kind};

/// Say what keeps GPU containers from running here, and how to mend it
///
/// Captures a snapshot of the machine (files, device nodes, kernel log, limits) and judges it by
/// rules; docs/doctor.md has a page for each. With an image or a tag's lock named, the pair is
/// judged. Exit code: 0 it runs, 1 something blocks, 3 there is no GPU.
#[derive(clap::Args)]
pub struct Args {
    /// An image of the store to judge together with the machine
    #[arg(value_name = "IMAGE")]
    image: Option<String>,
    /// Judge a snapshot saved elsewhere instead of this machine
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Write the snapshot, without names and addresses of this machine
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    save: Option<PathBuf>,
    /// Where the driver's files are, if not in the usual folders
    #[arg(long, value_name = "DIR", conflicts_with = "from")]
    driver_root: Option<PathBuf>,
    /// As JSON: {verdict, findings}
    #[arg(long)]
    json: bool,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let snapshot = match &args.from {
        Some(path) => Snapshot::load(path)?,
        None => {
            let mut machine = Machine::host();
            if let Some(root) = &args.driver_root {
                machine = machine.with_driver_root(root);
            }
            Snapshot::capture(&machine)
        }
    };
    if let Some(path) = &args.save {
        snapshot.save(path)?;
        eprintln!("wrote {}; `sconce doctor --from` judges it anywhere", path.display());
    }
    let subject = args.image.as_deref().map(|name| subject(global, name)).transpose()?;
    let report = examine(&snapshot, subject.as_ref());
    if args.json {
        let text = serde_json::to_string_pretty(&report.json()).map_err(Failure::unwritable)?;
        println!("{text}");
    } else {
        print!("{}", report.text());
    }
    Ok(ExitCode::from(report.verdict.exit_code()))
}

/// What an image's labels say it needs.
fn subject(global: &Global, name: &str) -> Result<Subject, Failure> {
    let context = Context::open(global)?;
    let image = context.store.image(name)?;
    let label = |key: &str| image.labels.get(&format!("dev.sconce.{key}")).cloned();
    let cuda = label("cuda").and_then(|cuda| cuda.split('.').next()?.parse().ok());
    let sms = label("architectures").unwrap_or_default();
    if label("lock").is_none() {
        let what = format!("`{name}` was not built by sconce: its labels say nothing of CUDA");
        return Err(Failure::new(Kind::Document, what)
            .hint("`sconce inspect` reads what it needs from its bytes"));
    }
    Ok(Subject {
        name: name.to_owned(),
        cuda_major: cuda,
        driver_floor: label("driver"),
        architectures: sms.split(',').filter_map(|sm| sm.parse().ok()).collect(),
    })
}
