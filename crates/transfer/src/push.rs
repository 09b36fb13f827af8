//! From the store to a registry, and from one registry to another: only what it lacks is sent.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sconce_blob::Digest;
use sconce_build::{Documents, Silent, Stage};
use sconce_oci::{Config, Descriptor, Document, INDEX, Index, MANIFEST, Manifest, Platform};
use sconce_registry::{Outgoing, Reference, Registry, Rights, Sent};
use sconce_store::{Image, Store};

use crate::attachments::Carried;
use crate::error::Error;
use crate::several::each;
use crate::{Transfer, origin};

/// What a push came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The image's digest.
    pub image: Digest,
    /// Bytes that went over the network, documents included.
    pub moved: u64,
    /// Bytes that the repository had already.
    pub there: u64,
    /// Bytes that the registry took from another repository of its own.
    pub mounted: u64,
}

/// An image to be sent.
#[derive(Clone, Copy, Debug)]
pub enum Outgoings<'a> {
    /// It is in the store.
    Stored(&'a Image),
    /// Only its documents and some layers need be here: those that the repository lacks.
    Described(&'a Documents),
}

/// Where blobs come from.
pub(crate) enum Blobs<'a> {
    Store(&'a Store),
    Registry(&'a Registry),
    /// The store, and a configuration that is not in it.
    Described {
        store: &'a Store,
        config: &'a [u8],
    },
}

impl Blobs<'_> {
    fn open(&self, blob: &Descriptor) -> io::Result<Box<dyn Read + '_>> {
        Ok(match self {
            Self::Described { config, .. } if blob.digest == Digest::of(config) => {
                Box::new(*config)
            }
            Self::Store(store) | Self::Described { store, .. } => {
                store.check_size(blob.digest, blob.size).map_err(io::Error::from)?;
                Box::new(store.open_blob(blob.digest).map_err(io::Error::from)?)
            }
            Self::Registry(registry) => Box::new(registry.blob(blob).map_err(io::Error::other)?),
        })
    }

    /// That no file of the store has another size than its image says: that would be seen when the registry has all of
    /// what should not be sent.
    fn check_sizes(&self, blobs: &[&Descriptor]) -> Result<(), Error> {
        let (Self::Store(store) | Self::Described { store, .. }) = self else { return Ok(()) };
        for blob in blobs {
            let checked = store.check_size(blob.digest, blob.size);
            checked.map_err(|error| sconce_registry::Error::Source {
                blob: blob.digest,
                why: error.to_string(),
            })?;
        }
        Ok(())
    }

    /// A small blob to be sent, of which nobody is told.
    pub(crate) fn quietly<'b>(&'b self, blob: &'b Descriptor) -> Blob<'b> {
        Blob { from: self, blob, stage: &Silent }
    }
}

/// A blob to be sent, and who is told of it.
pub(crate) struct Blob<'a> {
    from: &'a Blobs<'a>,
    blob: &'a Descriptor,
    stage: &'a dyn Stage,
}

impl Outgoing for Blob<'_> {
    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        self.from.open(self.blob)
    }

    fn sent(&self, bytes: u64) {
        self.stage.advance(bytes);
    }
}

fn manifest_of(bytes: &[u8]) -> Result<Manifest, Error> {
    let bad = |why| sconce_store::Error::BadDocument {
        what: format!("manifest {}", Digest::of(bytes)),
        why,
    };
    match Document::parse(bytes).map_err(bad)? {
        Document::Manifest(parsed) => Ok(parsed),
        Document::Index(_) => Err(bad("it is an index".to_owned()).into()),
    }
}

impl Transfer<'_> {
    /// Sends an image of the store. Blobs that the repository has are not sent, nor those that the
    /// registry is known to have elsewhere; virtual layers are read straight from their wheels. The
    /// manifest comes last: there is no image before all of it is there.
    ///
    /// # Errors
    /// Those of the registry and of the store.
    pub fn push(&self, image: &Image, to: &Reference) -> Result<Pushed, Error> {
        let manifest = self.store.manifest(image)?;
        self.send(&manifest, &Blobs::Store(self.store), to)
    }

    /// Sends an image of which only its documents and some layers need be here: those that the repository lacks.
    /// `None`, and nothing is sent, where it lacks one that is not here.
    ///
    /// # Errors
    /// Those of the registry and of the store.
    pub fn push_documents(
        &self,
        documents: &Documents,
        to: &Reference,
    ) -> Result<Option<Pushed>, Error> {
        match self.can_push(documents, to)? {
            true => self.push_described(documents, to).map(Some),
            false => Ok(None),
        }
    }

    /// Whether every layer of an image is in the repository or here.
    ///
    /// # Errors
    /// Those of the registry and of the store.
    pub fn can_push(&self, documents: &Documents, to: &Reference) -> Result<bool, Error> {
        let registry = Registry::new(self.access, to.clone(), &Rights::Push(Vec::new()))?;
        let lacking = AtomicBool::new(false);
        let layers = manifest_of(&documents.manifest)?.layers;
        each(&layers, self.threads, |layer, _| {
            let found = lacking.load(Ordering::Relaxed)
                || self.store.has_blob(layer.digest)?
                || registry.has_blob(layer.digest)?;
            lacking.fetch_or(!found, Ordering::Relaxed);
            Ok(())
        })?;
        Ok(!lacking.into_inner())
    }

    fn push_described(&self, documents: &Documents, to: &Reference) -> Result<Pushed, Error> {
        let Documents { manifest, config } = documents;
        self.send(manifest, &Blobs::Described { store: self.store, config }, to)
    }

    /// Sends one image.
    ///
    /// # Errors
    /// Those of the registry and of the store.
    pub fn push_one(&self, image: Outgoings<'_>, to: &Reference) -> Result<Pushed, Error> {
        match image {
            Outgoings::Stored(image) => self.push(image, to),
            Outgoings::Described(documents) => self.push_described(documents, to),
        }
    }

    /// Whether images can be sent there: asked before one is built for it.
    ///
    /// # Errors
    /// Those of the registry.
    pub fn check_push(&self, to: &Reference) -> Result<(), Error> {
        let registry = Registry::new(self.access, to.clone(), &Rights::Push(Vec::new()))?;
        Ok(registry.check_push()?)
    }

    /// Sends the image that `from` names from one registry to another, without storing a byte; with what is
    /// beside it where `beside` says so.
    ///
    /// # Errors
    /// Those of the registries.
    pub fn copy_across(
        &self,
        from: &Reference,
        to: &Reference,
        architecture: &str,
        beside: bool,
    ) -> Result<(Pushed, Carried), Error> {
        let source = Registry::new(self.access, from.clone(), &Rights::Pull)?;
        let image = source.image(architecture)?;
        for blob in image.layers.iter().chain([&image.config_blob]) {
            origin::note(self.store, from, blob.digest)?;
        }
        let pushed = self.send(&image.manifest, &Blobs::Registry(&source), to)?;
        let carried = match beside {
            true => self.carry(&source, to, image.digest)?,
            false => Carried::default(),
        };
        Ok((pushed, carried))
    }

    /// Sends images as one, each for its platform: them first, and then the index under the name.
    ///
    /// # Errors
    /// Those of the registry and of the store; two are for one platform, or one does not say for which.
    pub fn push_index(&self, images: &[Outgoings<'_>], to: &Reference) -> Result<Pushed, Error> {
        let mut rows: Vec<Descriptor> = Vec::new();
        for image in images {
            let (manifest, config) = match image {
                Outgoings::Stored(image) => {
                    (self.store.manifest(image)?, self.store.config(image)?)
                }
                Outgoings::Described(documents) => {
                    (documents.manifest.clone(), documents.config.clone())
                }
            };
            let bad = |why: String| sconce_store::Error::BadDocument {
                what: format!("image {}", Digest::of(&manifest).short()),
                why,
            };
            let config = Config::parse(&config).map_err(bad)?;
            let platform = Platform { architecture: config.architecture, os: config.os };
            let words = format!("{}/{}", platform.os, platform.architecture);
            if platform.architecture.is_empty() || platform.os.is_empty() {
                return Err(bad("it does not say for which platform it is".to_owned()).into());
            }
            if rows.iter().any(|row| row.platform.as_ref() == Some(&platform)) {
                return Err(bad(format!("another one is for {words} too")).into());
            }
            let media_type = manifest_of(&manifest)?.media_type;
            let row = Descriptor::of(media_type.as_deref().unwrap_or(MANIFEST), &manifest);
            rows.push(Descriptor { platform: Some(platform), ..row });
        }
        let mut all = Pushed { image: Digest::of(b""), moved: 0, there: 0, mounted: 0 };
        for image in images {
            let exact = Reference { tag: None, digest: None, ..to.clone() };
            let Pushed { moved, there, mounted, .. } = self.push_one(*image, &exact)?;
            all.moved += moved;
            all.there += there;
            all.mounted += mounted;
        }
        let registry = Registry::new(self.access, to.clone(), &Rights::Push(Vec::new()))?;
        let index = Index::new(rows).to_json();
        registry.put_manifest(INDEX, &index)?;
        all.moved += registry.moved();
        all.image = Digest::of(&index);
        Ok(all)
    }

    pub(crate) fn send(
        &self,
        manifest: &[u8],
        from: &Blobs<'_>,
        to: &Reference,
    ) -> Result<Pushed, Error> {
        let parsed = manifest_of(manifest)?;
        let mut seen = BTreeSet::new();
        let mut blobs: Vec<&Descriptor> = parsed.layers.iter().chain([&parsed.config]).collect();
        blobs.retain(|blob| seen.insert(blob.digest));
        blobs.sort_by_key(|blob| std::cmp::Reverse(blob.size));
        from.check_sizes(&blobs)?;
        let origins: BTreeSet<String> =
            blobs.iter().filter_map(|blob| origin::of(self.store, to, blob.digest)).collect();
        let rights = Rights::Push(origins.into_iter().collect());
        let registry = Registry::new(self.access, to.clone(), &rights)?;
        let total = blobs.iter().map(|blob| blob.size).fold(0, u64::saturating_add);
        let stage = self.progress.begin("pushing", Some(total));
        let (there, mounted) = (AtomicU64::new(0), AtomicU64::new(0));
        each(&blobs, self.threads, |blob, _| {
            if registry.has_blob(blob.digest)? {
                there.fetch_add(blob.size, Ordering::Relaxed);
                stage.advance(blob.size);
            } else {
                let origin = origin::of(self.store, to, blob.digest);
                let outgoing = Blob { from, blob, stage: &*stage };
                if registry.put_blob(blob, origin.as_deref(), &outgoing)? == Sent::Mounted {
                    mounted.fetch_add(blob.size, Ordering::Relaxed);
                    stage.advance(blob.size);
                }
            }
            Ok(origin::note(self.store, to, blob.digest)?)
        })?;
        registry.put_manifest(parsed.media_type.as_deref().unwrap_or(MANIFEST), manifest)?;
        let image = Digest::of(manifest);
        stage.end(&format!("image {}, {} layers", image.short(), parsed.layers.len()));
        Ok(Pushed {
            image,
            moved: registry.moved(),
            there: there.into_inner(),
            mounted: mounted.into_inner(),
        })
    }
}
