//! Wheels that can't be had a second time travel with the image.

use std::fs::File;
use std::sync::Arc;

use sconce_layer::{Content, Entry, Kind, Meta};
use sconce_lock::{Lock, Rebuilt};

use crate::builder::{Builder, NamedLayer, Trees};
use crate::error::{Error, at};

/// Where they lie, without the leading `/`.
const FOLDER: &str = "usr/share/sconce/wheels";

impl Builder<'_> {
    /// A layer with the wheels of which a second build gave other bytes, if there are any: who has the image
    /// has what the lock names.
    pub(crate) fn kept_wheels(
        &self,
        lock: &Lock,
        trees: Trees,
    ) -> Result<Option<NamedLayer>, Error> {
        let kept = |name: &str| {
            let source = lock.sources.iter().find(|source| source.name == name);
            source.is_some_and(|source| source.rebuilt == Some(Rebuilt::Differs))
        };
        let mut entries = Vec::new();
        for wheel in lock.wheels.iter().filter(|wheel| kept(&wheel.name)) {
            let path = self.store.blob_path(wheel.sha256)?;
            let path = path.ok_or(sconce_store::Error::MissingBlob(wheel.sha256))?;
            let file = File::open(&path).map_err(at("open", &path))?;
            let len = file.metadata().map_err(at("read", &path))?.len();
            let content = Content::Range { source: Arc::new(file), offset: 0, len };
            entries.push(Entry {
                path: format!("{FOLDER}/{}", wheel.file),
                kind: Kind::File(content),
                meta: Meta::FILE,
            });
        }
        if entries.is_empty() {
            return Ok(None);
        }
        let parents = FOLDER.match_indices('/').map(|(end, _)| &FOLDER[..end]).chain([FOLDER]);
        let folders = parents.map(|path| Entry {
            path: path.to_owned(),
            kind: Kind::Directory,
            meta: Meta::DIRECTORY,
        });
        let entries = folders.chain(entries).collect();
        self.plain_layer("wheels from source", entries, trees == Trees::All).map(Some)
    }
}
