//! Layers whose trees are there before their blobs. A container needs the trees; a blob is what a registry or another
//! machine asks for (`docs/decision/0026-blobs-after-the-start.md`).
//!
//! Such a layer has its true DiffID: it was computed in the pass that made the tree. Until its blob is made it is spoken
//! of as the tar itself (OCI image-spec, layer.md: `application/vnd.oci.image.layer.v1.tar`), whose digest is the DiffID.

use std::fs::File;
use std::num::NonZeroUsize;

use sconce_blob::Digest;
use sconce_layer::Layer as Made;
use sconce_lock::Lock;
use sconce_store::Layer;

use crate::builder::{Builder, Until};
use crate::error::{Error, at};

/// When the blobs of layers are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blobs {
    /// With the trees.
    Now,
    /// After a start.
    Later,
}

/// Wheels with fewer bytes have few files to compile, and an environment of them seldom starts early.
const MANY: u64 = 64 << 20;

/// A layer whose blob is its tar.
pub(crate) fn tar_layer(diff_id: Digest, size: u64) -> Layer {
    Layer { diff_id, digest: diff_id, size, media_type: Made::TAR.into() }
}

/// Whether a layer's own blob is still to be made.
pub(crate) fn is_tar(layer: &Layer) -> bool {
    layer.digest == layer.diff_id
}

impl Builder<'_> {
    /// When the blobs of an environment are made. It is a guess: where it then does not start early, they are made
    /// at once, of what is there.
    pub(crate) fn blobs(&self, lock: &Lock, until: Until) -> Result<Blobs, Error> {
        let bytes = lock.wheels.iter().filter_map(|wheel| wheel.size).fold(0, u64::saturating_add);
        let early = until == Until::Startable && lock.facts.bytecode && bytes >= MANY;
        Ok(match early && !self.failed_before(lock)? {
            true => Blobs::Later,
            false => Blobs::Now,
        })
    }

    /// The layer that was unpacked under a key, if its tree is still there.
    pub(crate) fn unpacked(&self, kind: &str, key: Digest) -> Result<Option<Layer>, Error> {
        let Some(bytes) = self.store.memo(kind, key)? else { return Ok(None) };
        // What can't be read is made again.
        let text = String::from_utf8_lossy(&bytes);
        let parsed = text
            .trim()
            .split_once(' ')
            .and_then(|(diff_id, size)| Some(tar_layer(diff_id.parse().ok()?, size.parse().ok()?)));
        match parsed {
            Some(layer) if self.store.tree(layer.diff_id)?.is_some() => Ok(Some(layer)),
            _ => Ok(None),
        }
    }

    /// Remembers a layer whose tree is there.
    pub(crate) fn remember_unpacked(
        &self,
        kind: &str,
        key: Digest,
        layer: &Layer,
    ) -> Result<(), Error> {
        let text = format!("{} {}", layer.diff_id, layer.size);
        Ok(self.store.put_memo(kind, key, text.as_bytes())?)
    }

    /// The layer whose tar is in the store, compressed; nothing where the tar is not there.
    pub(crate) fn compressed(&self, name: &str, tar: &Layer) -> Result<Option<Layer>, Error> {
        let Some(path) = self.store.blob_path(tar.digest)? else { return Ok(None) };
        let file = match File::open(&path) {
            // Another process has just done the same.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(at("open", &path))?,
        };
        let mut blob = self.store.create_blob()?.uncached();
        let threads = NonZeroUsize::new(self.threads).unwrap_or(NonZeroUsize::MIN);
        let made = sconce_layer::compress_tar(file, name, &mut blob, threads)?;
        if made.diff_id != tar.diff_id {
            // Torn by a power cut, or a failing disk.
            self.store.remove_blob(tar.digest)?;
            return Ok(None);
        }
        blob.commit(Some((made.digest, name)))?;
        Ok(Some(Layer {
            diff_id: made.diff_id,
            digest: made.digest,
            size: made.size,
            media_type: Made::MEDIA_TYPE.into(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sconce_layer::{Content, Entry, Kind, Meta};
    use sconce_lock::{Facts, Machine};

    use super::*;
    use crate::builder::{NamedLayer, Trees};

    fn with<T>(work: impl FnOnce(&Builder<'_>) -> T) -> T {
        crate::heard::with(&crate::Silent, work)
    }

    fn lock(builder: &Builder<'_>) -> Lock {
        let wheel = sconce_testkit::Wheel::new("a", "1.0").file("a/b.py", &[b'x'; 100_000]);
        let facts = Facts::of_base(Machine::X86_64, "trixie", "3.13", "2.41");
        Lock {
            wheels: vec![sconce_lock::Wheel {
                name: "a".into(),
                version: "1.0".into(),
                file: wheel.file_name(),
                size: None,
                sha256: builder.store.put_bytes(&wheel.build()).unwrap(),
                index: "pypi".into(),
                url: None,
                variant: None,
            }],
            ..Lock::of_facts(facts)
        }
    }

    fn layers(builder: &Builder<'_>, how: (Trees, Blobs)) -> Vec<NamedLayer> {
        let lock = lock(builder);
        let wheels = builder.open_wheels(&lock).unwrap();
        let plans = crate::wheels::wheel_plans(&lock, &wheels).unwrap().layers;
        builder.wheel_layers(&lock.facts, &plans, how, &Default::default()).unwrap()
    }

    #[test]
    fn a_blob_that_is_made_later_is_the_same() {
        let now = with(|builder| layers(builder, (Trees::All, Blobs::Now)));
        with(|builder| {
            let early = layers(builder, (Trees::All, Blobs::Later));
            assert_eq!(layers(builder, (Trees::All, Blobs::Later)), early);
            for (early, now) in early.iter().zip(&now) {
                assert!(is_tar(&early.layer) && early.layer.size > 100_000, "{early:?}");
                assert_eq!(early.layer.diff_id, now.layer.diff_id);
                let store = builder.store;
                assert!(store.tree(early.layer.diff_id).unwrap().is_some());
                assert_eq!(store.whole_layer(early.layer.diff_id).unwrap(), None);
            }
            // A container can start from it; it has no blobs that could go elsewhere.
            let image = builder.put_image(&lock(builder), &early).unwrap();
            let image = builder.image(image).unwrap();
            assert_eq!(builder.store.mount_layers(&image).unwrap().len(), early.len());
            assert!(builder.store.open_blob(early[0].layer.digest).is_err());

            let (tree, about) =
                (builder.store.tree(now[0].layer.diff_id).unwrap().unwrap(), fs::metadata);
            let before = std::os::unix::fs::MetadataExt::ino(&about(&tree).unwrap());
            assert_eq!(layers(builder, (Trees::None, Blobs::Now)), now);
            // Nothing was unpacked again.
            assert_eq!(std::os::unix::fs::MetadataExt::ino(&about(&tree).unwrap()), before);
            assert!(builder.store.whole_layer(now[0].layer.diff_id).unwrap().is_some());
        });
        // A tree that was lost is made again.
        with(|builder| {
            let early = layers(builder, (Trees::All, Blobs::Later));
            fs::remove_dir_all(builder.store.tree(early[0].layer.diff_id).unwrap().unwrap())
                .unwrap();
            assert_eq!(layers(builder, (Trees::All, Blobs::Now)), now);
        });
    }

    #[test]
    fn a_tar_is_compressed_to_the_same_blob_and_never_when_it_is_torn() {
        let entries = || {
            let content =
                Content::bytes((0..3_000_000_u32).map(|n| (n / 7) as u8).collect::<Vec<_>>());
            vec![Entry { path: "usr/a".into(), kind: Kind::File(content), meta: Meta::FILE }]
        };
        let now = with(|builder| builder.plain_layer("base", entries(), true).unwrap());
        with(|builder| {
            let tar = builder.plain_tree("base", entries()).unwrap().layer;
            assert_eq!(tar.diff_id, now.layer.diff_id);
            assert!(builder.store.tree(tar.diff_id).unwrap().is_some());
            let made = builder.compressed("base", &tar).unwrap();
            assert_eq!(made.as_ref(), Some(&now.layer));
            assert!(builder.store.blob_path(now.layer.digest).unwrap().is_some());

            let path = builder.store.blob_path(tar.digest).unwrap().unwrap();
            fs::remove_file(&path).unwrap();
            fs::write(&path, [0; 1 << 20]).unwrap();
            assert_eq!(builder.compressed("base", &tar).unwrap(), None);
            assert_eq!(builder.store.blob_path(tar.digest).unwrap(), None);
        });
    }

    #[test]
    fn a_sealed_layer_is_held_against_its_diff_id_before_the_start() {
        with(|builder| {
            let (now, early) = (
                with(|builder| layers(builder, (Trees::All, Blobs::Now))),
                layers(builder, (Trees::All, Blobs::Later)),
            );
            let image = Digest::of(b"early");
            let environment = |layers| crate::Environment { image, layers };
            let whole = crate::Environment { image: Digest::of(b"whole"), layers: now };
            let sealed = crate::seal(&lock(builder), &whole);
            let made =
                |layers| crate::builder::Made { environment: environment(layers), whole: false };
            crate::seal::check(&sealed, &made(early.clone())).unwrap();
            let mut other = early;
            other[0].layer = tar_layer(Digest::of(b"other"), other[0].layer.size);
            assert!(crate::seal::check(&sealed, &made(other)).is_err());
        });
    }
}
