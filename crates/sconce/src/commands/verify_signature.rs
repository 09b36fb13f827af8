//! `sconce verify-signature`.

use std::path::PathBuf;
use std::process::ExitCode;

use sconce_sign::{PublicKey, Verdict};
use serde_json::json;

use crate::cli::Global;
use crate::commands::registries::{Registries, architecture, reference};
use crate::commands::show::shown;
use crate::commands::sign::public_key;
use crate::context::Context;
use crate::error::{Failure, Kind};

/// Ask whether one of these keys has signed an image
///
/// The image is what `sconce run` would start: of an index, that for this machine. A signature of the
/// index counts too, as that names the image by its digest. Bundles of cosign 2.6 and later are read, and
/// the tag sha256-HEX.sig of older ones. Transparency logs and certificates are not looked at. The exit
/// code is 0 for yes, 1 for no, 12 if it can't be told.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sconce verify-signature registry:5000/team/app:1.2 --key cosign.pub
  sconce verify-signature ghcr.io/team/app:1 --key old.pub --key new.pub --platform linux/arm64")]
pub struct Args {
    /// [HOST[:PORT]/]NAME[:TAG][@DIGEST]
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

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let reference = reference(&args.image)?;
    let architecture = architecture(args.platform.as_deref())?;
    let keys: Result<Vec<PublicKey>, _> = args.keys.iter().map(|path| public_key(path)).collect();
    let keys = keys?;
    let context = Context::open(global)?;
    let access = args.registries.access(&context)?;
    let policy = context.policy()?;
    let transfer = context.transfer(&access, &policy);
    let there = transfer.surroundings(&reference, &architecture, &keys)?;
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
            "name": reference.to_string(),
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
