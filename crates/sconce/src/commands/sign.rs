//! `sconce sign`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use sconce_sign::{Error as KeyError, MAX_KEY, PrivateKey, PublicKey, Statement};
use serde_json::json;

use crate::cli::Global;
use crate::commands::login;
use crate::commands::registries::{Registries, reference};
use crate::context::Context;
use crate::error::{Failure, Kind};

/// Sign an image in a registry
///
/// What the name stands for is signed, an index with all its images as well, and the signature is put
/// beside it, where `cosign verify --key` finds it. The same image and key give the same signature. No
/// transparency log is told.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sconce sign registry:5000/team/app:1.2 --key cosign.key
  sconce sign registry:5000/team/app:1.2 --key cosign.key --form both    for cosign before 2.6 too
  cosign verify --key cosign.pub --insecure-ignore-tlog=true registry:5000/team/app:1.2")]
pub struct Args {
    /// [HOST[:PORT]/]NAME[:TAG][@DIGEST]
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The private key, PEM: EC P-256, as `cosign generate-key-pair` makes it (the password is
    /// COSIGN_PASSWORD, or asked for) or in PKCS#8
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// In which form: `bundle` refers to the image (cosign 2.6 and later), `sig-tag` stands under the tag
    /// sha256-HEX.sig (all older ones)
    #[arg(long, value_enum, value_name = "FORM", default_value_t = Form::Bundle)]
    form: Form,
    #[command(flatten)]
    registries: Registries,
    /// As JSON: {name, image, key, bundle, tags}: the whole name, the digest that was signed, the
    /// fingerprint of the key, the digest of the manifest that brings the bundle, the tags that were
    /// written
    #[arg(long)]
    json: bool,
}

/// How a signature is put beside an image.
#[derive(Clone, Copy, ValueEnum, PartialEq, Eq)]
enum Form {
    Bundle,
    SigTag,
    Both,
}

pub fn main(global: &Global, args: &Args) -> Result<ExitCode, Failure> {
    let reference = reference(&args.image)?;
    let key = private_key(&args.key)?;
    let context = Context::open(global)?;
    let access = args.registries.access(&context);
    let policy = context.policy()?;
    let transfer = context.transfer(&access, &policy);
    let (mut signed, mut bundle, mut tags) = (None, None, Vec::new());
    if args.form != Form::SigTag {
        let (image, attached) = transfer.attest(&reference, &key, &Statement::signed)?;
        signed = Some(image);
        bundle = Some(attached.digest);
        tags.extend(attached.tag);
    }
    if args.form != Form::Bundle {
        // What the name stood for before is what is signed in both forms.
        let exact =
            sconce_registry::Reference { digest: signed.or(reference.digest), ..reference.clone() };
        let (image, tag) = transfer.sign_under_tag(&exact, &key)?;
        signed = Some(image);
        tags.push(tag);
    }
    let fingerprint = key.public()?.fingerprint();
    if args.json {
        let row = json!({
            "name": reference.to_string(),
            "image": signed,
            "key": fingerprint,
            "bundle": bundle,
            "tags": tags,
        });
        println!("{}", serde_json::to_string_pretty(&row).map_err(Failure::unwritable)?);
    } else {
        eprintln!("{reference}: signed with the key {fingerprint}");
        println!("{}", signed.map(|image| image.to_string()).unwrap_or_default());
    }
    Ok(ExitCode::SUCCESS)
}

/// A private key, with its password where it needs one.
fn private_key(path: &Path) -> Result<PrivateKey, Failure> {
    let file = read(path)?;
    let named = |error: KeyError| key_failure(path, &error);
    match PrivateKey::parse(&file, None) {
        Err(KeyError::Locked) => {}
        other => return other.map_err(named),
    }
    let password = match std::env::var("COSIGN_PASSWORD") {
        Ok(password) => password,
        Err(_) if std::io::stdin().is_terminal() => {
            login::ask(&format!("Password of {}: ", path.display()), true)?
        }
        Err(_) => return Err(named(KeyError::Locked)),
    };
    PrivateKey::parse(&file, Some(password.as_bytes())).map_err(named)
}

/// A public key.
pub fn public_key(path: &Path) -> Result<PublicKey, Failure> {
    PublicKey::parse(&read(path)?).map_err(|error| key_failure(path, &error))
}

fn key_failure(path: &Path, error: &KeyError) -> Failure {
    let kind = match error {
        KeyError::Key { .. } => Kind::Document,
        KeyError::Locked | KeyError::Password => Kind::Usage,
    };
    let failure = Failure::new(kind, format!("{}: {error}", path.display()));
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    sconce_open::read_argument(path, MAX_KEY).map(String::into_bytes).map_err(|error| {
        Failure::new(Kind::Storage, format!("can't read the key {}: {error}", path.display()))
    })
}
