//! What commands that speak with registries take.

use std::path::PathBuf;

use sconce_fetch::Certificates;
use sconce_lock::{Machine, Spec};
use sconce_oci::Transport;
use sconce_oci::name::host_of;
use sconce_registry::{Access, Reference};
use sconce_start::Target;

use crate::commands::paths;
use crate::context::Context;
use crate::error::{Failure, Kind};

/// How registries are reached.
#[derive(clap::Args, Clone, Default, PartialEq)]
pub struct Registries {
    /// Trust the authorities in this file (PEM) too; those in certs.d folders are trusted anyway
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Speak HTTP without TLS, passwords included; with this machine itself that is the default
    #[arg(long)]
    plain_http: bool,
}

impl Registries {
    pub fn access(&self, context: &Context) -> Result<Access, Failure> {
        let ca = paths::of_given("--ca", self.ca.as_deref())?;
        // At once, whether a registry is asked or not: who gave it relies on it.
        if let Some(ca) = &ca {
            Certificates::read(std::slice::from_ref(ca), None)
                .map_err(|error| Failure::from(error).of_option("--ca"))?;
        }
        Ok(context.access().with_ca(ca).with_plain_http(self.plain_http))
    }
}

/// OCI's name of the processor in `linux/arm64`, `arm64` or `arm64/v8`; this machine's if not given.
pub fn architecture(platform: Option<&str>) -> Result<String, Failure> {
    let Some(given) = platform else {
        let here = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        return Ok(here.to_owned());
    };
    let rest = given.strip_prefix("linux/").unwrap_or(given);
    let name = rest.split('/').next().unwrap_or_default();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    match !name.is_empty() && name.chars().all(plain) && !given.starts_with("windows") {
        true => Ok(name.to_owned()),
        false => Err(Failure::new(Kind::Usage, format!("--platform '{given}' is not a platform"))
            .hint("write linux/amd64 or linux/arm64")),
    }
}

/// The processor that `--platform` names, of those that sconce builds for.
pub fn machine(platform: &str) -> Result<Machine, Failure> {
    architecture(Some(platform))?.parse().map_err(|_| {
        Failure::new(Kind::Usage, format!("--platform '{platform}': nothing is built for that"))
            .hint("write linux/amd64 or linux/arm64")
    })
}

/// The image in a registry that a person means as the source of a copy, where they mean one there. A name with a host is the
/// registry's: an image of that name in the store may be an older one, or for another platform. One without is that of what was
/// built or pulled here, and so is NVIDIA's for what is built for it.
pub fn in_registry(target: &Target, context: &Context) -> Result<Option<Reference>, Failure> {
    let Target::Reference(text) = target else { return Ok(None) };
    match target.stored(&context.store)? {
        Some(_) if !names_host(text) || Spec::is_ngc(text) => Ok(None),
        _ => Ok(Some(reference(text)?)),
    }
}

/// Whether a name says in which registry it is; `lab/demo:1` does not.
fn names_host(text: &str) -> bool {
    text.starts_with("docker://") || host_of(text).is_some()
}

/// An image in a registry, as it was given.
pub fn reference(text: &str) -> Result<Reference, Failure> {
    match Transport::split(text) {
        Some((transport, rest)) if transport != Transport::Registry => {
            let word = text.strip_suffix(rest).unwrap_or(text);
            let what = format!("`{text}` is no image in a registry: `{word}` is another place");
            let hint = "`sconce copy SOURCE DESTINATION` copies between registries, oci:DIR, docker-archive:FILE and store:NAME";
            Err(Failure::new(Kind::Usage, what).hint(hint))
        }
        _ => Ok(Reference::parse(text)?),
    }
}
