//! Stores below the user's own: read where that lacks something, never written.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use sconce_blob::Digest;

use crate::access::{self, MACHINE_STORE, Sharing};
use crate::durable::boot;
use crate::error::{Error, at, shell};
use crate::files::{list, open_folder};
use crate::place::Place;
use crate::store::{FORMAT, format_of};

/// A store to be read below another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LowerRoot {
    /// Its folder.
    pub root: PathBuf,
    /// Whether a person named it: only then may it belong to somebody else than root or the caller.
    pub named: bool,
}

/// The stores to read below the user's own: those that `SCONCE_STORES` lists, separated by colons,
/// then [`MACHINE_STORE`]. Set to nothing, the variable stands for none at all. `env` looks a
/// variable up.
pub fn lower_roots(env: impl Fn(&str) -> Option<OsString>) -> Result<Vec<LowerRoot>, Error> {
    let machine = LowerRoot { root: PathBuf::from(MACHINE_STORE), named: false };
    let Some(list) = env("SCONCE_STORES") else { return Ok(vec![machine]) };
    if list.is_empty() {
        return Ok(Vec::new());
    }
    let mut roots = Vec::new();
    for part in list.as_bytes().split(|byte| *byte == b':').filter(|part| !part.is_empty()) {
        let path = Path::new(std::ffi::OsStr::from_bytes(part));
        let root = std::path::absolute(path).map_err(at("resolve", path))?;
        roots.push(LowerRoot { root, named: true });
    }
    roots.push(machine);
    Ok(roots)
}

/// An open store below another.
#[derive(Debug)]
pub(crate) struct Lower {
    pub(crate) place: Place,
    /// Whether what it says is believed. Otherwise only what a digest proves is, and that once it
    /// was copied to where nobody else can change it.
    pub(crate) trusted: bool,
    /// Whether its trees have the modes and owners of their layers.
    pub(crate) exact: bool,
    /// An image that has a layer, by DiffID: who uses the layer's tree locks that image.
    images: OnceLock<HashMap<Digest, Digest>>,
}

impl Lower {
    /// Opens a store for reading. One that can't be read or trusted is skipped, and `note` is told
    /// why. `own` is the store above.
    pub(crate) fn open(lower: &LowerRoot, own: &Path, note: &dyn Fn(&str)) -> Option<Self> {
        let shown = shell(&lower.root);
        match Self::check(lower, own) {
            Ok(Some(found)) if !found.trusted => {
                note(&format!(
                    "users other than you and root can write to the store {shown}: images are copied from it and checked against their digests, but its names are taken as they are"
                ));
                Some(found)
            }
            Ok(found) => found,
            Err(why) => {
                note(&format!("skipping the store {shown}: {why}"));
                None
            }
        }
    }

    /// The tree of a layer and the record of an image that keeps it. A tree that no image needs goes
    /// with the next prune, so it isn't offered.
    pub(crate) fn find_tree(&self, diff_id: Digest) -> Option<(PathBuf, PathBuf)> {
        let image = *self.images.get_or_init(|| self.images_by_layer()).get(&diff_id)?;
        Some((self.place.find_tree(diff_id)?, self.place.image(image)))
    }

    fn images_by_layer(&self) -> HashMap<Digest, Digest> {
        let mut images = HashMap::new();
        for image in self.place.images().unwrap_or_default() {
            if let Ok(Some((record, _))) = self.place.record(image, false) {
                images.extend(record.layers.iter().map(|layer| (layer.diff_id, image)));
            }
        }
        images
    }

    fn check(lower: &LowerRoot, own: &Path) -> Result<Option<Self>, String> {
        let opened = lower.root.canonicalize().and_then(|root| {
            let meta = open_folder(&root)?.metadata()?;
            Ok((root, meta))
        });
        let (root, meta) = match opened {
            Ok(opened) => opened,
            // Nobody asked for it: it may not be there, or not be for this user.
            Err(_) if !lower.named => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        if root == own {
            return Ok(None);
        }
        let trusted = access::is_trusted(&root, &meta);
        let is_roots = trusted && meta.uid() == 0;
        if !(lower.named || is_roots) {
            let why = "it is not owned by root, or others can write to it";
            return Err(why.to_owned());
        }
        // It is only read.
        let readers = Sharing::of(meta.mode() & !0o022);
        access::check_not_opened(&root, &meta, readers).map_err(|error| error.to_string())?;
        match format_of(&root).map_err(|error| error.to_string())? {
            Some(format) if format <= FORMAT => {}
            Some(format) => return Err(format!("its format {format} is newer than this sconce")),
            None if lower.named => return Err("it is not a sconce store".to_owned()),
            None => return Ok(None),
        }
        let place =
            Place::new(root.clone()).without(torn(&root).map_err(|error| error.to_string())?);
        Ok(Some(Self {
            place,
            trusted,
            exact: access::has_exact_trees(&root, &meta),
            images: OnceLock::new(),
        }))
    }
}

/// What an earlier boot left unsynced: only the store's owner can check it and take it away.
fn torn(root: &Path) -> Result<HashSet<String>, Error> {
    let boot = boot()?;
    let mut torn = HashSet::new();
    for folder in list(&root.join("unsynced"))? {
        if folder.file_name().is_some_and(|name| *name != *boot) {
            let markers = list(&folder)?;
            torn.extend(markers.iter().filter_map(|path| Some(path.file_name()?.to_str()?.into())));
        }
    }
    Ok(torn)
}
