//! `sconce prune`.

use std::process::ExitCode;
use std::time::Duration;

use sconce_store::{Policy, Which};
use serde_json::json;

use crate::cli::Global;
use crate::context::Context;
use crate::error::Failure;
use crate::progress::bytes_in_words;

/// Remove what no image needs
///
/// By default images without a name go, and every download, layer and tree that no image left
/// needs. What a running container uses always stays.
#[derive(clap::Args)]
pub struct Args {
    /// Also remove images not used for so many days
    #[arg(long, value_name = "DAYS", conflicts_with = "all")]
    unused_for: Option<u64>,
    /// Remove all images
    #[arg(long)]
    all: bool,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
    /// As JSON: {bytes, images, blobs, trees}
    #[arg(long)]
    json: bool,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let context = Context::open(global)?;
    let images = match (args.all, args.unused_for) {
        (true, _) => Which::All,
        (false, Some(days)) => Which::UnusedFor(Duration::from_secs(days.saturating_mul(86_400))),
        (false, None) => Which::Unnamed,
    };
    let policy = Policy { images, dry_run: args.dry_run };
    let pruned = context.store.prune(&policy, &[])?;
    if args.json {
        let report = json!({
            "bytes": pruned.bytes,
            "images": pruned.images,
            "blobs": pruned.blobs,
            "trees": pruned.trees,
        });
        println!("{}", serde_json::to_string_pretty(&report).map_err(Failure::unwritable)?);
        return Ok(ExitCode::SUCCESS);
    }
    for image in &pruned.images {
        println!("{image}");
    }
    let would = if args.dry_run { "would free" } else { "freed" };
    eprintln!(
        "{would} {}: {} images, {} blobs, {} trees",
        bytes_in_words(pruned.bytes),
        pruned.images.len(),
        pruned.blobs,
        pruned.trees
    );
    Ok(ExitCode::SUCCESS)
}
