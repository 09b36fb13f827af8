//! Images whose blobs were put one by one, as a client pushes them, and which names such clients gave.
//!
//! A policy asks other things of what a client pushed under a name than of what a person put there. So beside the names,
//! `refs/%pushed-DIGEST` (of the name: no name is spelt like that) has the images that clients pushed under it. It is written, and on the disk, before the
//! name is.
//!
//! `refs/%pushed-image-DIGEST` says the same of an image whatever it is called: a client brought it here, with a name or without. It goes when a person
//! (or a build) brings the same image, and with the image. Who brought it before any client did is not asked again: the bytes are the same.

use sconce_blob::Digest;
use sconce_oci::name::{other_spelling, plain_name};
use sconce_oci::{Artifact, Document};

use crate::Store;
use crate::beside::Beside;
use crate::error::Error;
use crate::files::read_small;
use crate::names::check_name;
use crate::oci::each;
use crate::own::remove_file;
use crate::place::Place;
use crate::record::{self, DOCUMENT_LIMIT};

/// How the marks of pushed names begin.
const MARK: &str = "%pushed-";

impl Store {
    /// Takes in an image by its manifest, whose blobs are here: its layers are unpacked and held to the DiffIDs of its
    /// configuration before it is named. Returns its digest.
    ///
    /// # Errors
    /// [`Error::MissingBlob`] where one isn't here; the documents or layers are no image's.
    pub fn put_pushed(&self, names: &[&str], manifest: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(manifest);
        let bad = |why: String| Error::BadDocument { what: format!("manifest {digest}"), why };
        let Document::Manifest(parts) = Document::parse(manifest).map_err(bad)? else {
            return Err(bad("it is an index of several images".to_owned()));
        };
        record::check_image(&parts).and_then(|()| parts.check_types()).map_err(bad)?;
        let blobs = [&parts.config].into_iter().chain(&parts.layers);
        for blob in blobs {
            if !self.has_blob(blob.digest)? {
                return Err(Error::MissingBlob(blob.digest));
            }
        }
        let config = self.read_blob(parts.config.digest, DOCUMENT_LIMIT)?;
        let record = record::of_documents(digest, manifest, &config)?;
        each(&record.layers, |layer| self.take_layer(layer))?;
        let image = self.put_pushed_image(digest, manifest, &config)?;
        names.iter().try_for_each(|name| self.put_pushed_name(name, image))?;
        Ok(image)
    }

    fn put_pushed_image(
        &self,
        image: Digest,
        manifest: &[u8],
        config: &[u8],
    ) -> Result<Digest, Error> {
        let place = self.place();
        // A prune that takes the image away meanwhile would take its mark for that of the old one.
        let _lock = self.lock("pushed", image)?;
        if !place.image(image).exists() {
            self.write_small(&place.pushed_image_mark(image), b"")?;
        }
        self.put_parts(manifest, config)
    }

    /// Notes that it was not a client alone that brought an image.
    pub(crate) fn forget_pushed_image(&self, image: Digest) -> Result<(), Error> {
        remove_file(&self.place().pushed_image_mark(image)).map(drop)
    }

    /// Whether an image is here because a client pushed it, and nobody else has brought it.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn is_pushed_image(&self, image: Digest) -> Result<bool, Error> {
        for place in self.places().chain(self.untrusted()) {
            let mark = place.pushed_image_mark(image);
            if self.or_skip(place, read_small(&mark))?.flatten().is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn put_pushed_name(&self, name: &str, image: Digest) -> Result<(), Error> {
        check_name(name)?;
        let name = &*plain_name(name);
        let _lock = self.lock("pushed", Digest::of(name.as_bytes()))?;
        let place = self.place();
        // Until the name means the new image, it means the old one, which may have been pushed too.
        let before = place.named(name)?;
        let mut images = place.pushed(name)?;
        images.retain(|known| Some(*known) == before);
        images.push(image);
        let text: String = images.iter().map(|image| format!("{image}\n")).collect();
        self.write_small(&place.pushed_mark(name), text.as_bytes())?;
        self.write_name(name, image)?;
        // What it said is in this mark by now.
        let [_, others @ ..] = &place.pushed_marks(name)[..] else { return Ok(()) };
        others.iter().try_for_each(|other| remove_file(other).map(drop))
    }

    /// Takes away what is noted of a name that is gone.
    pub(crate) fn forget_mark(&self, name: &str) -> Result<(), Error> {
        let marks = self.place().pushed_marks(name);
        if marks.iter().any(|mark| mark.exists()) {
            let _lock = self.lock("pushed", Digest::of(plain_name(name).as_bytes()))?;
            // Another may have been pushed by now.
            if self.place().named(name)?.is_none() {
                marks.iter().try_for_each(|mark| remove_file(mark).map(drop))?;
            }
        }
        Ok(())
    }

    /// Notes that it was not a client that gave an image this name.
    pub(crate) fn forget_pushed(&self, name: &str, image: Digest) -> Result<(), Error> {
        let marks = self.place().pushed_marks(name);
        if !marks.iter().any(|mark| mark.exists()) {
            return Ok(());
        }
        let _lock = self.lock("pushed", Digest::of(plain_name(name).as_bytes()))?;
        match self.place().pushed(name)?.contains(&image) {
            // Other images under this name are of the past: it means this one.
            true => marks.iter().try_for_each(|mark| remove_file(mark).map(drop)),
            false => Ok(()),
        }
    }

    /// Whether the image that a name means was put there by a client that pushed it.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn is_pushed(&self, name: &str, image: Digest) -> Result<bool, Error> {
        for place in self.places().chain(self.untrusted()) {
            if self.or_skip(place, place.named(name))?.flatten() == Some(image) {
                return Ok(place.pushed(name)?.contains(&image));
            }
        }
        Ok(false)
    }

    /// Keeps an artifact beside the image that it is about, which is here, and returns that image's digest; the artifact's
    /// files are here too. `by` is who pushed it: each has a share of the room ([`Store::put_beside`]).
    ///
    /// # Errors
    /// [`Error::MissingBlob`]; it is no artifact about an image, its files are no texts, or there is no more room.
    pub fn put_pushed_artifact(&self, manifest: &[u8], by: &str) -> Result<Digest, Error> {
        let digest = Digest::of(manifest);
        let bad = |why: &str| Error::BadDocument {
            what: format!("manifest {digest}"),
            why: why.to_owned(),
        };
        let artifact = Artifact::parse(manifest).map_err(|why| bad(&why))?;
        let subject = artifact.subject.as_ref().ok_or_else(|| bad("it is about nothing"))?.digest;
        if !self.knows(subject) {
            return Err(Error::MissingBlob(subject));
        }
        let mut files = Vec::new();
        for file in [&artifact.config].into_iter().chain(&artifact.layers) {
            if !self.has_blob(file.digest)? {
                return Err(Error::MissingBlob(file.digest));
            }
            files.push(self.read_blob(file.digest, DOCUMENT_LIMIT)?);
        }
        let kept = Beside::new(manifest.to_vec(), files).ok_or_else(|| bad("it holds no texts"))?;
        match self.put_beside(subject, vec![kept.of(by)])? {
            // One that is refused is not to be had by its digest either.
            0 => self.put_bytes(manifest).map(|_| subject),
            _ => Err(bad("there is no more room for what is about that image")),
        }
    }
}

impl Place {
    fn pushed_mark(&self, name: &str) -> std::path::PathBuf {
        self.mark_of(&plain_name(name))
    }

    fn mark_of(&self, name: &str) -> std::path::PathBuf {
        self.folder("refs").join(format!("{MARK}{}", Digest::of(name.as_bytes()).hex()))
    }

    /// Whether a file among the names is such a mark.
    pub(crate) fn is_pushed_mark(file: &str) -> bool {
        file.starts_with(MARK)
    }

    pub(crate) fn pushed_image_mark(&self, image: Digest) -> std::path::PathBuf {
        self.folder("refs").join(format!("%pushed-image-{}", image.hex()))
    }

    /// The marks of a name, that of its plain spelling first: an older program may have written the other.
    fn pushed_marks(&self, name: &str) -> Vec<std::path::PathBuf> {
        let plain = plain_name(name);
        let other = other_spelling(&plain);
        let marks = std::iter::once(&plain).chain(&other);
        marks.map(|name| self.mark_of(name)).collect()
    }

    /// The images that clients pushed under a name; it means one of them, or another by now. Of a name that is here in both spellings, what
    /// was pushed under either.
    fn pushed(&self, name: &str) -> Result<Vec<Digest>, Error> {
        let mut images = Vec::new();
        for path in self.pushed_marks(name) {
            let Some(bytes) = read_small(&path)? else { continue };
            let text = String::from_utf8_lossy(&bytes);
            let read: Result<Vec<Digest>, _> = text.lines().map(str::parse).collect();
            images.extend(read.map_err(|error| Error::Corrupt { path, why: format!("{error}") })?);
        }
        Ok(images)
    }
}
