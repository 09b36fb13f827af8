//! `sconce push`.

use std::process::ExitCode;

use sconce_build::{Documents, Project, Trees};
use sconce_lock::reaches::When;
use sconce_registry::Reference;
use sconce_start::{Kind as What, Target};
use sconce_store::Image;
use sconce_transfer::Pushed;
use serde_json::json;

use crate::cli::Global;
use crate::commands::lock::say;
use crate::commands::registries::{Registries, reference};
use crate::context::Context;
use crate::error::{Failure, Kind};
use crate::progress::bytes_in_words;
use crate::trust;

/// Send an image to a registry
///
/// Only what the registry lacks is sent: it is asked first, takes what another of its repositories is
/// known to have, and layers of wheels are read straight from the wheels. A project whose lock is sealed
/// is built only if the registry lacks one of its layers. An upload that breaks off goes on where it was.
/// The manifest comes last. Prints the image's digest. Logins are those of `sconce login`, docker and
/// podman.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sconce push . registry:5000/team/app:1.2            the project of this folder, built if need be
  sconce push torch:2.15.0 registry:5000/torch:2.15.0
  sconce push registry:5000/team/app:1.2              the image of that name in the store")]
pub struct Args {
    /// A folder with a sconce.toml, a tag such as torch:2.15.0, an image of the store, an OCI layout or
    /// an image archive; the image of the name DESTINATION if not given
    #[arg(value_name = "SOURCE")]
    first: String,
    /// [HOST[:PORT]/]NAME[:TAG]
    #[arg(value_name = "DESTINATION")]
    second: Option<String>,
    /// Allow once what the project asks for outside its folder (see `sconce trust`)
    #[arg(long)]
    trust: bool,
    #[command(flatten)]
    registries: Registries,
    /// As JSON: {name, image, moved, there, mounted}: the whole name, the image's digest, the bytes that
    /// went over the network, those that the repository had, and those that it took from another one
    #[arg(long)]
    json: bool,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let to = destination(args.second.as_ref().unwrap_or(&args.first))?;
    let context = Context::open(global)?;
    let access = args.registries.access(&context);
    let policy = context.policy()?;
    let image = match &args.second {
        Some(_) => {
            let target = Target::find(&args.first)?;
            // A registry that is down or closed is no reason to build first.
            if matches!(target, Target::Folder(_) | Target::Tag(_)) {
                context.transfer(&access, &policy).check_push(&to)?;
            }
            if let Target::Folder(project) = &target
                && let Some(documents) = sealed(&context, project, args.trust)?
                && let Some(pushed) =
                    context.transfer(&access, &policy).push_documents(&documents, &to)?
            {
                told(&to, &pushed, args.json)?;
                return Ok(ExitCode::SUCCESS);
            }
            source(&context, "push", &args.first, args.trust)?
        }
        None => named(&context, &args.first, &to)?,
    };
    let pushed = match context.transfer(&access, &policy).push(&image, &to) {
        Ok(pushed) => pushed,
        Err(error) => {
            if matches!(
                &error,
                sconce_transfer::Error::Registry(
                    sconce_registry::Error::Damaged { .. } | sconce_registry::Error::Source { .. },
                )
            ) {
                sconce_build::mend(&context.store, &image, &context.display)?;
            }
            return Err(error.into());
        }
    };
    told(&to, &pushed, args.json)?;
    Ok(ExitCode::SUCCESS)
}

/// Says what a push came to.
pub fn told(to: &Reference, pushed: &Pushed, as_json: bool) -> Result<(), Failure> {
    let Pushed { image, moved, there, mounted } = *pushed;
    if as_json {
        let row = json!({
            "name": to.to_string(),
            "image": image,
            "moved": moved,
            "there": there,
            "mounted": mounted,
        });
        println!("{}", serde_json::to_string_pretty(&row).map_err(Failure::unwritable)?);
    } else {
        let [moved, there, mounted] = [moved, there, mounted].map(bytes_in_words);
        eprintln!("{to}: {moved} sent, {there} were there, {mounted} taken from its other images");
        println!("{image}");
    }
    Ok(())
}

/// Where an image can be sent to: to a tag, not to a digest, which its bytes decide.
pub fn destination(text: &str) -> Result<Reference, Failure> {
    let to = reference(text)?;
    match to.digest {
        None => Ok(to),
        Some(_) => Err(Failure::new(
            Kind::Usage,
            format!("an image is pushed to a tag; `{text}` names a digest"),
        )
        .hint("leave out what follows the @")),
    }
}

/// The image of the store that is called as where it goes to.
fn named(context: &Context, text: &str, to: &Reference) -> Result<Image, Failure> {
    let names = context.store.names()?;
    let found = [to.to_string(), text.to_owned()].iter().find_map(|name| names.get(name).copied());
    match found {
        Some(digest) => Ok(context.store.image(&digest.hex())?),
        None => Err(Failure::new(Kind::Usage, format!("there is no image `{text}` in the store"))
            .hint(format!("name what is to be sent first: `sconce push IMAGE {text}`"))),
    }
}

/// The image that a person means to a command, made or taken in if need be. One whose name is that of an
/// image in a registry is in the store under that name, or nowhere.
pub fn source(
    context: &Context,
    command: &'static str,
    text: &str,
    trusted: bool,
) -> Result<Image, Failure> {
    let target = Target::find_for(text, command, What::STARTABLE)?;
    let store = &context.store;
    let architecture = crate::commands::registries::architecture(None)?;
    let taken = match &target {
        Target::Folder(project) => return built(context, project, trusted),
        Target::Tag(project) => match target.stored(store)? {
            Some(image) => return Ok(image),
            None => return built(context, project, trusted),
        },
        Target::Layout { path, tag } => {
            store.read_layout(path, tag.as_deref(), &architecture, &[])?
        }
        Target::Archive { path, tag } => {
            sconce_start::read_archive(store, path, tag.as_deref(), &architecture)?
        }
        Target::Image(_) | Target::Reference(_) | Target::Path(_) => {
            return match target.stored(store)? {
                Some(image) => Ok(image),
                None => Err(Failure::new(
                    Kind::Usage,
                    format!("there is no image `{text}` in the store"),
                )
                .hint(format!("`sconce pull {text}` takes it in; `sconce copy` moves it from one registry to another"))),
            };
        }
    };
    Ok(store.image(&taken.hex())?)
}

/// The documents of a project's image, where its lock is up to date and says enough.
fn sealed(
    context: &Context,
    project: &Project,
    trusted: bool,
) -> Result<Option<Documents>, Failure> {
    let mirror = project.spec().base.mirror.clone();
    let builder = context.builder(mirror.as_deref());
    let Some(lock) = builder.existing_lock(project)? else { return Ok(None) };
    if lock.check_spec(project.spec()).is_err() {
        return Ok(None);
    }
    trust::check(project, Some(&lock), When::Lock, trusted)?;
    Ok(builder.sealed(project, &lock)?)
}

/// The image of a project, as `sconce build` makes it.
fn built(context: &Context, project: &Project, trusted: bool) -> Result<Image, Failure> {
    let mirror = project.spec().base.mirror.clone();
    let builder = context.builder(mirror.as_deref());
    let lock = builder.existing_lock(project)?;
    trust::check(project, lock.as_ref(), When::Lock, trusted)?;
    let locked = builder.lock(project, &sconce_start::host(), &Default::default())?;
    say(&locked);
    let ready = builder.ready(project, locked.lock, Trees::None)?;
    Ok(builder.image(ready.image)?)
}
