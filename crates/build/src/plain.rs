//! Layers of plain files: compressed into the store, and into a tree in the same pass.

use std::io::BufWriter;
use std::num::NonZeroUsize;

use sconce_layer::{Entry, Unpack};
use sconce_store::{Layer, Twice};

use crate::builder::{Builder, NamedLayer};
use crate::error::Error;
use crate::later::tar_layer;
use crate::trees::Tree;

/// A tar is written in pieces of this size, bytes.
const BUFFER: usize = 1 << 20;

impl Builder<'_> {
    /// Makes a layer of `entries`, and its tree if one is wanted.
    pub(crate) fn plain_layer(
        &self,
        name: &str,
        entries: Vec<Entry>,
        tree: bool,
    ) -> Result<NamedLayer, Error> {
        let builder = match tree {
            true => Some(self.store.create_tree(Twice::Refuse)?),
            false => None,
        };
        let unpack = builder.as_ref().map(Tree);
        let mut blob = self.store.create_blob()?;
        let threads = NonZeroUsize::new(self.threads).unwrap_or(NonZeroUsize::MIN);
        let made = sconce_layer::plain(
            entries,
            &mut blob,
            unpack.as_ref().map(|tree| tree as &dyn Unpack),
            threads,
            &(),
        )?;
        blob.commit(Some((made.digest, name)))?;
        if let Some(builder) = builder {
            builder.finish(made.diff_id)?;
        }
        let layer = Layer {
            diff_id: made.diff_id,
            digest: made.digest,
            size: made.size,
            media_type: sconce_layer::Layer::MEDIA_TYPE.into(),
        };
        self.store.put_layer(&layer)?;
        Ok(NamedLayer { name: name.into(), layer })
    }

    /// Makes the tree of a layer of `entries`, and keeps its tar for the blob that is made later.
    pub(crate) fn plain_tree(&self, name: &str, entries: Vec<Entry>) -> Result<NamedLayer, Error> {
        let builder = self.store.create_tree(Twice::Refuse)?;
        let mut tar = BufWriter::with_capacity(BUFFER, self.store.create_blob()?.uncached());
        sconce_layer::plain_tar(entries, &mut tar, Some(&Tree(&builder)))?;
        let tar =
            tar.into_inner().map_err(|error| sconce_layer::Error::Write(error.into_error()))?;
        let size = tar.len();
        let diff_id = tar.commit(None)?;
        builder.finish(diff_id)?;
        Ok(NamedLayer { name: name.into(), layer: tar_layer(diff_id, size) })
    }
}
