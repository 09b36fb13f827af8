//! Images as OCI layouts (image-spec, image-layout.md): a folder out and in.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use sconce_blob::{Digest, Hasher};
use sconce_oci::{
    Artifact, Config, Descriptor, Document, Index, MANIFEST, Manifest, Platform, Referrer,
};
use sconce_open::{Folder, Found};

use crate::Store;
use crate::beside::Beside;
use crate::blobs::CHUNK;
use crate::error::{Error, at};
use crate::images::Image;
use crate::layout::LayoutWriter;
use crate::output::Written;
use crate::record::{self, DOCUMENT_LIMIT};

pub(crate) const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The most artifacts that are looked at in a layout.
const MAX_ARTIFACTS: usize = 256;

/// How an image is put into a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayoutOut {
    /// To the images that a layout there has: those of its tags that the image is given mean the image from then on. Else
    /// nothing may be there.
    pub adds: bool,
    /// With what is kept beside the image.
    pub beside: bool,
}

/// Threads that copy blobs: the work is one SHA-256 of each.
const THREADS: usize = 8;

impl Store {
    /// Writes an image as an OCI layout into the folder `to`, which must not be there or be
    /// empty, in a folder that is named without links. It appears whole or not at all; virtual layers become
    /// real. `names` are what engines will call the image. What is kept beside it goes with it.
    ///
    /// # Errors
    /// [`Error::Exists`]; the image can't be read, or the layout not be written.
    pub fn write_layout(
        &self,
        image: &Image,
        names: &[String],
        to: &Path,
        written: &Written<'_>,
    ) -> Result<(), Error> {
        let out = LayoutOut { adds: false, beside: true };
        self.put_layout(image, names, to, out, written)
    }

    /// As [`Store::write_layout`], as `out` has it.
    ///
    /// # Errors
    /// [`Error::Exists`] where something else than a layout is at `to`; the layout is damaged.
    pub fn put_layout(
        &self,
        image: &Image,
        names: &[String],
        to: &Path,
        out: LayoutOut,
        written: &Written<'_>,
    ) -> Result<(), Error> {
        let write = || {
            let layout = LayoutWriter::begin(to, out.adds, written)?;
            self.write_into(layout, image, names, out.beside)
        };
        write().map_err(|error: Error| error.of_output(to))
    }

    fn write_into(
        &self,
        layout: LayoutWriter<'_>,
        image: &Image,
        names: &[String],
        beside: bool,
    ) -> Result<(), Error> {
        let blobs: Vec<(Digest, u64)> = self.blobs_of(image)?.into_iter().collect();
        each(&blobs, |&blob| {
            layout.put(blob.0, |out, path| self.copy_blob(blob, out, path, &|n| layout.told(n)))
        })?;
        let mut index = self.index(image, names)?;
        if beside {
            index = self.put_texts_beside(&layout, image.manifest, index)?;
        }
        layout.finish(&index)
    }

    /// Puts what is kept beside an image into a layout: its index, with rows for that.
    ///
    /// # Errors
    /// The layout can't be written.
    pub fn put_texts_beside(
        &self,
        layout: &LayoutWriter<'_>,
        image: Digest,
        mut index: Vec<u8>,
    ) -> Result<Vec<u8>, Error> {
        // As oras has them: manifests without a name in the index of the layout.
        for kept in self.beside(image)? {
            if let Some(artifact) = kept.about(image)
                && let Ok(Some(more)) =
                    Referrer::of(&artifact, kept.manifest.as_bytes()).add_to(Some(&index))
            {
                for text in kept.files.iter().chain([&kept.manifest]) {
                    layout.put_bytes(text.as_bytes())?;
                }
                index = more;
            }
        }
        Ok(index)
    }

    /// Takes an image in from an OCI layout: the one for `architecture` (`amd64`, `arm64`) that
    /// is tagged `tag`, or the only one. Every byte is checked against its digest.
    pub fn read_layout(
        &self,
        from: &Path,
        tag: Option<&str>,
        architecture: &str,
        names: &[&str],
    ) -> Result<Digest, Error> {
        let folder = Folder::open(from).map_err(at("open", from))?;
        let open = |name: &str| {
            let (path, name) = (from.join(name), Path::new(name));
            // A link could show files of this machine; a layout has no need of any.
            let Found::File { len, .. } = folder.look(name).map_err(at("look at", &path))? else {
                return Err(Error::Corrupt { path, why: "not a regular file".to_owned() });
            };
            let file = folder.file(name).map_err(at("open", &path))?;
            Ok((Box::new(file) as Box<dyn Read>, len))
        };
        self.take_in(&open, &from.display().to_string(), tag, architecture, names)
    }

    /// The image that `open` gives the files of. The names it is asked for come from digests and
    /// fixed words only.
    pub(crate) fn take_in(
        &self,
        open: &Opener<'_>,
        what: &str,
        tag: Option<&str>,
        architecture: &str,
        names: &[&str],
    ) -> Result<Digest, Error> {
        let bad = |why: String| Error::BadDocument { what: what.to_owned(), why };
        let layout = small(open, "oci-layout", what)?;
        let version: serde_json::Value =
            serde_json::from_slice(&layout).map_err(|error| bad(format!("oci-layout: {error}")))?;
        if version["imageLayoutVersion"] != "1.0.0" {
            return Err(bad("its layout has another version than 1.0.0".to_owned()));
        }
        let index = small(open, "index.json", what)?;
        let mut found = choose(&index, tag, architecture).map_err(bad)?;
        let mut manifest = document(open, &found, what)?;
        // An index may name an index for several platforms; deeper ones nobody makes.
        let mut parsed = Document::parse(&manifest).map_err(bad)?;
        if let Document::Index(_) = parsed {
            found = choose(&manifest, None, architecture).map_err(bad)?;
            manifest = document(open, &found, what)?;
            parsed = Document::parse(&manifest).map_err(bad)?;
        }
        let Document::Manifest(parts) = parsed else {
            return Err(bad("its indexes lead to indexes without end".to_owned()));
        };
        record::check_image(&parts).map_err(bad)?;
        let config = document(open, &parts.config, what)?;
        let read = Config::parse(&config).map_err(bad)?;
        if !read.is_for(architecture) {
            return Err(bad(format!("it is for {}, not {architecture}", read.platform())));
        }
        for layer in &parts.layers {
            if self.has_blob(layer.digest)? {
                continue;
            }
            let (stream, size) = open(&blob_name(layer.digest))?;
            if size != layer.size {
                let why = format!("layer {} has {size} bytes, not {}", layer.digest, layer.size);
                return Err(bad(why));
            }
            let name = format!("layer {} of {what}", layer.digest.short());
            self.put_stream(stream.take(size), &name, Some(layer.digest))?;
        }
        // What an index or a config says of a layer is not believed: DiffIDs are what trees go by.
        let record = record::of_documents(found.digest, &manifest, &config)?;
        each(&record.layers, |layer| self.take_layer(layer))?;
        let image = self.put_image(names, &manifest, &config)?;
        let beside = artifacts(open, &index, image, what);
        if !beside.is_empty() {
            self.put_beside(image, beside)?;
        }
        Ok(image)
    }

    /// The index.json of a layout with one image, under the names engines look for.
    pub(crate) fn index(&self, image: &Image, names: &[String]) -> Result<Vec<u8>, Error> {
        let bad = |why: String| Error::BadDocument { what: image.manifest.to_string(), why };
        let manifest = self.manifest(image)?;
        let parsed: Manifest = serde_json::from_slice(&manifest).map_err(|e| bad(e.to_string()))?;
        let config = Config::parse(&self.config(image)?).map_err(bad)?;
        let row = Descriptor {
            platform: Some(Platform {
                architecture: config.architecture.clone(),
                os: config.os.clone(),
            }),
            ..Descriptor::of(parsed.media_type.as_deref().unwrap_or(MANIFEST), &manifest)
        };
        Ok(index_of(&row, names))
    }

    /// All blobs of an image with their sizes, as its manifest has them, in the order of their digests.
    pub(crate) fn blobs_of(&self, image: &Image) -> Result<BTreeMap<Digest, u64>, Error> {
        let bad = |why: String| Error::BadDocument { what: image.manifest.to_string(), why };
        let manifest = self.manifest(image)?;
        let parsed: Manifest = serde_json::from_slice(&manifest).map_err(|e| bad(e.to_string()))?;
        let parts = parsed.layers.iter().chain([&parsed.config]);
        let mut blobs: BTreeMap<_, _> = parts.map(|part| (part.digest, part.size)).collect();
        blobs.insert(image.manifest, manifest.len() as u64);
        Ok(blobs)
    }

    /// That all blobs of an image are here, each with the size that it says. Nothing is read for it.
    ///
    /// # Errors
    /// [`Error::MissingBlob`], [`Error::Corrupt`].
    pub fn check_blobs(&self, image: &Image) -> Result<(), Error> {
        for (digest, size) in self.blobs_of(image)? {
            if !self.has_blob(digest)? {
                return Err(Error::MissingBlob(digest));
            }
            self.check_size(digest, size)?;
        }
        Ok(())
    }

    /// Copies a blob's bytes to `out`, checking them on the way. One of another size than it should have is refused first:
    /// whoever can write to this store may have put anything in its place.
    pub(crate) fn copy_blob(
        &self,
        (digest, size): (Digest, u64),
        out: &mut (impl Write + ?Sized),
        path: &Path,
        written: &Written<'_>,
    ) -> Result<(), Error> {
        self.check_size(digest, size)?;
        let mut blob = self.open_blob(digest)?;
        if blob.len() != size {
            let why = format!("it has {} bytes, and its image says {size}", blob.len());
            return Err(Error::Corrupt { path: self.place().blob(digest), why });
        }
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; CHUNK];
        loop {
            match blob.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    hasher.update(&buffer[..n]);
                    out.write_all(&buffer[..n]).map_err(at("write", path))?;
                    if written(n as u64).is_break() {
                        return Err(Error::Interrupted);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(at("read a blob of", self.root())(error)),
            }
        }
        match hasher.finish() {
            actual if actual == digest => Ok(()),
            actual => Err(Error::WrongDigest {
                what: format!("the store's blob {}", digest.short()),
                expected: digest,
                actual,
            }),
        }
    }
}

/// The index.json of a layout with this image or index alone, under the names engines look for.
#[must_use]
pub fn index_of(row: &Descriptor, names: &[String]) -> Vec<u8> {
    let named = |name: &String| {
        let full = engine_name(name);
        let tag = full.rsplit_once(':').map_or("latest", |(_, tag)| tag).to_owned();
        let annotations = BTreeMap::from([
            ("io.containerd.image.name".to_owned(), full),
            ("org.opencontainers.image.ref.name".to_owned(), tag),
        ]);
        Descriptor { annotations, ..row.clone() }
    };
    let mut manifests: Vec<_> = names.iter().map(named).collect();
    if manifests.is_empty() {
        manifests.push(row.clone());
    }
    Index::new(manifests).to_json()
}

pub(crate) type Opener<'a> = dyn Fn(&str) -> Result<(Box<dyn Read + 'a>, u64), Error> + 'a;

pub(crate) fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Does `work` for each, several at a time.
pub(crate) fn each<T: Sync>(
    items: &[T],
    work: impl Fn(&T) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
        for _ in 0..threads.min(items.len()) {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = work(item) {
                        next.store(items.len(), Ordering::Relaxed);
                        if let Ok(mut failure) = failure.lock() {
                            failure.get_or_insert(error);
                        }
                    }
                }
            });
        }
    });
    match failure.into_inner() {
        Ok(Some(error)) => Err(error),
        _ => Ok(()),
    }
}

/// The full name Docker and containerd give to a short one: `docker.io/library/NAME:latest`.
pub(crate) fn engine_name(name: &str) -> String {
    let host = name.split_once('/').map(|(first, _)| first);
    let full = match host {
        None => format!("docker.io/library/{name}"),
        Some(host) if host.contains(['.', ':']) || host == "localhost" => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
    };
    match full.rsplit_once('/').is_some_and(|(_, last)| last.contains([':', '@'])) {
        true => full,
        false => format!("{full}:latest"),
    }
}

/// The descriptor that is meant in an index.
fn choose(index: &[u8], tag: Option<&str>, architecture: &str) -> Result<Descriptor, String> {
    let Document::Index(index) =
        Document::parse(index).map_err(|why| format!("its index: {why}"))?
    else {
        return Err("its index is not an image index".to_owned());
    };
    let full = tag.map(engine_name);
    let named = |descriptor: &Descriptor| {
        let name = |key| descriptor.annotations.get(key).map(String::as_str);
        tag.is_none()
            || name("org.opencontainers.image.ref.name") == tag
            || name("io.containerd.image.name") == full.as_deref()
    };
    let fits = |descriptor: &Descriptor| {
        let platform = descriptor.platform.as_ref();
        descriptor.artifact_type.is_empty()
            && platform.is_none_or(|platform| platform.is_linux_on(architecture))
    };
    let all = index.manifests.iter().filter(|row| row.artifact_type.is_empty());
    let mut others: Vec<String> = all.filter(|row| named(row)).filter_map(platform_of).collect();
    others.dedup();
    let mut found: Vec<_> = index.manifests.into_iter().filter(|d| named(d) && fits(d)).collect();
    found.dedup_by_key(|descriptor| descriptor.digest);
    match (found.len(), tag) {
        (1, _) => Ok(found.remove(0)),
        (0, _) if !others.is_empty() => {
            Err(format!("it is for {}, not for linux/{architecture}", others.join(", ")))
        }
        (0, Some(tag)) => Err(format!("it has no image of the tag `{tag}`")),
        (0, None) => Err("it has no image".to_owned()),
        (n, _) => Err(format!("it has {n} images: say which by its tag")),
    }
}

/// `linux/arm64`, where a row says it.
fn platform_of(row: &Descriptor) -> Option<String> {
    row.platform.as_ref().map(|platform| format!("{}/{}", platform.os, platform.architecture))
}

/// The artifacts about an image that a layout has. What of them can't be read is left out: an image needs none.
fn artifacts(open: &Opener<'_>, index: &[u8], image: Digest, what: &str) -> Vec<Beside> {
    let Ok(rows) = Referrer::list(index) else { return Vec::new() };
    let rows = rows.into_iter().filter(|row| !row.artifact_type.is_empty()).take(MAX_ARTIFACTS);
    let mut left = DOCUMENT_LIMIT;
    let read = |row: Referrer| {
        let mut file = |digest: Digest| {
            let name = blob_name(digest);
            let (_, size) = open(&name).ok()?;
            left = left.checked_sub(size)?;
            small(open, &name, what).ok().filter(|bytes| Digest::of(bytes) == digest)
        };
        let manifest = file(row.digest)?;
        let artifact = Artifact::parse(&manifest).ok()?;
        if artifact.subject.as_ref()?.digest != image {
            return None;
        }
        let named = [&artifact.config].into_iter().chain(&artifact.layers);
        let files: Option<Vec<Vec<u8>>> = named.map(|part| file(part.digest)).collect();
        Beside::new(manifest, files?)
    };
    rows.filter_map(read).collect()
}

fn document(open: &Opener<'_>, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>, Error> {
    let bytes = small(open, &blob_name(descriptor.digest), what)?;
    match Digest::of(&bytes) {
        actual if actual == descriptor.digest && bytes.len() as u64 != descriptor.size => {
            let Descriptor { digest, size, .. } = descriptor;
            let why = format!("{digest} has {} bytes, and {size} were named", bytes.len());
            Err(Error::BadDocument { what: what.to_owned(), why })
        }
        actual if actual == descriptor.digest => Ok(bytes),
        actual => Err(Error::WrongDigest {
            what: format!("a document of {what}"),
            expected: descriptor.digest,
            actual,
        }),
    }
}

pub(crate) fn small(open: &Opener<'_>, name: &str, what: &str) -> Result<Vec<u8>, Error> {
    let (stream, size) = open(name)?;
    if size > DOCUMENT_LIMIT {
        let why = format!("{name} is larger than {DOCUMENT_LIMIT} bytes");
        return Err(Error::BadDocument { what: what.to_owned(), why });
    }
    let mut bytes = Vec::new();
    stream.take(DOCUMENT_LIMIT).read_to_end(&mut bytes).map_err(at("read", Path::new(name)))?;
    Ok(bytes)
}
