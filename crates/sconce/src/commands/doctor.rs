//! `sconce doctor`.

use std::path::PathBuf;
use std::process::ExitCode;

use sconce_doctor::{Snapshot, examine};
use sconce_gpu::Machine;

use crate::cli::Global;
use crate::context::Context;
use crate::error::Failure;

/// Say what keeps GPU containers from running here, and how to mend it
///
/// Captures a snapshot of the machine (files, device nodes, kernel log, limits) and judges it by
/// rules; docs/doctor.md has a page for each. With a folder, a tag or an image named, the pair is
/// judged: will this run here? Nothing is built or downloaded for it. Exit code: 0 it runs, 1
/// something blocks, 3 there is no GPU.
#[derive(clap::Args)]
pub struct Args {
    /// What to judge together with the machine: a folder with a sconce.toml, a tag such as
    /// torch:2.15.0, or an image of the store
    #[arg(value_name = "TARGET")]
    target: Option<String>,
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
    let subject = match &args.target {
        Some(target) => {
            let context = Context::open(global)?;
            let builder = context.builder(None);
            let subject = sconce_start::of_target(target, "doctor", &builder, &snapshot)?;
            if subject.is_none() {
                eprintln!("note: nothing in `{target}` needs a GPU: the machine alone is judged");
            }
            subject
        }
        None => None,
    };
    let report = examine(&snapshot, subject.as_ref());
    if args.json {
        let text = serde_json::to_string_pretty(&report.json()).map_err(Failure::unwritable)?;
        println!("{text}");
    } else {
        print!("{}", report.text());
    }
    Ok(ExitCode::from(report.verdict.exit_code()))
}
