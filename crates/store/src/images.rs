//! Images: a manifest, its config and its layers; the names people give them; their last use.
//!
//! `images/<manifest digest>.json` lists what the image is made of; its time of modification is
//! that of the image's last use. `refs/<name>` holds a manifest digest.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sconce_blob::Digest;
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::error::{Error, at};
use crate::layers::Layer;
use crate::lock::{Scratch, SharedLock};
use crate::store::{read_small, sync_parent};

/// The largest manifest, config or index that is read, bytes. Registries take 4 MiB.
pub(crate) const DOCUMENT_LIMIT: u64 = 8 << 20;

/// The largest number of layers in an image. Docker's own limit is 125.
const MAX_LAYERS: usize = 1000;

/// An image in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Digest of the manifest: the image's own digest.
    pub manifest: Digest,
    /// Digest of the config ("image id" to Docker).
    pub config: Digest,
    /// The layers, base first.
    pub layers: Vec<Layer>,
    /// The names that mean it now, sorted.
    pub names: Vec<String>,
    /// Bytes a registry would hold for it: layers, config and manifest.
    pub size: u64,
    /// `created` of the config, RFC 3339, as it stands there.
    pub created: Option<String>,
    /// Labels of the config.
    pub labels: BTreeMap<String, String>,
    /// When it was last put or used.
    pub last_used: SystemTime,
}

/// Keeps an image and its trees from being pruned while it lives, also after the store is closed,
/// and holds a folder for the container that uses it.
#[derive(Debug)]
pub struct Lease {
    scratch: Scratch,
    _lock: SharedLock,
}

impl Lease {
    /// A folder on the store's file system that goes with the lease, or with the process.
    pub fn scratch(&self) -> &Path {
        &self.scratch.path
    }
}

#[derive(Serialize, Deserialize)]
struct Record {
    manifest: Digest,
    config: Digest,
    size: u64,
    created: Option<String>,
    labels: BTreeMap<String, String>,
    layers: Vec<Layer>,
}

/// What is read of an OCI image manifest (image-spec, manifest.md); Docker's schema 2 is alike.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// An OCI content descriptor (image-spec, descriptor.md).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// The platform of a manifest in an index (image-spec, image-index.md).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Platform {
    pub(crate) architecture: String,
    pub(crate) os: String,
}

/// What is read of an OCI image config (image-spec, config.md).
#[derive(Deserialize)]
pub(crate) struct Config {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    created: Option<String>,
    #[serde(default)]
    config: RunConfig,
    pub(crate) rootfs: RootFs,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RunConfig {
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
pub(crate) struct RootFs {
    pub(crate) diff_ids: Vec<Digest>,
}

impl Store {
    /// Puts an image whose layers are in the store already, and gives it `names` (taking them
    /// from other images). Returns the image digest.
    pub fn put_image(
        &self,
        names: &[&str],
        manifest: &[u8],
        config: &[u8],
    ) -> Result<Digest, Error> {
        names.iter().try_for_each(|name| check_name(name))?;
        let digest = Digest::of(manifest);
        let record = self.record(digest, manifest, config)?;
        for layer in &record.layers {
            self.put_layer(layer)?;
        }
        self.put_bytes(config)?;
        self.put_bytes(manifest)?;
        let path = self.image_path(digest);
        let bytes = serde_json::to_vec(&record)
            .map_err(|error| Error::Corrupt { path: path.clone(), why: error.to_string() })?;
        self.write_small(&path, &bytes)?;
        self.touch(digest)?;
        names.iter().try_for_each(|name| self.put_name(name, digest))?;
        Ok(digest)
    }

    /// Gives an image another name, taking it from the image that had it.
    pub fn put_name(&self, name: &str, image: Digest) -> Result<(), Error> {
        check_name(name)?;
        if !self.image_path(image).exists() {
            return Err(Error::NoImage { name: image.to_string(), nearest: None });
        }
        self.write_small(&self.name_path(name), format!("{image}\n").as_bytes())
    }

    /// Takes a name away; the image stays until it is pruned. Says whether it was there.
    pub fn remove_name(&self, name: &str) -> Result<bool, Error> {
        let path = self.name_path(name);
        match fs::remove_file(&path) {
            Ok(()) => sync_parent(&path).map(|()| true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(at("remove", &path)(error)),
        }
    }

    /// All names and the images they mean.
    pub fn names(&self) -> Result<BTreeMap<String, Digest>, Error> {
        let folder = self.root().join("refs");
        let mut names = BTreeMap::new();
        for entry in fs::read_dir(&folder).map_err(at("list", &folder))? {
            let entry = entry.map_err(at("list", &folder))?;
            let Some(name) = entry.file_name().to_str().and_then(decode) else { continue };
            if let Some(digest) = self.named(&name)? {
                names.insert(name, digest);
            }
        }
        Ok(names)
    }

    /// All images, the one used last first.
    pub fn images(&self) -> Result<Vec<Image>, Error> {
        let names = self.names()?;
        let mut images = Vec::new();
        for digest in self.image_digests()? {
            let of_image = names.iter().filter(|(_, named)| **named == digest);
            let of_image = of_image.map(|(name, _)| name.clone()).collect();
            images.extend(self.load(digest, of_image)?);
        }
        images.sort_by_key(|image| std::cmp::Reverse((image.last_used, image.manifest)));
        Ok(images)
    }

    /// The image a person means: by name, by digest, or by the first digits (6 or more) of one.
    pub fn image(&self, name: &str) -> Result<Image, Error> {
        let digest = match self.named(name)? {
            Some(digest) => digest,
            None => self.by_digest(name)?,
        };
        let names = self.names()?;
        let names = names.into_iter().filter(|(_, named)| *named == digest).map(|(name, _)| name);
        self.load(digest, names.collect())?
            .ok_or_else(|| Error::NoImage { name: name.to_owned(), nearest: None })
    }

    /// The config's bytes, canonical JSON as it was put.
    pub fn config(&self, image: &Image) -> Result<Vec<u8>, Error> {
        self.read_blob(image.config, DOCUMENT_LIMIT)
    }

    /// The manifest's bytes.
    pub fn manifest(&self, image: &Image) -> Result<Vec<u8>, Error> {
        self.read_blob(image.manifest, DOCUMENT_LIMIT)
    }

    /// Notes that the image is used, and keeps it for as long as the lease lives.
    pub fn lease(&self, image: Digest) -> Result<Lease, Error> {
        let lock = SharedLock::shared(self.lock_path("image", image))?;
        self.touch(image)?;
        Ok(Lease { scratch: Scratch::create(&self.root().join("tmp"))?, _lock: lock })
    }

    pub(crate) fn image_path(&self, digest: Digest) -> PathBuf {
        self.root().join("images").join(format!("{}.json", digest.hex()))
    }

    fn image_digests(&self) -> Result<Vec<Digest>, Error> {
        let folder = self.root().join("images");
        let mut digests = Vec::new();
        for entry in fs::read_dir(&folder).map_err(at("list", &folder))? {
            let name = entry.map_err(at("list", &folder))?.file_name();
            let stem = name.to_str().and_then(|name| name.strip_suffix(".json"));
            digests.extend(stem.and_then(|stem| stem.parse::<Digest>().ok()));
        }
        digests.sort();
        Ok(digests)
    }

    fn touch(&self, image: Digest) -> Result<(), Error> {
        let path = self.image_path(image);
        File::options()
            .append(true)
            .open(&path)
            .and_then(|file| file.set_modified(SystemTime::now()))
            .map_err(at("note the use of", &path))
    }

    fn named(&self, name: &str) -> Result<Option<Digest>, Error> {
        if check_name(name).is_err() {
            return Ok(None);
        }
        let path = self.name_path(name);
        let Some(bytes) = read_small(&path)? else { return Ok(None) };
        let digest = String::from_utf8_lossy(&bytes).trim().parse();
        digest.map(Some).map_err(|error| Error::Corrupt { path, why: format!("{error}") })
    }

    fn by_digest(&self, name: &str) -> Result<Digest, Error> {
        let digits = name.strip_prefix("sha256:").unwrap_or(name);
        let mut found = Vec::new();
        if digits.len() >= 6 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            found = self.image_digests()?;
            found.retain(|digest| digest.hex().starts_with(digits));
        }
        match found[..] {
            [digest] => Ok(digest),
            [] => {
                let nearest = self
                    .names()?
                    .into_keys()
                    .map(|known| (strsim::jaro_winkler(&known, name), known))
                    .max_by(|a, b| a.0.total_cmp(&b.0))
                    .filter(|(likeness, _)| *likeness > 0.75);
                let nearest = nearest.map(|(_, known)| known);
                Err(Error::NoImage { name: name.to_owned(), nearest })
            }
            _ => Err(Error::Ambiguous {
                name: name.to_owned(),
                candidates: found.iter().map(Digest::to_string).collect(),
            }),
        }
    }

    fn load(&self, manifest: Digest, names: Vec<String>) -> Result<Option<Image>, Error> {
        let path = self.image_path(manifest);
        let Some(bytes) = read_small(&path)? else { return Ok(None) };
        let record: Record = serde_json::from_slice(&bytes)
            .map_err(|error| Error::Corrupt { path: path.clone(), why: error.to_string() })?;
        let last_used =
            fs::metadata(&path).and_then(|meta| meta.modified()).map_err(at("look at", &path))?;
        let Record { config, size, created, labels, layers, .. } = record;
        Ok(Some(Image { manifest, config, layers, names, size, created, labels, last_used }))
    }

    fn record(&self, digest: Digest, manifest: &[u8], config: &[u8]) -> Result<Record, Error> {
        let bad = |why: String| Error::BadDocument { what: format!("manifest {digest}"), why };
        if manifest.len() as u64 > DOCUMENT_LIMIT || config.len() as u64 > DOCUMENT_LIMIT {
            return Err(bad(format!("it or its config is larger than {DOCUMENT_LIMIT} bytes")));
        }
        let parsed: Manifest =
            serde_json::from_slice(manifest).map_err(|error| bad(error.to_string()))?;
        let config_digest = Digest::of(config);
        if parsed.config.digest != config_digest {
            return Err(bad(format!(
                "it names the config {}, but the config given is {config_digest}",
                parsed.config.digest
            )));
        }
        let read: Config = serde_json::from_slice(config)
            .map_err(|error| bad(format!("its config can't be read: {error}")))?;
        if parsed.layers.len() != read.rootfs.diff_ids.len() {
            return Err(bad(format!(
                "it has {} layers, but its config has {} DiffIDs",
                parsed.layers.len(),
                read.rootfs.diff_ids.len()
            )));
        }
        if parsed.layers.len() > MAX_LAYERS {
            return Err(bad(format!("{} layers are too many", parsed.layers.len())));
        }
        let mut size = (manifest.len() + config.len()) as u64;
        let mut layers = Vec::new();
        for (layer, diff_id) in parsed.layers.into_iter().zip(read.rootfs.diff_ids) {
            size = size.checked_add(layer.size).ok_or_else(|| bad("its size overflows".into()))?;
            let Descriptor { digest, size, media_type, .. } = layer;
            layers.push(Layer { diff_id, digest, size, media_type });
        }
        Ok(Record {
            manifest: digest,
            config: config_digest,
            size,
            created: read.created,
            labels: read.config.labels.unwrap_or_default(),
            layers,
        })
    }

    fn name_path(&self, name: &str) -> PathBuf {
        self.root().join("refs").join(encode(name))
    }
}

/// Anything a person can type as one word: file name encoding makes it safe.
fn check_name(name: &str) -> Result<(), Error> {
    let bad = |why| Err(Error::BadName { name: name.to_owned(), why });
    if name.is_empty() {
        return bad("it is empty");
    }
    if name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return bad("it has white space or control characters");
    }
    if encode(name).len() > 255 {
        return bad("it is too long");
    }
    Ok(())
}

/// A file name for an image name: bytes that mean something in a path become `%XX`.
fn encode(name: &str) -> String {
    let mut out = String::new();
    for (index, byte) in name.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || b"-_:+@".contains(&byte);
        if plain || (byte == b'.' && index > 0) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn decode(file: &str) -> Option<String> {
    let mut out = Vec::new();
    let mut bytes = file.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| (byte? as char).to_digit(16);
            let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
            out.push((high << 4 | low) as u8);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}
