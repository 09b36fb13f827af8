//! Garbage collection: what no image needs goes.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sconce_blob::{Digest, Segment};

use crate::Store;
use crate::error::{Error, at};
use crate::images::Image;
use crate::lock::is_held;

/// What may go. Images in use by a container always stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Which images go.
    pub images: Which,
    /// Only say what would go.
    pub dry_run: bool,
}

/// Which images go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those without a name.
    Unnamed,
    /// Those without a name, and those not used for this long.
    UnusedFor(Duration),
    /// All of them.
    All,
}

/// What a prune removed, or would remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Bytes on disk.
    pub bytes: u64,
    /// Images, each by its names or digest.
    pub images: Vec<String>,
    /// Blobs and virtual blobs.
    pub blobs: usize,
    /// Extracted trees.
    pub trees: usize,
}

impl Store {
    /// Removes images by `policy`, then every blob, tree and record that no image left needs,
    /// cut-off downloads among them. `keep` are blobs to spare, such as those of locks in use.
    /// [`Error::Busy`] when another process has the store open.
    pub fn prune(&self, policy: &Policy, keep: &[Digest]) -> Result<Pruned, Error> {
        self.settle()?;
        match self.users().alone(|| self.sweep(policy, keep))? {
            Some(result) => result,
            None => Err(Error::Busy(self.root().to_owned())),
        }
    }

    fn sweep(&self, policy: &Policy, keep: &[Digest]) -> Result<Pruned, Error> {
        let mut pruned = Pruned::default();
        let mut blobs: HashSet<Digest> = keep.iter().copied().collect();
        let mut layers = HashSet::new();
        for image in self.images()? {
            let in_use = is_held(&self.lock_path("image", image.manifest))?;
            if in_use || !goes(&image, &policy.images) {
                blobs.extend([image.manifest, image.config]);
                blobs.extend(image.layers.iter().map(|layer| layer.digest));
                layers.extend(image.layers.iter().map(|layer| layer.diff_id));
                continue;
            }
            if !policy.dry_run {
                for name in &image.names {
                    self.remove_name(name)?;
                }
                crate::remove::all(&self.image_path(image.manifest))?;
            }
            pruned.images.push(match &image.names[..] {
                [] => image.manifest.to_string(),
                names => names.join(", "),
            });
        }
        for digest in blobs.clone() {
            if let Some(assembly) = self.assembly(digest)? {
                blobs.extend(assembly.segments.iter().filter_map(|segment| match segment {
                    Segment::Blob { digest, .. } => Some(*digest),
                    Segment::Literal { .. } => None,
                }));
            }
        }
        let mut sweep = |path: PathBuf| -> Result<(), Error> {
            pruned.bytes += disk_bytes(&path)?;
            match policy.dry_run {
                true => Ok(()),
                false => self.discard(&path),
            }
        };
        for parent in ["blobs/sha256", "virtual"] {
            for folder in list(&self.root().join(parent))? {
                for path in list(&folder)? {
                    if digest_in(&path).is_none_or(|digest| !blobs.contains(&digest)) {
                        sweep(path)?;
                        pruned.blobs += 1;
                    }
                }
            }
        }
        for path in list(&self.root().join("trees"))? {
            if digest_in(&path).is_none_or(|digest| !layers.contains(&digest)) {
                sweep(path)?;
                pruned.trees += 1;
            }
        }
        for path in list(&self.root().join("layers"))? {
            if digest_in(&path).is_none_or(|digest| !layers.contains(&digest)) {
                sweep(path)?;
            }
        }
        list(&self.root().join("partial"))?.into_iter().try_for_each(&mut sweep)?;
        // Memos are small, and whoever reads one looks whether what it names is still there.
        // Without them all that stays would have to be made again to be known.
        if policy.images == Which::All {
            list(&self.root().join("memo"))?.into_iter().try_for_each(&mut sweep)?;
        }
        Ok(pruned)
    }

    /// Moves a thing out of the way first: a kill in the middle leaves nothing that looks whole.
    fn discard(&self, path: &Path) -> Result<(), Error> {
        let grave = self.scratch_path();
        fs::rename(path, &grave).map_err(at("remove", path))?;
        crate::remove::all(&grave)
    }
}

fn goes(image: &Image, which: &Which) -> bool {
    let unused = SystemTime::now().duration_since(image.last_used).unwrap_or_default();
    match which {
        Which::Unnamed => image.names.is_empty(),
        Which::UnusedFor(time) => image.names.is_empty() || unused >= *time,
        Which::All => true,
    }
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(folder).map_err(at("list", folder))?;
    entries.map(|entry| Ok(entry.map_err(at("list", folder))?.path())).collect()
}

fn digest_in(path: &Path) -> Option<Digest> {
    path.file_stem()?.to_str()?.parse().ok()
}

/// Bytes that `path` and all below it take on the disk.
fn disk_bytes(path: &Path) -> Result<u64, Error> {
    let meta = fs::symlink_metadata(path).map_err(at("look at", path))?;
    let mut bytes = meta.blocks() * 512;
    if meta.is_dir() {
        for entry in list(path)? {
            bytes += disk_bytes(&entry)?;
        }
    }
    Ok(bytes)
}
