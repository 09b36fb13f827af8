//! `sconce images`.

use std::process::ExitCode;
use std::time::SystemTime;

use serde_json::json;

use crate::cli::Global;
use crate::context::Context;
use crate::error::Failure;
use crate::progress::bytes_in_words;

/// List the images in the store, the one used last first
#[derive(clap::Args)]
pub struct Args {
    /// As JSON: a list of {names, digest, size, created, last_used, labels}; sizes in bytes, times
    /// in seconds since 1970
    #[arg(long)]
    json: bool,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let context = Context::open(global)?;
    let images = context.store.images()?;
    if args.json {
        let rows: Vec<_> = images
            .iter()
            .map(|image| {
                let used = image.last_used.duration_since(SystemTime::UNIX_EPOCH);
                json!({
                    "names": image.names,
                    "digest": image.manifest,
                    "size": image.size,
                    "created": image.created,
                    "last_used": used.map_or(0, |time| time.as_secs()),
                    "labels": image.labels,
                })
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&rows).map_err(Failure::unwritable)?);
        return Ok(ExitCode::SUCCESS);
    }
    if images.is_empty() {
        eprintln!("no images yet: `sconce run` or `sconce build` makes them");
        return Ok(ExitCode::SUCCESS);
    }
    println!("{:<44} {:<14} {:>10}  {:<10} USED", "NAME", "DIGEST", "SIZE", "TORCH");
    for image in images {
        let names = if image.names.is_empty() { "-".into() } else { image.names.join(", ") };
        let torch = image.labels.get("dev.sconce.torch").map_or("-", String::as_str);
        let used = image.last_used.elapsed().map_or(0, |age| age.as_secs());
        println!(
            "{names:<44} {:<14} {:>10}  {torch:<10} {}",
            image.manifest.short(),
            bytes_in_words(image.size),
            age_in_words(used)
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// `3 hours ago`.
fn age_in_words(seconds: u64) -> String {
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute")];
    match units.iter().find(|(size, _)| seconds >= *size) {
        Some((size, name)) => {
            let count = seconds / size;
            format!("{count} {name}{} ago", if count == 1 { "" } else { "s" })
        }
        None => "just now".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::age_in_words;

    #[test]
    fn ages_for_people() {
        assert_eq!(age_in_words(59), "just now");
        assert_eq!(age_in_words(60), "1 minute ago");
        assert_eq!(age_in_words(7_300), "2 hours ago");
        assert_eq!(age_in_words(86_400 * 3), "3 days ago");
    }
}
