//! One more image in an OCI layout that is there: its blobs, and rows in the layout's index.
//!
//! Blobs first, each under its name when it is whole; the index last, by rename: whoever reads the layout meanwhile
//! finds the images that were there. Two that add at once wait for one another by a lock (flock(2)) on the layout's
//! folder; where a file system has none for folders (NFS), as skopeo does everywhere, the later index counts.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;
use sconce_blob::Digest;
use sconce_open::{Folder, Found};
use serde_json::Value;

use crate::Store;
use crate::blobs::hash;
use crate::error::{Error, at};
use crate::images::Image;
use crate::oci::{OCI_LAYOUT, blobs_of, each};
use crate::output::{Partial, Written, open_parent};
use crate::record::DOCUMENT_LIMIT;

/// The annotation that is a tag (image-spec, annotations.md).
const TAG: &str = "org.opencontainers.image.ref.name";

/// How often a lock that another process has is tried for.
const PAUSE: Duration = Duration::from_millis(50);

impl Store {
    /// Writes an image into the OCI layout `to`, beside the images that it has, as [`Store::write_layout`] where there is
    /// none. Tags of `names` that the layout has mean this image from then on.
    ///
    /// # Errors
    /// [`Error::Exists`] where something else than a layout is at `to`; the layout is damaged.
    pub fn add_to_layout(
        &self,
        image: &Image,
        names: &[String],
        to: &Path,
        written: &Written<'_>,
    ) -> Result<(), Error> {
        match self.write_layout(image, names, to, written) {
            // It was there, or another process was quicker.
            Err(Error::Exists(_)) => {}
            done => return done,
        }
        let exists = || Error::Exists(to.to_owned());
        let name = to.file_name().ok_or_else(exists)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let held = openat(open_parent(to)?, name, flags, Mode::empty()).map_err(|_| exists())?;
        let folder = Folder::open_unfollowed(to).map_err(at("open", to))?;
        let version = |bytes: &[u8]| {
            let read: Value = serde_json::from_slice(bytes).unwrap_or_default();
            read["imageLayoutVersion"].clone()
        };
        let there = small(&folder, to, "oci-layout").map_err(|_| exists())?;
        if version(&there) != version(OCI_LAYOUT) {
            return Err(exists());
        }
        loop {
            match flock(&held, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK | Errno::INTR) => {
                    if written(0).is_break() {
                        return Err(Error::Interrupted);
                    }
                    std::thread::sleep(PAUSE);
                }
                // None to be had here is none.
                _ => break,
            }
        }
        let blobs = to.join("blobs/sha256");
        let (index, texts) = self.layout_index(image, names)?;
        let digests: Vec<Digest> = blobs_of(image).into_iter().collect();
        each(&digests, |&digest| {
            let path = blobs.join(digest.hex());
            if !is_there(&folder, digest, &path)? {
                let partial = Partial::beside(&path)?;
                let mut file = partial.file()?;
                self.copy_blob(digest, &mut file, &partial.path(), written)?;
                file.sync_all().map_err(at("sync", &path))?;
                partial.into_place(&file)?;
            }
            Ok(())
        })?;
        let write = |partial: Partial, bytes: &[u8]| {
            let mut file = partial.file()?;
            file.write_all(bytes)
                .and_then(|()| file.sync_all())
                .map_err(at("write", &partial.path()))?;
            partial.into_place(&file)
        };
        for (digest, text) in texts.into_iter().filter(|(digest, _)| !digests.contains(digest)) {
            let path = blobs.join(digest.hex());
            if !is_there(&folder, digest, &path)? {
                write(Partial::beside(&path)?, text.as_bytes())?;
            }
        }
        let path = to.join("index.json");
        let there = small(&folder, to, "index.json")?;
        let merged =
            merged(&there, &index).map_err(|why| Error::Corrupt { path: path.clone(), why })?;
        write(Partial::over(&path)?, &merged)
    }
}

/// Whether a blob is there, whole.
fn is_there(folder: &Folder, digest: Digest, path: &Path) -> Result<bool, Error> {
    let name = Path::new("blobs/sha256").join(digest.hex());
    match folder.file(&name) {
        Ok(mut file) => match hash(&mut file).map_err(at("read", path))? {
            (actual, _) if actual == digest => Ok(true),
            (actual, _) => Err(Error::WrongDigest {
                what: path.display().to_string(),
                expected: digest,
                actual,
            }),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(at("open", path)(error)),
    }
}

/// A small file of a layout.
fn small(folder: &Folder, to: &Path, name: &str) -> Result<Vec<u8>, Error> {
    let path = to.join(name);
    let len = match folder.look(Path::new(name)).map_err(at("look at", &path))? {
        Found::File { len, .. } => len,
        _ => return Err(Error::Corrupt { path, why: "not a regular file".to_owned() }),
    };
    if len > DOCUMENT_LIMIT {
        return Err(Error::Corrupt { path, why: format!("more than {DOCUMENT_LIMIT} bytes") });
    }
    folder.read(Path::new(name), DOCUMENT_LIMIT).map_err(at("read", &path))
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
