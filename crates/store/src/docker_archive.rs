//! Images as one file that `docker load`, `podman load`, `ctr images import` and skopeo take:
//! what Docker Engine 25 and later writes on `docker save`, an OCI layout in a tar with Docker's
//! own `manifest.json` beside it. Docker's loader inflates compressed layers itself
//! (moby, image/tarexport/load.go).

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use sconce_blob::Digest;
use sconce_oci::{CONFIG, Config, Descriptor, Manifest, Packing};
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::error::{Error, at};
use crate::images::Image;
use crate::layers::Layer;
use crate::oci::{OCI_LAYOUT, Opener, blob_name, each, engine_name, small};
use crate::output::{Partial, Written};
use crate::packed::unpack;
use crate::remove::remove_own;

const BLOCK: u64 = 512;

/// The largest number of files in an archive that is read.
const MAX_FILES: usize = 100_000;

/// An entry of `manifest.json` (Docker image specification 1.2, "Combined Image JSON").
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Store {
    /// Writes an image into the file `to`, which must not be there, in a folder that is named without links; it
    /// appears whole or not at all. The bytes depend on the image and its names alone.
    pub fn write_docker_archive(
        &self,
        image: &Image,
        names: &[String],
        to: &Path,
        written: &Written<'_>,
    ) -> Result<(), Error> {
        self.docker_archive(image, names, to, written).map_err(|error| error.of_output(to))
    }

    fn docker_archive(
        &self,
        image: &Image,
        names: &[String],
        to: &Path,
        written: &Written<'_>,
    ) -> Result<(), Error> {
        let head = self.archive_head(image, names)?;
        let partial = Partial::beside(to)?;
        let (file, path) = (partial.file()?, &partial.path());
        // Every size is known before: lay the file out, then write the blobs at once.
        let mut at_byte = 0;
        let mut write = |bytes: &[u8]| {
            let start = at_byte;
            at_byte += bytes.len() as u64;
            file.write_all_at(bytes, start).map_err(at("write", path))
        };
        write(&head)?;
        let mut places = HashMap::new();
        let blobs = self.blobs_of(image)?;
        for (&digest, &size) in &blobs {
            file.write_all_at(header(&blob_name(digest), size)?.as_bytes(), at_byte)
                .map_err(at("write", path))?;
            places.insert(digest, at_byte + BLOCK);
            at_byte += BLOCK + size + padding(size) as u64;
        }
        // Padding and the two empty blocks at the end are the file's holes.
        file.set_len(at_byte + 2 * BLOCK).map_err(at("write", path))?;
        let blobs: Vec<(Digest, u64)> = blobs.into_iter().collect();
        each(&blobs, |&blob| {
            let mut out = Placed { file: &file, at: places[&blob.0] };
            self.copy_blob(blob, &mut out, path, written)
        })?;
        partial.into_place(&file)
    }

    /// The same archive as a stream, for an engine that reads it as it comes.
    ///
    /// # Errors
    /// A blob is missing or damaged; `out` takes no more.
    pub fn send_docker_archive(
        &self,
        image: &Image,
        names: &[String],
        out: &mut impl Write,
        written: &Written<'_>,
    ) -> Result<(), Error> {
        let to = Path::new("the archive");
        let fault = || at("write", to);
        let padding = |size| [0; BLOCK as usize][..padding(size)].to_vec();
        out.write_all(&self.archive_head(image, names)?).map_err(fault())?;
        for (digest, size) in self.blobs_of(image)? {
            out.write_all(header(&blob_name(digest), size)?.as_bytes()).map_err(fault())?;
            self.copy_blob((digest, size), out, to, written)?;
            out.write_all(&padding(size)).map_err(fault())?;
        }
        out.write_all(&[0; 2 * BLOCK as usize]).map_err(fault())?;
        out.flush().map_err(fault())
    }

    /// What stands before the blobs: folders and documents.
    fn archive_head(&self, image: &Image, names: &[String]) -> Result<Vec<u8>, Error> {
        let saved = Saved {
            config: blob_name(image.config),
            repo_tags: Some(names.to_vec()),
            layers: image.layers.iter().map(|layer| blob_name(layer.digest)).collect(),
        };
        let manifest = serde_json::to_vec(&[saved]).map_err(|error| Error::BadDocument {
            what: image.manifest.to_string(),
            why: error.to_string(),
        })?;
        let index = self.index(image, names)?;
        let mut head = Vec::new();
        for folder in ["blobs/", "blobs/sha256/"] {
            head.extend_from_slice(header(folder, 0)?.as_bytes());
        }
        for (name, bytes) in
            [("index.json", &index[..]), ("manifest.json", &manifest), ("oci-layout", OCI_LAYOUT)]
        {
            head.extend_from_slice(header(name, bytes.len() as u64)?.as_bytes());
            head.extend_from_slice(bytes);
            head.resize(head.len() + padding(bytes.len() as u64), 0);
        }
        Ok(head)
    }

    /// Takes an image in from an archive that comes as a stream, as [`Store::read_archive`] does from a
    /// file: a tar says at its end which image it holds, so it is kept aside until then.
    ///
    /// # Errors
    /// As [`Store::read_archive`].
    pub fn read_archive_stream(
        &self,
        from: impl Read + Send,
        tag: Option<&str>,
        architecture: &str,
        names: &[&str],
    ) -> Result<Digest, Error> {
        self.read_packed(from, Path::new("standard input"), tag, architecture, names)
    }

    /// As [`Store::read_archive_stream`]; messages call it `what`.
    fn read_packed(
        &self,
        from: impl Read + Send,
        what: &Path,
        tag: Option<&str>,
        architecture: &str,
        names: &[&str],
    ) -> Result<Digest, Error> {
        let folder = self.scratch_dir()?;
        let path = folder.join("archive.tar");
        let mut file = self.create(&path)?;
        let taken = unpack(from, what, &mut file, &path)
            .and_then(|()| file.rewind().map_err(at("read", &path)))
            .and_then(|()| self.read_tar(&file, what, tag, architecture, names));
        remove_own(&folder)?;
        taken
    }

    /// Takes an image in from an archive: one that holds an OCI layout, as `docker save` of Docker
    /// Engine 25 and later writes it, or Docker's older form with `manifest.json` alone, as skopeo and
    /// podman write it; as it is or packed with gzip or zstd. Parameters as for [`Store::read_layout`].
    pub fn read_archive(
        &self,
        from: &Path,
        tag: Option<&str>,
        architecture: &str,
        names: &[&str],
    ) -> Result<Digest, Error> {
        let file = sconce_open::file(from).map_err(at("open", from))?;
        let mut head = [0; Packing::HEAD];
        let n = file.read_at(&mut head, 0).map_err(at("read", from))?;
        match Packing::of(&head[..n]) {
            Some(_) => self.read_packed(file, from, tag, architecture, names),
            None => self.read_tar(&file, from, tag, architecture, names),
        }
    }

    /// Takes an image in from an archive that is not packed; `from` is how messages call it.
    fn read_tar(
        &self,
        file: &File,
        from: &Path,
        tag: Option<&str>,
        architecture: &str,
        names: &[&str],
    ) -> Result<Digest, Error> {
        let corrupt = |why: String| Error::Corrupt { path: from.to_owned(), why };
        let len = file.metadata().map_err(at("look at", from))?.len();
        let mut places = HashMap::new();
        let mut links = HashMap::new();
        let mut archive = tar::Archive::new(file);
        let entries = archive.entries_with_seek().map_err(at("read", from))?;
        for entry in entries.raw(true) {
            let entry = entry.map_err(|error| corrupt(format!("not a tar: {error}")))?;
            let size = entry.header().entry_size().map_err(at("read", from))?;
            let start = entry.raw_file_position();
            if start.checked_add(size).is_none_or(|end| end > len) {
                return Err(corrupt("it is cut off".to_owned()));
            }
            let Ok(name) = str::from_utf8(&entry.path_bytes()).map(str::to_owned) else { continue };
            let name = name.trim_start_matches("./").to_owned();
            let kind = entry.header().entry_type();
            if kind.is_file() {
                places.insert(name, (start, size));
            } else if kind.is_symlink()
                && let Some(target) = entry.link_name_bytes()
                && let Ok(target) = str::from_utf8(&target)
            {
                // Docker before 25 saves a layer that two images share as a link to the other's.
                links.insert(name, target.trim_start_matches("../").to_owned());
            }
            if places.len() + links.len() > MAX_FILES {
                return Err(corrupt("it holds too many files".to_owned()));
            }
        }
        let open = |name: &str| {
            let name = links.get(name).map_or(name, String::as_str);
            let (start, size) =
                *places.get(name).ok_or_else(|| corrupt(format!("it has no {name}")))?;
            let piece = Piece { file, at: start, left: size };
            Ok((Box::new(piece) as Box<dyn Read>, size))
        };
        let what = from.display().to_string();
        match (places.contains_key("index.json"), places.contains_key("manifest.json")) {
            (true, _) => self.take_in(&open, &what, tag, architecture, names),
            (false, true) => self.take_saved(&open, &what, tag, architecture, names),
            (false, false) => Err(corrupt(
                "it has neither index.json nor manifest.json: it is not an image's archive"
                    .to_owned(),
            )),
        }
    }

    /// The image in Docker's older form: a list of images by the names of their files. Its layers are
    /// plain tars there; a manifest is made for them.
    fn take_saved(
        &self,
        open: &Opener<'_>,
        what: &str,
        tag: Option<&str>,
        architecture: &str,
        names: &[&str],
    ) -> Result<Digest, Error> {
        let bad = |why: String| Error::BadDocument { what: what.to_owned(), why };
        let saved: Vec<Saved> = serde_json::from_slice(&small(open, "manifest.json", what)?)
            .map_err(|error| bad(format!("manifest.json: {error}")))?;
        let is_it = |saved: &Saved| {
            let mut names = saved.repo_tags.iter().flatten();
            tag.is_none_or(|tag| {
                let whole = engine_name(tag);
                names.any(|name| name.ends_with(&format!(":{tag}")) || engine_name(name) == whole)
            })
        };
        let mut found = saved.into_iter().filter(is_it);
        let image = match (found.next(), found.next()) {
            (Some(image), None) => image,
            (None, _) => {
                let which = tag.map_or("it has no image".to_owned(), |tag| {
                    format!("it has no image of the name or tag `{tag}`")
                });
                return Err(bad(which));
            }
            _ => return Err(bad("it has several images: say which by its tag".to_owned())),
        };
        let config = small(open, &image.config, what)?;
        let read = Config::parse(&config).map_err(bad)?;
        if !read.is_for(architecture) {
            return Err(bad(format!("it is for {}, not {architecture}", read.platform())));
        }
        if image.layers.len() != read.diff_ids().len() {
            let (layers, ids) = (image.layers.len(), read.diff_ids().len());
            return Err(bad(format!("it has {layers} layers, but its config has {ids} DiffIDs")));
        }
        let mut layers = Vec::new();
        for (name, diff_id) in image.layers.iter().zip(read.diff_ids()) {
            let (stream, size) = open(name)?;
            let (digest, size) = self.put_stream(stream.take(size), name, None)?;
            let packed = if digest == *diff_id { "" } else { "+gzip" };
            layers.push(Layer {
                diff_id: *diff_id,
                digest,
                size,
                media_type: format!("{}{packed}", sconce_oci::LAYER),
            });
        }
        each(&layers, |layer| self.take_layer(layer))?;
        let blobs = layers.iter().map(|layer| Descriptor {
            media_type: layer.media_type.clone(),
            digest: layer.digest,
            size: layer.size,
            artifact_type: String::new(),
            annotations: Default::default(),
            platform: None,
        });
        let manifest = Manifest::new(Descriptor::of(CONFIG, &config), blobs.collect()).to_json();
        self.put_image(names, &manifest, &config)
    }
}

/// A tar header that depends on nothing but name and size.
fn header(name: &str, size: u64) -> Result<tar::Header, Error> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name).map_err(at("write", Path::new(name)))?;
    let folder = name.ends_with('/');
    header.set_entry_type(if folder { tar::EntryType::Directory } else { tar::EntryType::Regular });
    header.set_mode(if folder { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}

fn padding(size: u64) -> usize {
    ((BLOCK - size % BLOCK) % BLOCK) as usize
}

/// Writes one after the other from a place in a file on.
struct Placed<'a> {
    file: &'a File,
    at: u64,
}

impl Write for Placed<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.file.write_at(buf, self.at)?;
        self.at += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A piece of a file.
struct Piece<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for Piece<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let want = buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.file.read_at(&mut buf[..want], self.at)?;
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}
