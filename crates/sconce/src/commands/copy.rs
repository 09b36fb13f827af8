//! `sconce copy`.

use std::io::IsTerminal;
use std::process::ExitCode;

use sconce_blob::Digest;
use sconce_oci::Transport;
use sconce_oci::name::check_image_name;
use sconce_registry::Reference;
use sconce_start::Target;
use sconce_store::LayoutOut;
use sconce_transfer::Carried;
use serde_json::json;

use crate::cli::Global;
use crate::commands::beside::{self, attach};
use crate::commands::image_files::{self, ImageFile, tagged};
use crate::commands::registries::{Registries, architecture, in_registry};
use crate::commands::{lacking, paths, push};
use crate::context::Context;
use crate::error::{Failure, Kind};

/// Copy an image from one place to another
///
/// Places are registries ([HOST[:PORT]/]NAME[:TAG], docker://NAME), oci:DIR[:TAG], docker-archive:FILE[:NAME[:TAG]],
/// oci-archive:FILE[:TAG] (`-` is standard input or output) and the store (store:NAME; as the source a name without a host will do). Between registries nothing is stored here;
/// in all other copies the image is in the store afterwards, until `sconce prune`. What is beside an image,
/// such as signatures, goes with it.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sconce copy docker://alpine:3 registry:5000/alpine:3
  sconce copy torch:2.15.0 docker-archive:torch.tar   for `docker load`
  sconce copy torch:2.15.0 docker-archive:- | ssh node docker load
  sconce copy docker-archive:image.tar store:mine
  sconce copy ghcr.io/team/app:1 oci:app:1            further tags stay in the folder
  sconce copy --all ghcr.io/team/app:1 registry:5000/app:1")]
pub struct Args {
    /// From where
    #[arg(value_name = "SOURCE")]
    source: String,
    /// To where
    #[arg(value_name = "DESTINATION")]
    destination: String,
    /// The platform to take, of an image for several: linux/amd64, linux/arm64; this machine's if not
    /// given
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Take all platforms of an image for several, from a registry to another or into oci:DIR: the name means the very
    /// same index there
    #[arg(long, conflicts_with = "platform")]
    all: bool,
    /// Allow once what the project asks for outside its folder (see `sconce trust`)
    #[arg(long)]
    trust: bool,
    /// Copy the image alone. Else what is beside it (signatures, SBOM, provenance, lock) goes with it, into
    /// registries, oci: and the store
    #[arg(long)]
    image_only: bool,
    #[command(flatten)]
    registries: Registries,
    /// As JSON: {image} and, to a registry, {name, moved, there, mounted, beside, left} as `sconce push` has
    /// them
    #[arg(long)]
    json: bool,
}

/// Where an image goes.
enum Destination {
    Registry(Reference),
    /// With the tag that it gets there.
    Files(ImageFile, Option<String>),
    Store(String),
}

impl Destination {
    fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| {
            Failure::new(Kind::Usage, format!("`{text}` is not a place to copy to: {why}"))
                .hint("there are HOST/NAME:TAG, oci:DIR[:TAG], docker-archive:FILE[:NAME[:TAG]] and store:NAME")
        };
        match Transport::split(text) {
            Some((Transport::Layout, rest)) => {
                let (path, tag) = image_files::layout_and_tag(rest);
                match path.is_empty() {
                    true => Err(wrong("it names no folder")),
                    false => {
                        Ok(Self::Files(ImageFile::Layout(path.into()), tag.map(str::to_owned)))
                    }
                }
            }
            Some((Transport::Archive, rest)) => {
                let named = image_files::archive_and_name(text, rest);
                let (path, name) = named.map_err(|why| wrong(&why))?;
                match path {
                    "" => Err(wrong("it names no file")),
                    "-" if std::io::stdout().is_terminal() => {
                        let why = "an archive is not for a terminal".to_owned();
                        Err(Failure::new(Kind::Usage, why).hint(
                            "send it on, as `| docker load`, or into a file: docker-archive:FILE",
                        ))
                    }
                    "-" => Ok(Self::Files(ImageFile::Stream, name)),
                    path => Ok(Self::Files(ImageFile::Archive(path.into()), name)),
                }
            }
            Some((Transport::Store, name)) => match check_image_name(name) {
                Ok(()) => Ok(Self::Store(name.to_owned())),
                Err(why) => Err(wrong(&format!("`{name}` {why}"))),
            },
            Some((Transport::Folder, _)) => Err(wrong("skopeo alone has `dir:`")),
            Some((Transport::Registry, _)) => Ok(Self::Registry(push::destination(text)?)),
            None => match Reference::is_meant(text) {
                true => Ok(Self::Registry(push::destination(text)?)),
                false => Err(wrong("it names no registry")),
            },
        }
    }
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let to = Destination::parse(&args.destination)?;
    let to_stdout = matches!(to, Destination::Files(ImageFile::Stream, _));
    if to_stdout && args.json {
        let what = "--json and the archive would both go to standard output".to_owned();
        return Err(
            Failure::new(Kind::Usage, what).hint("leave --json out: the digest is said beside it")
        );
    }
    let architecture = architecture(args.platform.as_deref())?;
    let context = Context::open(global)?;
    let access = args.registries.access(&context)?;
    let policy = context.policy()?;
    let transfer = context.transfer(&access, &policy);
    let target = Target::find(&paths::target(&args.source)?)?;
    let from = in_registry(&target, &context)?;
    if let (Some(from), Destination::Registry(to)) = (&from, &to) {
        let with = !args.image_only;
        let (pushed, carried) = match args.all {
            true => transfer.copy_all(from, to, with)?,
            false => transfer.copy_across(from, to, &architecture, with)?,
        };
        push::told(to, &pushed, &carried, args.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let (Some(from), Destination::Files(ImageFile::Layout(path), tag), true) =
        (&from, &to, args.all)
    {
        let name = with_tag(from.to_string());
        let name = tag.as_ref().map_or(name.clone(), |tag| tagged(tag, Some(name)));
        let (image, carried) = image_files::layout(global, &context, path, tag.is_some(), |out| {
            Ok(transfer.copy_all_into(from, out, &[name], !args.image_only)?)
        })?;
        beside::told(&carried);
        return said(image, args.json, false);
    }
    if args.all {
        return Err(not_all(&args.source, from.is_some()));
    }
    let image = match &from {
        Some(from) => {
            let pulled = transfer.pull(from, &architecture, &[])?;
            if !args.image_only
                && !matches!(to, Destination::Files(ImageFile::Archive(_) | ImageFile::Stream, _))
            {
                beside::told(&transfer.keep_beside(from, pulled.image)?);
            }
            context.store.image(&pulled.image.hex())?
        }
        // What is in the store is for one platform, and was asked for by name.
        None => match target.stored(&context.store)? {
            Some(image) if args.platform.is_none() => image,
            Some(image) if target.project().is_none() => {
                push::check_platform(&context.store, &image, &args.source, &architecture)?;
                image
            }
            _ => {
                let platform = args.platform.as_deref();
                push::source(&context, "copy", &args.source, args.trust, platform)?
            }
        },
    };
    // Under its new name, or from the file, nobody would ask any more.
    if from.is_none() && !matches!(to, Destination::Registry(_)) {
        match &target {
            Target::Layout { .. } | Target::Archive { .. } => {
                sconce_start::admit_file(&transfer, &args.source, image.manifest)?;
            }
            _ => sconce_start::admit_stored(&transfer, &target, &image, &architecture)?,
        }
    }
    let named = (args.source.as_str(), &target);
    match &to {
        Destination::Registry(to) => {
            let pushed = transfer.push(&image, to);
            let pushed = pushed.map_err(|error| lacking::unsent(&context, named, &image, error))?;
            let carried = match args.image_only {
                true => Carried::default(),
                false => {
                    let manifest = context.store.manifest(&image)?;
                    attach(&context, &transfer, Some(&target), &manifest, to)?
                }
            };
            push::told(to, &pushed, &carried, args.json)?;
            return Ok(ExitCode::SUCCESS);
        }
        Destination::Store(name) => {
            context.give_name(name, image.manifest)?;
        }
        Destination::Files(files, tag) => {
            let name = from.as_ref().map(ToString::to_string).or_else(|| target.name_of(&image));
            let name = name.map(with_tag);
            let names = match tag {
                Some(tag) => Some(tagged(tag, name)),
                None => name,
            };
            let out = LayoutOut { adds: tag.is_some(), beside: !args.image_only };
            lacking::check(&context, named, &image)?;
            let wrote = files.write(global, &context, &image, &Vec::from_iter(names), out);
            wrote.map_err(|failure| lacking::unwritten(&context, named, &image, failure))?;
            if out.beside {
                image_files::note_beside(&context, &image, files)?;
            }
        }
    }
    said(image.manifest, args.json, to_stdout)
}

/// Why all platforms of an image can't be copied.
fn not_all(source: &str, of_registry: bool) -> Failure {
    match of_registry {
        true => {
            let what = "--all copies to a registry or into oci:DIR";
            let hint = "without it the image for one platform is copied, anywhere: `--platform linux/arm64` says which";
            Failure::new(Kind::Usage, what).hint(hint)
        }
        false => {
            let what = format!(
                "--all copies what a registry has, and `{source}` is no image in a registry"
            );
            let hint = "an image of the store is for one platform: leave --all out";
            Failure::new(Kind::Usage, what).hint(hint)
        }
    }
}

/// Says which image was copied; beside an archive that goes to standard output.
fn said(image: Digest, as_json: bool, beside: bool) -> Result<ExitCode, Failure> {
    if as_json {
        let row = json!({ "image": image });
        println!("{}", serde_json::to_string_pretty(&row).map_err(Failure::unwritable)?);
    } else if beside {
        eprintln!("{image}");
    } else {
        println!("{image}");
    }
    Ok(ExitCode::SUCCESS)
}

/// A name without a digest, and with a tag.
fn with_tag(name: String) -> String {
    let name = name.split('@').next().unwrap_or_default().to_owned();
    match name.rsplit_once('/').unwrap_or(("", &name)).1.contains(':') {
        true => name,
        false => format!("{name}:latest"),
    }
}
