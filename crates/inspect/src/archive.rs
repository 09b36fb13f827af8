//! Images in archives: tar layers, OCI layouts, the tar of `docker save`.
//!
//! Source: POSIX pax and GNU tar for the headers; OCI image-spec "Layer" (whiteouts), "Image
//! Layout", "Manifest"; Docker's `image/spec` v1.2 for `manifest.json`.

use std::path::Path;
use std::sync::Arc;

use sconce_blob::Digest;
use serde::Deserialize;

use crate::Error;
use crate::inflate::{self, Inflated, MAX_STREAM};
use crate::read::{Named, OnDisk, ReadAt, Slice};
use crate::tree::Tree;

const BLOCK: u64 = 512;
/// A million files and their long names.
const MAX_ENTRIES: u64 = 2_000_000;
const MAX_NAME: u64 = 1 << 20;
const MAX_JSON: u64 = 16 << 20;
/// Kernels stop at 500 layers, engines at 127.
const MAX_LAYERS: usize = 512;
/// Decoder states kept for all layers of an image together.
const MAX_STATES: usize = 2048;
/// Indexes point to indexes (for other processors) only so often.
const MAX_NESTING: usize = 4;

/// What an entry of a tar archive is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file with its bytes at this place.
    File {
        /// Offset in the archive.
        offset: u64,
        /// Bytes.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink(String),
    /// Another name of a file before it.
    Hardlink(String),
    /// A device, a pipe.
    Special,
}

/// Whether these first bytes are a tar archive's (its magic is at 257).
pub fn sniff(head: &[u8]) -> bool {
    head.get(257..262) == Some(b"ustar")
}

/// Tells `visit` every entry of a tar archive.
///
/// # Errors
/// [`Error::Malformed`] or [`Error::Truncated`] with the offset of the entry.
pub fn walk(file: Named<'_>, visit: &mut dyn FnMut(&str, Kind)) -> Result<(), Error> {
    const WHAT: &str = "tar header";
    let mut at = 0u64;
    let mut over = Overrides::default();
    for count in 0.. {
        // Two blocks of zeros end an archive; some just stop.
        if at + BLOCK > file.size() {
            break;
        }
        let head: [u8; BLOCK as usize] = match file.array(at, WHAT) {
            // A stream learns its size when it ends.
            Err(_) if at >= file.size() => break,
            head => head?,
        };
        if head.iter().all(|byte| *byte == 0) {
            break;
        }
        if count > MAX_ENTRIES {
            return Err(file.malformed(at, WHAT, format!("more than {MAX_ENTRIES} entries")));
        }
        let sum: u64 = head.iter().map(|byte| u64::from(*byte)).sum::<u64>()
            - head[148..156].iter().map(|byte| u64::from(*byte)).sum::<u64>()
            + 8 * 32;
        if number(&head[148..156]) != Some(sum) {
            return Err(file.malformed(at, WHAT, "its checksum is wrong"));
        }
        let size = over.size.or_else(|| number(&head[124..136]));
        let size = size.ok_or_else(|| file.malformed(at, WHAT, "its size is not a number"))?;
        let body = at + BLOCK;
        let kind = head[156];
        let has_body = !matches!(kind, b'1'..=b'6');
        let stored = if has_body { size } else { 0 };
        let end = body.checked_add(stored).filter(|end| *end <= file.size());
        let end = end.ok_or_else(|| {
            file.malformed(at, WHAT, format!("an entry of {stored} bytes ends beyond the archive"))
        })?;
        match kind {
            b'L' => over.path = Some(string(&file.range(body, size, MAX_NAME, WHAT)?)),
            b'K' => over.link = Some(string(&file.range(body, size, MAX_NAME, WHAT)?)),
            b'x' => over.read(&file.range(body, size, MAX_NAME, "pax header")?),
            b'g' => {}
            _ => {
                let over = std::mem::take(&mut over);
                let path = over.path.unwrap_or_else(|| {
                    let (name, prefix) = (string(&head[..100]), string(&head[345..500]));
                    let has_prefix = sniff(&head) && head[262] == 0 && !prefix.is_empty();
                    if has_prefix { format!("{prefix}/{name}") } else { name }
                });
                let link = || over.link.unwrap_or_else(|| string(&head[157..257]));
                let kind = match kind {
                    b'1' => Kind::Hardlink(link()),
                    b'2' => Kind::Symlink(link()),
                    b'3' | b'4' | b'6' => Kind::Special,
                    b'5' => Kind::Directory,
                    _ => Kind::File { offset: body, size },
                };
                visit(path.trim_start_matches("./"), kind);
            }
        }
        at = end.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX - BLOCK);
    }
    Ok(())
}

/// What comes before an entry and replaces fields of its header.
#[derive(Default)]
struct Overrides {
    path: Option<String>,
    link: Option<String>,
    size: Option<u64>,
}

impl Overrides {
    /// A pax header: records `LEN KEY=VALUE\n`, LEN counting itself.
    fn read(&mut self, mut bytes: &[u8]) {
        while let Some(space) = bytes.iter().position(|byte| *byte == b' ') {
            let len = std::str::from_utf8(&bytes[..space]).ok().and_then(|text| text.parse().ok());
            let Some(record) = len.and_then(|len: usize| bytes.get(space + 1..len)) else { return };
            let text = String::from_utf8_lossy(record);
            if let Some((key, value)) = text.trim_end_matches('\n').split_once('=') {
                match key {
                    "path" => self.path = Some(value.to_owned()),
                    "linkpath" => self.link = Some(value.to_owned()),
                    "size" => self.size = value.parse().ok(),
                    _ => {}
                }
            }
            bytes = bytes.get(len.unwrap_or(bytes.len())..).unwrap_or_default();
        }
    }
}

fn string(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// A number in octal, or in base 256 when its first bit is set (GNU).
fn number(field: &[u8]) -> Option<u64> {
    if field.first().is_some_and(|byte| byte & 0x80 != 0) {
        return field.get(field.len().saturating_sub(8)..)?.try_into().ok().map(u64::from_be_bytes);
    }
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

/// Puts a layer over what is in `tree`. `layer` may be packed by gzip or zstd.
///
/// # Errors
/// Those of [`walk`] and of unpacking.
pub fn add_layer(
    tree: &mut Tree,
    name: &str,
    layer: &Arc<dyn ReadAt>,
    max_states: usize,
) -> Result<(), Error> {
    let layer = unpacked(name, layer, max_states)?;
    tree.begin_layer();
    let source = tree.add_source(Arc::clone(&layer));
    walk(Named::new(name, &*layer), &mut |path, kind| {
        place(tree, path, kind, |tree, path, offset, size| {
            tree.add_part(path, source, offset, size);
        });
    })
}

/// Puts an entry of a layer into `tree`, whiteouts obeyed; `add` adds a file by its path, offset
/// and size.
pub(crate) fn place(
    tree: &mut Tree,
    path: &str,
    kind: Kind,
    add: impl FnOnce(&mut Tree, &str, u64, u64),
) {
    let (folder, last) = path.rsplit_once('/').unwrap_or(("", path));
    if let Some(victim) = last.strip_prefix(".wh.") {
        let opaque = last == ".wh..wh..opq";
        tree.whiteout(folder, if opaque { ".wh..opq" } else { victim });
        return;
    }
    match kind {
        Kind::File { offset, size } => add(tree, path, offset, size),
        Kind::Directory => tree.add_directory(path),
        Kind::Symlink(target) => tree.add_link(path, &target),
        Kind::Hardlink(target) => tree.add_hard_link(path, &target),
        Kind::Special => {}
    }
}

fn unpacked(
    name: &str,
    bytes: &Arc<dyn ReadAt>,
    max_states: usize,
) -> Result<Arc<dyn ReadAt>, Error> {
    let error = |source| Error::Read { file: name.to_owned(), offset: 0, source };
    let mut magic = [0; 4];
    bytes.read_at(&mut magic, 0).map_err(error)?;
    Ok(match magic {
        [0x1f, 0x8b, ..] => {
            Arc::new(Inflated::gzip(Arc::clone(bytes), MAX_STREAM, max_states).map_err(error)?)
        }
        [0x28, 0xb5, 0x2f, 0xfd] => Arc::new(inflate::zstd(bytes, MAX_STREAM).map_err(error)?),
        _ => Arc::clone(bytes),
    })
}

/// An image's files and its own environment.
pub struct Image {
    /// Its files, layers merged.
    pub tree: Tree,
    /// `config.Env` of its configuration, `NAME=VALUE` each.
    pub env: Vec<String>,
}

impl Image {
    /// The value of an environment variable of its configuration.
    pub fn env(&self, name: &str) -> Option<&str> {
        self.env.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    }
}

#[derive(Deserialize)]
struct Descriptor {
    digest: Digest,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
}

/// An index or a manifest: one of the two lists is there.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Default, Deserialize)]
struct Config {
    #[serde(default)]
    config: Option<Process>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Process {
    #[serde(default)]
    env: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    layers: Vec<String>,
}

/// Opens a blob by its name (a digest, a path in an archive).
type Blobs<'a> = dyn Fn(&str) -> Result<Arc<dyn ReadAt>, Error> + 'a;

fn json<T: for<'de> Deserialize<'de>>(name: &str, bytes: &dyn ReadAt) -> Result<T, Error> {
    let file = Named::new(name, bytes);
    let bytes = file.range(0, file.size(), MAX_JSON, "JSON document")?;
    sconce_open::json(&bytes)
        .map_err(|error| file.malformed(error.column() as u64, "JSON document", error.to_string()))
}

fn assemble(
    subject: &str,
    config: &str,
    layers: &[String],
    blobs: &Blobs<'_>,
) -> Result<Image, Error> {
    if layers.len() > MAX_LAYERS {
        return Err(Error::Malformed {
            file: subject.to_owned(),
            offset: 0,
            what: "manifest",
            why: format!("{} layers; at most {MAX_LAYERS} here", layers.len()),
        });
    }
    let env = environment(config, &*blobs(config)?)?;
    let mut tree = Tree::new();
    for layer in layers {
        add_layer(&mut tree, layer, &blobs(layer)?, MAX_STATES / layers.len().max(1))?;
    }
    Ok(Image { tree, env })
}

/// `config.Env` of an image's configuration, `NAME=VALUE` each; `name` is for errors.
///
/// # Errors
/// [`Error::Malformed`] for a document that is none.
pub fn environment(name: &str, config: &dyn ReadAt) -> Result<Vec<String>, Error> {
    let config: Config = json(name, config)?;
    Ok(config.config.unwrap_or_default().env.unwrap_or_default())
}

/// The image of an OCI layout, for `architecture` as OCI calls it (`amd64`) where there are several.
///
/// # Errors
/// [`Error::Open`] for a blob that is not there, those of the layers, [`Error::Malformed`] for
/// documents that are not what they should be.
pub fn oci_layout(folder: &Path, architecture: &str) -> Result<Image, Error> {
    let open = |path: &Path| -> Result<Arc<dyn ReadAt>, Error> {
        let error = |source| Error::Open { path: path.to_owned(), source };
        Ok(Arc::new(OnDisk::open(path).map_err(error)?))
    };
    let blobs = |name: &str| {
        // Only digests come here, so no path can climb out.
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        open(&folder.join("blobs/sha256").join(hex))
    };
    let mut name = "index.json".to_owned();
    let mut document: Document = json(&name, &*open(&folder.join(&name))?)?;
    for _ in 0..MAX_NESTING {
        if let Some(config) = &document.config {
            let layers: Vec<String> =
                document.layers.iter().map(|layer| layer.digest.to_string()).collect();
            return assemble(&name, &config.digest.to_string(), &layers, &blobs);
        }
        let fits = |row: &&Descriptor| {
            row.platform.as_ref().is_some_and(|platform| platform.architecture == architecture)
        };
        let Some(next) = document.manifests.iter().find(fits).or(document.manifests.first()) else {
            break;
        };
        name = next.digest.to_string();
        document = json(&name, &*blobs(&name)?)?;
    }
    Err(Error::Malformed {
        file: name,
        offset: 0,
        what: "OCI index",
        why: "it leads to no image".to_owned(),
    })
}

/// The first image of a `docker save` archive, plain or packed by gzip.
///
/// # Errors
/// [`Error::Malformed`] for an archive without `manifest.json` or one that names what is not there,
/// and those of the layers.
pub fn docker_archive(name: &str, archive: &Arc<dyn ReadAt>) -> Result<Image, Error> {
    let archive = unpacked(name, archive, MAX_STATES / 2)?;
    let mut outer = Tree::new();
    walk(Named::new(name, &*archive), &mut |path, kind| match kind {
        Kind::File { offset, size } => {
            outer.add_file(path, Arc::new(Slice::new(Arc::clone(&archive), offset, size)));
        }
        // Docker before 25 saves a layer that two images share as a link.
        Kind::Symlink(target) => outer.add_link(path, &target),
        Kind::Hardlink(target) => outer.add_hard_link(path, &target),
        Kind::Directory | Kind::Special => {}
    })?;
    let blobs = |path: &str| {
        let real = outer.resolve(path).ok_or_else(|| Error::Malformed {
            file: name.to_owned(),
            offset: 0,
            what: "docker-archive",
            why: format!("it has no {path}"),
        })?;
        outer.open(&real)
    };
    let saved: Vec<Saved> = json("manifest.json", &*blobs("manifest.json")?)?;
    let Some(image) = saved.first() else {
        return Err(Error::Malformed {
            file: name.to_owned(),
            offset: 0,
            what: "docker-archive",
            why: "it holds no image".to_owned(),
        });
    };
    assemble(name, &image.config, &image.layers, &blobs)
}
