//! A wheel: a sound zip whose description agrees with its content (PyPA, "Binary distribution
//! format"). Files' bytes are compared with RECORD later, when they are unpacked anyway.
//!
//! RECORD vouches for nothing that the digest of the whole wheel doesn't, and installers don't insist
//! on it: of a wheel whose RECORD is wrong the files themselves are hashed instead.

use std::sync::Arc;

use sconce_blob::Digest;

use crate::Error;
use crate::content::Inflater;
use crate::entry::ReadAt;
use crate::metadata::{EntryPoint, MetadataFault, entry_points, field, normalized};
use crate::record::{self, RecordFault, RecordHash, RecordHasher, cut};
use crate::sha::Sha256;
use crate::zip::{self, ZipEntry};

/// RECORD may be this long, bytes (torch: 1.4 MB).
const MAX_RECORD: u64 = 64 << 20;
/// Other descriptions and rewritten scripts may be this long, bytes.
pub(crate) const MAX_TEXT: u64 = 4 << 20;

/// A wheel that was opened and checked.
pub struct Wheel {
    pub(crate) blob: Arc<WheelBlob>,
    pub(crate) files: Vec<WheelFile>,
    pub(crate) dist_info: String,
    pub(crate) entry_points: Vec<EntryPoint>,
    unsound: Option<String>,
    name: String,
    version: String,
}

/// The bytes of a wheel and what they are called.
pub(crate) struct WheelBlob {
    pub file_name: String,
    pub digest: Digest,
    pub size: u64,
    pub source: Arc<dyn ReadAt>,
}

/// A file of a wheel and its line of RECORD; signatures of RECORD have none.
#[derive(Clone)]
pub(crate) struct WheelFile {
    pub entry: ZipEntry,
    pub hash: Option<RecordHash>,
}

impl Wheel {
    /// Opens the wheel of this file name. `digest` is that of all its bytes: whoever calls has
    /// verified it, and the layers made from the wheel refer to it.
    pub fn open(file_name: &str, digest: Digest, source: Arc<dyn ReadAt>) -> Result<Self, Error> {
        Self::read(file_name, digest, source, None)
    }

    /// The same with RECORD left aside, because of what `why` says: every file is read and hashed.
    pub fn open_without_record(
        file_name: &str,
        digest: Digest,
        source: Arc<dyn ReadAt>,
        why: &str,
    ) -> Result<Self, Error> {
        Self::read(file_name, digest, source, Some(why.to_owned()))
    }

    fn read(
        file_name: &str,
        digest: Digest,
        source: Arc<dyn ReadAt>,
        mut unsound: Option<String>,
    ) -> Result<Self, Error> {
        let size =
            source.size().map_err(|source| Error::Read { what: file_name.to_owned(), source })?;
        let entries = zip::read(&*source).map_err(|error| Error::zip(file_name, error))?;
        let blob = WheelBlob { file_name: file_name.to_owned(), digest, size, source };
        let (name, version) = name_and_version(file_name).ok_or_else(|| Error::Metadata {
            wheel: file_name.to_owned(),
            file: cut(file_name),
            fault: MetadataFault::FileName,
        })?;
        let dist_info = dist_info(&entries).ok_or_else(|| Error::Metadata {
            wheel: file_name.to_owned(),
            file: "*.dist-info/WHEEL".to_owned(),
            fault: MetadataFault::Missing,
        })?;

        blob.check(&dist_info, "", check_folder(&dist_info, name))?;

        let mut inflater = Inflater::new();
        let wheel = blob.text(&mut inflater, &entries, &format!("{dist_info}/WHEEL"))?;
        blob.check(&dist_info, "WHEEL", check_format(&wheel))?;
        let metadata = blob.text(&mut inflater, &entries, &format!("{dist_info}/METADATA"))?;
        blob.check(&dist_info, "METADATA", check_name(&metadata, name))?;
        let points = format!("{dist_info}/entry_points.txt");
        let entry_points = if entries.iter().any(|entry| entry.name == points) {
            let text = blob.text(&mut inflater, &entries, &points)?;
            blob.check(&dist_info, "entry_points.txt", entry_points(&text))?
        } else {
            Vec::new()
        };
        let record = format!("{dist_info}/RECORD");
        let listed = match unsound {
            None => blob.record(&mut inflater, &entries, &record)?,
            Some(_) => Err(String::new()),
        };
        let files = match listed {
            Ok(files) => files,
            Err(why) => {
                unsound.get_or_insert(why);
                blob.hashed(&mut inflater, entries, &record)?
            }
        };
        let (name, version) = (normalized(name), version.to_owned());
        Ok(Self { blob: Arc::new(blob), files, dist_info, entry_points, unsound, name, version })
    }

    /// What is wrong with its RECORD, if anything is.
    pub fn unsound_record(&self) -> Option<&str> {
        self.unsound.as_deref()
    }

    /// The file name it was opened by.
    pub fn file_name(&self) -> &str {
        &self.blob.file_name
    }

    /// The project's name, normalized: `nvidia-cublas`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version as the file name has it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The digest it was opened with.
    pub fn digest(&self) -> Digest {
        self.blob.digest
    }

    /// Its length, bytes.
    pub fn size(&self) -> u64 {
        self.blob.size
    }

    /// What its bytes are read from.
    pub fn source(&self) -> &dyn ReadAt {
        &*self.blob.source
    }

    /// The paths of its files, as the archive has them.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.entry.name.as_str())
    }

    /// Where its compressed files are: offset, length and unpacked length, bytes.
    pub fn streams(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        let entries = self.files.iter().map(|file| &file.entry);
        entries
            .filter(|entry| entry.method == zip::Method::Deflate)
            .map(|entry| (entry.data, entry.compressed, entry.size))
    }
}

impl WheelBlob {
    /// A whole file of at most `limit` bytes.
    pub fn whole(
        &self,
        inflater: &mut Inflater,
        entry: &ZipEntry,
        limit: u64,
    ) -> Result<Vec<u8>, Error> {
        let bytes = inflater.whole(&*self.source, entry, limit).map_err(|fault| {
            let (wheel, offset) = (self.file_name.clone(), entry.data);
            Error::Content { wheel, entry: cut(&entry.name), offset, fault }
        })?;
        bytes.ok_or_else(|| Error::Metadata {
            wheel: self.file_name.clone(),
            file: cut(&entry.name),
            fault: MetadataFault::TooLarge(limit),
        })
    }

    fn text(
        &self,
        inflater: &mut Inflater,
        entries: &[ZipEntry],
        name: &str,
    ) -> Result<String, Error> {
        let fail =
            |fault| Error::Metadata { wheel: self.file_name.clone(), file: name.to_owned(), fault };
        let entry = entries.iter().find(|entry| entry.name == name);
        let entry = entry.ok_or_else(|| fail(MetadataFault::Missing))?;
        let bytes = self.whole(inflater, entry, MAX_TEXT)?;
        String::from_utf8(bytes).map_err(|_| fail(MetadataFault::Encoding))
    }

    fn check<T>(
        &self,
        folder: &str,
        file: &str,
        result: Result<T, MetadataFault>,
    ) -> Result<T, Error> {
        result.map_err(|fault| Error::Metadata {
            wheel: self.file_name.clone(),
            file: format!("{folder}/{file}"),
            fault,
        })
    }

    /// Joins the files with their lines of RECORD, if all is as it should be; else what is not.
    /// RECORD itself is left out.
    fn record(
        &self,
        inflater: &mut Inflater,
        entries: &[ZipEntry],
        path: &str,
    ) -> Result<Result<Vec<WheelFile>, String>, Error> {
        let Some(entry) = entries.iter().find(|entry| entry.name == path) else {
            let (wheel, file) = (self.file_name.clone(), path.to_owned());
            return Err(Error::Metadata { wheel, file, fault: MetadataFault::Missing });
        };
        let bytes = self.whole(inflater, entry, MAX_RECORD)?;
        Ok(join(&bytes, entries, path).map_err(|(line, fault)| match line {
            Some(line) => format!("line {line} of {path}: {fault}"),
            None => format!("{path}: {fault}"),
        }))
    }

    /// The files with the hashes that they have; RECORD is left out.
    fn hashed(
        &self,
        inflater: &mut Inflater,
        entries: Vec<ZipEntry>,
        path: &str,
    ) -> Result<Vec<WheelFile>, Error> {
        let mut buffer = vec![0; 256 << 10];
        let mut files = Vec::with_capacity(entries.len());
        for entry in entries.into_iter().filter(|entry| entry.name != path) {
            let fault = |fault| {
                let (wheel, offset) = (self.file_name.clone(), entry.data);
                Error::Content { wheel, entry: cut(&entry.name), offset, fault }
            };
            let mut hash = None;
            if !is_signature(&entry.name, path) {
                let mut hasher = RecordHasher::Sha256(Sha256::new());
                let mut reader = inflater.open(&*self.source, &entry);
                loop {
                    match reader.fill(&mut buffer).map_err(fault)? {
                        0 => break,
                        count => hasher.update(&buffer[..count]),
                    }
                }
                hash = Some(hasher.finish());
            }
            files.push(WheelFile { entry, hash });
        }
        Ok(files)
    }
}

/// Joins files with their lines of RECORD; a fault comes with its line where it has one.
fn join(
    record: &[u8],
    entries: &[ZipEntry],
    path: &str,
) -> Result<Vec<WheelFile>, (Option<usize>, RecordFault)> {
    let mut rows = record::parse(record).map_err(|(line, fault)| (Some(line), fault))?;
    let mut files = Vec::with_capacity(entries.len());
    for entry in entries {
        let row = rows.remove(&entry.name);
        if entry.name == path {
            continue;
        }
        let hash = match row {
            _ if is_signature(&entry.name, path) => None,
            None => return Err((None, RecordFault::Unlisted(cut(&entry.name)))),
            Some(row) => {
                if let Some(listed) = row.size.filter(|&size| size != entry.size) {
                    let (path, real) = (cut(&entry.name), entry.size);
                    return Err((Some(row.line), RecordFault::OtherSize { path, listed, real }));
                }
                let fault = || RecordFault::NoHash(cut(&entry.name));
                Some(row.hash.ok_or_else(|| (Some(row.line), fault()))?)
            }
        };
        files.push(WheelFile { entry: entry.clone(), hash });
    }
    match rows.into_iter().min_by_key(|(_, row)| row.line) {
        Some((path, row)) => Err((Some(row.line), RecordFault::Absent(cut(&path)))),
        None => Ok(files),
    }
}

/// Signatures are made after RECORD, and have no line in it (PEP 427).
fn is_signature(name: &str, record: &str) -> bool {
    name.strip_prefix(record).is_some_and(|end| matches!(end, ".jws" | ".p7s"))
}

/// From `name-version(-build)-python-abi-platform.whl`.
fn name_and_version(file_name: &str) -> Option<(&str, &str)> {
    let parts: Vec<_> = file_name.strip_suffix(".whl")?.split('-').collect();
    let sound = matches!(parts.len(), 5 | 6)
        && parts.iter().all(|part| !part.is_empty())
        && !file_name.contains(['/', '\\', '\0']);
    sound.then(|| (parts[0], parts[1]))
}

/// The one folder `*.dist-info` at the top that holds a WHEEL.
fn dist_info(entries: &[ZipEntry]) -> Option<String> {
    let mut found = entries.iter().filter_map(|entry| {
        entry
            .name
            .strip_suffix("/WHEEL")
            .filter(|folder| folder.ends_with(".dist-info") && !folder.contains('/'))
    });
    let folder = found.next()?.to_owned();
    found.next().is_none().then_some(folder)
}

/// Another project's folder would be taken for that project's (PyPA, "The .dist-info directory").
fn check_folder(folder: &str, expected: &str) -> Result<(), MetadataFault> {
    let found = folder.split('-').next().unwrap_or_default();
    if normalized(found) == normalized(expected) {
        return Ok(());
    }
    Err(MetadataFault::OtherName { found: cut(found), expected: cut(expected) })
}

fn check_format(wheel: &str) -> Result<(), MetadataFault> {
    let version = field(wheel, "Wheel-Version").ok_or(MetadataFault::NoField("Wheel-Version"))?;
    match version.split('.').next() {
        Some("1") => Ok(()),
        _ => Err(MetadataFault::Format(cut(version))),
    }
}

fn check_name(metadata: &str, expected: &str) -> Result<(), MetadataFault> {
    let found = field(metadata, "Name").ok_or(MetadataFault::NoField("Name"))?;
    if normalized(found) == normalized(expected) {
        Ok(())
    } else {
        Err(MetadataFault::OtherName { found: cut(found), expected: cut(expected) })
    }
}
