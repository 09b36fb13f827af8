//! An OCI layout (image-spec, image-layout.md) on its way out: one that is new, or that gets one more image.
//!
//! A new one is written beside its place and appears whole. Into one that is there come blobs first, each under its
//! name when it is whole, and the index last, by rename: whoever reads the layout meanwhile finds the images that were
//! there. Two that add at once wait for one another by a lock (flock(2)) on the layout's folder; where a file
//! system has none for folders (NFS), the later index counts, as with skopeo everywhere.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat, renameat};
use rustix::io::Errno;
use sconce_blob::Digest;
use sconce_open::{Folder, Found};
use serde_json::Value;

use crate::blobs::hash;
use crate::error::{Error, at};
use crate::oci::OCI_LAYOUT;
use crate::output::{OutputFolder, Partial, Written, open_parent};
use crate::record::DOCUMENT_LIMIT;

/// The annotation that is a tag (image-spec, annotations.md).
const TAG: &str = "org.opencontainers.image.ref.name";

/// How often a lock that another process has is tried for.
const PAUSE: Duration = Duration::from_millis(50);

/// A layout that is being written. What is not finished leaves nothing, but blobs in one that was there.
pub struct LayoutWriter<'w> {
    to: PathBuf,
    written: &'w Written<'w>,
    place: Place,
    /// The blobs that were put.
    put: Mutex<BTreeSet<Digest>>,
}

enum Place {
    New {
        partial: Partial,
        layout: OutputFolder,
        blobs: OutputFolder,
        /// What came there meanwhile is added to.
        adds: bool,
    },
    There(There),
}

/// A layout that was there, locked while this lives.
struct There {
    held: OwnedFd,
    folder: Folder,
}

impl<'w> LayoutWriter<'w> {
    /// Begins one in the folder `to`, which must not be there, be empty, or, where `adds`, be a layout. The folder that
    /// it is in is named without links.
    ///
    /// # Errors
    /// [`Error::Exists`] where something else is there.
    pub fn begin(to: &Path, adds: bool, written: &'w Written<'w>) -> Result<Self, Error> {
        let place = match Partial::beside(to) {
            Ok(partial) => {
                let layout = partial.folder()?;
                let blobs = layout.folder("blobs")?.folder("sha256")?;
                Place::New { partial, layout, blobs, adds }
            }
            Err(Error::Exists(_)) if adds => Place::There(There::open(to, written)?),
            Err(error) => return Err(error),
        };
        Ok(Self { to: to.to_owned(), written, place, put: Mutex::default() })
    }

    /// Tells of bytes that were written.
    ///
    /// # Errors
    /// [`Error::Interrupted`]
    pub fn wrote(&self, bytes: u64) -> Result<(), Error> {
        if (self.written)(bytes).is_break() { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// As [`LayoutWriter::wrote`], for whoever tells of bytes itself.
    pub(crate) fn told(&self, bytes: u64) -> std::ops::ControlFlow<()> {
        (self.written)(bytes)
    }

    /// Puts a blob into it, unless it is there. `copy` writes its bytes and sees to it that they have that digest; it is
    /// told where they go, for messages.
    ///
    /// # Errors
    /// Those of `copy`; the blob can't be written, or what is there is another.
    pub fn put<E: From<Error>>(
        &self,
        digest: Digest,
        copy: impl FnOnce(&mut dyn Write, &Path) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.put.lock().unwrap_or_else(PoisonError::into_inner).insert(digest) {
            return Ok(());
        }
        match &self.place {
            Place::New { blobs, .. } => {
                let (mut file, path) = blobs.file(&digest.hex())?;
                copy(&mut file, &path)
            }
            Place::There(there) => {
                let path = blob_path(&self.to, digest);
                if there.has(digest, &path)? {
                    return Ok(());
                }
                let partial = Partial::beside(&path)?;
                let mut file = partial.file()?;
                copy(&mut file, &partial.path())?;
                file.sync_all().map_err(at("sync", &path))?;
                Ok(partial.into_place(&file)?)
            }
        }
    }

    /// Puts a text into it as a blob.
    ///
    /// # Errors
    /// As [`LayoutWriter::put`].
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<(), Error> {
        self.put(Digest::of(bytes), |out, path| out.write_all(bytes).map_err(at("write", path)))
    }

    /// Lists images in it: the rows of `index`, and what the layout has besides. A tag that it has already means the
    /// image of `index` from then on.
    ///
    /// # Errors
    /// It can't be written; the index that is there is none.
    pub fn finish(self, index: &[u8]) -> Result<(), Error> {
        let to = &self.to;
        let (partial, layout, blobs, adds) = match self.place {
            Place::There(there) => return there.add(to, index),
            Place::New { partial, layout, blobs, adds } => (partial, layout, blobs, adds),
        };
        for (name, bytes) in [("oci-layout", OCI_LAYOUT), ("index.json", index)] {
            let (mut file, path) = layout.file(name)?;
            file.write_all(bytes).map_err(at("write", &path))?;
        }
        match partial.place(&layout) {
            // Another process was quicker: what is written here moves there.
            Err(Error::Exists(_)) if adds => {}
            done => return done,
        }
        let there = There::open(to, self.written)?;
        let target = there.blobs().map_err(at("open", to))?;
        for digest in self.put.into_inner().unwrap_or_else(PoisonError::into_inner) {
            let path = blob_path(to, digest);
            if !there.has(digest, &path)? {
                let name = digest.hex();
                renameat(&blobs, &name, &target, &name).map_err(at("rename into place", &path))?;
            }
        }
        rustix::fs::fsync(&target).map_err(at("sync", to))?;
        there.add(to, index)
    }
}

impl There {
    /// Opens and locks the layout at `to`.
    fn open(to: &Path, written: &Written<'_>) -> Result<Self, Error> {
        let exists = || Error::Exists(to.to_owned());
        let name = to.file_name().ok_or_else(exists)?;
        let held = openat(open_parent(to)?, name, FOLDER, Mode::empty()).map_err(|_| exists())?;
        let folder = Folder::open_unfollowed(to).map_err(at("open", to))?;
        let version = |bytes: &[u8]| {
            let read: Value = serde_json::from_slice(bytes).unwrap_or_default();
            read["imageLayoutVersion"].clone()
        };
        let there = Self { held, folder };
        let marker = there.small(to, "oci-layout").map_err(|_| exists())?;
        if version(&marker) != version(OCI_LAYOUT) {
            return Err(exists());
        }
        // A file system that has no such lock gives another error: then there is none.
        while let Err(Errno::WOULDBLOCK | Errno::INTR) =
            flock(&there.held, FlockOperation::NonBlockingLockExclusive)
        {
            if written(0).is_break() {
                return Err(Error::Interrupted);
            }
            std::thread::sleep(PAUSE);
        }
        Ok(there)
    }

    /// Whether a blob is there, whole.
    fn has(&self, digest: Digest, path: &Path) -> Result<bool, Error> {
        let mut file = match self.folder.file(&Path::new("blobs/sha256").join(digest.hex())) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(at("open", path)(error)),
        };
        match hash(&mut file).map_err(at("read", path))? {
            (actual, _) if actual == digest => Ok(true),
            (actual, _) => {
                let what = path.display().to_string();
                Err(Error::WrongDigest { what, expected: digest, actual })
            }
        }
    }

    fn blobs(&self) -> rustix::io::Result<OwnedFd> {
        let blobs = openat(&self.held, "blobs", FOLDER, Mode::empty())?;
        openat(&blobs, "sha256", FOLDER, Mode::empty())
    }

    fn add(&self, to: &Path, index: &[u8]) -> Result<(), Error> {
        let path = to.join("index.json");
        let there = self.small(to, "index.json")?;
        let merged =
            merged(&there, index).map_err(|why| Error::Corrupt { path: path.clone(), why })?;
        let partial = Partial::over(&path)?;
        let mut file = partial.file()?;
        let write = file.write_all(&merged).and_then(|()| file.sync_all());
        write.map_err(at("write", &partial.path()))?;
        partial.into_place(&file)
    }

    /// A small file of it.
    fn small(&self, to: &Path, name: &str) -> Result<Vec<u8>, Error> {
        let path = to.join(name);
        match self.folder.look(Path::new(name)).map_err(at("look at", &path))? {
            Found::File { len, .. } if len <= DOCUMENT_LIMIT => {}
            Found::File { .. } => {
                return Err(Error::Corrupt {
                    path,
                    why: format!("more than {DOCUMENT_LIMIT} bytes"),
                });
            }
            _ => return Err(Error::Corrupt { path, why: "not a regular file".to_owned() }),
        }
        self.folder.read(Path::new(name), DOCUMENT_LIMIT).map_err(at("read", &path))
    }
}

const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn blob_path(to: &Path, digest: Digest) -> PathBuf {
    to.join("blobs/sha256").join(digest.hex())
}

/// The index `there` with the rows of `ours`; what others wrote in it stays as it is.
fn merged(there: &[u8], ours: &[u8]) -> Result<Vec<u8>, String> {
    let read = |bytes: &[u8]| -> Result<Value, String> {
        let document = serde_json::from_slice::<Value>(bytes).map_err(|error| error.to_string())?;
        if document.is_object() { Ok(document) } else { Err("it is no index".to_owned()) }
    };
    let (mut document, ours) = (read(there)?, read(ours)?);
    if document["manifests"].is_null() {
        document["manifests"] = Value::Array(Vec::new());
    }
    let rows = document["manifests"].as_array_mut().ok_or("it is no index")?;
    for row in ours["manifests"].as_array().into_iter().flatten() {
        let tag = row["annotations"][TAG].as_str();
        match tag {
            Some(tag) => rows.retain(|old| old["annotations"][TAG].as_str() != Some(tag)),
            None if rows.iter().any(|old| old["digest"] == row["digest"]) => continue,
            None => {}
        }
        rows.push(row.clone());
    }
    let bytes = serde_json::to_vec(&document).map_err(|error| error.to_string())?;
    match bytes.len() as u64 <= DOCUMENT_LIMIT {
        true => Ok(bytes),
        false => Err(format!("with one more image it would have more than {DOCUMENT_LIMIT} bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::merged;

    #[test]
    fn a_tag_moves_and_all_else_stays() {
        let row = |digest: &str, tag: &str| {
            format!(
                r#"{{"digest":"{digest}","annotations":{{"org.opencontainers.image.ref.name":"{tag}"}},"urls":["x"]}}"#
            )
        };
        let index =
            |rows: &[String]| format!(r#"{{"manifests":[{}],"subject":1}}"#, rows.join(","));
        let plain = r#"{"digest":"p"}"#.to_owned();
        let there = index(&[row("1", "a"), row("2", "b"), plain.clone()]);
        let ours =
            index(&[row("3", "b"), row("3", "c"), plain.clone(), r#"{"digest":"q"}"#.into()]);
        let all = merged(there.as_bytes(), ours.as_bytes()).unwrap();
        let all: serde_json::Value = serde_json::from_slice(&all).unwrap();
        let rows: Vec<String> = all["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                let tag = row["annotations"]["org.opencontainers.image.ref.name"].as_str();
                format!("{}{}", row["digest"].as_str().unwrap(), tag.unwrap_or_default())
            })
            .collect();
        assert_eq!(rows, ["1a", "p", "3b", "3c", "q"]);
        assert_eq!((&all["subject"], &all["manifests"][0]["urls"][0]), (&1.into(), &"x".into()));
        for bad in ["[]", "", r#"{"manifests": 3}"#] {
            assert!(merged(bad.as_bytes(), ours.as_bytes()).is_err(), "{bad}");
        }
        assert!(merged(b"{}", ours.as_bytes()).is_ok());
    }
}
