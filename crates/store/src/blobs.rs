//! Blobs with bytes of their own: `blobs/sha256/<2 digits>/<64 digits>`, read-only files.

use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, ioctl_ficlone};
use sconce_blob::{Digest, Hasher};

use crate::Store;
use crate::error::{Error, at};
use crate::own::{self, remove_file};
use crate::uncached::write_uncached;

/// The mode of a blob's file. Who may not read a store doesn't get past its folder.
const READ_ONLY: u32 = 0o444;

/// Bytes copied at a time.
pub(crate) const CHUNK: usize = 256 << 10;

/// Takes the bytes of a new blob. Nothing is in the store until [`BlobWriter::commit`].
pub struct BlobWriter {
    store: Store,
    path: PathBuf,
    file: File,
    hasher: Hasher,
    cached: bool,
}

impl Store {
    /// Whether the blob is there, real or virtual.
    ///
    /// # Errors
    /// A lock of the store is not to be had: it is not known.
    pub fn has_blob(&self, digest: Digest) -> Result<bool, Error> {
        self.pin(digest)?;
        Ok(self.knows(digest))
    }

    /// As [`Store::has_blob`], without keeping it there from now on: for questions of strangers, who may
    /// ask for anything.
    pub fn knows(&self, digest: Digest) -> bool {
        self.places().chain(self.untrusted()).any(|place| place.has_blob(digest))
    }

    /// That the file of a blob has the size that its image says, where it is a file: whoever can write to the store may have
    /// put anything there, and what is read of it is known to be wrong at its end alone. Nothing is read for it.
    ///
    /// # Errors
    /// [`Error::Corrupt`]
    pub fn check_size(&self, digest: Digest, size: u64) -> Result<(), Error> {
        let mut places = self.places().chain(self.untrusted());
        let Some(path) = places.find_map(|place| place.find_blob(digest)) else { return Ok(()) };
        match std::fs::symlink_metadata(&path) {
            Ok(about) if about.len() != size => {
                let why = format!("it has {} bytes, and its image says {size}", about.len());
                Err(Error::Corrupt { path, why })
            }
            // What can't be looked at can't be opened either, and that says why.
            _ => Ok(()),
        }
    }

    /// The file of a real blob; `None` when there is none (it may be virtual, or in a store that
    /// must be checked first, as [`Store::open_blob`] does).
    ///
    /// # Errors
    /// A lock of the store is not to be had: it is not known.
    pub fn blob_path(&self, digest: Digest) -> Result<Option<PathBuf>, Error> {
        self.pin(digest)?;
        Ok(self.places().find_map(|place| place.find_blob(digest)))
    }

    /// Those of which [`Store::blob_path`] has no file.
    ///
    /// # Errors
    /// As there.
    pub fn missing<T>(
        &self,
        all: impl IntoIterator<Item = T>,
        digest: impl Fn(&T) -> Digest,
    ) -> Result<Vec<T>, Error> {
        let mut missing = Vec::new();
        for one in all {
            if self.blob_path(digest(&one))?.is_none() {
                missing.push(one);
            }
        }
        Ok(missing)
    }

    /// Begins a new blob.
    pub fn create_blob(&self) -> Result<BlobWriter, Error> {
        let path = self.scratch_path();
        let file = create_read_only(&path)?;
        Ok(BlobWriter { store: self.clone(), path, file, hasher: Hasher::new(), cached: true })
    }

    /// Removes a blob of this store that its maker needs no more, if it is there.
    pub fn remove_blob(&self, digest: Digest) -> Result<(), Error> {
        self.discard(&self.place().blob(digest))
    }

    /// Puts `bytes` into the store.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        if self.blob_path(digest)?.is_none() {
            let mut blob = self.create_blob()?;
            blob.write_all(bytes).map_err(at("write", &blob.path))?;
            blob.commit(None)?;
        }
        Ok(digest)
    }

    /// Puts what `source` yields into the store. When it isn't `expected`, nothing is put and the
    /// error names `what`.
    pub fn put_stream(
        &self,
        mut source: impl Read,
        what: &str,
        expected: Option<Digest>,
    ) -> Result<(Digest, u64), Error> {
        let mut blob = self.create_blob()?;
        let mut buffer = vec![0; CHUNK];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => blob.write_all(&buffer[..n]).map_err(at("write", &blob.path))?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(at("read", Path::new(what))(error)),
            }
        }
        let len = blob.len();
        Ok((blob.commit(expected.map(|digest| (digest, what)))?, len))
    }

    /// Copies the file at `path` into the store, sharing its blocks where the file system can.
    pub fn put_file(&self, path: &Path, expected: Option<Digest>) -> Result<Digest, Error> {
        if let Some(digest) = expected
            && self.blob_path(digest)?.is_some()
        {
            return Ok(digest);
        }
        let source = File::open(path).map_err(at("open", path))?;
        self.put_open(source, &path.display().to_string(), expected)
    }

    /// As [`Store::put_file`], of a file that is open; `what` names it in errors.
    pub fn put_open(
        &self,
        mut source: File,
        what: &str,
        expected: Option<Digest>,
    ) -> Result<Digest, Error> {
        if let Some(digest) = expected
            && self.blob_path(digest)?.is_some()
        {
            return Ok(digest);
        }
        let clone = self.scratch_path();
        let cloned = create_read_only(&clone)?;
        if ioctl_ficlone(&cloned, &source).is_err() {
            // Another file system, or one without reflinks.
            remove_file(&clone)?;
            return Ok(self.put_stream(source, what, expected)?.0);
        }
        // The source may be changed while it is read: the clone is what counts.
        source = cloned.try_clone().map_err(at("open", &clone))?;
        let (digest, _) = hash(&mut source).map_err(at("read", &clone))?;
        self.adopt(&clone, digest, expected.map(|digest| (digest, what)))?;
        Ok(digest)
    }

    /// Takes over a finished file on the store's file system (a download): renames it into place.
    /// `digest` is what the caller has computed over its bytes; `expected` as for `put_stream`.
    pub fn adopt(
        &self,
        path: &Path,
        digest: Digest,
        expected: Option<(Digest, &str)>,
    ) -> Result<(), Error> {
        if let Some((expected, what)) = expected.filter(|(expected, _)| *expected != digest) {
            remove_file(path)?;
            return Err(Error::WrongDigest { what: what.to_owned(), expected, actual: digest });
        }
        let target = self.place().blob(digest);
        // Only of what was made here: of a link, or another name of some file of this user, the mode stays.
        let file = own::open_made(path, OFlags::RDONLY).map_err(at("open", path))?;
        let file = file.ok_or_else(|| Error::Exchanged(path.to_owned()))?;
        let permissions = Permissions::from_mode(READ_ONLY);
        file.set_permissions(permissions).map_err(at("set the mode of", path))?;
        self.pin(digest)?;
        if target.exists() {
            return remove_file(path).map(drop);
        }
        target.parent().map_or(Ok(()), |folder| self.folder(folder))?;
        self.mark_unsynced("blob", digest)?;
        own::rename(path, &target).map_err(at("rename into place", &target))
    }

    /// Reads the whole blob and compares its digest: [`Error::WrongDigest`] when it is damaged.
    pub fn verify(&self, digest: Digest) -> Result<(), Error> {
        let mut blob = self.open_blob(digest)?;
        let path = self.root().to_owned();
        let (actual, _) = hash(&mut blob).map_err(at("read a blob of", &path))?;
        if actual == digest {
            return Ok(());
        }
        let what = format!("the store's blob {}", digest.short());
        Err(Error::WrongDigest { what, expected: digest, actual })
    }

    /// Copies a blob in from a store that isn't believed, so that nobody can change it once it was
    /// checked. Says whether one had it.
    pub(crate) fn import(&self, digest: Digest) -> Result<bool, Error> {
        for place in self.untrusted() {
            let Some(reader) = self.read_from(digest, &[place])? else { continue };
            let what = format!("blob {} in {}", digest.short(), place.root().display());
            self.put_stream(reader, &what, Some(digest))?;
            return Ok(true);
        }
        Ok(false)
    }
}

impl BlobWriter {
    /// Keeps its bytes out of the page cache: nobody reads them soon.
    #[must_use]
    pub fn uncached(mut self) -> Self {
        self.cached = false;
        self
    }

    /// Bytes taken so far.
    pub fn len(&self) -> u64 {
        self.hasher.len()
    }

    /// Whether no byte was taken.
    pub fn is_empty(&self) -> bool {
        self.hasher.is_empty()
    }

    /// Puts the blob into the store. With `expected` (a digest and what to call the bytes in an
    /// error) other bytes are refused.
    pub fn commit(self, expected: Option<(Digest, &str)>) -> Result<Digest, Error> {
        let digest = self.hasher.clone().finish();
        self.store.adopt(&self.path, digest, expected)?;
        Ok(digest)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = match self.cached {
            true => self.file.write(buf)?,
            false => write_uncached(&self.file, buf).map(|()| buf.len())?,
        };
        self.hasher.update(&buf[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        // Gone already when committed.
        let _ = remove_file(&self.path);
    }
}

/// The digest and length of all that is left in `source`.
pub(crate) fn hash(source: &mut impl Read) -> io::Result<(Digest, u64)> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => hasher.update(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let len = hasher.len();
    Ok((hasher.finish(), len))
}

/// A new file for this handle alone to write.
fn create_read_only(path: &Path) -> Result<File, Error> {
    own::create(path, READ_ONLY).map_err(at("create", path))
}
