//! Images: found by name or digest in this store and those below, listed, put.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};
use sconce_blob::Digest;
use sconce_oci::name::plain_name;

use crate::Store;
use crate::error::{Error, at};
use crate::files::{list, not_opened, open_regular, read_small};
use crate::layers::Layer;
use crate::names::check_name;
use crate::own;
use crate::place::Place;
use crate::record::{self, DOCUMENT_LIMIT, Record};

/// An image in the store or one below it.
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
    /// When it was last put or used. Of an image in a store below that is what its owner knows.
    pub last_used: SystemTime,
    /// The folder of the store that it was found in.
    pub store: PathBuf,
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
        let digest = self.put_parts(manifest, config)?;
        self.forget_pushed_image(digest)?;
        names.iter().try_for_each(|name| self.put_name(name, digest))?;
        Ok(digest)
    }

    /// As [`Store::put_image`], without names, whoever brought it.
    pub(crate) fn put_parts(&self, manifest: &[u8], config: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(manifest);
        let record = record::of_documents(digest, manifest, config)?;
        for layer in &record.layers {
            self.put_layer(layer)?;
        }
        self.put_documents(&record, manifest, config)?;
        Ok(digest)
    }

    /// As [`Store::put_image`], of an image that can be started and go nowhere: its layers need trees here, not blobs.
    pub fn put_image_of_trees(&self, manifest: &[u8], config: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(manifest);
        let record = record::of_documents(digest, manifest, config)?;
        for layer in &record.layers {
            if self.tree(layer.diff_id)?.is_none() {
                return Err(Error::MissingBlob(layer.digest));
            }
        }
        self.put_documents(&record, manifest, config)?;
        self.forget_pushed_image(digest)?;
        Ok(digest)
    }

    fn put_documents(&self, record: &Record, manifest: &[u8], config: &[u8]) -> Result<(), Error> {
        self.put_bytes(config)?;
        self.put_bytes(manifest)?;
        self.put_record(record)
    }

    /// All images of this store and those below, the one used last first.
    pub fn images(&self) -> Result<Vec<Image>, Error> {
        let names = self.names()?;
        self.note_empty_names(&names);
        let mut digests = Vec::new();
        for place in self.places().chain(self.untrusted()) {
            digests.extend(self.or_skip(place, place.images())?.unwrap_or_default());
        }
        digests.sort();
        digests.dedup();
        let mut images = Vec::new();
        for digest in digests {
            match self.load(digest, &names) {
                Ok(image) => images.extend(image),
                // One image does not hide the others.
                Err(error) => {
                    let hint = error.hint().map_or(String::new(), |hint| format!(": {hint}"));
                    self.note_damaged(&error, &format!("the image is left out{hint}"));
                }
            }
        }
        images.sort_by_key(|image| std::cmp::Reverse((image.last_used, image.manifest)));
        Ok(images)
    }

    /// The image a person means: by name, by digest, or by the first digits (6 or more) of one. It
    /// stays for as long as the store is open.
    pub fn image(&self, name: &str) -> Result<Image, Error> {
        let digest = match self.named(name)? {
            Some(digest) => self.alone(name, digest)?,
            None => self.by_digest(name)?,
        };
        self.image_of(name, digest)
    }

    /// As [`Store::image`]; a name is not held to the digests that begin with it.
    pub fn image_called(&self, name: &str) -> Result<Image, Error> {
        match self.named(name)? {
            Some(digest) => self.image_of(name, digest),
            None => self.image(name),
        }
    }

    fn image_of(&self, name: &str, digest: Digest) -> Result<Image, Error> {
        self.pin(digest)?;
        let none = || Error::NoImage { name: name.to_owned(), nearest: None };
        let image = self.load(digest, &self.names()?)?.ok_or_else(none)?;
        if image.store != self.root() {
            self.hold(&Place::new(image.store.clone()).image(digest))?;
        }
        self.check_whole(&image)?;
        Ok(image)
    }

    /// The config's bytes, canonical JSON as it was put.
    pub fn config(&self, image: &Image) -> Result<Vec<u8>, Error> {
        self.read_blob(image.config, DOCUMENT_LIMIT)
    }

    /// The manifest's bytes.
    pub fn manifest(&self, image: &Image) -> Result<Vec<u8>, Error> {
        self.read_blob(image.manifest, DOCUMENT_LIMIT)
    }

    /// Writes the record of an image, or notes its use where it is there.
    pub(crate) fn put_record(&self, record: &Record) -> Result<(), Error> {
        let path = self.place().image(record.manifest);
        let bytes = serde_json::to_vec(record)
            .map_err(|error| Error::Corrupt { path: path.clone(), why: error.to_string() })?;
        self.pin(record.manifest)?;
        self.mark_unsynced("image", record.manifest)?;
        match self.write_unsynced(&path, &bytes) {
            // Another member's folder is there. What a record says is read from the image's manifest then.
            Err(error @ Error::Unremovable { .. }) => {
                self.note_damaged(&error, "the image goes without a record");
                Ok(())
            }
            written => written.and_then(|()| touch(&path)),
        }
    }

    /// An image by its digest; `None` when no store has it.
    pub(crate) fn load(
        &self,
        manifest: Digest,
        names: &BTreeMap<String, Digest>,
    ) -> Result<Option<Image>, Error> {
        let trusted = self.places().map(|place| (place, false));
        let mut found: Option<(Record, SystemTime, &Place)> = None;
        for (place, check) in trusted.chain(self.untrusted().map(|place| (place, true))) {
            let read = match place.record(manifest, check) {
                Err(damage @ Error::Corrupt { .. }) if !check => {
                    self.record_anew(place, manifest, damage)
                }
                read => read,
            };
            let Some((record, used)) = self.or_skip(place, read)?.flatten() else { continue };
            // A record here without its manifest only notes the use of an image below.
            let last_used = found.as_ref().map_or(used, |(_, before, _)| used.max(*before));
            found = Some((record, last_used, place));
            if place.has_blob(manifest) {
                break;
            }
        }
        if found.is_none() {
            found = self.record_of_name(manifest)?;
        }
        let Some((record, last_used, place)) = found else { return Ok(None) };
        let Record { config, size, created, labels, layers, .. } = record;
        let names = names.iter().filter(|(_, named)| **named == manifest);
        let names = names.map(|(name, _)| name.clone()).collect();
        let store = place.root().to_owned();
        Ok(Some(Image { manifest, config, layers, names, size, created, labels, last_used, store }))
    }

    /// What was read from a store; a fault of one below is said and stops nobody.
    pub(crate) fn or_skip<T>(
        &self,
        place: &Place,
        read: Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        match read {
            Err(error) if place.root() != self.root() => {
                self.note(&format!("left out: {error}"));
                Ok(None)
            }
            read => read.map(Some),
        }
    }

    /// That all parts of an image are somewhere: a store below may have been pruned.
    fn check_whole(&self, image: &Image) -> Result<(), Error> {
        let has =
            |digest| self.places().chain(self.untrusted()).any(|place| place.has_blob(digest));
        let lacks = |missing| {
            let names = image.names.clone();
            Err(Error::Incomplete { image: image.manifest, missing, names })
        };
        for layer in &image.layers {
            if self.tree(layer.diff_id)?.is_some() {
                continue;
            }
            if !has(layer.digest) {
                return lacks(layer.digest);
            }
            // Without its own record no tree would be made of it; one that is damaged says nothing.
            if self.layer_anywhere(layer.diff_id)?.is_none() && self.place().has_blob(layer.digest)
            {
                self.put_layer(layer)?;
            }
        }
        match [image.config, image.manifest].into_iter().find(|digest| !has(*digest)) {
            Some(missing) => lacks(missing),
            None => Ok(()),
        }
    }

    /// The image of a name that no other one's digest begins with: `facade` can be both.
    pub(crate) fn alone(&self, name: &str, image: Digest) -> Result<Digest, Error> {
        let mut both = self.beginning(&plain_name(name))?;
        if both.iter().all(|other| *other == image) {
            return Ok(image);
        }
        both.insert(0, image);
        both.dedup();
        Err(Error::Ambiguous {
            name: name.to_owned(),
            candidates: both.iter().map(Digest::to_string).collect(),
            is_name: true,
        })
    }

    /// The images whose digests begin with these digits.
    fn beginning(&self, digits: &str) -> Result<Vec<Digest>, Error> {
        let mut found = Vec::new();
        if digits.len() >= 6 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            for place in self.places().chain(self.untrusted()) {
                found.extend(self.or_skip(place, place.images())?.unwrap_or_default());
            }
            found.retain(|digest: &Digest| digest.hex().starts_with(digits));
            found.sort();
            found.dedup();
        }
        Ok(found)
    }

    pub(crate) fn by_digest(&self, name: &str) -> Result<Digest, Error> {
        let digits = name.strip_prefix("sha256:").unwrap_or(name);
        if let Ok(digest) = digits.parse::<Digest>() {
            return Ok(digest);
        }
        let found = self.beginning(digits)?;
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
                is_name: false,
            }),
        }
    }
}

impl Place {
    /// The digests of the images in this store.
    pub(crate) fn images(&self) -> Result<Vec<Digest>, Error> {
        let digest = |path: &PathBuf| {
            path.file_name()?.to_str()?.strip_suffix(".json")?.parse::<Digest>().ok()
        };
        let mut digests: Vec<Digest> =
            list(&self.folder("images"))?.iter().filter_map(digest).collect();
        // Names that can't be read are said where names are meant.
        digests.extend(self.unrecorded().unwrap_or_default());
        Ok(digests)
    }

    /// The digests of the images that have a name and a manifest in this store, and no record: that has gone.
    pub(crate) fn unrecorded(&self) -> Result<BTreeSet<Digest>, Error> {
        let mut digests: BTreeSet<Digest> = self.names()?.into_values().collect();
        digests.retain(|digest| !self.image(*digest).exists() && self.find_blob(*digest).is_some());
        Ok(digests)
    }

    /// The record of an image in this store and when it was last used. To `check` it is to make it
    /// anew from the documents, which their digests prove.
    pub(crate) fn record(
        &self,
        manifest: Digest,
        check: bool,
    ) -> Result<Option<(Record, SystemTime)>, Error> {
        let path = self.image(manifest);
        let Some(bytes) = read_small(&path)? else { return Ok(None) };
        let mut record: Record = serde_json::from_slice(&bytes)
            .map_err(|error| Error::Corrupt { path: path.clone(), why: error.to_string() })?;
        // What was proven of one image must not start another.
        if record.manifest != manifest {
            let why = format!("it is of the image {}", record.manifest.short());
            return Err(Error::Corrupt { path, why });
        }
        let last_used =
            fs::metadata(&path).and_then(|meta| meta.modified()).map_err(at("look at", &path))?;
        if check {
            let config = self.document(record.config)?;
            record = record::of_documents(manifest, &self.document(manifest)?, &config)?;
        }
        Ok(Some((record, last_used)))
    }

    /// A small blob of this store, checked.
    pub(crate) fn document(&self, digest: Digest) -> Result<Vec<u8>, Error> {
        let path = self.find_blob(digest).ok_or(Error::MissingBlob(digest))?;
        let file = open_regular(&path).map_err(|error| not_opened(&path, error))?;
        let mut bytes = Vec::new();
        file.take(DOCUMENT_LIMIT + 1).read_to_end(&mut bytes).map_err(at("read", &path))?;
        match Digest::of(&bytes) {
            actual if actual == digest => Ok(bytes),
            actual => {
                let what = path.display().to_string();
                Err(Error::WrongDigest { what, expected: digest, actual })
            }
        }
    }
}

/// Notes that an image is used.
pub(crate) fn touch(record: &Path) -> Result<(), Error> {
    let file = own::open_read(record).map_err(at("open", record))?;
    // With another name it may be a file that is no record, and somebody's own.
    if file.metadata().map_err(at("look at", record))?.nlink() != 1 {
        return Ok(());
    }
    // `UTIME_NOW` is allowed to whoever may write the file, a time of one's own to its owner alone
    // (utimensat(2)).
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    futimens(&file, &Timestamps { last_access: now, last_modification: now })
        .map_err(at("note the use of", record))
}
