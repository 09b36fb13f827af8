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
/// needs. What a running container or another sconce uses always stays; builds go on meanwhile.
/// Other stores (SCONCE_STORES) are not touched.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sconce prune --dry-run                       say what would go
  sconce prune --unused-for 30d                also images not used for 30 days
  sconce prune --keep-size 50g                 the images used longest ago, until 50 GB are left")]
pub struct Args {
    /// Also remove images not used for so long: 12h, 30d, 8w; a number alone counts days
    #[arg(long, value_name = "TIME", value_parser = parse_time, conflicts_with = "all")]
    unused_for: Option<Duration>,
    /// Remove nothing while the store takes no more disk than this, such as 50g; else what no image
    /// needs, then the images used longest ago, until it fits
    #[arg(long, value_name = "SIZE", conflicts_with = "all")]
    keep_size: Option<String>,
    /// Remove all images
    #[arg(short, long)]
    all: bool,
    /// As in Docker; nothing is asked in any case
    #[arg(short = 'f', long = "force", hide = true)]
    _force: bool,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
    /// As JSON: {bytes, images, in_use, blobs, trees}; bytes on disk, images by name or digest,
    /// `in_use` those that stay because a container or another sconce uses them
    #[arg(long)]
    json: bool,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let keep_bytes = args
        .keep_size
        .as_deref()
        .map(|size| sconce_run::parse_size("--keep-size", size))
        .transpose()?;
    let context = Context::open(global)?;
    let images = match (args.all, args.unused_for) {
        (true, _) => Which::All,
        (false, Some(time)) => Which::UnusedFor(time),
        (false, None) => Which::Unnamed,
    };
    let policy = Policy { images, keep_bytes, dry_run: args.dry_run };
    let pruned = context.store.prune(&policy, &[])?;
    if args.json {
        let report = json!({
            "bytes": pruned.bytes,
            "images": pruned.images,
            "in_use": pruned.in_use,
            "blobs": pruned.blobs,
            "trees": pruned.trees,
        });
        println!("{}", serde_json::to_string_pretty(&report).map_err(Failure::unwritable)?);
        return Ok(ExitCode::SUCCESS);
    }
    for image in &pruned.images {
        println!("{image}");
    }
    for image in &pruned.in_use {
        eprintln!("note: the image {image} is in use and stays");
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

/// `30` and `30d` are days, `12h` hours, `8w` weeks.
fn parse_time(given: &str) -> Result<Duration, String> {
    let split = given.find(|c: char| !c.is_ascii_digit()).unwrap_or(given.len());
    let (digits, unit) = given.split_at(split);
    let scale = match unit {
        "h" => 3_600,
        "" | "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return Err("times are 12h, 30d or 8w; a number alone counts days".to_owned()),
    };
    let count: u64 = digits.parse().map_err(|_| format!("`{given}` has no number to count"))?;
    let seconds = count.checked_mul(scale).ok_or("that is longer than time goes")?;
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::parse_time;

    #[test]
    fn times_as_people_write_them() {
        let hours = |given| parse_time(given).map(|time| time.as_secs() / 3_600);
        assert_eq!(hours("30"), Ok(720));
        assert_eq!(hours("30d"), Ok(720));
        assert_eq!(hours("12h"), Ok(12));
        assert_eq!(hours("2w"), Ok(336));
        for bad in ["", "d", "-1", "1m", "3 d", "1.5d", "99999999999999999999", "9999999999999999w"]
        {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
    }
}
