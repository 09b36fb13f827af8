//! `sconce rmi`.

use std::process::ExitCode;

use sconce_oci::Transport;
use sconce_start::Target;
use sconce_store::Error::NoImage as Absent;
use sconce_store::{Removed, Store};
use serde_json::json;

use crate::cli::Global;
use crate::context::Context;
use crate::error::{Failure, Kind};
use crate::progress::bytes_in_words;

/// Remove images by name or digest
///
/// A name is removed; when it was the last of its image, the image goes, with all that only it needs.
/// A digest, or its first digits, stands for all names of its image. An image that is in use loses
/// its names and goes with a later `sconce prune`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sconce rmi torch:2.9.1
  sconce rmi 4f2a91c07b33 my-project")]
pub struct Args {
    /// Names, digests or the first six or more digits of digests
    #[arg(value_name = "NAME|DIGEST", required = true)]
    images: Vec<String>,
    /// A name that is not there is said, and is no failure. What is in use stays nevertheless, until it is not
    #[arg(short, long)]
    force: bool,
    /// As JSON: a list of {names, image, in_use, bytes}, one for each argument: the names that are
    /// gone, the digest of the image if it is gone too, whether it stays because it is in use, and the
    /// bytes on disk that were freed
    #[arg(long)]
    json: bool,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let context = Context::open(global)?;
    let mut rows = Vec::new();
    let mut first = None;
    for word in &args.images {
        // As other commands name an image of the store.
        let name = match Transport::split(word) {
            Some((Transport::Store, name)) => name,
            _ => word.as_str(),
        };
        let removed = match remove(&context.store, word, args.force) {
            Ok(Some(removed)) => removed,
            Ok(None) => continue,
            // The others go nevertheless; the exit code is that of the first.
            Err(failure) => {
                match first {
                    None => first = Some(failure),
                    Some(_) => failure.print(),
                }
                continue;
            }
        };
        rows.push(json!({
            "names": removed.names,
            "image": removed.image,
            "in_use": removed.in_use,
            "bytes": removed.bytes,
        }));
        if args.json {
            continue;
        }
        for name in &removed.names {
            println!("{name}");
        }
        match removed.image {
            Some(image) => {
                println!("{image}");
                eprintln!("freed {}", bytes_in_words(removed.bytes));
            }
            None if removed.in_use => {
                eprintln!(
                    "note: `{name}` is in use: `sconce prune` removes the image once it is not"
                );
            }
            None => {}
        }
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&rows).map_err(Failure::unwritable)?);
    }
    first.map_or(Ok(ExitCode::SUCCESS), Err)
}

/// Removes what a word means; nothing where it is not there, and need not be.
fn remove(store: &Store, word: &str, force: bool) -> Result<Option<Removed>, Failure> {
    let removed = match Transport::split(word) {
        Some((Transport::Store, name)) => {
            // Without a name it is refused as everywhere.
            Target::find(word)?;
            store.remove_called(name)
        }
        _ => store.remove_image(word),
    };
    let error = match removed {
        Ok(removed) => return Ok(Some(removed)),
        Err(error) => error,
    };
    // To pull it, which other commands speak of, would be the opposite of what is wanted.
    let is_absent = matches!(error, Absent { nearest: None, .. });
    let is_no_failure = force && matches!(error, Absent { .. });
    let mut failure = Failure::from(error);
    if is_no_failure {
        // As Docker has it: said, and no failure.
        failure.print();
        return Ok(None);
    }
    if is_absent {
        failure = failure.hint("`sconce images --all` lists what is there");
    }
    // What is not there is 1, as in Docker.
    Err(match failure.kind {
        Kind::Usage => failure.of_kind(Kind::No),
        _ => failure,
    })
}
