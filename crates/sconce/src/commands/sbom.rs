//! `sconce sbom`.

use std::process::ExitCode;

use clap::ValueEnum;
use sconce_audit::Bill;

use crate::cli::Global;
use crate::commands::inspect::for_a_terminal;
use crate::commands::locked_or_built::{self, Found};
use crate::context::Context;
use crate::error::{Failure, Kind};

/// Print what is in an image as an SBOM: CycloneDX 1.6 or SPDX 2.3
///
/// Each wheel, each Debian package, Python and the app, with versions, purl, SHA-256, licence and
/// maker. Of a lock nothing need be built: what packages say of themselves is read where they are in
/// the store, as after `sconce build`. Of an image it is read from its files. The same gives the same
/// bytes: no clock is in them, but for SOURCE_DATE_EPOCH.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sconce sbom > sbom.cdx.json                  of the lock in this folder
  sconce sbom --format spdx torch:2.15.0
  sconce sbom --format spdx team/app:1.2       of an image of the store, whoever made it")]
pub struct Args {
    /// A lock, a folder with one, a tag or an image of the store; - for a lock on standard input
    #[arg(value_name = "LOCK|IMAGE", default_value = ".")]
    subject: String,
    /// Which form
    #[arg(long, value_enum, value_name = "FORM", default_value = "cyclonedx")]
    format: Format,
    /// Write the addresses of requirements that have one (`name @ https://…`) too; those of indexes
    /// and mirrors are in none
    #[arg(long)]
    addresses: bool,
}

/// A form.
#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// CycloneDX 1.6, JSON
    Cyclonedx,
    /// SPDX 2.3, JSON
    Spdx,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let found = locked_or_built::find(global, &args.subject)?;
    let name = name(&args.subject);
    let mut absent = 0;
    let bill = match &found {
        Found::Lock(lock) => {
            let said = locked_or_built::said(&Context::open(global)?, lock)?;
            absent = lock.wheels.iter().filter(|wheel| !said.contains_key(&wheel.sha256)).count();
            Bill::of_lock(&name, lock, &said, args.addresses)
        }
        Found::Image(built) => {
            let context = Context::open(global)?;
            built.installed.unread.iter().for_each(|what| eprintln!("note: {what}"));
            let lock = locked_or_built::lock_beside(&context, &built.image)?;
            let (image, release) = (built.image.manifest, built.release.clone());
            let app = built.image.labels.contains_key("dev.sconce.environment");
            Bill::of_image(&name, image, &built.installed, release, lock.as_ref(), app)
        }
    };
    let seconds = std::env::var("SOURCE_DATE_EPOCH").ok();
    let bill = bill.dated(seconds.as_deref()).map_err(|error| {
        Failure::new(Kind::Usage, error.to_string()).hint("`date +%s` prints one, or unset it")
    })?;
    let document = match args.format {
        Format::Cyclonedx => bill.cyclonedx(),
        Format::Spdx => bill.spdx(),
    };
    let text = serde_json::to_string_pretty(&document).map_err(Failure::unwritable)?;
    println!("{}", for_a_terminal(&text));
    let unknown = bill.without_licence();
    if unknown > 0 && !global.quiet {
        let these = if unknown == 1 {
            "1 Python package".to_owned()
        } else {
            format!("{unknown} Python packages")
        };
        let why = match absent {
            0 => "they don't say it",
            _ => "where the wheels are in the store, as after `sconce build`, they say it",
        };
        eprintln!("note: of {these} no licence is known: {why}");
    }
    Ok(ExitCode::SUCCESS)
}

/// What the document is called: no path of this machine is in it.
fn name(subject: &str) -> String {
    let path = std::path::Path::new(subject);
    let last = match path.canonicalize() {
        Ok(path) if path.is_file() => {
            path.parent().and_then(|folder| folder.file_name()).map(ToOwned::to_owned)
        }
        Ok(path) => path.file_name().map(ToOwned::to_owned),
        Err(_) => None,
    };
    let last =
        last.or_else(|| path.file_name().filter(|_| path.is_absolute()).map(ToOwned::to_owned));
    let last = last.map_or_else(|| subject.to_owned(), |name| name.to_string_lossy().into_owned());
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    let name: String = last.chars().filter(|c| plain(*c)).take(200).collect();
    if name.is_empty() || name == "-" { "image".to_owned() } else { name }
}
