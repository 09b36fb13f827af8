//! `sconce images`.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::SystemTime;

use sconce_store::Image;
use serde_json::json;

use crate::cli::Global;
use crate::context::Context;
use crate::error::Failure;
use crate::progress::bytes_in_words;

/// List the images in the store, the one used last first
///
/// Images in the stores that SCONCE_STORES names and in the machine's own are listed as well, with
/// the folder of their store. With -q only the first digits of their digests, a line each.
#[derive(clap::Args)]
pub struct Args {
    /// List images without a name too
    #[arg(short, long)]
    all: bool,
    /// As JSON: a list of {names, digest, size, created, last_used, labels, store, read_only}, also of
    /// images without a name; sizes in bytes, times in seconds since 1970, `store` the folder of the
    /// store that an image is in, `read_only` whether that is another store than yours
    #[arg(long)]
    json: bool,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let context = Context::open(global)?;
    let root = context.store.root();
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
                    "store": image.store,
                    "read_only": image.store != root,
                })
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&rows).map_err(Failure::unwritable)?);
        return Ok(ExitCode::SUCCESS);
    }
    if global.quiet {
        // As `docker images -q`: for `sconce rmi $(sconce images -q)`.
        for image in images.iter().filter(|image| args.all || !image.names.is_empty()) {
            println!("{}", image.manifest.short());
        }
        return Ok(ExitCode::SUCCESS);
    }
    if images.is_empty() {
        eprintln!("no images yet: `sconce run` or `sconce build` makes them");
        return Ok(ExitCode::SUCCESS);
    }
    let (shown, hidden): (Vec<&Image>, Vec<&Image>) =
        images.iter().partition(|image| args.all || !image.names.is_empty());
    let several = images.iter().any(|image| image.store != root);
    let row = |cells: [&str; 6]| {
        let [name, digest, size, torch, used, store] = cells;
        let store = if several { store } else { "" };
        let line = format!("{name:<44} {digest:<14} {size:>10}  {torch:<10} {used:<15} {store}");
        println!("{}", line.trim_end());
    };
    row(["NAME", "DIGEST", "SIZE", "TORCH", "USED", "STORE"]);
    for image in &shown {
        let names = if image.names.is_empty() { "-".into() } else { image.names.join(", ") };
        let torch = image.labels.get("dev.sconce.torch").map_or("-", String::as_str);
        // Whoever made the image wrote it.
        let torch: String = torch.chars().filter(|c| !c.is_control()).collect();
        let used = image.last_used.elapsed().map_or(0, |age| age.as_secs());
        row([
            &names,
            &image.manifest.short(),
            &bytes_in_words(image.size),
            &torch,
            &age_in_words(used),
            &image.store.display().to_string(),
        ]);
    }
    println!("{}", total(&shown));
    if !hidden.is_empty() {
        eprintln!("{} more have no name: `sconce images --all` lists them", hidden.len());
    }
    Ok(ExitCode::SUCCESS)
}

/// `3 images, 5.2 GB`: what a registry would hold for them, layers that they share once.
fn total(images: &[&Image]) -> String {
    let mut bytes = 0_u64;
    let mut counted = BTreeSet::new();
    for image in images {
        bytes = bytes.saturating_add(image.size);
        for layer in &image.layers {
            if !counted.insert(layer.digest) {
                bytes = bytes.saturating_sub(layer.size);
            }
        }
    }
    let images = match images.len() {
        1 => "1 image".to_owned(),
        count => format!("{count} images"),
    };
    format!("{images}, {} in all, shared layers counted once", bytes_in_words(bytes))
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
