//! All images of a name, each for its platform, from one registry to another: the index stays what it is, byte for
//! byte, and so do its digest and the signatures of it.

use std::collections::BTreeSet;

use sconce_oci::Document;
use sconce_registry::{Error as RegistryError, Reference, Registry, Rights};

use crate::attachments::Carried;
use crate::error::Error;
use crate::push::{Blobs, Pushed};
use crate::{Transfer, origin};

/// The most images of one index; the largest ones of the public registries have some thirty, half of them
/// attestations.
const MAX_IMAGES: usize = 256;
/// How deep indexes may lie in indexes.
const MAX_NESTING: usize = 4;

impl Transfer<'_> {
    /// Sends all that `from` names from one registry to another, without storing a byte; with what is beside it
    /// and beside each of its images where `beside` says so. The index comes last.
    ///
    /// # Errors
    /// Those of the registries; an index that is too long or too deep.
    pub fn copy_all(
        &self,
        from: &Reference,
        to: &Reference,
        beside: bool,
    ) -> Result<(Pushed, Carried), Error> {
        let source = Registry::new(self.access, from.clone(), &Rights::Pull)?;
        let named = source.named()?;
        let mut copy = Copy {
            transfer: self,
            to,
            beside,
            seen: BTreeSet::new(),
            pushed: Pushed { image: named.descriptor.digest, moved: 0, there: 0, mounted: 0 },
            carried: Carried::default(),
        };
        copy.take(&source, &named.bytes, &named.descriptor.media_type, to, 0)?;
        Ok((copy.pushed, copy.carried))
    }
}

/// A copy under way, and what came of it.
struct Copy<'a> {
    transfer: &'a Transfer<'a>,
    to: &'a Reference,
    beside: bool,
    seen: BTreeSet<sconce_blob::Digest>,
    pushed: Pushed,
    carried: Carried,
}

impl Copy<'_> {
    /// Sends an image or an index, what it names first, to be called as `to` says.
    fn take(
        &mut self,
        source: &Registry,
        bytes: &[u8],
        media_type: &str,
        to: &Reference,
        depth: usize,
    ) -> Result<(), Error> {
        let from = source.reference();
        let wrong = |why: String| {
            let Reference { host, repository, .. } = from;
            RegistryError::Answer { url: format!("{host}/{repository}"), why }
        };
        let digest = sconce_blob::Digest::of(bytes);
        match Document::parse(bytes).map_err(wrong)? {
            Document::Manifest(manifest) => {
                for blob in manifest.layers.iter().chain([&manifest.config]) {
                    origin::note(self.transfer.store, from, blob.digest)?;
                }
                let sent = self.transfer.send(bytes, &Blobs::Registry(source), to)?;
                self.pushed.moved += sent.moved;
                self.pushed.there += sent.there;
                self.pushed.mounted += sent.mounted;
            }
            Document::Index(_) if depth >= MAX_NESTING => {
                return Err(wrong("indexes that lead to indexes without end".to_owned()).into());
            }
            Document::Index(index) => {
                let exact = Reference { tag: None, digest: None, ..self.to.clone() };
                for row in &index.manifests {
                    if !self.seen.insert(row.digest) {
                        continue;
                    }
                    if self.seen.len() > MAX_IMAGES {
                        let why = format!("an index of more than {MAX_IMAGES} images");
                        return Err(wrong(why).into());
                    }
                    let part = Reference { tag: None, digest: Some(row.digest), ..from.clone() };
                    let part = Registry::new(self.transfer.access, part, &Rights::Pull)?;
                    let named = part.named()?;
                    let kind = &named.descriptor.media_type;
                    self.take(&part, &named.bytes, kind, &exact, depth + 1)?;
                }
                let rights = Rights::Push(Vec::new());
                let target = Registry::new(self.transfer.access, to.clone(), &rights)?;
                target.put_manifest(media_type, bytes)?;
                self.pushed.moved += target.moved();
            }
        }
        if self.beside {
            let more = self.transfer.carry(source, self.to, digest)?;
            self.carried.count += more.count;
            self.carried.moved += more.moved;
            self.carried.left.extend(more.left);
        }
        Ok(())
    }
}
