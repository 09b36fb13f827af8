//! `sconce build`.

use std::process::ExitCode;

use sconce_build::Trees;
use sconce_lock::reaches::When;
use sconce_oci::name::check_image_name;
use sconce_start::Target;
use sconce_store::LayoutOut;
use serde_json::json;

use crate::cli::Global;
use crate::commands::image_files::{self, Output};
use crate::commands::lock::say;
use crate::commands::locking::Locking;
use crate::commands::paths;
use crate::commands::registries::machine;
use crate::context::Context;
use crate::error::Failure;
use crate::progress::bytes_in_words;
use crate::trust;

/// Make the image of a project or tag
///
/// Locks first if there is no lock, seals the lock on the first build, and from then on insists on
/// the same digest. Prints the image's digest.
#[derive(clap::Args)]
pub struct Args {
    /// A folder with a sconce.toml, or a tag such as torch:2.15.0
    #[arg(default_value = ".", value_name = "TARGET")]
    project: String,
    /// Write the image as well: oci:DIR[:TAG] (an OCI layout; with TAG also one that is there) or docker-archive:FILE[:NAME[:TAG]] (for
    /// docker load)
    #[arg(short, long, value_name = "KIND:PATH")]
    output: Vec<Output>,
    /// Write the image alone into oci:DIR, and not what is kept beside it in the store, such as signatures
    #[arg(long, requires = "output")]
    image_only: bool,
    /// Name the image: lab/demo:1.2. May be given more than once; `name` under [image] does the same
    #[arg(short, long, value_name = "NAME", value_parser = image_name)]
    tag: Vec<String>,
    /// Build for this platform, linux/amd64 or linux/arm64, also on a machine of the other. What is not that of
    /// sconce.lock has a lock beside it: sconce.arm64.lock
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Allow once what the project asks for outside its folder (see `sconce trust`)
    #[arg(long)]
    trust: bool,
    #[command(flatten)]
    locking: Locking,
    /// As JSON: {image, environment, size, layers: [{name, diff_id, digest, size}]}
    #[arg(long)]
    json: bool,
}

fn image_name(text: &str) -> Result<String, String> {
    check_image_name(text).map(|()| text.to_owned()).map_err(|why| format!("it {why}"))
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let context = Context::open(global)?;
    let project = Target::find_project(&paths::target(&args.project)?, "build")?;
    let mirror = project.spec().base.mirror.clone();
    let builder = context.builder(mirror.as_deref());
    let project = match &args.platform {
        Some(platform) => builder.on(project, machine(platform)?)?,
        None => project,
    };
    let lock = builder.existing_lock(&project)?;
    trust::check(&project, lock.as_ref(), When::Lock, args.trust)?;
    let policy = args.locking.policy();
    let locked = builder.lock(&project, &sconce_start::host(), &policy)?;
    say(&locked);
    let ready = builder.ready_under(&policy, &project, locked.lock, Trees::None)?;
    let image = builder.image(ready.image)?;
    // Engines want a tag behind the name.
    let tagged = |name: String| match name.rsplit_once(':') {
        Some((_, tag)) if !tag.contains('/') => name,
        _ => format!("{name}:latest"),
    };
    for name in &args.tag {
        context.give_name(name, ready.image)?;
    }
    let names = match args.tag.is_empty() {
        true => project.name().into_iter().collect(),
        false => args.tag.clone(),
    };
    let names: Vec<String> = names.into_iter().map(tagged).collect();
    for Output { file, tag } in &args.output {
        let out = LayoutOut { adds: tag.is_some(), beside: !args.image_only };
        let names = match tag {
            Some(tag) => vec![image_files::tagged(tag, names.first().cloned())],
            None => names.clone(),
        };
        if let Err(failure) = file.write(global, &context, &image, &names, out) {
            sconce_build::mend(&context.store, &image, &context.display)?;
            return Err(failure);
        }
        if out.beside {
            image_files::note_beside(&context, &image, file)?;
        }
    }
    if args.json {
        let layers: Vec<_> = image
            .layers
            .iter()
            .map(|layer| {
                let named = ready.environment.layers.iter().find(|named| named.layer == *layer);
                json!({
                    "name": named.map_or("app", |named| named.name.as_str()),
                    "diff_id": layer.diff_id,
                    "digest": layer.digest,
                    "size": layer.size,
                })
            })
            .collect();
        let report = json!({
            "image": ready.image,
            "environment": ready.environment.image,
            "size": image.size,
            "layers": layers,
        });
        println!("{}", serde_json::to_string_pretty(&report).map_err(Failure::unwritable)?);
    } else {
        eprintln!("{} layers, {}", image.layers.len(), bytes_in_words(image.size));
        println!("{}", ready.image);
    }
    Ok(ExitCode::SUCCESS)
}
