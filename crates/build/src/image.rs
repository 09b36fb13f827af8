//! Configuration and manifest of an image.

use std::collections::BTreeMap;

use sconce_blob::Digest;
use sconce_facts::Machine;
use sconce_layer::image::Config;
use sconce_lock::{Flavour, Lock};

use crate::builder::{Builder, NamedLayer};
use crate::error::Error;
use crate::later::is_tar;
use crate::toolkit;
use crate::venv::PREFIX;

/// Environment variables of every image, each with why.
const ENV: [(&str, &str, &str); 4] = [
    ("LANG", "C.UTF-8", "Python and tools write UTF-8"),
    ("VIRTUAL_ENV", "/opt/venv", "uv and activate scripts find the environment"),
    ("NVIDIA_VISIBLE_DEVICES", "all", "Docker's NVIDIA runtime gives GPUs to images that ask"),
    ("NVIDIA_DRIVER_CAPABILITIES", "compute,utility", "libcuda and nvidia-smi, no graphics"),
];

/// The folders of PATH behind the environment's own.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// OCI's name of a processor.
pub(crate) fn architecture(machine: Machine) -> &'static str {
    match machine {
        Machine::X86_64 => "amd64",
        Machine::Aarch64 => "arm64",
    }
}

impl Builder<'_> {
    /// Puts the image of an environment into the store.
    pub(crate) fn put_image(&self, lock: &Lock, layers: &[NamedLayer]) -> Result<Digest, Error> {
        self.put_image_of(lock, layers, None)
    }

    /// Puts an image into the store; one with an app names the `environment` below it.
    pub(crate) fn put_image_of(
        &self,
        lock: &Lock,
        layers: &[NamedLayer],
        environment: Option<Digest>,
    ) -> Result<Digest, Error> {
        let Documents { manifest, config } = documents(lock, layers, environment);
        // On top of an early environment there is an early image.
        Ok(match layers.iter().any(|named| is_tar(&named.layer)) {
            true => self.store.put_image_of_trees(&manifest, &config)?,
            false => self.store.put_image(&[], &manifest, &config)?,
        })
    }
}

/// The documents of an image: what a registry has of it besides its layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Documents {
    /// Its manifest, whose digest is the image's.
    pub manifest: Vec<u8>,
    /// Its configuration.
    pub config: Vec<u8>,
}

/// The documents of an image of these layers; one with an app names the `environment` below it.
pub(crate) fn documents(
    lock: &Lock,
    layers: &[NamedLayer],
    environment: Option<Digest>,
) -> Documents {
    let mut config = Config::new(architecture(lock.facts.machine));
    let start = &mut config.start;
    let cuda = match lock.facts.flavour {
        Flavour::Devel => "/usr/local/cuda/bin:",
        Flavour::Runtime => "",
    };
    start.env.push(format!("PATH=/{PREFIX}/bin:{cuda}{PATH}"));
    start.env.extend(ENV.iter().map(|(name, value, _)| format!("{name}={value}")));
    if lock.facts.flavour == Flavour::Devel {
        start.env.extend(toolkit::ENV.iter().map(|(name, value)| format!("{name}={value}")));
    }
    start.env.extend(lock.app.env.iter().map(|(name, value)| format!("{name}={value}")));
    start.cmd = match lock.app.command.is_empty() {
        true => vec!["/bin/bash".into()],
        false => lock.app.command.clone(),
    };
    start.working_dir = lock.app.workdir.clone();
    start.labels = labels(lock);
    if let Some(digest) = environment {
        start.labels.insert("dev.sconce.environment".into(), digest.to_string());
    }
    config.layers = layers
        .iter()
        .map(|named| {
            let layer = sconce_layer::Layer {
                diff_id: named.layer.diff_id,
                digest: named.layer.digest,
                size: named.layer.size,
            };
            (layer, named.name.clone())
        })
        .collect();
    let manifest = config.manifest(BTreeMap::new()).to_json();
    Documents { manifest, config: config.to_json() }
}

/// What an image says of itself.
fn labels(lock: &Lock) -> BTreeMap<String, String> {
    let facts = &lock.facts;
    let mut labels = BTreeMap::new();
    let mut say = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            labels.insert(name.to_owned(), value);
        }
    };
    let base = &facts.base;
    say("org.opencontainers.image.base.name", Some(format!("debian:{base}")));
    say("dev.sconce.lock", Some(lock.digest().to_string()));
    say("dev.sconce.python", Some(facts.python.clone()));
    say("dev.sconce.flavour", Some(facts.flavour.as_str().into()));
    if let Some(torch) = &facts.torch {
        let title = format!("PyTorch {}", torch.version);
        say("org.opencontainers.image.title", Some(title));
        say("dev.sconce.torch", Some(torch.version.clone()));
        say("dev.sconce.cuda", torch.cuda.as_ref().map(ToString::to_string));
        say("dev.sconce.cudnn", torch.cudnn.clone());
        say("dev.sconce.nccl", torch.nccl.clone());
        say("dev.sconce.driver", torch.driver.as_ref().map(ToString::to_string));
        let architectures: Vec<String> =
            torch.architectures.iter().map(ToString::to_string).collect();
        let known = !architectures.is_empty();
        say("dev.sconce.architectures", known.then(|| architectures.join(",")));
    }
    labels
}
