//! `sconce pull`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sconce_oci::Transport;
use sconce_registry::Reference;
use sconce_transfer::Pulled;
use serde_json::json;

use crate::cli::Global;
use crate::commands::image_files::layout_and_tag;
use crate::commands::paths;
use crate::commands::registries::{Registries, architecture, reference};
use crate::context::Context;
use crate::error::Failure;
use crate::progress::bytes_in_words;

/// Take images from registries into the store
///
/// Any OCI or Docker image. Layers are downloaded, checked and unpacked in one pass, several at a time;
/// those that are in the store are not downloaded. What was cut off goes on where it was. Prints each
/// image's digest. Logins are those of `sconce login`, docker and podman. A policy
/// file may ask for signatures (docs/signatures.md).
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sconce pull alpine                                  docker.io/library/alpine:latest
  sconce pull ghcr.io/team/app:1.2 registry:5000/app
  sconce pull --platform linux/arm64 docker.io/library/debian:bookworm-slim
  docker save app | sconce pull -")]
pub struct Args {
    /// [HOST[:PORT]/]NAME[:TAG][@DIGEST]; `-` is an archive over standard input, as `docker save` writes it,
    /// docker-archive:FILE[:NAME[:TAG]] and oci-archive:FILE[:TAG] one in a file, packed with gzip or zstd or not: they have no name in the store (`sconce copy - store:NAME` gives one)
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// The platform to take, of an image for several: linux/amd64, linux/arm64; this machine's if not
    /// given
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    #[command(flatten)]
    registries: Registries,
    /// As JSON: a list of {name, image, moved, here}: the whole name, the image's digest, the bytes that
    /// came over the network, and the bytes of layers that were in the store already
    #[arg(long)]
    json: bool,
}

/// What is taken in.
enum Wanted {
    Reference(Reference),
    /// With the name of the one that is meant of its images.
    Archive(PathBuf, Option<String>),
}

/// The file of an archive, `-` for standard input, and which of its images, where one is meant.
fn archive(text: &str) -> Option<(&str, Option<&str>)> {
    match Transport::split(text) {
        _ if text == "-" => Some((text, None)),
        Some((Transport::Archive, rest)) => Some(layout_and_tag(rest)),
        _ => None,
    }
}

/// Where an archive lies, by no link in a container's volume.
fn archive_path(path: &Path) -> Result<PathBuf, Failure> {
    match path == Path::new("-") {
        true => Ok(path.to_owned()),
        false => paths::of_option("docker-archive", path),
    }
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let wanted = |text: &String| match archive(text) {
        Some((path, name)) => {
            Ok(Wanted::Archive(archive_path(Path::new(path))?, name.map(str::to_owned)))
        }
        None => reference(text).map(Wanted::Reference),
    };
    let all: Result<Vec<Wanted>, _> = args.images.iter().map(wanted).collect();
    let all = all?;
    let architecture = architecture(args.platform.as_deref())?;
    let context = Context::open(global)?;
    let access = args.registries.access(&context)?;
    let policy = context.policy()?;
    let transfer = context.transfer(&access, &policy);
    let mut rows = Vec::new();
    for wanted in &all {
        let (name, pulled) = match wanted {
            Wanted::Reference(reference) => {
                let name = reference.to_string();
                let pulled = transfer.pull(reference, &architecture, &[&name])?;
                (name, pulled)
            }
            Wanted::Archive(path, name) => {
                let name = name.as_deref();
                let image = sconce_start::read_archive(&context.store, path, name, &architecture)?;
                sconce_start::admit_file(&transfer, &path.display().to_string(), image)?;
                (path.display().to_string(), Pulled { image, moved: 0, here: 0 })
            }
        };
        if args.json {
            rows.push(json!({
                "name": name,
                "image": pulled.image,
                "moved": pulled.moved,
                "here": pulled.here,
            }));
        } else {
            let (moved, here) = (bytes_in_words(pulled.moved), bytes_in_words(pulled.here));
            eprintln!("{name}: {moved} came, {here} were here");
            println!("{}", pulled.image);
        }
    }
    context.store.settle()?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&rows).map_err(Failure::unwritable)?);
    }
    Ok(ExitCode::SUCCESS)
}
