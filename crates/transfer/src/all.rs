//! All images of a name, each for its platform, from one registry to another or into an OCI layout: the index stays
//! what it is, byte for byte, and so do its digest and the signatures of it.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::atomic::Ordering;

use sconce_blob::Digest;
use sconce_oci::{Descriptor, Document};
use sconce_registry::{Error as RegistryError, Reference, Registry, Rights};
use sconce_store::LayoutWriter;

use crate::attachments::Carried;
use crate::error::Error;
use crate::push::{Blobs, Pushed};
use crate::several::each;
use crate::{Transfer, origin};

/// The most images of one index; the largest ones of the public registries have some thirty, half of them
/// attestations.
const MAX_IMAGES: usize = 256;
/// Bytes taken at a time.
const PIECE: usize = 256 << 10;
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
            to: To::Registry(to),
            beside,
            seen: BTreeSet::new(),
            pushed: Pushed { image: named.descriptor.digest, moved: 0, there: 0, mounted: 0 },
            carried: Carried::default(),
        };
        copy.take(&source, &named.bytes, &named.descriptor.media_type, Some(to), 0)?;
        Ok((copy.pushed, copy.carried))
    }

    /// Puts all that `from` names into an OCI layout, under these names. What is beside its images goes into the store
    /// as well, where `beside` says so: of the manifests it keeps those.
    ///
    /// # Errors
    /// Those of the registry; an index that is too long or too deep; the layout can't be written.
    pub fn copy_all_into(
        &self,
        from: &Reference,
        layout: LayoutWriter<'_>,
        names: &[String],
        beside: bool,
    ) -> Result<(Digest, Carried), Error> {
        let source = Registry::new(self.access, from.clone(), &Rights::Pull)?;
        let named = source.named()?;
        let mut copy = Copy {
            transfer: self,
            to: To::Layout(&layout),
            beside,
            seen: BTreeSet::new(),
            pushed: Pushed { image: named.descriptor.digest, moved: 0, there: 0, mounted: 0 },
            carried: Carried::default(),
        };
        copy.take(&source, &named.bytes, &named.descriptor.media_type, None, 0)?;
        let Copy { carried, mut seen, .. } = copy;
        let mut index = sconce_store::index_of(&named.descriptor, names);
        if beside {
            seen.insert(named.descriptor.digest);
            for digest in seen {
                index = self.store.put_texts_beside(&layout, digest, index)?;
            }
        }
        layout.finish(&index)?;
        Ok((named.descriptor.digest, carried))
    }

    /// Puts what an image consists of, and then its manifest, into a layout.
    fn put_all(
        &self,
        source: &Registry,
        blobs: &[&Descriptor],
        manifest: &[u8],
        layout: &LayoutWriter<'_>,
    ) -> Result<(), Error> {
        each(blobs, self.threads, |blob, stop| {
            layout.put(blob.digest, |out, path| -> Result<(), Error> {
                let mut bytes = source.blob(blob)?;
                let mut buffer = vec![0; PIECE];
                // What went wrong the reader knows best.
                while let Ok(n) = bytes.read(&mut buffer)
                    && n > 0
                {
                    let fault = |error| sconce_store::Error::of_io("write", path, error);
                    out.write_all(&buffer[..n]).map_err(fault)?;
                    layout.wrote(n as u64)?;
                    if stop.load(Ordering::Relaxed) {
                        return Err(Error::Stopped);
                    }
                }
                Ok(bytes.verify()?)
            })
        })?;
        Ok(layout.put_bytes(manifest)?)
    }
}

/// Where a copy goes.
#[derive(Clone, Copy)]
enum To<'a> {
    Registry(&'a Reference),
    Layout(&'a LayoutWriter<'a>),
}

/// A copy under way, and what came of it.
struct Copy<'a> {
    transfer: &'a Transfer<'a>,
    to: To<'a>,
    beside: bool,
    seen: BTreeSet<Digest>,
    pushed: Pushed,
    carried: Carried,
}

impl Copy<'_> {
    /// Takes an image or an index, what it names first; to be called as `to` says in a registry.
    fn take(
        &mut self,
        source: &Registry,
        bytes: &[u8],
        media_type: &str,
        to: Option<&Reference>,
        depth: usize,
    ) -> Result<(), Error> {
        let from = source.reference();
        let wrong = |why: String| {
            let Reference { host, repository, .. } = from;
            RegistryError::Answer { url: format!("{host}/{repository}"), why }
        };
        let digest = Digest::of(bytes);
        match Document::parse(bytes).map_err(wrong)? {
            Document::Manifest(manifest) => {
                let blobs: Vec<&Descriptor> =
                    manifest.layers.iter().chain([&manifest.config]).collect();
                for blob in &blobs {
                    origin::note(self.transfer.store, from, blob.digest)?;
                }
                match self.to {
                    To::Layout(layout) => {
                        self.transfer.put_all(source, &blobs, bytes, layout)?;
                    }
                    To::Registry(all) => {
                        let (blobs, to) = (Blobs::Registry(source), to.unwrap_or(all));
                        let sent = self.transfer.send(bytes, &blobs, to)?;
                        self.pushed.moved += sent.moved;
                        self.pushed.there += sent.there;
                        self.pushed.mounted += sent.mounted;
                    }
                }
            }
            Document::Index(_) if depth >= MAX_NESTING => {
                return Err(wrong("indexes that lead to indexes without end".to_owned()).into());
            }
            Document::Index(index) => {
                let exact = match self.to {
                    To::Registry(to) => Some(Reference { tag: None, digest: None, ..to.clone() }),
                    To::Layout(_) => None,
                };
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
                    if named.descriptor.size != row.size {
                        let (digest, size, has) = (row.digest, row.size, named.descriptor.size);
                        let why = format!("{digest} has {has} bytes, and its index says {size}");
                        return Err(wrong(why).into());
                    }
                    let kind = &named.descriptor.media_type;
                    self.take(&part, &named.bytes, kind, exact.as_ref(), depth + 1)?;
                }
                match self.to {
                    To::Layout(layout) => layout.put_bytes(bytes)?,
                    To::Registry(all) => {
                        let (to, rights) = (to.unwrap_or(all), Rights::Push(Vec::new()));
                        let target = Registry::new(self.transfer.access, to.clone(), &rights)?;
                        target.put_manifest(media_type, bytes)?;
                        self.pushed.moved += target.moved();
                    }
                }
            }
        }
        if self.beside {
            let more = match self.to {
                To::Registry(to) => self.transfer.carry(source, to, digest)?,
                To::Layout(_) => self.transfer.keep_beside(from, digest)?,
            };
            self.carried.count += more.count;
            self.carried.moved += more.moved;
            self.carried.left.extend(more.left);
        }
        Ok(())
    }
}
