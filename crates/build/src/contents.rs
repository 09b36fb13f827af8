//! What is known of a wheel before it is downloaded: the directory of its archive and its metadata, read by range
//! requests and kept by the wheel's SHA-256 (docs/format/wheel-contents.md).
//!
//! It is a hint: an index may serve another directory than that of the file it names. The bytes of a wheel whose
//! SHA-256 fits are the truth, and what does not agree with them is dropped.

use std::io;

use sconce_fetch::range::Remote;
use sconce_inspect::read::{Named, OnDisk, ReadAt};
use sconce_inspect::zip::{self, Entry};
use sconce_lock::Wheel;
use serde::{Deserialize, Serialize};

use crate::builder::Builder;
use crate::error::{Error, at};
use crate::native::{Bytes, text};

/// The most bytes that are fetched of one wheel: the directory of the largest has some 2 MB.
const LIMIT: u64 = 24 << 20;
/// Wheels that are asked at a time: most answers are small, and all servers together see no more.
pub(crate) const PARALLEL: usize = 16;
/// The memo of what a wheel has in it.
const MEMO: &str = "contents";
/// The largest memo that is kept, bytes; torch has 3 MB.
const MEMO_LIMIT: usize = 12 << 20;
/// Raised when a kept document would be misread.
const VERSION: u32 = 2;
/// The largest METADATA, WHEEL, entry_points.txt or top_level.txt, bytes.
const TEXT: u64 = 4 << 20;
/// The largest RECORD, bytes; torch has 1.4 MB.
const RECORD: u64 = 8 << 20;
/// What describes the wheel is read in one go where it lies within so many bytes.
const SPAN: u64 = 4 << 20;

/// What a wheel has in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contents {
    version: u32,
    /// Whether it was read of bytes that have the wheel's SHA-256.
    verified: bool,
    /// The files, in the order of the archive's directory.
    #[serde(with = "rows")]
    pub files: Vec<Entry>,
    /// METADATA.
    pub metadata: String,
    /// entry_points.txt; empty where there is none.
    pub entry_points: String,
    /// WHEEL; nothing where it could not be read.
    pub wheel: Option<String>,
    /// RECORD; nothing where it could not be read.
    pub record: Option<String>,
    /// top_level.txt; nothing where it could not be read.
    pub top_level: Option<String>,
}

impl Contents {
    /// What an archive says.
    fn read(bytes: &dyn ReadAt) -> Result<Self, Error> {
        let files = zip::entries(Named::new("the wheel", bytes))?;
        let described = |file: &str| {
            let end = format!(".dist-info/{file}");
            files
                .iter()
                .find(|entry| entry.name.ends_with(&end) && entry.name.matches('/').count() == 1)
        };
        let names = ["entry_points.txt", "METADATA", "WHEEL", "RECORD", "top_level.txt"];
        let [entry_points, metadata, wheel, record, top_level] = names.map(described);
        let all = [entry_points, metadata, wheel, record, top_level];
        read_together(bytes, all.into_iter().flatten());
        let needed = |entry: Option<&Entry>| -> Result<String, Error> {
            Ok(entry.map(|entry| text(bytes, entry, TEXT)).transpose()?.unwrap_or_default())
        };
        // These decide nothing before the download: a wheel is not refused for them.
        let hint = |entry: Option<&Entry>, limit| text(bytes, entry?, limit).ok();
        Ok(Self {
            version: VERSION,
            verified: false,
            metadata: needed(metadata)?,
            entry_points: needed(entry_points)?,
            wheel: hint(wheel, TEXT),
            record: hint(record, RECORD),
            top_level: hint(top_level, TEXT),
            files,
        })
    }

    /// A kept document; nothing where it is damaged or of another version: then the wheel is asked again.
    fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|contents: &Self| contents.version == VERSION)
    }

    /// Whether both say the same of a wheel.
    fn agrees(&self, other: &Self) -> bool {
        *self == Self { verified: self.verified, ..other.clone() }
    }
}

/// Reads what stands side by side with one request, so that it is at hand when it is asked for.
fn read_together<'e>(bytes: &dyn ReadAt, entries: impl Iterator<Item = &'e Entry> + Clone) {
    /// A local header with a long name and an extra field.
    const HEADER: u64 = 1 << 10;
    let start = entries.clone().map(|entry| entry.header).min().unwrap_or_default();
    let stop = entries.map(|entry| entry.header.saturating_add(entry.packed) + HEADER).max();
    let len = stop.unwrap_or_default().min(bytes.size()).saturating_sub(start);
    if len <= SPAN {
        // A failure shows again where the bytes are needed.
        let _: io::Result<usize> = bytes.read_at(&mut vec![0; len as usize], start);
    }
}

/// What a wheel has in it: kept, else read of the store's own copy, else asked for at `url`.
///
/// # Errors
/// It is not known where the wheel is, its server can't be asked, or it is not a wheel.
pub(crate) fn contents(
    builder: &Builder<'_>,
    wheel: &Wheel,
    url: Option<&str>,
) -> Result<Contents, Error> {
    // One that can't be read is none: writing it anew says why.
    let kept = builder.store.memo(MEMO, wheel.sha256).ok().flatten();
    let kept = kept.and_then(|bytes| Contents::parse(&bytes));
    let kept = match kept {
        Some(kept) if kept.verified => return Ok(kept),
        kept => kept,
    };
    let contents = match (builder.store.blob_path(wheel.sha256)?, kept, url) {
        (Some(path), kept, _) => {
            let read = Contents::read(&OnDisk::open(&path).map_err(at("open", &path))?);
            if read.is_err() {
                builder.store.forget_memo(MEMO, wheel.sha256)?;
            }
            let read = read?;
            if kept.is_some_and(|kept| !kept.agrees(&read)) {
                builder.progress.note(&format!(
                    "what an index said is in {} is not what is in it: that is dropped",
                    wheel.file
                ));
            }
            Contents { verified: true, ..read }
        }
        (None, Some(kept), _) => return Ok(kept),
        (None, None, Some(url)) => match on_disk(url)? {
            Some(file) => Contents::read(&file)?,
            None => Contents::read(&Bytes(Remote::open_at_end(builder.client, url, LIMIT)?))?,
        },
        (None, None, None) => return Err(sconce_store::Error::MissingBlob(wheel.sha256).into()),
    };
    let bytes = serde_json::to_vec(&contents).map_err(|error| Error::Memo(error.to_string()))?;
    if bytes.len() <= MEMO_LIMIT
        && let Err(error) = builder.store.put_memo(MEMO, wheel.sha256, &bytes)
    {
        // It is asked again the next time; what was read is good all the same.
        let file = &wheel.file;
        builder.progress.note(&format!("what is in {file} is not kept for another time: {error}"));
    }
    Ok(contents)
}

/// The file of a `file:` address, no link followed.
pub(crate) fn on_disk(url: &str) -> Result<Option<OnDisk>, Error> {
    let Some(path) = sconce_fetch::local_path(url) else { return Ok(None) };
    let open = sconce_open::file_unfollowed(&path).and_then(OnDisk::from_file);
    open.map(Some).map_err(at("open", &path))
}

/// Files as rows: name, method, CRC-32, packed and plain size, offset of the local header, external attributes.
mod rows {
    use sconce_inspect::zip::Entry;
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::{SerializeSeq, Serializer};

    type Row<T> = (T, u16, u32, u64, u64, u64, u32);

    pub(super) fn serialize<S: Serializer>(files: &[Entry], to: S) -> Result<S::Ok, S::Error> {
        let mut rows = to.serialize_seq(Some(files.len()))?;
        for entry in files {
            let Entry { name, packed, size, crc, header, deflated, attributes } = entry;
            let method = if *deflated { 8 } else { 0 };
            let row: Row<&str> = (name, method, *crc, *packed, *size, *header, *attributes);
            rows.serialize_element(&row)?;
        }
        rows.end()
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Entry>, D::Error> {
        let rows = Vec::<Row<String>>::deserialize(from)?.into_iter();
        let entry = |(name, method, crc, packed, size, header, attributes): Row<String>| {
            let deflated = match method {
                0 => false,
                8 => true,
                other => return Err(D::Error::custom(format!("method {other}"))),
            };
            Ok(Entry { name, packed, size, crc, header, deflated, attributes })
        };
        rows.map(entry).collect()
    }
}
