//! What is damaged in a store, or is something else than the store put there: what is said of it, and what it is read from instead.
//!
//! Whatever can be made anew stops nobody: it is said once, and made anew. So is the record of an image, which is a function of two
//! documents that lie in the store too. Where those are gone as well, that image alone is left out.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::PoisonError;
use std::time::SystemTime;
use std::{fs, io};

use sconce_blob::Digest;
use sconce_oci::Document;

use crate::Store;
use crate::error::{Error, at, shell};
use crate::lock::{TryLock, try_exclusive};
use crate::place::Place;
use crate::record::{self, Record};

impl Store {
    /// Says once of each damaged file what it is, and what becomes of it.
    pub(crate) fn note_damaged(&self, error: &Error, then: &str) {
        let first = self.damage_noted().insert(error.to_string());
        if first {
            self.note(&format!("{error}; {then}"));
        }
    }

    /// Says what a prune does about an image of which nothing can be read: whether nobody uses it, and whether it goes.
    pub(crate) fn note_unreadable(
        &self,
        image: Digest,
        damage: &Error,
        (free, goes): (bool, bool),
    ) {
        let digits = image.short();
        self.note_damaged(
            damage,
            &match (free, goes) {
                (false, _) => "it is in use, and what it needs is not known: no layer and no blob is removed until that has ended".to_owned(),
                (true, true) => "the image goes".to_owned(),
                (true, false) => format!(
                    "the image can't be used, and what only it needs goes: `sconce rmi {digits}` takes its name away too"
                ),
            },
        );
    }

    /// What was read of something that can be made anew. Damaged, it is not there: that of this store is removed.
    pub(crate) fn or_anew<T>(
        &self,
        place: &Place,
        read: Result<Option<T>, Error>,
    ) -> Result<Option<T>, Error> {
        match read {
            Err(error @ Error::Corrupt { .. }) if place.root() == self.root() => {
                self.note_damaged(&error, "it is made anew when it is needed");
                if let Error::Corrupt { path, .. } = &error
                    && path.starts_with(self.root())
                {
                    self.discard(path)?;
                }
                Ok(None)
            }
            read => Ok(self.or_skip(place, read)?.flatten()),
        }
    }

    /// The record of an image whose own can't be read for `damage`, from the documents that it was made from. It takes the place of
    /// the damaged one in this store, unless a container holds that.
    pub(crate) fn record_anew(
        &self,
        place: &Place,
        manifest: Digest,
        damage: Error,
    ) -> Result<Option<(Record, SystemTime)>, Error> {
        let document =
            |digest| self.places().find_map(|place| place.document(digest).ok()).ok_or(());
        let made = document(manifest).and_then(|bytes| {
            let Ok(Document::Manifest(parsed)) = Document::parse(&bytes) else { return Err(()) };
            let config = document(parsed.config.digest)?;
            record::of_documents(manifest, &bytes, &config).map_err(drop)
        });
        let Ok(record) = made else { return Err(damage) };
        let path = place.image(manifest);
        let about = match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            about => Some(about.map_err(at("look at", &path))?),
        };
        let used = about.as_ref().map_or(Ok(SystemTime::now()), fs::Metadata::modified);
        let used = used.map_err(at("look at", &path))?;
        self.note_damaged(&damage, "what it says is read from the image's manifest instead");
        if place.root() == self.root() {
            // Nobody can hold what is no file.
            let free = about.is_none_or(|about| !about.is_file())
                || matches!(try_exclusive(&path), Ok(TryLock::Held(_)));
            let bytes = serde_json::to_vec(&record);
            if let (true, Ok(bytes)) = (free, bytes) {
                // Where it can't be written, it is read like this again.
                drop(
                    self.mark_unsynced("image", manifest)
                        .and_then(|()| self.write_unsynced(&path, &bytes)),
                );
            }
        }
        Ok(Some((record, used)))
    }

    /// The record of an image that has a name in a store, and whose record has gone from there, made anew.
    pub(crate) fn record_of_name(
        &self,
        manifest: Digest,
    ) -> Result<Option<(Record, SystemTime, &Place)>, Error> {
        for place in self.places() {
            if !self.or_skip(place, place.unrecorded())?.unwrap_or_default().contains(&manifest) {
                continue;
            }
            let gone = Error::Corrupt { path: place.image(manifest), why: "it is gone".to_owned() };
            if let Some(made) = self.or_skip(place, self.record_anew(place, manifest, gone))? {
                return Ok(made.map(|(record, used)| (record, used, place)));
            }
        }
        Ok(None)
    }

    /// Says which names of this store mean images of which not even the manifest is left anywhere.
    pub(crate) fn note_empty_names(&self, names: &BTreeMap<String, Digest>) {
        let is_here = |digest: &Digest| {
            let mut places = self.places().chain(self.untrusted());
            places.any(|place| place.has_blob(*digest) || place.image(*digest).exists())
        };
        for (name, digest) in names.iter().filter(|(_, digest)| !is_here(digest)) {
            let path = self.place().name(name);
            if self.damage_noted().insert(path.display().to_string()) && path.exists() {
                self.note(&format!(
                    "{} means the image {}, of which nothing is left: `sconce rmi {}` takes the name away; or build or pull it again",
                    shell(&path),
                    digest.short(),
                    shell(Path::new(name))
                ));
            }
        }
    }

    fn damage_noted(&self) -> std::sync::MutexGuard<'_, std::collections::HashSet<String>> {
        self.noted().lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to do about a damaged file of a store, and what is lost. `None` for any other file.
pub(crate) fn hint(path: &Path) -> Option<String> {
    // One of them may be what is damaged.
    let is_store = |root: &&Path| {
        let parts = ["trees", "blobs", "refs", "images", "layers"];
        parts.iter().filter(|name| root.join(name).is_dir()).count() > 3
    };
    let root = path.ancestors().skip(1).take(4).find(is_store)?;
    let mut parts = path.strip_prefix(root).ok()?.iter();
    let remove = format!("`rm -rf {}`", shell(path));
    let (folder, rest) = (parts.next()?.to_str()?, parts.count());
    Some(match (folder, rest) {
        ("version", 0) => format!(
            "`rm -rf {0}; echo {1} > {0}` says what this sconce writes, if no newer one has used the store",
            shell(path),
            crate::store::FORMAT
        ),
        ("locks" | "unsynced" | "tmp" | "memo" | "leftovers", 0) => {
            format!("{remove} lets an empty folder take its place; no image is lost")
        }
        (_, 0) => format!(
            "{remove} lets an empty folder take its place; what was in it is built or pulled again"
        ),
        ("images", 1) => {
            let digits = path.file_stem()?.to_str()?.get(..12)?;
            format!(
                "`sconce rmi {digits}` removes what is left of the image; then build or pull it again"
            )
        }
        ("locks", 1) => format!("{remove} removes it; nothing was in it"),
        ("refs", _) => format!(
            "{remove} takes the note away that a client has pushed what it is about: then it counts as yours"
        ),
        _ => {
            format!("{remove} removes it; then build or pull the image again, which makes it anew")
        }
    })
}
