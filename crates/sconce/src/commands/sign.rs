//! `sconce sign`.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use sconce_blob::Digest;
use sconce_lock::Lock;
use sconce_registry::{Named, Reference};
use sconce_sign::{
    Error as KeyError, LOCK, MAX_KEY, PROVENANCE, PrivateKey, PublicKey, SBOM, Statement,
};
use sconce_start::Target;
use serde_json::{Value, json};

use crate::cli::Global;
use crate::commands::beside::builds;
use crate::commands::login;
use crate::commands::paths;
use crate::commands::registries::{Registries, reference};
use crate::context::Context;
use crate::error::{Failure, Kind};

/// The largest lock that is read, bytes.
const MAX_LOCK: u64 = 16 << 20;

/// Sign an image in a registry
///
/// What the name stands for is signed, an index with all its images as well, and the signature is put
/// beside it, where `cosign verify --key` finds it. The same image and key give the same signature. No
/// transparency log is told.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sconce sign registry:5000/team/app:1.2 --key cosign.key
  sconce sign registry:5000/team/app:1.2 --key cosign.key --with .       with its lock, SBOM, provenance
  sconce sign registry:5000/team/app:1.2 --key cosign.key --form both    for cosign before 2.6 too
  cosign verify --key cosign.pub --insecure-ignore-tlog=true registry:5000/team/app:1.2")]
pub struct Args {
    /// [HOST[:PORT]/]NAME[:TAG][@DIGEST]
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The private key, PEM: as `cosign generate-key-pair` makes it (the password is COSIGN_PASSWORD, or
    /// asked for), or EC P-256 or P-384, RSA or Ed25519 in PKCS#8
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// In which form: `bundle` refers to the image (cosign 2.6 and later), `sig-tag` stands under the tag
    /// sha256-HEX.sig (all older ones)
    #[arg(long, value_enum, value_name = "FORM", default_value_t = Form::Bundle)]
    form: Form,
    /// Sign and attach what its lock says too: the lock, an SBOM (CycloneDX) and what it was built from (SLSA
    /// provenance), as `cosign verify-attestation` reads them. A folder, a tag such as torch:2.15.0 or a
    /// sconce.lock; the image must be what it builds to, with or without a layer of the user's own files
    #[arg(long, value_name = "DIR|TAG|FILE")]
    with: Option<String>,
    #[command(flatten)]
    registries: Registries,
    /// As JSON: {name, image, key, bundles, tags}: the whole name, the digest that was signed, the
    /// fingerprint of the key, the digests of the manifests that bring bundles, the tags that were
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
    let access = args.registries.access(&context)?;
    let policy = context.policy()?;
    let transfer = context.transfer(&access, &policy);
    let named = transfer.named(&reference)?;
    let image = named.descriptor.digest;
    let with = args.with.as_deref().map(|with| statements(&context, with, &named)).transpose()?;
    // What the name stands for may change meanwhile.
    let exact = Reference { digest: Some(image), ..reference.clone() };
    let (mut bundles, mut tags) = (Vec::new(), BTreeSet::new());
    let mut put = |statement: &dyn Fn(Digest) -> Statement| -> Result<(), Failure> {
        let attached = transfer.attest(&exact, &key, statement)?;
        bundles.push(attached.digest);
        tags.extend(attached.tag);
        Ok(())
    };
    if args.form != Form::SigTag {
        put(&Statement::signed)?;
    }
    for (kind, said) in with.unwrap_or_default() {
        put(&|image| Statement::new(image, kind, said.clone()))?;
    }
    if args.form != Form::Bundle {
        tags.insert(transfer.sign_under_tag(&exact, &key)?);
    }
    let fingerprint = key.public()?.fingerprint();
    if args.json {
        let row = json!({
            "name": reference.to_string(),
            "image": image,
            "key": fingerprint,
            "bundles": bundles,
            "tags": tags,
        });
        println!("{}", serde_json::to_string_pretty(&row).map_err(Failure::unwritable)?);
    } else {
        eprintln!("{reference}: signed with the key {fingerprint}");
        println!("{image}");
    }
    Ok(ExitCode::SUCCESS)
}

/// What a lock says of the image that it builds to: the kind of each statement, and what it says.
fn statements(
    context: &Context,
    with: &str,
    named: &Named,
) -> Result<Vec<(&'static str, Value)>, Failure> {
    let path = Path::new(with);
    let lock = if path.is_file() {
        let text = sconce_open::read_to_string(path, MAX_LOCK).map_err(|error| {
            Failure::new(Kind::Storage, format!("can't read {}: {error}", path.display()))
        })?;
        Some(Lock::parse(&text)?)
    } else {
        let project = Target::find_project(&paths::target(with)?, "sign")?;
        context.builder(None).existing_lock(&project)?
    };
    let sealed = lock.as_ref().and_then(|lock| lock.sealed.as_ref());
    let (Some(lock), Some(sealed)) = (&lock, sealed) else {
        let what = format!("`{with}` has no lock that says which image it builds to");
        return Err(Failure::new(Kind::Usage, what).hint("`sconce build` seals it"));
    };
    let image = named.descriptor.digest;
    if !builds(lock, image, &named.bytes) {
        let what = format!(
            "the lock of `{with}` builds to {}, and what is to be signed is {image}",
            sealed.image
        );
        return Err(Failure::new(Kind::No, what).hint(
            "name the image that was built from it; of an index for several platforms that is NAME@DIGEST",
        ));
    }
    Ok(vec![
        (LOCK, json!({ "lock": lock.to_text() })),
        (SBOM, sconce_audit::bom(lock, image)),
        (PROVENANCE, sconce_audit::provenance(lock)),
    ])
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
    paths::read("--key", path, MAX_KEY).map(String::into_bytes)
}
