//! `sconce show`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use sconce_audit::{LOCK_FILE, PROVENANCE_FILE, SBOM_FILE};
use sconce_oci::{Artifact, Descriptor};
use sconce_sign::{Claim, Finding, LOCK, PROVENANCE, PublicKey, SBOM, SIGNED, Statement};
use sconce_transfer::{Beside, Surroundings};
use serde_json::{Value, json};

use crate::cli::Global;
use crate::commands::registries::{Registries, architecture, reference};
use crate::commands::sign::public_key;
use crate::context::Context;
use crate::error::{Failure, Kind};
use crate::output::hides;

/// Show what is beside an image in its registry: signatures, SBOM, provenance, lock
///
/// Of an artifact that is no image (a chart, a model) the files that it holds are listed.
/// Without --key it is what somebody put there, and may be anybody's word. With --key, what one of the
/// keys has signed is marked.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sconce show registry:5000/team/app:1.2
  sconce show registry:5000/team/app:1.2 --key cosign.pub --print lock > sconce.lock")]
pub struct Args {
    /// [HOST[:PORT]/]NAME[:TAG][@DIGEST]
    #[arg(value_name = "IMAGE")]
    image: String,
    /// A public key, PEM; may be given more than once
    #[arg(long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,
    /// Print one of them, the first that --key has signed; without --key the first that is there
    #[arg(long, value_enum, value_name = "WHAT")]
    print: Option<What>,
    /// The platform, of an image for several: linux/amd64, linux/arm64; this machine's if not given
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    #[command(flatten)]
    registries: Registries,
    /// As JSON: {name, image, artifact, beside}. `artifact` is there where it is no image: {kind, files: [{name, kind, digest, size}]};
    /// `beside` is a list: [{about, digest, kind, size, tag, says, key, why}]}: what each is
    /// about (the image or an index), its digest, media type, bytes and tag; what kind of statement it
    /// is; the fingerprint of the key that has signed it, of those given; why it proves nothing
    #[arg(long, conflicts_with = "print")]
    json: bool,
}

/// What can be printed.
#[derive(Clone, Copy, ValueEnum)]
enum What {
    Lock,
    Sbom,
    Provenance,
}

impl What {
    const fn predicate(self) -> &'static str {
        match self {
            Self::Lock => LOCK,
            Self::Sbom => SBOM,
            Self::Provenance => PROVENANCE,
        }
    }

    /// The media type of such a file that nobody has signed.
    const fn file(self) -> &'static str {
        match self {
            Self::Lock => LOCK_FILE,
            Self::Sbom => SBOM_FILE,
            Self::Provenance => PROVENANCE_FILE,
        }
    }
}

/// A file of an artifact.
#[derive(serde::Serialize)]
struct File<'a> {
    name: Option<&'a str>,
    kind: &'a str,
    digest: sconce_blob::Digest,
    size: u64,
}

impl File<'_> {
    fn line(&self) -> String {
        let name = self.name.map(|name| format!("{name}: ")).unwrap_or_default();
        format!("  {name}{}, {}, {} bytes", self.kind, self.digest.short(), self.size)
    }
}

fn files(artifact: &Artifact) -> Vec<File<'_>> {
    artifact
        .layers
        .iter()
        .map(|file| File {
            name: file.annotations.get("org.opencontainers.image.title").map(String::as_str),
            kind: &file.media_type,
            digest: file.digest,
            size: file.size,
        })
        .collect()
}

/// One thing beside the image, as it is shown.
struct Row<'a> {
    beside: &'a Beside,
    statement: Option<Statement>,
    key: Option<&'a PublicKey>,
    why: Option<String>,
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
    // No key: whatever is there is of interest.
    let there = transfer.surroundings(&reference, &architecture, &[])?;
    let rows = rows(&there, &keys);
    if let Some(what) = args.print {
        let read = |file: &Descriptor| Ok(transfer.file(&reference, file)?);
        return print(&rows, what, !keys.is_empty(), &read);
    }
    if args.json {
        let rows: Vec<Value> = rows.iter().map(Row::to_json).collect();
        let mut all = json!({"name": reference.to_string(), "image": there.image, "beside": rows});
        if let Some(artifact) = &there.artifact {
            all["artifact"] = json!({"kind": artifact.kind(), "files": files(artifact)});
        }
        println!("{}", serde_json::to_string_pretty(&all).map_err(Failure::unwritable)?);
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}", there.image);
    if let Some(artifact) = &there.artifact {
        println!("{}", shown(&format!("  it is an artifact, and no image: {}", artifact.kind())));
        for file in files(artifact) {
            println!("{}", shown(&file.line()));
        }
    }
    for row in &rows {
        println!("{}", row.line(there.image, !keys.is_empty()));
    }
    match &there.unread {
        Some(why) => eprintln!("note: there may be more: {}", shown(why)),
        None if there.others => eprintln!("note: there is more of other kinds, which was not read"),
        None if rows.is_empty() => eprintln!("there is nothing beside it"),
        None => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn rows<'a>(there: &'a Surroundings, keys: &'a [PublicKey]) -> Vec<Row<'a>> {
    let pairs = there.beside.iter().zip(there.findings(keys));
    pairs
        .map(|(beside, finding)| {
            let mut row = Row { beside, statement: None, key: None, why: None };
            match finding {
                Some(Finding::Proved { key, claim, .. }) => {
                    row.key = keys.get(key);
                    row.statement = match claim {
                        Claim::Attested(statement) => Some(*statement),
                        Claim::Signed => None,
                    };
                }
                Some(Finding::OtherKey { hint, has_certificate }) => {
                    row.why = Some(match (has_certificate, hint) {
                        (true, _) => "signed with a certificate".to_owned(),
                        (false, Some(hint)) => format!("names the key {hint}"),
                        (false, None) => "by another key".to_owned(),
                    });
                }
                Some(Finding::OtherImage(_)) => row.why = Some("about another image".to_owned()),
                Some(Finding::Unreadable(why)) => row.why = Some(why),
                None => {}
            }
            if row.key.is_none()
                && let Some(evidence) = &beside.evidence
            {
                row.statement = evidence.claimed();
            }
            row
        })
        .collect()
}

impl Row<'_> {
    /// What kind of statement it is.
    fn says(&self) -> &str {
        match &self.statement {
            Some(statement) => &statement.predicate_type,
            None if self.beside.evidence.is_some() => SIGNED,
            None => &self.beside.kind,
        }
    }

    fn line(&self, image: sconce_blob::Digest, with_keys: bool) -> String {
        let what = match self.says() {
            SIGNED => "signature",
            SBOM | SBOM_FILE => "SBOM",
            PROVENANCE | PROVENANCE_FILE => "provenance",
            LOCK | LOCK_FILE => "lock",
            other => other,
        };
        let about = if self.beside.about == image { "" } else { ", of its index" };
        let proof = match (&self.key, with_keys) {
            (Some(key), _) => format!("signed by {}", key.fingerprint()),
            _ if self.beside.evidence.is_none() => "not signed".to_owned(),
            (None, true) => "signed by none of the keys".to_owned(),
            (None, false) => "not verified".to_owned(),
        };
        let why = self.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        let digest = self.beside.digest.short();
        shown(&format!("  {what}{about}: {digest}, {} bytes, {proof}{why}", self.beside.size))
    }

    fn to_json(&self) -> Value {
        json!({
            "about": self.beside.about,
            "digest": self.beside.digest,
            "kind": self.beside.kind,
            "size": self.beside.size,
            "tag": self.beside.tag,
            "says": self.says(),
            "key": self.key.map(PublicKey::fingerprint),
            "why": self.why,
        })
    }
}

/// Reads a file that is beside the image.
type Read<'a> = dyn Fn(&Descriptor) -> Result<Vec<u8>, Failure> + 'a;

/// Prints what is there of a kind: a statement, or the file itself where nothing needs to be signed.
fn print(
    rows: &[Row<'_>],
    what: What,
    with_keys: bool,
    read: &Read<'_>,
) -> Result<ExitCode, Failure> {
    let said = |row: &&Row<'_>| {
        row.statement.as_ref().is_some_and(|said| said.predicate_type == what.predicate())
    };
    let plain = |row: &&Row<'_>| row.beside.kind == what.file() && row.beside.file.is_some();
    let found = rows.iter().filter(said).find(|row| row.key.is_some() || !with_keys);
    let found = found.or_else(|| rows.iter().find(plain).filter(|_| !with_keys));
    let Some(row) = found else {
        let why = match (rows.iter().any(|row| said(&row) || plain(&row)), with_keys) {
            (true, _) => "what is there is signed by none of the keys",
            (false, _) => "there is none beside the image",
        };
        return Err(Failure::new(Kind::No, why).hint("`sconce show IMAGE` lists what there is"));
    };
    if !with_keys {
        eprintln!("note: nobody's signature was looked at; --key does");
    }
    let pretty = |value: &Value| {
        serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(Failure::unwritable)
    };
    let text = match (&row.statement, &row.beside.file, what) {
        (Some(said), _, What::Lock) => match said.predicate["lock"].as_str() {
            Some(text) => text.to_owned(),
            None => {
                let why = "what is there as a lock holds no text";
                return Err(Failure::new(Kind::Document, why));
            }
        },
        (Some(said), ..) => pretty(&said.predicate)?,
        (None, Some(file), _) => {
            let odd = || Failure::new(Kind::Document, "what is there is no text of that kind");
            let text = String::from_utf8(read(file)?).map_err(|_| odd())?;
            match what {
                What::Lock => text,
                _ => pretty(&serde_json::from_str(&text).map_err(|_| odd())?)?,
            }
        }
        (None, None, _) => return Ok(ExitCode::SUCCESS),
    };
    let text = match std::io::stdout().is_terminal() {
        true => text.split('\n').map(shown).collect::<Vec<_>>().join("\n"),
        false => text,
    };
    print!("{text}");
    Ok(ExitCode::SUCCESS)
}

/// A registry's words, as a terminal may show them.
pub fn shown(text: &str) -> String {
    let shown = |c: char| match hides(c) {
        true => c.escape_default().collect(),
        false => vec![c],
    };
    text.chars().flat_map(shown).collect()
}
