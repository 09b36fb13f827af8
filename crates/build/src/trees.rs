//! Extracted trees: made in the pass that hashes a layer, or from a layer that is there already.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use sconce_layer::{Meta, Unpack};
use sconce_store::{Image, Store, TreeBuilder};

use crate::error::{Error, at};
use crate::progress::Progress;

/// A tree of the store as what a layer unpacks into.
pub(crate) struct Tree<'a>(pub &'a TreeBuilder);

fn meta(meta: &Meta) -> sconce_store::Meta {
    sconce_store::Meta {
        mode: meta.mode,
        uid: meta.uid,
        gid: meta.gid,
        mtime: i64::try_from(meta.mtime).unwrap_or(i64::MAX),
    }
}

impl Unpack for Tree<'_> {
    fn directory(&self, path: &str, of: &Meta) -> io::Result<()> {
        self.0.directory(path, meta(of)).map_err(io::Error::from)
    }

    fn file(&self, path: &str, of: &Meta, size: u64) -> io::Result<Box<dyn Write + Send + '_>> {
        Ok(Box::new(self.0.file(path, meta(of), size).map_err(io::Error::from)?))
    }

    fn symlink(&self, path: &str, target: &str, of: &Meta) -> io::Result<()> {
        self.0.symlink(path, target, meta(of)).map_err(io::Error::from)
    }

    fn hardlink(&self, path: &str, target: &str) -> io::Result<()> {
        self.0.hardlink(path, target).map_err(io::Error::from)
    }
}

/// Keeps only Python sources: all that compiling bytecode needs of a wheel.
pub(crate) struct Sources {
    root: PathBuf,
    made: Mutex<HashSet<PathBuf>>,
}

impl Sources {
    /// Into the folder `root`, which is there and empty.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, made: Mutex::default() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
}

impl Unpack for Sources {
    fn directory(&self, _: &str, _: &Meta) -> io::Result<()> {
        Ok(())
    }

    fn file(&self, path: &str, _: &Meta, _: u64) -> io::Result<Box<dyn Write + Send + '_>> {
        if !path.ends_with(".py") {
            return Ok(Box::new(io::sink()));
        }
        // Paths were checked by the layer, and nothing here is ever a link.
        let path = self.root.join(path);
        if let Some(parent) = path.parent() {
            let mut made = self.made.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if !made.contains(parent) {
                fs::create_dir_all(parent)?;
                made.insert(parent.to_owned());
            }
        }
        Ok(Box::new(File::options().write(true).create_new(true).mode(0o644).open(path)?))
    }

    fn symlink(&self, _: &str, _: &str, _: &Meta) -> io::Result<()> {
        Ok(())
    }

    fn hardlink(&self, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }
}

/// Extracts the layers of `image` that have no tree yet, several at a time, and returns what to
/// mount, the top folder first.
pub fn extract(
    store: &Store,
    image: &Image,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Vec<PathBuf>, Error> {
    let mut missing = Vec::new();
    for layer in &image.layers {
        if store.tree(layer.diff_id)?.is_none() {
            missing.push(layer);
        }
    }
    if !missing.is_empty() {
        missing.sort_by_key(|layer| std::cmp::Reverse(layer.size));
        let stage = progress.begin("unpacking", Some(missing.iter().map(|layer| layer.size).sum()));
        let next = AtomicUsize::new(0);
        let failure = Mutex::new(None);
        let failed = || failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        std::thread::scope(|scope| {
            for _ in 0..threads.clamp(1, missing.len()) {
                scope.spawn(|| {
                    while let Some(layer) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if failed().is_some() {
                            return;
                        }
                        match store.extract(layer.diff_id, &|bytes| stage.advance(bytes)) {
                            Ok(_) => {}
                            Err(error) => {
                                failed().get_or_insert(error);
                            }
                        }
                    }
                });
            }
        });
        if let Some(error) = failure.into_inner().unwrap_or_else(|poison| poison.into_inner()) {
            mend(store, image, progress)?;
            return Err(error.into());
        }
        stage.end(&format!("{} layers", missing.len()));
    }
    Ok(store.mount_layers(image)?)
}

/// After a fault: removes what is damaged of an image, and says so.
pub fn mend(store: &Store, image: &Image, progress: &dyn Progress) -> Result<(), Error> {
    let mended = store.mend_layers(&image.layers)?;
    if mended > 0 {
        progress.note(&format!(
            "{mended} damaged layers were removed from the store: a build or a pull makes or fetches them anew"
        ));
    }
    Ok(())
}

/// A fresh empty folder of this process below the store.
pub(crate) fn scratch(store: &Store, name: &str) -> Result<PathBuf, Error> {
    let path = store.scratch_dir()?.join(name);
    fs::create_dir_all(&path).map_err(at("create", &path))?;
    Ok(path)
}
