//! Where each thing lies in one store. Nothing here writes.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use sconce_blob::Digest;

/// The folders of a store, as `docs/store.md` lists them.
pub(crate) const FOLDERS: [&str; 13] = [
    "blobs",
    "blobs/sha256",
    "virtual",
    "trees",
    "layers",
    "images",
    "refs",
    "memo",
    "partial",
    "unsynced",
    "locks",
    "tmp",
    "leftovers",
];

/// The paths of one store.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    root: PathBuf,
    /// What this store holds but is not to be believed, because its machine lost power before it
    /// was on the disk: `kind-digest`, as the markers are called.
    torn: HashSet<String>,
}

impl Place {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, torn: HashSet::new() }
    }

    /// The same without what these markers name.
    pub(crate) fn without(self, torn: HashSet<String>) -> Self {
        Self { torn, ..self }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// `blobs/sha256/<2 digits>/<64 digits>`
    pub(crate) fn blob(&self, digest: Digest) -> PathBuf {
        self.fanned("blobs/sha256", digest)
    }

    /// `virtual/<2 digits>/<64 digits>`
    pub(crate) fn virtual_blob(&self, digest: Digest) -> PathBuf {
        self.fanned("virtual", digest)
    }

    pub(crate) fn tree(&self, diff_id: Digest) -> PathBuf {
        self.root.join("trees").join(diff_id.hex())
    }

    pub(crate) fn layer(&self, diff_id: Digest) -> PathBuf {
        self.root.join("layers").join(format!("{}.json", diff_id.hex()))
    }

    pub(crate) fn image(&self, manifest: Digest) -> PathBuf {
        self.root.join("images").join(format!("{}.json", manifest.hex()))
    }

    pub(crate) fn memo(&self, kind: &str, key: Digest) -> PathBuf {
        self.root.join("memo").join(format!("{kind}-{}", key.hex()))
    }

    pub(crate) fn lock(&self, kind: &str, name: Digest) -> PathBuf {
        self.root.join("locks").join(format!("{kind}-{}", name.hex()))
    }

    /// The file of a real blob that is there.
    pub(crate) fn find_blob(&self, digest: Digest) -> Option<PathBuf> {
        self.whole("blob", digest).then(|| self.blob(digest)).filter(|path| path.exists())
    }

    /// The tree of a layer that is there.
    pub(crate) fn find_tree(&self, diff_id: Digest) -> Option<PathBuf> {
        self.whole("tree", diff_id).then(|| self.tree(diff_id)).filter(|path| path.exists())
    }

    /// Whether there is a blob, real or virtual.
    pub(crate) fn has_blob(&self, digest: Digest) -> bool {
        let is_virtual = || self.whole("virtual", digest) && self.virtual_blob(digest).exists();
        self.find_blob(digest).is_some() || is_virtual()
    }

    /// Whether nothing says that this may be torn.
    pub(crate) fn whole(&self, kind: &str, digest: Digest) -> bool {
        self.torn.is_empty() || !self.torn.contains(&format!("{kind}-{}", digest.hex()))
    }

    fn fanned(&self, folder: &str, digest: Digest) -> PathBuf {
        let hex = digest.hex();
        let mut path = self.root.join(folder);
        path.push(&hex[..2]);
        path.push(hex);
        path
    }
}
