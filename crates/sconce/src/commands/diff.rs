//! `sconce diff`.

use std::process::ExitCode;

use sconce_audit::{Change, difference};

use crate::cli::Global;
use crate::commands::inspect::for_a_terminal;
use crate::commands::locked_or_built;
use crate::error::{Failure, Kind};
use crate::output::shown;

/// Say what differs between two locks or images: packages, Python, torch, CUDA, GPUs, layers
///
/// Each is a lock, a folder with one, a tag that was locked, or an image of the store. Versions are
/// compared as PEP 440 and Debian do. Exit code as of `diff`: 0 nothing differs, 1 something does,
/// 12 nothing was found and not all could be read, any other is an error.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  git show HEAD:sconce.lock | sconce diff - .      what is not committed yet
  sconce diff --markdown old.lock sconce.lock      for a pull request
  sconce diff torch:2.10.0 torch:2.15.0            which GPUs and drivers the newer one would lose
  sconce diff sconce.lock team/app:1.2             whether an image is what the lock says")]
pub struct Args {
    /// A lock, a folder, a tag or an image; - for a lock on standard input
    #[arg(value_name = "A")]
    before: String,
    /// Another
    #[arg(value_name = "B")]
    after: String,
    /// The whole as JSON, as docs/format/diff.md describes it
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// As tables in Markdown
    #[arg(long)]
    markdown: bool,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    if args.before == "-" && args.after == "-" {
        let what = "standard input has one lock, and two are compared";
        return Err(Failure::new(Kind::Usage, what).hint("name a file for the other"));
    }
    let before = locked_or_built::find(global, &args.before)
        .map_err(|error| error.of_option(&args.before))?;
    let after =
        locked_or_built::find(global, &args.after).map_err(|error| error.of_option(&args.after))?;
    let found = difference(&before.contents(&args.before), &after.contents(&args.after));
    match (args.json, args.markdown) {
        (true, _) => {
            let text = serde_json::to_string_pretty(&found).map_err(Failure::unwritable)?;
            println!("{}", for_a_terminal(&text));
        }
        (_, true) => print!("{}", found.markdown()),
        _ => print!("{}", shown(&found.page())),
    }
    found.notes.iter().for_each(|note| eprintln!("note: {note}"));
    Ok(match found.verdict {
        Change::Same => {
            if !global.quiet {
                eprintln!("nothing differs");
            }
            ExitCode::SUCCESS
        }
        Change::Differs => ExitCode::from(Kind::No as u8),
        Change::Unknown => {
            eprintln!("nothing was found that differs, and not all could be read");
            ExitCode::from(Kind::CantTell as u8)
        }
    })
}
