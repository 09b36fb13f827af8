//! Which objects the disk may not have yet, and what to do with them after a power cut.
//!
//! What a build makes is renamed into place without fsync: the page cache outlives the process, so a
//! `kill -9` can't hurt it, only a power cut or a crash of the machine. Before each rename an
//! empty marker is made under `unsynced/<boot id>/`. A store opened in a later boot re-hashes the
//! blobs marked in an earlier one, reads the records of layers and images and the virtual blobs, and removes what is
//! damaged, and all marked trees: they are made again when wanted.
//! [`Store::settle`] writes everything out and removes the markers. `docs/decision/0003` and `0013`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::syncfs;
use sconce_blob::Digest;

use crate::Store;
use crate::error::{Error, at};
use crate::files::list;
use crate::own::remove_folder;

/// Markers older than this are settled when the store is next opened: the kernel has written most
/// of their bytes by then (`vm.dirty_expire_centisecs` is 30 s by default).
const SETTLE_AFTER: Duration = Duration::from_secs(60);

impl Store {
    /// Notes that `kind` `digest` is about to appear without being on the disk for sure.
    pub(crate) fn mark_unsynced(&self, kind: &str, digest: Digest) -> Result<(), Error> {
        let folder = self.markers()?;
        self.folder(&folder)?;
        let marker = folder.join(format!("{kind}-{}", digest.hex()));
        match self.create(&marker) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                Ok(())
            }
            result => result.map(drop),
        }
    }

    /// Waits until all that was put into the store is on the disk. Call it where nobody waits,
    /// such as on a thread while a container runs; leaving it out costs only a check after the
    /// next boot.
    pub fn settle(&self) -> Result<(), Error> {
        // Only what is listed before the sync is covered by it.
        let markers = list(&self.markers()?)?;
        if markers.is_empty() {
            return Ok(());
        }
        let root = self.root();
        let folder = File::open(root).map_err(at("open", root))?;
        syncfs(&folder).map_err(at("sync", root))?;
        markers.iter().try_for_each(|marker| self.discard(marker))
    }

    /// Checks what an earlier boot left unsynced; settles old markers of this boot aside.
    pub(crate) fn recover(&self) -> Result<(), Error> {
        let current = self.markers()?;
        let unsynced = self.root().join("unsynced");
        for folder in list(&unsynced)? {
            // What is no folder of a boot is nobody's; the list of a link's would be another folder's.
            if !folder.symlink_metadata().is_ok_and(|about| about.is_dir()) {
                self.discard(&folder)?;
                continue;
            }
            if folder == current {
                let age = fs::metadata(&folder)
                    .and_then(|meta| meta.modified())
                    .map(|time| SystemTime::now().duration_since(time).unwrap_or_default())
                    .unwrap_or_default();
                if age > SETTLE_AFTER && !list(&folder)?.is_empty() {
                    let store = self.clone();
                    // A failed sync leaves the markers, and so a check after the next boot.
                    std::thread::spawn(move || store.settle());
                }
                continue;
            }
            let _lock = self.wait_for(self.root().join("locks/recover"))?;
            for marker in list(&folder)? {
                self.check_marked(&marker)?;
                self.discard(&marker)?;
            }
            remove_folder(&folder)?;
        }
        Ok(())
    }

    fn check_marked(&self, marker: &Path) -> Result<(), Error> {
        let name = marker.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some((kind, Ok(digest))) = name.split_once('-').map(|(k, d)| (k, d.parse())) else {
            return Ok(());
        };
        match kind {
            "tree" => self.discard(&self.place().tree(digest)),
            "layer" => match self.place().read_layer(digest) {
                Err(Error::Corrupt { .. }) => self.discard(&self.place().layer(digest)),
                other => other.map(drop),
            },
            "image" => match self.place().record(digest, false) {
                Err(Error::Corrupt { .. }) => self.discard(&self.place().image(digest)),
                other => other.map(drop),
            },
            "virtual" => match self.place().assembly(digest) {
                Err(Error::Corrupt { .. }) => self.discard(&self.place().virtual_blob(digest)),
                other => other.map(drop),
            },
            "blob" => match self.verify(digest) {
                Ok(()) | Err(Error::MissingBlob(_)) => Ok(()),
                Err(Error::WrongDigest { .. } | Error::Corrupt { .. }) => {
                    self.discard(&self.place().blob(digest))
                }
                Err(error) => Err(error),
            },
            _ => Ok(()),
        }
    }

    fn markers(&self) -> Result<PathBuf, Error> {
        Ok(self.root().join("unsynced").join(boot()?))
    }
}

/// The id of this boot (random(4)).
pub(crate) fn boot() -> Result<String, Error> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    Ok(fs::read_to_string(path).map_err(at("read", path))?.trim().to_owned())
}
