//! `sconce push`.

use std::process::ExitCode;

use sconce_build::{Documents, Project, Trees};
use sconce_lock::Machine;
use sconce_lock::reaches::When;
use sconce_registry::Reference;
use sconce_start::{Kind as What, Target};
use sconce_store::{Image, Store};
use sconce_transfer::{Carried, Outgoings, Pushed, Transfer};
use serde_json::json;

use crate::cli::Global;
use crate::commands::beside::{self, attach};
use crate::commands::lock::say;
use crate::commands::registries::{Registries, architecture, machine, reference};
use crate::commands::{lacking, paths};
use crate::context::Context;
use crate::error::{Failure, Kind};
use crate::progress::bytes_in_words;
use crate::trust;

/// Send an image to a registry
///
/// Only what the registry lacks is sent: it is asked first, takes what another of its repositories is
/// known to have, and layers of wheels are read straight from the wheels. A project whose lock is sealed
/// is built only if the registry lacks one of its layers. An upload that breaks off goes on where it was.
/// The manifest comes last. The sealed lock, an SBOM and provenance are put beside the image. Prints the
/// image's digest. Logins are those of `sconce login`, docker and
/// podman.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sconce push . registry:5000/team/app:1.2            the project of this folder, built if need be
  sconce push torch:2.15.0 registry:5000/torch:2.15.0
  sconce push registry:5000/team/app:1.2              the image of that name in the store
  sconce push oci:amd64 oci:arm64 registry:5000/app:1 one name for both platforms
  sconce push --platform linux/amd64 --platform linux/arm64 . registry:5000/app:1")]
pub struct Args {
    /// A folder with a sconce.toml, a tag such as torch:2.15.0, an image of the store, an OCI layout or
    /// an image archive; the image of the name DESTINATION if not given
    #[arg(value_name = "SOURCE")]
    first: String,
    /// [HOST[:PORT]/]NAME[:TAG]. Several sources, each for another platform, become one index under that name:
    /// SOURCE SOURCE... DESTINATION
    #[arg(value_name = "DESTINATION")]
    rest: Vec<String>,
    /// Allow once what the project asks for outside its folder (see `sconce trust`)
    #[arg(long)]
    trust: bool,
    /// The image for this platform: linux/amd64 or linux/arm64. Given twice, both are built, each with a lock of its
    /// own, and become one index
    #[arg(long, value_name = "OS/ARCH")]
    platform: Vec<String>,
    /// Send the image alone. Else its lock, SBOM and provenance, if its lock is sealed, and the signatures
    /// that were copied with it are put beside it, for `sconce show`
    #[arg(long)]
    image_only: bool,
    #[command(flatten)]
    registries: Registries,
    /// As JSON: {name, image, moved, there, mounted, beside, left}: the whole name, the image's digest, the
    /// bytes that went over the network, those that the repository had, and those that it took from another
    /// one; how many artifacts are beside it now, and which are not and why
    #[arg(long)]
    json: bool,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let to = destination(args.rest.last().unwrap_or(&args.first))?;
    let context = Context::open(global)?;
    let access = args.registries.access(&context)?;
    let policy = context.policy()?;
    let transfer = context.transfer(&access, &policy);
    if args.rest.len() > 1 || !args.platform.is_empty() {
        return several(&context, &transfer, args, &to);
    }
    let target = (!args.rest.is_empty())
        .then(|| -> Result<Target, Failure> {
            Ok(Target::find_for(&paths::target(&args.first)?, "push", What::STARTABLE)?)
        })
        .transpose()?;
    let image = match &target {
        Some(target) => {
            context.say_hidden(target, &args.first)?;
            // A registry that is down or closed is no reason to build first.
            if matches!(target, Target::Folder(_) | Target::Tag(_)) {
                transfer.check_push(&to)?;
            }
            if let Target::Folder(project) = target
                && let Some(documents) = sealed(&context, project, args.trust)?
                && let Some(pushed) = transfer.push_documents(&documents, &to)?
            {
                let carried = match args.image_only {
                    true => Carried::default(),
                    false => attach(&context, &transfer, Some(target), &documents.manifest, &to)?,
                };
                told(&to, &pushed, &carried, args.json)?;
                return Ok(ExitCode::SUCCESS);
            }
            let here = architecture(None)?;
            source_for(&context, &args.first, target, args.trust, Some(&here))?
        }
        None => named(&context, &args.first, &to)?,
    };
    let pushed = match transfer.push(&image, &to) {
        Ok(pushed) => pushed,
        Err(error) => {
            let named = to.to_string();
            // Of what is sent under its own name, the registry may have nothing yet.
            let own = Target::Stored(named.clone());
            let (text, target) = match &target {
                Some(target) => (&args.first, target),
                None => (&named, &own),
            };
            return Err(lacking::unsent(&context, (text, target), &image, error));
        }
    };
    let carried = match args.image_only {
        true => Carried::default(),
        false => {
            let manifest = context.store.manifest(&image)?;
            attach(&context, &transfer, target.as_ref(), &manifest, &to)?
        }
    };
    told(&to, &pushed, &carried, args.json)?;
    Ok(ExitCode::SUCCESS)
}

/// One of several images that are sent under one name.
enum Part {
    Stored(Image),
    /// Of a project whose lock is sealed, and whose layers the registry has: nothing is built.
    Described(Documents),
}

impl Part {
    fn outgoing(&self) -> Outgoings<'_> {
        match self {
            Self::Stored(image) => Outgoings::Stored(image),
            Self::Described(documents) => Outgoings::Described(documents),
        }
    }
}

/// Sends an image for each of several sources, or for each of several platforms of one; more than one as an index.
fn several(
    context: &Context,
    transfer: &Transfer<'_>,
    args: &Args,
    to: &Reference,
) -> Result<ExitCode, Failure> {
    let count = args.rest.len().max(1);
    let sources = std::iter::once(&args.first).chain(&args.rest).take(count);
    let wanted: Vec<(&String, Option<&String>)> = match args.platform.as_slice() {
        [] => sources.map(|text| (text, None)).collect(),
        _ if count > 1 => {
            return Err(Failure::new(Kind::Usage, "--platform is for one source".to_owned())
                .hint("leave it out: each of several sources is for a platform of its own"));
        }
        platforms => platforms.iter().map(|platform| (&args.first, Some(platform))).collect(),
    };
    transfer.check_push(to)?;
    let mut images = Vec::new();
    for (text, platform) in wanted {
        let target = Target::find_for(&paths::target(text)?, "push", What::STARTABLE)?;
        context.say_hidden(&target, text)?;
        let machine = platform.map(|platform| machine(platform)).transpose()?;
        let target = on(context, target, machine)?;
        let wanted = machine.map(Machine::debian);
        let documents = match &target {
            Target::Folder(project) => sealed(context, project, args.trust)?,
            _ => None,
        };
        let part = match documents {
            Some(documents) if transfer.can_push(&documents, to)? => Part::Described(documents),
            _ => {
                let image = source_for(context, text, &target, args.trust, wanted)?;
                if let Some(wanted) = wanted {
                    check_platform(&context.store, &image, text, wanted)?;
                }
                Part::Stored(image)
            }
        };
        images.push((target, part));
    }
    let all: Vec<Outgoings<'_>> = images.iter().map(|(_, part)| part.outgoing()).collect();
    let pushed = match all.as_slice() {
        [one] => transfer.push_one(*one, to)?,
        _ => transfer.push_index(&all, to)?,
    };
    let mut carried = Carried::default();
    if !args.image_only {
        for (target, part) in &images {
            let manifest = match part {
                Part::Stored(image) => context.store.manifest(image)?,
                Part::Described(documents) => documents.manifest.clone(),
            };
            let more = attach(context, transfer, Some(target), &manifest, to)?;
            carried.count += more.count;
            carried.moved += more.moved;
            carried.left.extend(more.left);
        }
    }
    told(to, &pushed, &carried, args.json)?;
    Ok(ExitCode::SUCCESS)
}

/// A project for a processor; what is none stays as it is.
fn on(context: &Context, target: Target, machine: Option<Machine>) -> Result<Target, Failure> {
    let Some(machine) = machine else { return Ok(target) };
    let builder = context.builder(None);
    Ok(match target {
        Target::Folder(project) => Target::Folder(builder.on(project, machine)?),
        Target::Tag(project) => Target::Tag(builder.on(project, machine)?),
        other => other,
    })
}

/// That an image is for the processor that was asked for: one of the store is for one platform.
pub fn check_platform(
    store: &Store,
    image: &Image,
    text: &str,
    architecture: &str,
) -> Result<(), Failure> {
    let config = sconce_oci::Config::parse(&store.config(image)?).map_err(|why| {
        Failure::new(Kind::Storage, format!("the configuration of `{text}` can't be read: {why}"))
    })?;
    if config.is_for(architecture) {
        return Ok(());
    }
    let what = format!("`{text}` is for {}, not for {architecture}", config.platform());
    Err(Failure::new(Kind::Usage, what)
        .hint("an image of the store is for one platform; `sconce copy --platform` asks a registry for another"))
}

/// Says what a push came to.
pub fn told(
    to: &Reference,
    pushed: &Pushed,
    carried: &Carried,
    as_json: bool,
) -> Result<(), Failure> {
    let Pushed { image, moved, there, mounted } = *pushed;
    let moved = moved + carried.moved;
    if as_json {
        let row = json!({
            "name": to.to_string(),
            "image": image,
            "moved": moved,
            "there": there,
            "mounted": mounted,
            "beside": carried.count,
            "left": carried.left,
        });
        println!("{}", serde_json::to_string_pretty(&row).map_err(Failure::unwritable)?);
    } else {
        let [moved, there, mounted] = [moved, there, mounted].map(bytes_in_words);
        eprintln!("{to}: {moved} sent, {there} were there, {mounted} taken from its other images");
        beside::told(carried);
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
    let found = [to.to_string(), text.to_owned()]
        .iter()
        .find_map(|name| names.get(&sconce_oci::name::plain_name(name)).copied());
    match found {
        Some(digest) => Ok(context.store.image(&digest.hex())?),
        None => Err(Failure::new(Kind::Usage, format!("there is no image `{text}` in the store"))
            .hint(format!("name what is to be sent first: `sconce push IMAGE {text}`"))),
    }
}

/// The image that a person means to a command, made or taken in if need be, for this machine or for `platform`. One
/// whose name is that of an image in a registry is in the store under that name, or nowhere.
pub fn source(
    context: &Context,
    command: &'static str,
    text: &str,
    trusted: bool,
    platform: Option<&str>,
) -> Result<Image, Failure> {
    let mut target = Target::find_for(&paths::target(text)?, command, What::STARTABLE)?;
    if let (Target::Folder(_) | Target::Tag(_), Some(platform)) = (&target, platform) {
        target = on(context, target, Some(machine(platform)?))?;
    }
    context.say_hidden(&target, text)?;
    source_for(context, text, &target, trusted, Some(&architecture(platform)?))
}

/// As [`source`]; an image in a layout or an archive for this architecture, or for any where none is given.
fn source_for(
    context: &Context,
    text: &str,
    target: &Target,
    trusted: bool,
    wanted: Option<&str>,
) -> Result<Image, Failure> {
    let store = &context.store;
    let here = architecture(None)?;
    let taken = match target {
        Target::Folder(project) => return built(context, project, trusted),
        Target::Tag(project) => match target.stored(store)? {
            Some(image) => return Ok(image),
            None => return built(context, project, trusted),
        },
        Target::Layout { path, tag } => {
            let read = |platform: &str| store.read_layout(path, tag.as_deref(), platform, &[]);
            match wanted {
                Some(wanted) => read(wanted)?,
                // Which one it has is not known before; what is wrong with it, the first try says.
                None => read(&here).or_else(|error| {
                    let others = ["amd64", "arm64"].into_iter().filter(|other| *other != here);
                    others.into_iter().find_map(|other| read(other).ok()).ok_or(error)
                })?,
            }
        }
        Target::Archive { path, tag } => {
            sconce_start::read_archive(store, path, tag.as_deref(), wanted.unwrap_or(&here))?
        }
        Target::Image(_) | Target::Stored(_) | Target::Reference(_) | Target::Path(_) => {
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
