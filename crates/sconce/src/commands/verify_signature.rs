//! `sconce verify-signature`.

use std::path::PathBuf;
use std::process::ExitCode;

use sconce_sign::{PublicKey, Verdict};
use serde_json::json;

use sconce_start::{Kind as What, Target, pulled_as};
use sconce_store::Image;

use crate::cli::Global;
use crate::commands::registries::{Registries, architecture, in_registry};
use crate::commands::show::shown;
use crate::commands::sign::public_key;
use crate::commands::{paths, push};
use crate::context::Context;
use crate::error::{Failure, Kind};

/// Ask whether one of these keys has signed an image
///
/// The image is the one that `sconce copy` would take under that name: of a name with a host what its registry has now, of an
/// index there the one for this machine; else the store's image, or that in a layout or an archive, with what was copied
/// along with it, and what its registry has beside it where it was pulled. A signature of the index counts too, as that
/// names the image by its digest. Bundles of cosign 2.6 and later are read, and
/// the tag sha256-HEX.sig of older ones. Transparency logs and certificates are not looked at. The exit
/// code is 0 for yes, 1 for no, 12 if it can't be told.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sconce verify-signature registry:5000/team/app:1.2 --key cosign.pub
  sconce verify-signature ghcr.io/team/app:1 --key old.pub --key new.pub --platform linux/arm64
  sconce verify-signature oci:app:1 --key cosign.pub")]
pub struct Args {
    /// HOST[:PORT]/NAME[:TAG][@DIGEST], docker://NAME, an image of the store, oci:DIR[:TAG], docker-archive:FILE or
    /// oci-archive:FILE
    #[arg(value_name = "IMAGE")]
    image: String,
    /// A public key, PEM: EC P-256, P-384, P-521, RSA or Ed25519; more than one: any of them will do
    #[arg(long = "key", value_name = "FILE", required = true)]
    keys: Vec<PathBuf>,
    /// The platform, of an image for several: linux/amd64, linux/arm64; this machine's if not given
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    #[command(flatten)]
    registries: Registries,
    /// As JSON: {name, image, verdict, signed, key, why}: the whole name, the digest of the image, `yes`,
    /// `no` or `cant-tell`; with yes the digest that is signed (the image's or an index's) and the
    /// fingerprint of the key, otherwise why
    #[arg(long)]
    json: bool,
}

/// What somebody else may have signed: what is built here has no signatures before it is pushed.
const SIGNABLE: &[What] = &[What::Image, What::Reference, What::Tag, What::Layout, What::Archive];

/// The image of the store, or of a file, that `sconce copy` would take.
fn stored(
    context: &Context,
    args: &Args,
    target: &Target,
    architecture: &str,
) -> Result<Image, Failure> {
    if let Some(image) = target.stored(&context.store)? {
        if args.platform.is_some() {
            push::check_platform(&context.store, &image, &args.image, architecture)?;
        }
        return Ok(image);
    }
    match target {
        Target::Layout { .. } | Target::Archive { .. } => {
            push::source(context, "verify-signature", &args.image, false, args.platform.as_deref())
        }
        _ => Err(Failure::new(Kind::Usage, format!("no image `{}` in the store", args.image))
            .hint(format!("`docker://{}` is the one of a registry", args.image))),
    }
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let architecture = architecture(args.platform.as_deref())?;
    let keys: Result<Vec<PublicKey>, _> = args.keys.iter().map(|path| public_key(path)).collect();
    let keys = keys?;
    let context = Context::open(global)?;
    let access = args.registries.access(&context)?;
    let policy = context.policy()?;
    let transfer = context.transfer(&access, &policy);
    let text = paths::target(&args.image)?;
    let target = Target::find_for(&text, "verify-signature", SIGNABLE)?;
    let (name, there) = match in_registry(&target, &context)? {
        Some(reference) => {
            (reference.to_string(), transfer.surroundings(&reference, &architecture, &keys)?)
        }
        None => {
            let image = stored(&context, args, &target, &architecture)?;
            // Of other bytes than those that are signed nothing is said.
            context.store.manifest(&image)?;
            let names = pulled_as(&target, &image);
            let own = sconce_oci::Config::parse(&context.store.config(&image)?);
            let own = own.map_or(architecture, |config| config.architecture);
            let there = transfer.surroundings_of(image.manifest, &names, &own, &keys)?;
            let name = match target {
                Target::Layout { .. } | Target::Archive { .. } => None,
                _ => target.name_of(&image),
            };
            (name.unwrap_or_else(|| args.image.clone()), there)
        }
    };
    let verdict = there.verdict(&keys);
    let (word, code, why) = match &verdict {
        Verdict::Yes { .. } => ("yes", ExitCode::SUCCESS, None),
        Verdict::No(why) => ("no", ExitCode::from(Kind::No as u8), Some(why)),
        Verdict::CantTell(why) => ("cant-tell", ExitCode::from(Kind::CantTell as u8), Some(why)),
    };
    let signed = match &verdict {
        Verdict::Yes { key, image } => Some((keys.get(*key).map(PublicKey::fingerprint), *image)),
        _ => None,
    };
    if args.json {
        let row = json!({
            "name": name,
            "image": there.image,
            "verdict": word,
            "signed": signed.map(|(_, image)| image),
            "key": signed.and_then(|(key, _)| key),
            "why": why,
        });
        println!("{}", serde_json::to_string_pretty(&row).map_err(Failure::unwritable)?);
        return Ok(code);
    }
    match (&verdict, why) {
        (Verdict::Yes { key, image }, _) => {
            let file = args.keys.get(*key).map(|path| path.display().to_string());
            let of = if *image == there.image { "" } else { ", by the signature of its index" };
            println!("yes: {} has signed {}{of}", file.unwrap_or_default(), there.image);
        }
        (Verdict::No(_), Some(why)) => println!("no: {}: {}", there.image, shown(why)),
        (_, why) => {
            println!("can't tell: {}: {}", there.image, shown(why.map_or("", String::as_str)))
        }
    }
    Ok(code)
}
